"""The promotion rules: promote, hold and reject; and a higher loss never turns hold into promote."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float64, Int8
from pydantic import ValidationError
from scipy.stats import binom
from synthetic_bars import bars_of_closes
from synthetic_records import DAY, coin_labels, daily_record, forecast, loud_forecast

from model.bootstrap import Interval, PairedDifference
from model.correction_for_looks import Looks, RecipesTried
from model.errors import SpecError
from model.multiple_testing import forecast_skill, search_skill
from model.promotion_rule import (
    FINAL_NETWORK,
    Clause,
    Decision,
    PromotionRule,
    decide,
    different_question,
    hold_because,
    replace_broken_champion,
)
from model.record import Record
from model.sanity_check import SanityCheck, run_sanity_check
from model.trading import TradingResult, TradingSpec, trade

DAILY, STRICT = PromotionRule(), PromotionRule(kind="strict")
SANE = SanityCheck(finite=True, not_constant=True, both_classes_possible=True, reloads_equal=True)
LABELS = coin_labels(750, seed=1)
SKILLED = daily_record(LABELS, forecast(LABELS, 0.65, seed=2))
QUIET = daily_record(LABELS, loud_forecast(LABELS, seed=3, spread=0.02))
BASE_RATE = np.full(750, 0.5)


def decided(
    challenger: Record,
    champion: Record | None,
    rule: PromotionRule = DAILY,
    sanity_check: SanityCheck = SANE,
    trading: TradingResult | None = None,
) -> Decision:
    """Decide with the base rate 0.5 and a fixed seed."""
    base_rate = np.full(len(challenger), 0.5)
    return decide(rule, sanity_check, challenger, base_rate, champion, seed=7, trading=trading)


def failed(decision: Decision) -> list[str]:
    """Return the names of the clauses that were not met."""
    return [clause.name for clause in decision.clauses if not clause.passed]


@pytest.mark.parametrize("rule", [DAILY, STRICT])
def test_the_first_skilled_challenger_is_promoted_and_the_reason_names_the_missing_champion(
    rule: PromotionRule,
) -> None:
    decision = decided(SKILLED, None, rule)
    assert decision.action == "promote"
    assert "there is no champion to compare with" in decision.reasons


def test_the_daily_rule_promotes_a_first_challenger_without_skill_and_the_strict_rule_does_not() -> None:
    assert decided(QUIET, None).action == "promote"
    assert decided(QUIET, None, STRICT).action == "hold"


@pytest.mark.parametrize("rule", [DAILY, STRICT])
def test_swapping_challenger_and_champion_flips_the_decision(rule: PromotionRule) -> None:
    assert decided(SKILLED, QUIET, rule).action == "promote"
    swapped = decided(QUIET, SKILLED, rule)
    assert swapped.action == "hold"
    assert "champion" in failed(swapped)


def test_an_equal_refit_is_promoted_daily_but_not_strictly() -> None:
    assert decided(SKILLED, SKILLED).action == "promote"
    strictly = decided(SKILLED, SKILLED, STRICT)
    assert strictly.action == "hold"
    assert failed(strictly) == ["champion", "mcnemar"]


def test_a_challenger_far_below_the_base_rate_is_held_even_without_a_champion() -> None:
    shouting = daily_record(LABELS, loud_forecast(LABELS, seed=5, spread=0.45))
    decision = decided(shouting, None)
    assert decision.action == "hold"
    assert failed(decision) == ["base_rate"]
    assert "significantly worse by more than 0.01" in decision.reasons[0]


def test_the_mean_margin_holds_without_significance() -> None:
    few = SKILLED.take(np.arange(120))
    worse = replace(few, probabilities=loud_forecast(few.labels, seed=5, spread=0.25))
    rule = PromotionRule(champion_tolerance=1, champion_margin=0.02, base_rate_tolerance=1, base_rate_margin=1)
    decision = decided(worse, few, rule)
    assert failed(decision) == ["champion"]
    assert "worse by more than 0.02 on average" in decision.reasons[0]
    assert decided(worse, few, rule.model_copy(update={"champion_margin": 1.0})).action == "promote"


def test_a_strict_promotion_needs_a_significantly_lower_loss() -> None:
    decision = decided(SKILLED, daily_record(LABELS, forecast(LABELS, 0.65, seed=14)), STRICT)
    assert decision.numbers["champion.low"] < decision.numbers["champion.difference"] < -0.02
    assert decision.numbers["champion.high"] > 0
    assert "champion" in failed(decision)


def test_a_strict_promotion_needs_the_better_direction_not_only_the_lower_loss() -> None:
    """The champion is right more often, and pays for being sure of it."""
    champion = daily_record(LABELS, np.where(forecast(LABELS, 0.75, seed=9) > 0.5, 0.995, 0.005))
    decision = decided(SKILLED, champion, STRICT)
    assert failed(decision) == ["mcnemar"]
    assert decision.numbers["mcnemar.p_value"] < 0.05
    assert decision.numbers["champion.high"] < 0


@pytest.mark.parametrize(("low", "high", "passes"), [(-0.02, -0.001, False), (-0.02, 0.001, True), (0.001, 0.02, True)])
def test_at_another_horizon_only_a_champion_with_skill_speaks_against_a_strict_promotion(
    low: float, high: float, passes: bool
) -> None:
    champion = PairedDifference(mean=(low + high) / 2, low=low, high=high, p_value=0.1, n=750, block_bars=1)
    assert different_question(STRICT, 1, 5, champion).passed is passes
    assert not different_question(DAILY, 1, 5, champion).passed


def losing_by(nats: float, probabilities: Float64[np.ndarray, " window"]) -> Record:
    """Return a record whose log loss exceeds that of these probabilities by as much on each window."""
    of_outcome = np.exp(-nats) * np.where(LABELS == 1, probabilities, 1 - probabilities)
    return daily_record(LABELS, np.where(LABELS == 1, of_outcome, 1 - of_outcome))


def test_the_tolerance_holds_a_significant_difference_below_the_margin() -> None:
    """A difference that is the same on each window has an interval of no width."""
    for excess, action in ((0.0019, "promote"), (0.0021, "hold"), (0.0199, "hold")):  # tolerance 0.002, margin 0.02
        decision = decided(losing_by(excess, SKILLED.probabilities), SKILLED)
        assert decision.action == action, excess
        assert decision.numbers["champion.low"] == pytest.approx(excess)
        assert failed(decision) == ([] if action == "promote" else ["champion"])
    for excess, action in ((0.0099, "promote"), (0.0101, "hold"), (0.0499, "hold")):  # tolerance 0.01, margin 0.05
        assert decided(losing_by(excess, BASE_RATE), None).action == action, excess


def test_a_rejection_stays_one() -> None:
    rejected = decided(SKILLED, None, sanity_check=replace(SANE, finite=False))
    assert rejected.action == "reject"
    assert hold_because(rejected, "a person held it") is rejected
    assert replace_broken_champion(rejected) is rejected


def test_a_broken_champion_is_replaced_by_a_network_that_has_a_record() -> None:
    held = decided(QUIET, SKILLED)
    replaced = replace_broken_champion(held)
    assert (held.action, replaced.action) == ("hold", "promote")
    assert (replaced.reasons[1:], replaced.numbers) == (held.reasons, held.numbers)
    for passed, action in ((True, "promote"), (False, "hold")):
        final = Clause(FINAL_NETWORK, passed=passed, reason="the final network", numbers={})
        decision = decide(DAILY, SANE, QUIET, BASE_RATE, SKILLED, seed=7, further=(final,))
        assert decision.action == "hold"
        assert replace_broken_champion(decision).action == action
    promoted = decided(SKILLED, QUIET)
    assert replace_broken_champion(promoted) is promoted


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"loads": False}, "sanity check: its registered files cannot be loaded (what was found)"),
        ({"finite": False}, "not finite"),
        ({"not_constant": False}, "constant"),
        ({"both_classes_possible": False}, "exactly 0 or 1"),
        ({"reloads_equal": False}, "after loading"),
    ],
)
@pytest.mark.parametrize("champion", [None, QUIET])
def test_a_challenger_that_fails_the_sanity_check_is_rejected(
    change: dict[str, bool], reason: str, champion: Record | None
) -> None:
    decision = decided(SKILLED, champion, sanity_check=replace(SANE, **change, detail="what was found"))
    assert decision.action == "reject"
    assert reason in decision.reasons[0]
    assert "what was found" in decision.reasons[0]


def test_a_record_that_is_not_finite_is_rejected_whatever_the_sanity_check() -> None:
    probabilities = SKILLED.probabilities.copy()
    probabilities[17] = np.nan
    assert decided(replace(SKILLED, probabilities=probabilities), QUIET).action == "reject"
    assert decided(SKILLED.take(np.arange(0)), QUIET).action == "reject"


def test_only_common_bars_are_compared() -> None:
    champion = daily_record(LABELS, QUIET.probabilities)
    champion = replace(champion, decided_at=champion.decided_at + 300 * DAY)  # 450 of its bars are the challenger's
    decision = decided(SKILLED, champion)
    assert decision.numbers["champion.n"] == 450
    assert decision.numbers["base_rate.n"] == 750


def test_decisions_without_a_champion_probability_are_left_out() -> None:
    probabilities = QUIET.probabilities.copy()
    probabilities[:50] = np.nan
    assert decided(SKILLED, replace(QUIET, probabilities=probabilities)).numbers["champion.n"] == 700


def test_pairing_needs_no_order() -> None:
    shuffled = QUIET.take(np.random.default_rng(0).permutation(750))
    assert decided(SKILLED, shuffled).numbers == decided(SKILLED, QUIET).numbers


def test_with_too_few_common_decisions_the_base_rate_decides() -> None:
    champion = SKILLED.take(np.arange(99))
    daily = decided(QUIET, champion)
    assert daily.action == "promote"
    assert daily.reasons[0] == (
        "99 decisions in common with the champion, 100 needed: the two were not compared. The base rate alone decides, "
        "so a promotion does not show that the challenger is as good as the champion"
    )
    strict = decided(SKILLED, champion, STRICT)
    assert strict.action == "hold"
    assert failed(strict) == ["champion"]
    assert strict.reasons[0] == "99 decisions in common with the champion, 100 needed: too few for a test"
    assert (
        decided(SKILLED, SKILLED.take(np.arange(100))).reasons[0].endswith("not significantly worse by more than 0.01")
    )


def test_failed_clauses_come_first_and_every_number_is_kept() -> None:
    decision = decided(QUIET, SKILLED)
    assert decision.action == "hold"
    assert failed(decision) == ["champion"]
    assert "vs. the champion" in decision.reasons[0]
    assert len(decision.reasons) == len(decision.clauses) == 3
    assert decision.numbers["champion.low"] > decision.numbers["champion.tolerance"]
    assert all(type(number) is float for number in decision.numbers.values())


def test_conditions_that_are_met_come_last() -> None:
    decision = decided(SKILLED, QUIET)
    assert decision.action == "promote"
    assert [each.partition(" (")[0] for each in decision.reasons[-1:]] == ["sanity check: no problem found"]
    assert "vs. the base rate" in decision.reasons[0]
    unsound = replace(SANE, not_constant=False)
    assert "constant" in decided(SKILLED, QUIET, sanity_check=unsound).reasons[0]


def test_marks_belong_to_the_last_reasons() -> None:
    decision = decided(QUIET, SKILLED)
    assert decision.action == "hold"
    reasons = {clause.reason: "passed" if clause.passed else "failed" for clause in decision.clauses}
    assert decision.marks == tuple(reasons[each] for each in decision.reasons)
    assert decision.marks[0] == "failed"
    assert decision.marks[-1] == "passed"
    held = hold_because(decision, "a person held it")
    assert (held.marks, held.reasons[1:]) == (("held", *decision.marks), decision.reasons)


def test_a_constant_forecast_is_no_exception() -> None:
    constant = daily_record(LABELS, np.full(750, 0.52))
    assert decided(constant, constant, STRICT).action == "hold"
    assert decided(constant, None).action == "promote"  # a constant model is rejected by the sanity check instead


def test_overlapping_labels_are_thinned_for_tests_of_independent_windows() -> None:
    overlapping = replace(SKILLED, resolved_at=SKILLED.decided_at + 5 * DAY)
    numbers = decided(overlapping, QUIET, STRICT).numbers
    assert numbers["pesaran_timmermann.n"] == 150
    assert numbers["mcnemar.n"] == 150
    assert numbers["champion.n"] == 750
    plain, wide = (
        search_skill(LABELS, BASE_RATE, SKILLED.probabilities[None], 7, overlap).statistic[0] for overlap in (1, 5)
    )
    assert numbers["recipes_tried.statistic"] == pytest.approx(wide) != pytest.approx(plain)


def test_the_strict_rule_requires_a_gain_net_of_costs() -> None:
    close = 100 * np.cumprod(np.concatenate([[1, 1], np.where(LABELS == 1, 1.02, 0.98)]))
    bars = bars_of_closes(close)
    record = replace(SKILLED, decided_at=bars.closed_at[1:751], resolved_at=bars.closed_at[2:752])
    cheap, dear = (trade(record, bars, TradingSpec(cost_bps=bps), seed=1) for bps in (1, 500))
    assert decided(record, None, STRICT, trading=cheap).action == "promote"
    held = decided(record, None, STRICT, trading=dear)
    assert failed(held) == ["net_of_costs"]
    assert decided(record, None, DAILY, trading=dear).action == "promote"
    cases = {(0.1, 0.5, 0.4): [], (0.1, 0.4, 0.5): ["net_of_costs"], (-0.1, 0.5, 0.4): ["net_of_costs"],
             (0.1, 0.5, 0.5): ["net_of_costs"], (0.0, 0.5, 0.4): ["net_of_costs"]}  # fmt: skip
    for (net_return, sharpe, of_holding), expected in cases.items():
        traded = replace(
            cheap,
            strategy=replace(cheap.strategy, net_return=net_return, sharpe=Interval(sharpe, -1, 1)),
            buy_and_hold=replace(cheap.buy_and_hold, sharpe=Interval(of_holding, -1, 1)),
        )
        assert failed(decided(record, None, STRICT, trading=traded)) == expected, (net_return, sharpe, of_holding)


def test_the_strict_rule_corrects_for_everything_that_was_scored_on_the_same_bars() -> None:
    """The challenger is significant alone, and not among thirty recipes, two of them unknown."""
    labels, base = LABELS[:300], np.full(300, 0.5)
    challenger = daily_record(labels, forecast(labels, 0.6, seed=7))
    others = np.stack([loud_forecast(labels, seed=100 + n, spread=0.1) for n in range(27)])
    skill = forecast_skill(labels, base, others)
    tried = RecipesTried(Looks(40, 30), skill, unknown=2, decided=1)
    alone = decide(STRICT, SANE, challenger, base, None, seed=7)
    found = decide(STRICT, SANE, challenger, base, None, seed=7, tried=tried)
    assert (alone.action, found.action, failed(found)) == ("promote", "hold", ["recipes_tried"])
    expected = search_skill(labels, base, np.vstack([challenger.probabilities, others]), seed=7)
    p_value, of_known = expected.p_value[0], expected.adjusted_p_value[0]
    assert p_value < 0.05 < of_known
    assert found.numbers["recipes_tried.p_value"] == pytest.approx(p_value)
    assert found.numbers["recipes_tried.p_value_corrected"] == pytest.approx(of_known + 2 * p_value)
    assert found.numbers["recipes_tried.alpha"] == pytest.approx(0.05 * 6 / np.pi**2 / 4)  # the second decision
    assert alone.numbers["recipes_tried.alpha"] == pytest.approx(0.05 * 6 / np.pi**2)


def worsened(record: Record, shares: Float64[np.ndarray, " window"]) -> Record:
    """Move each probability towards the wrong end by a share of the way."""
    wrong = 1.0 - record.labels
    return replace(record, probabilities=record.probabilities + shares * (wrong - record.probabilities))


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.5, 0.68),
    st.floats(0, 0.3),
    st.floats(0, 1),
    st.sampled_from(["daily", "strict"]),
)
def test_raising_the_challengers_loss_never_turns_hold_into_promote(
    seed: int, accuracy: float, most: float, touched: float, kind: str
) -> None:
    generator = np.random.default_rng(seed)
    labels = coin_labels(200, seed=seed, rises=0.53)
    challenger = daily_record(labels, forecast(labels, accuracy, seed=seed + 1))
    champion = daily_record(labels, loud_forecast(labels, seed=seed + 2, spread=0.05))
    rule = PromotionRule(kind=kind, base_rate_tolerance=0.002, base_rate_margin=0.01)
    shares = most * generator.random(200) * (generator.random(200) < touched)
    before, after = (decided(record, champion, rule) for record in (challenger, worsened(challenger, shares)))
    assert not (before.action == "hold" and after.action == "promote")
    for was, became in zip(before.clauses, after.clauses, strict=True):
        assert was.passed or not became.passed, was.name


def strict_promotions(accuracy: float, repetitions: int) -> int:
    """Count the strict promotions of a challenger of a true accuracy vs. a champion without skill."""
    promoted = 0
    for seed in range(repetitions):
        labels: Int8[np.ndarray, " window"] = coin_labels(750, seed=seed, rises=0.52)
        challenger = daily_record(labels, forecast(labels, accuracy, seed=seed + 1000))
        champion = daily_record(labels, loud_forecast(labels, seed=seed + 2000, spread=0.05))
        promoted += decided(challenger, champion, STRICT).action == "promote"
    return promoted


@pytest.mark.e2e  # hundreds of decisions
def test_the_strict_rule_promotes_chance_at_most_at_its_significance_level() -> None:
    promoted = 0
    for seed in range(200):
        labels = coin_labels(300, seed=seed, rises=0.52)
        ours, theirs = (daily_record(labels, loud_forecast(labels, seed=seed + k, spread=0.05)) for k in (1000, 2000))
        promoted += decided(ours, theirs, STRICT).action == "promote"
    assert promoted <= binom.ppf(0.995, 200, STRICT.alpha)


@pytest.mark.e2e
def test_the_strict_rule_promotes_a_planted_signal() -> None:
    assert strict_promotions(0.60, 20) >= 12  # the base rate clause alone has a power of 0.79
    assert strict_promotions(0.65, 20) == 20


@pytest.mark.parametrize(
    ("probabilities", "broken"),
    [
        ([0.4, 0.6], set()),
        ([0.4, np.nan], {"finite"}),
        ([], {"finite"}),
        ([0.5, 0.5 + 1e-8], {"not_constant"}),
        ([0.4, 1.0], {"both_classes_possible"}),
        ([0.0, 0.6], {"both_classes_possible"}),
    ],
)
def test_the_sanity_check_by_hand(probabilities: list[float], broken: set[str]) -> None:
    found = run_sanity_check(np.array(probabilities), reloads_equal=True)
    flags = ("finite", "not_constant", "both_classes_possible", "reloads_equal")
    assert {name for name in flags if not getattr(found, name)} == broken
    assert found.passed is (not broken)
    assert not run_sanity_check(np.array(probabilities), reloads_equal=False).passed


def test_a_base_rate_of_another_length_is_refused() -> None:
    with pytest.raises(SpecError, match="750 windows, found 749"):
        decide(DAILY, SANE, SKILLED, BASE_RATE[1:], None, seed=1)


def test_a_misspelt_or_impossible_rule_is_refused() -> None:
    with pytest.raises(ValidationError, match="tolerence"):
        PromotionRule(tolerence=1)
    with pytest.raises(ValidationError, match="champion_margin"):
        PromotionRule(champion_margin=-1)


def test_every_field_is_bounded_and_described() -> None:
    for name, field in PromotionRule.model_fields.items():
        assert field.description, name
        assert field.metadata or name in {"kind", "trading"}, name


def test_promotion_knows_neither_prefect_nor_mlflow() -> None:
    import subprocess

    code = "import sys, model.promotion_rule; print({'prefect', 'mlflow', 'sklearn', 'tensorflow'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_the_reason_for_a_panel_counts_windows_and_closes() -> None:
    pooled = Record(
        *(np.repeat(part, 2) for part in (SKILLED.decided_at, SKILLED.resolved_at, SKILLED.labels,
                                          SKILLED.probabilities, SKILLED.fold)),
        symbols=np.tile(np.array(["A", "B"]), len(SKILLED)),
    )  # fmt: skip
    reason = decide(DAILY, SANE, pooled, np.repeat(BASE_RATE, 2), None, seed=1).reasons[0]
    assert f"on {2 * len(SKILLED)} windows of {len(SKILLED)} closes" in reason
