"""The anchor: a bolder challenger without proven skill is held, a chain cannot creep, a skilled recipe goes on."""

import numpy as np
import pytest
from simulated_decisions import daily_promotions

from model.best_past_champion import (
    AnchorRule,
    calibration_slope_bound,
    compare_with_past_champions,
    references_to_keep,
)
from model.errors import SpecError

RULE = AnchorRule()


def forecasts(rng: np.random.Generator, spread: float, skill: float, count: int = 750) -> tuple[np.ndarray, np.ndarray]:
    signal = rng.standard_normal(count)
    labels = (rng.random(count) < np.clip(0.5 + skill * signal, 0.02, 0.98)).astype(np.int8)
    return labels, np.clip(0.5 + spread * signal, 0.02, 0.98)


def test_a_bolder_challenger_is_held_without_skill_and_promoted_with_it() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels, bold = forecasts(rng, spread=0.1, skill=0.0)
        timid = 0.5 + (bold - 0.5) / 4
        assert not compare_with_past_champions(labels, 0.5, bold, timid[None], RULE).may_be_promoted
        assert compare_with_past_champions(labels, 0.5, timid, bold[None], RULE).may_be_promoted
        labels, bold = forecasts(rng, spread=0.15, skill=0.15)
        assert compare_with_past_champions(labels, 0.5, bold, 0.5 + (bold - 0.5)[None] / 4, RULE).may_be_promoted


def test_a_challenger_that_is_worse_with_evidence_is_held() -> None:
    labels, good = forecasts(np.random.default_rng(1), spread=0.15, skill=0.15)
    found = compare_with_past_champions(labels, 0.5, 1 - good, good[None], RULE)
    assert found.worse.all()
    assert not found.may_be_promoted


def test_the_numbers_of_a_comparison_are_those_of_the_common_windows() -> None:
    labels, ours = forecasts(np.random.default_rng(7), spread=0.15, skill=0.05)
    theirs = 0.5 + (ours - 0.5) / 3
    reference = np.where(np.arange(750) < 300, np.nan, theirs)
    found = compare_with_past_champions(labels, 0.5, ours, reference[None], RULE, slope=0.2)
    of_outcome = [np.where(labels == 1, each, 1 - each)[300:] for each in (ours, theirs)]
    difference = np.log(of_outcome[1]) - np.log(of_outcome[0])
    excess, error = difference.mean(), difference.std() / np.sqrt(450)
    divergences = [-np.log(4 * each * (1 - each))[300:].mean() / 2 for each in (ours, theirs)]
    boldness = divergences[0] - divergences[1]
    assert boldness > 0
    assert (found.common[0], found.excess[0]) == (450, pytest.approx(excess))
    assert (found.standard_error[0], found.boldness[0]) == (pytest.approx(error), pytest.approx(boldness))
    assert found.conservative_excess[0] == pytest.approx(min(0.6 * boldness, excess + 2.326 * error))


def newey_west(values: np.ndarray, lags: int) -> float:
    """Return the standard error of a mean, with Bartlett's weights."""
    centred, count = values - values.mean(), len(values)
    variance = centred @ centred / count
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (centred[lag:] @ centred[:-lag]) / count
    return float(np.sqrt(variance / count))


def test_overlapping_labels_widen_the_error_of_excess_and_slope() -> None:
    path = np.random.default_rng(9).normal(size=1005).cumsum()
    labels = (path[5:] > path[:-5]).astype(np.int8)
    ours = np.clip(0.5 + 0.15 * np.sin(np.arange(1000) / 40) + 0.03 * (labels - 0.5), 0.02, 0.98)
    found = compare_with_past_champions(labels, 0.5, ours, np.full((1, 1000), 0.5), RULE, overlap=5)
    difference = -np.log(2 * np.where(labels == 1, ours, 1 - ours))
    assert found.standard_error[0] == pytest.approx(newey_west(difference, 10))
    assert newey_west(difference, 10) > 1.5 * newey_west(difference, 0)
    skill, divergences = (labels - 0.5) * np.log(ours / (1 - ours)), -np.log(4 * ours * (1 - ours)) / 2
    slope = skill.mean() / divergences.mean() / 2
    residual, unit = skill - 2 * slope * divergences, 2 * divergences.mean()
    for overlap, lags in ((1, 0), (5, 10)):
        expected = slope - 2.326 * newey_west(residual, lags) / unit
        assert 0 < expected < 0.5
        assert calibration_slope_bound(labels, 0.5, ours, RULE, overlap) == pytest.approx(expected)


def test_evidence_of_being_worse_is_corrected_for_all_that_have_been_champion() -> None:
    """One reference: 1.64 standard errors at 5 %. The best of a hundred champions: 3.29, at 0.05 %."""
    labels, ours = forecasts(np.random.default_rng(8), spread=0.3, skill=0.0)
    reference = np.full((1, 750), 0.5)
    found = compare_with_past_champions(labels, 0.5, ours, reference, RULE)
    excess, error = found.excess[0], found.standard_error[0]
    for errors, looks, promoted in ((1.6, 1, True), (1.7, 1, False), (3.2, 100, True), (3.4, 100, False)):
        rule = AnchorRule(budget=1.0, tolerance=excess - errors * error)
        compared = compare_with_past_champions(labels, 0.5, ours, reference, rule, considered=looks)
        assert (compared.worse[0], compared.may_be_promoted) == (not promoted, promoted), (errors, looks)
    twice = np.repeat(reference, 2, axis=0)  # as many as there are references, where fewer were considered: 1.96
    for errors, promoted in ((1.9, True), (2.0, False)):
        rule = AnchorRule(budget=1.0, tolerance=excess - errors * error)
        assert compare_with_past_champions(labels, 0.5, ours, twice, rule).may_be_promoted == promoted, errors


def test_boldness_is_the_excess_loss_where_nobody_has_skill() -> None:
    labels, bold = forecasts(np.random.default_rng(2), spread=0.1, skill=0.0, count=200_000)
    found = compare_with_past_champions(labels, 0.5, bold, np.full((1, 200_000), 0.5), RULE)
    assert found.boldness[0] == pytest.approx(found.excess[0], abs=4 * found.standard_error[0])


def test_a_reference_with_few_common_decisions_does_not_count() -> None:
    labels, bold = forecasts(np.random.default_rng(3), spread=0.2, skill=0.0)
    reference = np.full((1, 750), 0.5)
    reference[0, 99:] = np.nan
    assert compare_with_past_champions(labels, 0.5, bold, reference, RULE).may_be_promoted
    reference[0, :100] = 0.5
    assert compare_with_past_champions(labels, 0.5, bold, reference, RULE).common[0] == 100
    assert not compare_with_past_champions(labels, 0.5, bold, reference, RULE).may_be_promoted
    for common, promoted in ((99, True), (100, False)):  # a reference that knows the outcomes: evidence of being worse
        reference = np.where(np.arange(750) < common, np.where(labels == 1, 0.9, 0.1), np.nan)
        found = compare_with_past_champions(labels, 0.5, np.full(750, 0.5), reference[None], RULE)
        assert (found.worse[0], found.may_be_promoted) == (not promoted, promoted)


def test_without_a_reference_the_challenger_may_be_promoted() -> None:
    labels, bold = forecasts(np.random.default_rng(4), spread=0.2, skill=0.0)
    assert compare_with_past_champions(labels, 0.5, bold, np.empty((0, 750)), RULE).may_be_promoted


def test_the_least_bold_the_best_and_the_newest_are_kept() -> None:
    labels, bold = forecasts(np.random.default_rng(5), spread=0.15, skill=0.15)
    shades = np.array([0.1, 1.0, -1.0, 0.5, 0.4, 0.3])
    assert references_to_keep(labels, 0.5, 0.5 + shades[:, None] * (bold - 0.5), newest=2) == (0, 1, 4, 5)


def test_a_lucky_reference_with_few_windows_does_not_take_the_place_of_the_best() -> None:
    labels, good = forecasts(np.random.default_rng(6), spread=0.15, skill=0.15)
    lucky = np.where(np.arange(len(labels)) < 60, np.where(labels == 1, 0.9, 0.1), np.nan)
    references = np.stack([good, lucky, *[np.full(len(labels), level) for level in (0.5, 0.45, 0.55)]])
    assert references_to_keep(labels, 0.5, references, newest=1, min_common=100) == (0, 2, 4)
    assert references_to_keep(labels, 0.5, references, newest=1) == (1, 2, 4)


def test_references_are_compared_on_the_windows_that_each_has() -> None:
    """The second one's windows are harder: all fall, where most rise. It beats the base rate by more."""
    labels = np.array([1, 1, 1, 0, 0, 0], dtype=np.int8)
    references = np.array([[0.8] * 3 + [np.nan] * 3, [np.nan] * 3 + [0.4] * 3, [0.7] * 6])
    assert references_to_keep(labels, 0.75, references, newest=0) == (1, 2)


def test_without_skill_a_chain_of_refits_stays_within_a_hundredth_of_the_best_reference() -> None:
    service = daily_promotions(np.random.default_rng(1), runs=4, days=120, spread=0.05, skill=0.0, step=0.004)
    assert (service.excess_over_best.max(axis=1) <= 0.01).all()
    free = daily_promotions(
        np.random.default_rng(1), 4, 120, spread=0.05, skill=0.0, step=0.004, rule=AnchorRule(budget=1.0, tolerance=1.0)
    )
    assert (free.excess_over_best.max(axis=1) > 0.01).all()


def test_with_skill_the_daily_refresh_goes_on() -> None:
    service = daily_promotions(np.random.default_rng(2), runs=4, days=120, spread=0.05, skill=0.05)
    assert service.promoted.mean() >= 0.95


def test_references_on_other_windows_are_an_error() -> None:
    with pytest.raises(SpecError, match="750 windows, found 700"):
        compare_with_past_champions(np.zeros(750, np.int8), 0.5, np.full(750, 0.5), np.full((1, 700), 0.5), RULE)
