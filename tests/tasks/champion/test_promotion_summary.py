"""The sentences below a decision: what a promotion lacks, evidence of skill, costs at which trading breaks even."""

import math
from datetime import UTC, datetime

import pytest
from synthetic_records import coin_labels, daily_record, forecast

from model.bars import Series
from model.baseline_comparison import measure_skill
from model.evaluation import BUY_AND_HOLD, Evaluation
from model.trading import TradingSpec
from tasks.champion.challenger_decision import describe_decision
from tasks.champion.promotion_summary import (
    costs_text,
    deciding_reason,
    missing_for_promotion,
    skill_and_costs,
    what_to_do,
)
from tasks.registry.model_registry import Version
from tasks.store.decision_log import LoggedDecision

LONG = (
    "log loss difference +0.0312 [+0.0123, +0.0501] vs. the base rate on 750 bars: "
    "significantly worse by more than 0.01"
)


def evaluation(low: float, value: float, high: float) -> Evaluation:
    labels = coin_labels(120, seed=1)
    record = daily_record(labels, forecast(labels, 0.5, seed=2))
    costs = {"break_even_bps": value, "break_even_bps_low": low, "break_even_bps_high": high}
    figures = {"net_return": 1.303, "sharpe": 1.0, "sharpe_low": -0.2, "sharpe_high": 2.2}
    return Evaluation(120, "", "", {}, ((1, 1), (1, 1)), 0.0, measure_skill(record, {}, 1),
                      {"long_flat": figures | costs, BUY_AND_HOLD: {"net_return": 0.5}})  # fmt: skip


def test_what_a_promotion_needs_is_the_shortfall_of_each_failed_clause() -> None:
    numbers = {
        "base_rate.low": 0.0123,
        "base_rate.tolerance": 0.01,
        "base_rate.difference": 0.0312,
        "base_rate.margin": 0.05,
    }
    reasons, marks = (LONG, "sanity check: no problem found"), ("failed", "passed")
    assert missing_for_promotion(reasons, marks, numbers) == [
        "a log loss lower by 0.0023 vs. the base rate"
    ]  # 0.0123 - 0.01
    wide = numbers | {"base_rate.difference": 0.08}
    assert missing_for_promotion(reasons, marks, wide) == [
        "a log loss lower by 0.0300 vs. the base rate"
    ]  # 0.08 - 0.05
    other = (LONG, "net of costs: not better", "majority: not significant", "champion version 1 cannot be loaded")
    assert missing_for_promotion(other, ("failed", "failed", "failed", ""), numbers) == [
        "a log loss lower by 0.0023 vs. the base rate",
        "2 other clauses marked failed above",
    ]
    assert missing_for_promotion(other[1:2], ("failed",), {}) == ["1 clause marked failed above"]
    assert missing_for_promotion(("the same network: equal probabilities",), ("held",), {}) == []


def test_a_decision_in_one_line_counts_the_other_clauses_that_failed() -> None:
    assert deciding_reason(("worse", "not better", "sane"), ("failed", "failed", "passed")) == (
        "worse (1 other clause failed too)"
    )
    assert deciding_reason(("on hold", "worse", "not better"), ("held", "failed", "failed")) == (
        "on hold (2 other clauses failed too)"
    )
    assert deciding_reason(("fails its smoke test", "sane"), ("passed",)) == "fails its smoke test"


def test_what_to_do_is_said_where_the_reason_does_not_say_it() -> None:
    held = what_to_do("hold", ("failed", "passed"), "3", Series("BTC/USD T", "1d"))
    assert held.startswith("nothing after a single hold: the next retrain is compared again.")
    assert "`riseorfall promote --symbol 'BTC/USD T' --interval 1d --version 3 --force --reason \"...\"`" in held
    assert what_to_do("reject", ("failed",), "3", Series("BTC-USD", "1d")).startswith("retrain again.")
    assert what_to_do("hold", ("held", "failed"), "3", Series("BTC-USD", "1d")) == ""
    assert what_to_do("promote", ("passed",), "3", Series("BTC-USD", "1d")) == ""


@pytest.mark.parametrize(
    ("spec", "way"),
    [
        (TradingSpec(), "holding only while a rise is predicted (long or flat) returned +10%"),
        (TradingSpec(threshold=0.6), "holding only while P(rise) is above 60% (long or flat) returned +10%"),
        (TradingSpec(policy="no_trade_band"), "trading long or flat by the policy no-trade band returned +10%"),
    ],
)
def test_the_returns_are_those_of_the_policy_that_the_recipe_traded_by(spec: TradingSpec, way: str) -> None:
    assert costs_text(0.1, 0.2, spec, 20, 10, 30).startswith(way)


@pytest.mark.parametrize(
    ("interval", "finding"),
    [
        ((-8, 21, 51), "no significant gain or loss"),
        (
            (20, 30, 51),
            "a significant gain, which without evidence of skill may come from a rising market alone",
        ),
        ((-50, -20, 3), "a significant loss"),
    ],
)
def test_the_closing_lines_state_skill_and_costs_with_their_uncertainty(
    interval: tuple[float, float, float], finding: str
) -> None:
    skill, costs = skill_and_costs(evaluation(*interval), TradingSpec(cost_bps=10, slippage_bps=5))
    assert skill.startswith("no evidence of directional skill: these test bars were scored once, with 1 recipe;")
    assert "Pesaran-Timmermann p = " in skill
    low, value, high = interval
    returned = "(long or flat) returned +130% out of sample after costs of 15 bps per purchase or sale, buy and hold"
    assert returned in costs
    assert f"; it breaks even at costs of {value} bps [{low}, {high}]: {finding}. Sharpe 1.00 [-0.20, 2.20]" in costs
    idle = evaluation(float("nan"), float("nan"), float("nan"))
    assert skill_and_costs(idle, TradingSpec())[1] == "the long-or-flat strategy never traded"


def test_the_page_of_a_version_leaves_out_a_score_that_is_undefined() -> None:
    """Where every test bar rose there is no balanced accuracy."""
    now = datetime(2026, 11, 28, tzinfo=UTC)
    row = LoggedDecision("run-1", now, "BTC-USD-1d", "BTC-USD", "1d", "promote", "1", None, "1", ("no champion",))
    text = describe_decision(row, Version("1", "run-1", now, {"log_loss": 0.5, "balanced_accuracy": math.nan}))
    assert text.endswith("Out of sample: log loss 0.5000.")
