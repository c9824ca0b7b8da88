"""The e-process: valid at any horizon, quick after any history, and equal to a plain loop over its bets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from simulated_decisions import forecasts_of_a_drifting_market

from model.e_process import (
    LARGEST_SHARE,
    STAKES,
    ForecastReference,
    alarm_threshold,
    allowed_excesses,
    change_weights,
    divergence,
    first_alarm,
    freeze_reference,
    lagged_e_process,
    long_run_deviation,
)
from model.errors import SpecError

RATE = 0.05


def plain(
    labels: np.ndarray, probabilities: np.ndarray, base: np.ndarray, allowed: np.ndarray, overlap: int
) -> list[float]:
    """The mean of the interleaved streams, one bet and one start at a time; a bet without an outcome yet is lost."""
    weights = change_weights(len(labels) + 1, overlap)
    return [
        float(np.mean([_stream(labels, probabilities, base, allowed, weights, now, first, overlap)
                       for first in range(overlap)]))
        for now in range(len(labels))
    ]  # fmt: skip


def _stream(
    labels: np.ndarray,
    probabilities: np.ndarray,
    base: np.ndarray,
    allowed: np.ndarray,
    weights: np.ndarray,
    now: int,
    first: int,
    overlap: int,
) -> float:
    """The evidence of decisions `first`, `first + overlap`, ... that were made when decision `now` is resolved."""
    made = range(first, min(now + overlap, len(labels)), overlap)
    total = 1 - weights[: len(made)].sum()
    for start in range(len(made)):
        for stake in STAKES:
            product = weights[start] / len(STAKES)
            for t in made[start:]:
                excess = [
                    float(-np.log(p) + np.log(q) - allowed[t])
                    for p, q in ((1 - probabilities[t], 1 - base[t]), (probabilities[t], base[t]))
                ]
                if min(excess) < 0 < max(excess):
                    share = min(-stake * min(excess), LARGEST_SHARE)
                    product *= 1 + share / -min(excess) * excess[labels[t]] if t <= now else 1 - share
            total += product
    return float(total)


@pytest.mark.parametrize("overlap", [1, 3])
def test_the_evidence_equals_a_plain_loop_over_bets(overlap: int) -> None:
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 2, 12).astype(np.int8), rng.uniform(0.2, 0.8, 12)
    base, allowed = np.full(12, 0.55), rng.uniform(-0.01, 0.02, 12)
    expected = plain(labels, probabilities, base, allowed, overlap)
    np.testing.assert_allclose(lagged_e_process(labels, probabilities, base, allowed, overlap), expected, rtol=1e-12)


@given(st.integers(1, 6), st.integers(1, 30), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_an_entry_depends_on_no_later_outcome(overlap: int, cut: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, probabilities = rng.integers(0, 2, 40).astype(np.int8), rng.uniform(0.1, 0.9, 40)
    base, allowed = np.full(40, 0.5), np.zeros(40)
    other = labels.copy()
    other[cut:] = 1 - other[cut:]
    before = lagged_e_process(labels, probabilities, base, allowed, overlap)[:cut]
    np.testing.assert_allclose(lagged_e_process(other, probabilities, base, allowed, overlap)[:cut], before)
    unknown = labels.copy()
    unknown[cut:] = -1
    open_bets = lagged_e_process(unknown, probabilities, base, allowed, overlap)
    np.testing.assert_allclose(open_bets[:cut], before)
    assert (open_bets[cut:] == before[-1]).all()


def test_the_expected_value_of_independent_bets_is_at_most_one_at_every_horizon() -> None:
    """All 2 ** 10 outcomes of fair coins, weighted by their probability: exact, not simulated."""
    outcomes = np.array(np.meshgrid(*[[0, 1]] * 10)).reshape(10, -1).T.astype(np.int8)
    probabilities = np.tile(np.linspace(0.2, 0.7, 10), (len(outcomes), 1))
    base = np.full(outcomes.shape, 0.5)
    exact = divergence(base, probabilities)  # the expected excess loss where the truth is the base rate
    for overlap in (1, 2, 3, 5):
        means = lagged_e_process(outcomes, probabilities, base, exact, overlap).mean(axis=0)
        assert (means <= 1 + 1e-12).all()
        assert overlap > 1 or means == pytest.approx(np.ones(10))


@pytest.mark.parametrize("overlap", [1, 5, 10, 20])
def test_honest_versions_of_any_horizon_raise_an_alarm_ever_at_most_at_the_stated_rate(overlap: int) -> None:
    """The expected excess of every forecast is exactly what is allowed: the hardest case of the null hypothesis."""
    runs = 150
    rng = np.random.default_rng(overlap)
    labels, probabilities = forecasts_of_a_drifting_market(rng, runs, 1000, overlap, skilled=False)
    base = np.full(labels.shape, 0.5)
    evidence = lagged_e_process(labels, probabilities, base, divergence(base, probabilities), overlap)
    alarms = int((evidence.max(axis=1) >= 1 / RATE).sum())
    assert alarms <= binom.ppf(0.99, runs, RATE)


@pytest.mark.parametrize("overlap", [1, 10])
def test_the_reference_of_an_honest_record_raises_no_more_alarms(overlap: int) -> None:
    runs = 100
    rng = np.random.default_rng(overlap)
    for skilled in (False, True):
        labels, probabilities = forecasts_of_a_drifting_market(rng, runs, 1770, overlap, skilled=skilled)
        references = [
            freeze_reference(y, p, overlap=overlap)
            for y, p in zip(labels[:, :750], probabilities[:, :750], strict=True)
        ]
        live, said = labels[:, 770:], probabilities[:, 770:]
        allowed = np.stack([allowed_excesses(each, p) for each, p in zip(references, said, strict=True)])
        base = np.array([each.base_rate for each in references])[:, None] * np.ones(live.shape)
        alarms = int((lagged_e_process(live, said, base, allowed, overlap).max(axis=1) >= 1 / RATE).sum())
        assert alarms <= binom.ppf(0.99, runs, RATE)


@pytest.mark.parametrize("good_days", [0, 250, 750, 1500])
def test_an_inverted_new_version_is_found_within_thirty_decisions_after_any_history(good_days: int) -> None:
    runs = 100
    rng = np.random.default_rng(good_days)
    record = 0.5 + 0.3 * rng.choice([-1, 1], (runs, 750))
    references = [freeze_reference((rng.random(750) < p).astype(np.int8), p) for p in record]
    right = 0.5 + 0.3 * rng.choice([-1, 1], (runs, good_days + 30))
    labels = (rng.random(right.shape) < right).astype(np.int8)
    served = right.copy()
    served[:, good_days:] = 1 - right[:, good_days:]
    base = np.array([each.base_rate for each in references])[:, None] * np.ones(served.shape)
    allowed = np.stack([allowed_excesses(each, p) for each, p in zip(references, served, strict=True)])
    service = lagged_e_process(labels, served, base, allowed)[:, good_days:]
    version = lagged_e_process(*(each[:, good_days:] for each in (labels, served, base, allowed)))
    assert (service[:, 0] < 20).all()
    found = (version.max(axis=1) >= alarm_threshold(RATE, 2)) | (service.max(axis=1) >= alarm_threshold(RATE))
    assert found.mean() >= 0.95


def test_a_long_good_history_of_another_version_does_not_hide_ninety_nine_wrong_days() -> None:
    """Version 0.1 pooled all versions into one process: evidence 6.6 after 99 wrong of 99 days."""
    rng = np.random.default_rng(3)
    right = 0.5 + 0.1 * rng.choice([-1, 1], 899)
    labels = (rng.random(899) < right).astype(np.int8)
    labels[800:] = right[800:] < 0.5
    reference = ForecastReference(0.5, -0.5, 0.1, 0.005)
    evidence = lagged_e_process(labels, right, np.full(899, 0.5), allowed_excesses(reference, right))
    alarm = first_alarm(evidence, alarm_threshold(RATE))
    assert alarm is not None
    assert 800 <= alarm < 830


def test_the_rates_of_all_processes_add_up_to_the_stated_rate() -> None:
    versions = sum(1 / alarm_threshold(RATE, ordinal) for ordinal in range(1, 10_000))
    assert versions + 1 / alarm_threshold(RATE) == pytest.approx(RATE, abs=1e-5)


@pytest.mark.parametrize("overlap", [1, 7])
def test_the_weights_of_all_starts_stay_below_one(overlap: int) -> None:
    assert 0.9 < change_weights(2_000_000, overlap).sum() < 1


def test_a_calibrated_version_is_allowed_less_where_it_is_bold_and_a_timid_one_nothing_for_boldness() -> None:
    rng = np.random.default_rng(0)
    p = 0.5 + 0.2 * rng.choice([-1, 1], 5000)
    skilled = freeze_reference((rng.random(5000) < p).astype(np.int8), p)
    assert -1.1 < skilled.excess_slope < -0.7
    assert allowed_excesses(skilled, np.array([skilled.base_rate]))[0] == pytest.approx(0.005)
    noise = freeze_reference(rng.integers(0, 2, 5000).astype(np.int8), p)
    assert noise.excess_slope > 1 - 0.1
    bold = allowed_excesses(noise, np.array([0.7, 0.999]))
    assert bold[1] < 1.2 * bold[0]  # capped: confidence beyond the record's earns nothing


def test_the_long_run_deviation_of_overlapping_sums_is_that_of_theory() -> None:
    rng = np.random.default_rng(0)
    sums = np.convolve(rng.standard_normal(20_000), np.ones(5), "valid")
    assert long_run_deviation(sums, 60) == pytest.approx(5, rel=0.1)


def test_an_empty_record_or_a_horizon_of_zero_is_an_error() -> None:
    with pytest.raises(SpecError, match="at least one window"):
        freeze_reference(np.empty(0, np.int8), np.empty(0))
    with pytest.raises(SpecError, match="at least 1 decision, found 0"):
        lagged_e_process(np.ones(2, np.int8), np.full(2, 0.5), np.full(2, 0.5), np.zeros(2), 0)
