"""What commands print: reasons with their marks, wrapped between words; losses with their bars; late predictions."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from synthetic_bars import random_walk
from synthetic_records import coin_labels, daily_record, forecast
from tiny_home import SERIES, tiny_home

from model.baseline_comparison import measure_skill
from model.evaluation import BUY_AND_HOLD, Evaluation
from model.times import to_datetime
from model.trading import TradingSpec
from tasks.champion.series_status import series_status
from tasks.console.tables import (
    missing_for_promotion,
    show_decisions,
    show_forecast,
    show_status,
    skill_and_costs,
)
from tasks.results import Promotion
from tasks.serving.forecast import Forecast
from tasks.store.decision_log import LoggedDecision
from tasks.store.prediction_log import new_prediction
from tasks.workspace import Workspace

BARS = random_walk(120, seed=3)
CLOSE = to_datetime(BARS.closed_at[-1])
LONG = (
    "log loss difference +0.0312 [+0.0123, +0.0501] vs. the base rate on 750 bars: significantly worse (tolerance 0.01)"
)
ROW = LoggedDecision("run-1", CLOSE, SERIES.name, SERIES.symbol, SERIES.interval, "hold", "1", "1", "1",
                     (LONG, "passes the sanity check"), {"base_rate.n": 750.0}, marks=("failed", "passed"))  # fmt: skip


def evaluation(low: float, value: float, high: float) -> Evaluation:
    labels = coin_labels(120, seed=1)
    record = daily_record(labels, forecast(labels, 0.5, seed=2))
    costs = {"break_even_bps": value, "break_even_bps_low": low, "break_even_bps_high": high}
    figures = {"net_return": 1.303, "sharpe": 1.0, "sharpe_low": -0.2, "sharpe_high": 2.2}
    return Evaluation(120, "", "", {}, ((1, 1), (1, 1)), 0.0, measure_skill(record, {}, 1),
                      {"long_flat": figures | costs, BUY_AND_HOLD: {"net_return": 0.5}})  # fmt: skip


def test_a_long_reason_is_wrapped_between_words_with_its_mark(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show_decisions([ROW.to_dict() | {"sequence": 1}])
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert f"failed: {LONG}" in " ".join(shown.split())
    assert "sanity check" not in shown  # it does not decide
    words = [line.split() for line in shown.splitlines()]
    assert all(word in f"failed: {LONG}".split() for word in words[-1])  # no word is broken


def test_status_names_the_bars_of_a_loss_and_the_newest_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = tiny_home(tmp_path, BARS, len(BARS))
    workspace = Workspace(settings, SERIES)
    workspace.decision_log.append(ROW)
    for place, probability in ((-2, 0.42), (-1, 0.537)):
        workspace.prediction_log.store(
            new_prediction(SERIES.name, SERIES, 1, BARS.closed_at[place], "1", probability, CLOSE)
        )
    found = series_status(SERIES, settings)
    assert (found["champion"]["windows"], found["prediction"]["probability"]) == (750, 0.537)
    show_status(found | {"champion": found["champion"] | {"log_loss": 0.6931, "balanced_accuracy": 0.5}})
    shown = " ".join(capsys.readouterr().out.split())
    assert "log loss 0.6931 on 750 bars" in shown
    assert (
        f"P(rise) 0.5370 at {CLOSE + timedelta(days=1):%Y-%m-%d}, decided at {CLOSE:%Y-%m-%d} UTC (version 1)" in shown
    )
    assert "late" not in shown
    assert f"failed: {LONG}" in shown
    assert "passed: passes the sanity check" in shown


@pytest.mark.parametrize(("days", "missed", "late"), [(0, 0, False), (1, 2, True)])
def test_a_prediction_that_is_late_or_follows_missed_bars_says_so(
    capsys: pytest.CaptureFixture[str], days: int, missed: int, late: bool
) -> None:
    stored = new_prediction(SERIES.name, SERIES, 1, BARS.closed_at[-1], "1", 0.5, CLOSE + timedelta(days=days))
    found = Forecast(stored, (stored,) * missed).to_dict()
    assert (found["late"], found["backfilled"]) == (late, missed)
    show_forecast(found)
    shown = capsys.readouterr().out
    assert ("late: it was stored after its outcome was due" in shown) == late
    assert ("backfilled: predictions of 2 missed bars" in shown) == bool(missed)


def test_what_a_promotion_needs_is_the_shortfall_of_each_failed_clause() -> None:
    numbers = {
        "base_rate.low": 0.0123,
        "base_rate.tolerance": 0.01,
        "base_rate.difference": 0.0312,
        "base_rate.margin": 0.05,
    }
    promotion = Promotion("hold", ROW.reasons, numbers, "1", "1", ROW.marks)
    assert missing_for_promotion(promotion) == ["a log loss lower by 0.0023 vs. the base rate"]  # 0.0123 - 0.01
    wide = replace(promotion, numbers=numbers | {"base_rate.difference": 0.08})
    assert missing_for_promotion(wide) == ["a log loss lower by 0.0300 vs. the base rate"]  # 0.08 - 0.05
    other = replace(promotion, reasons=("a person held it", "net of costs: not better"), marks=("failed",))
    assert missing_for_promotion(other) == [
        "this clause must pass: a person held it",
        "this clause must pass: net of costs: not better",
    ]


@pytest.mark.parametrize(
    ("interval", "finding"),
    [
        ((-8, 21, 51), "no significant gain or loss after costs"),
        ((20, 30, 51), "a gain after costs"),
        ((-50, -20, 3), "a loss after costs"),
    ],
)
def test_the_closing_lines_state_skill_and_costs_with_their_uncertainty(
    interval: tuple[float, float, float], finding: str
) -> None:
    skill, costs = skill_and_costs(evaluation(*interval), TradingSpec(cost_bps=10, slippage_bps=5))
    assert skill.startswith("no evidence of directional skill: look 1 at these bars")
    assert "Pesaran-Timmermann p = " in skill
    low, value, high = interval
    assert f"breaks even at {value} bps per side [{low}, {high}], costs assumed 15 bps: {finding}." in costs
    assert "Net +130.3%, Sharpe 1.00 [-0.20, 2.20]" in costs
    idle = evaluation(float("nan"), float("nan"), float("nan"))
    assert skill_and_costs(idle, TradingSpec())[1] == "the long-or-flat strategy never traded"
