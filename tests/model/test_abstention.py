"""Abstention: stated shares and coverages hold for any sequence, by hand, by a bound and by simulation."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_records import DAY, daily_record

from model.abstention import (
    REFERENCE,
    STEP,
    AbstentionSpec,
    coverage_bound,
    hold_coverage,
    hold_share,
    next_level,
    pending_closes,
    rank_confidences,
    rank_record,
    score_abstention,
    share_bounds,
    signed_moves,
)
from model.bars import Bars
from model.bootstrap import bootstrap_intervals
from model.errors import SpecError
from model.metrics import score
from model.record import Record

KINDS = ("constant", "uniform", "louder", "fainter", "regimes", "against the level")


def record_of(labels: np.ndarray, probabilities: np.ndarray, horizon: int = 1, folds: int = 1) -> Record:
    """A daily record whose labels are resolved after a horizon."""
    daily = daily_record(labels.astype(np.int8), probabilities, folds=folds)
    return Record(daily.decided_at, daily.decided_at + horizon * DAY, daily.labels, daily.probabilities, daily.fold)


def ranks_of(kind: str, n: int, share: float, seed: int) -> np.ndarray:
    """Ranks that drift, stall, or are chosen by an adversary who knows the rule."""
    rng = np.random.default_rng(seed)
    if kind == "against the level":  # always just not, then always just at the level
        ranks, level = np.empty(n), share
        for t in range(n):
            wanted = t > n // 2
            inside = np.clip(level, 1e-9, 1) if wanted else min(1.0, max(level, 0) + 1e-9)
            ranks[t] = inside
            level += STEP * (share - float(inside <= level))
        return ranks
    ramp = np.linspace(0, 1, n)
    uniform = 1 - rng.random(n)
    return {
        "constant": np.ones(n),
        "uniform": uniform,
        "louder": np.clip(uniform * (1 - ramp), 1e-6, 1),
        "fainter": np.clip(uniform + ramp, 1e-6, 1),
        "regimes": np.where(np.arange(n) // 100 % 2 == 0, 1e-6, 1.0),
    }[kind]


def test_ranks_by_hand() -> None:
    before = np.array([0.5, 0.4, 0.8])  # confidences 0, 0.1, 0.3
    found = rank_confidences(before, np.array([0.3, 0.95, 0.5]))  # 0.2, 0.45, 0
    np.testing.assert_allclose(found, [(1 + 1) / 4, (1 + 0) / 5, (1 + 5) / 6])
    np.testing.assert_array_equal(rank_confidences(np.empty(0), np.array([0.9, 0.9])), [1.0, 1.0])


def test_a_rank_compares_with_recent_confidences_only() -> None:
    old, recent = np.full(300, 0.99), np.full(REFERENCE, 0.51)
    assert rank_confidences(np.concatenate([old, recent]), np.array([0.6]))[0] == 1 / (1 + REFERENCE)


def test_levels_and_opinions_by_hand() -> None:
    found = hold_share(np.array([0.2, 0.05, 0.107, 0.05]), 0.1)
    np.testing.assert_allclose(found.levels, [0.1, 0.102, 0.084, 0.086])
    np.testing.assert_array_equal(found.held, [False, True, False, True])


def test_wrong_opinions_lower_the_level_of_the_coverage_once_their_outcome_is_known() -> None:
    probabilities, labels = np.full(6, 0.9), np.array([0, 1, 1, 1, 1, 1])
    ranks = np.full(6, 0.05)
    at_once = hold_coverage(ranks, record_of(labels, probabilities), 0.9)
    delayed = hold_coverage(ranks, record_of(labels, probabilities, horizon=3), 0.9)
    np.testing.assert_allclose(at_once.levels, [0.2, 0.182, 0.184, 0.186, 0.188, 0.19])
    np.testing.assert_allclose(delayed.levels, [0.2, 0.2, 0.2, 0.182, 0.184, 0.186])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [1, 40, 750, pytest.param(5000, marks=pytest.mark.e2e)])
def test_the_share_of_opinions_is_within_its_bounds_for_any_sequence(kind: str, share: float, n: int) -> None:
    low, high = share_bounds(share, n)
    realised = hold_share(ranks_of(kind, n, share, seed=n), share).held.mean()
    assert low - 1e-9 <= realised <= high + 1e-9


def test_both_bounds_of_the_share_are_reached() -> None:
    """No tighter bound is true: equally confident decisions, and decisions each more confident than all before."""
    share = 0.1
    assert not hold_share(np.ones(450), share).held.any()  # the level rises by 0.002 a decision, from 0.1 to 1
    assert share_bounds(share, 451)[0] * 451 == pytest.approx(0)
    assert share_bounds(share, 452)[0] > 0
    assert hold_share(np.ones(452), share).held.sum() == 1
    first = hold_share(np.full(6, 1e-9), share).held  # the level falls by 0.018 a decision, below 0 after six
    assert first.sum() == 6
    assert share_bounds(share, 6)[1] * 6 == pytest.approx(6)  # at most 6.5, and no more than all of them
    assert 5 < share_bounds(share, 60)[1] * 60 - 0.1 * 60 < 6


@pytest.mark.e2e
@given(
    st.integers(0, 10_000),
    st.sampled_from([1, 2, 5, 20]),
    st.sampled_from([0.6, 0.9, 0.95, 0.99]),
    st.sampled_from(["wrong when confident", "always wrong", "coin", "always right", "wrong in bursts"]),
)
@settings(max_examples=120, deadline=None)
def test_prediction_sets_cover_as_stated_for_any_sequence_and_horizon(
    seed: int, horizon: int, coverage: float, kind: str
) -> None:
    rng, n = np.random.default_rng(seed), 400
    probabilities = np.clip(rng.normal(0.5, 0.1, n), 0.01, 0.99)
    ranks = rank_confidences(np.empty(0), probabilities) if seed % 2 else np.full(n, 1e-9)
    up = (probabilities > 0.5).astype(np.int8)
    labels = {
        "wrong when confident": np.where(np.abs(probabilities - 0.5) > 0.05, 1 - up, up),
        "always wrong": 1 - up,
        "coin": rng.integers(0, 2, n),
        "always right": up,
        "wrong in bursts": np.where(np.arange(n) // 50 % 2 == 0, 1 - up, up),
    }[kind]
    record = record_of(labels, probabilities, horizon)
    held = hold_coverage(ranks, record, coverage).held
    covered = (~held | (up == record.labels)).mean()
    assert pending_closes(record) == record.overlap_bars() == horizon
    assert covered >= coverage_bound(coverage, n, horizon) - 1e-9
    if kind == "always right":
        assert covered == 1


def test_the_bound_of_the_coverage_is_nearly_reached_by_delayed_errors() -> None:
    """Always wrong, always confident, 20 bars late: without the horizon's term the bound would be broken."""
    n, horizon, coverage = 60, 20, 0.9
    record = record_of(np.zeros(n), np.full(n, 0.9), horizon)
    wrong = hold_coverage(np.full(n, 1e-9), record, coverage).held.sum()
    assert n * (1 - coverage_bound(coverage, n, 1)) < wrong <= n * (1 - coverage_bound(coverage, n, horizon))


def panel_of(sizes: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, horizon: int = 1) -> Record:
    """A daily record with several series at each close."""
    closes = np.repeat(np.arange(len(sizes)), sizes)
    decided_at = np.datetime64("2020-01-01", "us") + closes * DAY
    symbols = np.concatenate([np.arange(size).astype(str) for size in sizes]).astype(np.str_)
    fold = np.zeros(len(closes), dtype=np.int64)
    return Record(decided_at, decided_at + horizon * DAY, labels.astype(np.int8), probabilities, fold, symbols)


def test_levels_of_a_panel_move_once_a_close_by_the_share_of_its_series() -> None:
    """Two of four series have an opinion at the first close, none of one at the second, one of two at the third."""
    ranks, closes = np.array([0.05, 0.1, 0.2, 0.9, 0.5, 0.01, 0.3]), np.array([3, 3, 3, 3, 5, 8, 8])
    found = hold_share(ranks, 0.1, closes)
    np.testing.assert_allclose(found.levels, [0.1, 0.1 + STEP * (0.1 - 0.5), 0.092 + STEP * 0.1])
    np.testing.assert_array_equal(found.held, [True, True, False, False, False, True, False])


def test_ranks_of_a_panel_compare_with_the_series_of_earlier_closes_by_hand() -> None:
    before, probabilities = np.array([0.5, 0.4]), np.array([0.8, 0.45, 0.3])  # confidences 0, 0.1; 0.3, 0.05; 0.2
    found = rank_confidences(before, probabilities, np.array([4, 4]), np.array([7, 7, 9]))
    np.testing.assert_allclose(found, [1 / 3, (1 + 1) / 3, (1 + 1) / 5])


def test_a_panel_of_one_series_is_the_series_and_copies_of_it_change_nothing() -> None:
    rng = np.random.default_rng(5)
    labels, probabilities = rng.integers(0, 2, 300), rng.uniform(0.3, 0.7, 300)
    one = record_of(labels, probabilities, horizon=3)
    ranks = rank_confidences(np.full(20, 0.6), probabilities)
    four = panel_of(np.full(300, 4), np.repeat(labels, 4), np.repeat(probabilities, 4), horizon=3)
    for found, alone in (
        (hold_share(np.repeat(ranks, 4), 0.1, four.bar_numbers()), hold_share(ranks, 0.1)),
        (hold_coverage(np.repeat(ranks, 4), four, 0.9), hold_coverage(ranks, one, 0.9)),
    ):
        np.testing.assert_allclose(found.levels, alone.levels)
        np.testing.assert_array_equal(found.held, np.repeat(alone.held, 4))
    assert pending_closes(four) == pending_closes(one) == 3


SIZES = ("one", "constant", "random", "alternating")


def sizes_of(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """How many series decide at each close; up to 100."""
    return {
        "one": np.ones(n, dtype=int),
        "constant": np.full(n, 42),
        "random": rng.integers(1, 101, n),
        "alternating": np.where(np.arange(n) % 2 == 0, 1, 100),
    }[kind]


def adversary(kind: str, size: int, level: float, now: int, rng: np.random.Generator) -> np.ndarray:
    """Ranks of the series of a close, chosen by one who knows the level."""
    inside, outside = np.clip(level, 1e-9, 1), min(1.0, max(level, 0.0) + 1e-9)
    held = {
        "never": 0,
        "always": size,
        "then always": size if now > 60 else 0,
        "all at large closes": size if size > 50 else 0,
        "one of many": 1,
        "random": rng.integers(0, size + 1),
    }[kind]
    return np.where(np.arange(size) < held, inside, outside)


@given(
    st.integers(0, 10_000),
    st.integers(1, 160),
    st.sampled_from([0.02, 0.1, 0.5, 0.9]),
    st.sampled_from(SIZES),
    st.sampled_from(["never", "always", "then always", "all at large closes", "one of many", "random"]),
)
@settings(max_examples=60, deadline=None)
def test_the_share_of_opinions_of_a_panel_is_within_its_bounds_against_an_adversary(
    seed: int, n: int, share: float, sizes: str, kind: str
) -> None:
    """The adversary answers the level of each close, so the sequence is the worst that can be built step by step."""
    rng = np.random.default_rng(seed)
    counts, level, ranks = sizes_of(sizes, n, rng), share, []
    for now, size in enumerate(counts):
        ranks.append(adversary(kind, int(size), level, now, rng))
        level = next_level(level, share, float((ranks[-1] <= level).mean()))
    closes = np.repeat(np.arange(n), counts)
    held = hold_share(np.concatenate(ranks), share, closes).held
    realised = np.mean([held[closes == close].mean() for close in range(n)])
    low, high = share_bounds(share, n)
    assert low - 1e-9 <= realised <= high + 1e-9


@given(
    st.integers(0, 10_000),
    st.integers(20, 160),
    st.sampled_from([1, 3, 20]),
    st.sampled_from([0.6, 0.9, 0.95]),
    st.sampled_from(SIZES),
    st.sampled_from(["always wrong", "wrong at large closes", "coins fall together", "wrong in bursts"]),
)
@settings(max_examples=60, deadline=None)
def test_prediction_sets_of_a_panel_cover_as_stated_for_any_sequence_and_horizon(
    seed: int, n: int, horizon: int, coverage: float, sizes: str, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    counts = sizes_of(sizes, n, rng)
    closes, right = np.repeat(np.arange(n), counts), {
        "always wrong": np.zeros(n, dtype=bool),
        "wrong at large closes": counts <= 50,
        "coins fall together": rng.random(n) < 0.5,
        "wrong in bursts": np.arange(n) // 15 % 2 == 1,
    }[kind]  # fmt: skip
    record = panel_of(counts, right[closes], np.full(len(closes), 0.9), horizon)
    held = hold_coverage(np.full(len(closes), 1e-9), record, coverage).held
    covered = np.mean([(~held | (record.labels == 1))[closes == close].mean() for close in range(n)])
    assert pending_closes(record) == min(horizon, n)
    assert covered >= coverage_bound(coverage, n, horizon) - 1e-9


def test_the_bound_of_a_panel_counts_closes_and_not_decisions() -> None:
    """Thirty closes of four series are thirty: the bound for 120 decisions would be broken."""
    closes, coins, horizon, coverage = 30, 4, 5, 0.9
    panel = panel_of(np.full(closes, coins), np.zeros(closes * coins), np.full(closes * coins, 0.9), horizon)
    assert pending_closes(panel) == horizon
    found = hold_coverage(np.full(closes * coins, 1e-9), panel, coverage).held
    covered = 1 - found.mean()
    assert coverage_bound(coverage, closes, horizon) <= covered < coverage_bound(coverage, closes * coins, horizon)


def test_scores_of_a_panel_are_means_over_closes() -> None:
    sizes = np.array([1, 4])
    record = panel_of(sizes, np.array([1, 1, 0, 0, 0]), np.full(5, 0.9))
    found = score_abstention(
        AbstentionSpec(opinion_share=0.5), record, np.array([0.1, 0.1, 0.1, 0.9, 0.9]), np.full(5, 0.5), np.ones(5), 1
    )
    assert (found["share"].opinions, found["share"].share) == (3, pytest.approx((1 + 2 / 4) / 2))
    assert found["share"].coverage == pytest.approx((1 + 3 / 4) / 2)  # one of four opinions is wrong
    assert found["share"].guaranteed == share_bounds(0.5, 2)
    assert found["all"].coverage == pytest.approx((1 + 1 / 4) / 2)


def test_intervals_draw_the_series_of_a_close_together() -> None:
    """Ten copies of a series are no more evidence than one."""
    rng = np.random.default_rng(2)
    one = record_of(rng.integers(0, 2, 150), rng.uniform(0.3, 0.7, 150))
    times = {name: np.repeat(getattr(one, name), 10) for name in ("decided_at", "resolved_at", "labels", "fold")}
    ten = Record(
        **times, probabilities=np.repeat(one.probabilities, 10), symbols=np.tile(np.arange(10).astype(str), 150)
    )
    found = [
        score_abstention(AbstentionSpec(), each, np.ones(len(each)), np.full(len(each), 0.5), np.ones(len(each)), 1)
        for each in (one, ten)
    ]
    alone, copied = (each["all"].accuracy for each in found)
    assert (copied.value, copied.low, copied.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_many_right_opinions_buy_a_bounded_number_of_wrong_ones() -> None:
    """After 5,000 right opinions every one is wrong: the level falls from its cap, not from what was saved up."""
    labels, probabilities = np.repeat([1, 0], [5000, 200]), np.full(5200, 0.9)
    held = hold_coverage(np.full(5200, 1e-9), record_of(labels, probabilities), 0.95).held
    assert held[:5000].all()
    assert held[5000:].sum() <= 1 + (1 + STEP * 0.05) / STEP / 0.95 + 200 * 0.05 / 0.95


@given(st.integers(0, 10_000), st.integers(0, 59), st.sampled_from([1, 5]))
@settings(max_examples=60, deadline=None)
def test_nothing_depends_on_later_probabilities_or_outcomes(seed: int, cut: int, horizon: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities, labels = rng.uniform(0.2, 0.8, 60), rng.integers(0, 2, 60)
    validation = [
        replace(record_of(rng.integers(0, 2, 30), rng.uniform(0.3, 0.7, 30)), fold=np.full(30, fold)) for fold in (0, 1)
    ]
    changed, other = probabilities.copy(), labels.copy()
    changed[cut + 1 :] = rng.uniform(0, 1, 59 - cut)
    other[max(0, cut - horizon + 1) :] = 1 - other[max(0, cut - horizon + 1) :]  # resolved after decision `cut`
    before, after = record_of(labels, probabilities, horizon, 2), record_of(other, changed, horizon, 2)
    ranks, later = rank_record(before, validation), rank_record(after, validation)
    now = slice(0, cut + 1)
    np.testing.assert_array_equal(ranks[now], later[now])
    np.testing.assert_array_equal(hold_share(ranks, 0.1).held[now], hold_share(later, 0.1).held[now])
    ours, theirs = hold_coverage(ranks, before, 0.8), hold_coverage(later, after, 0.8)
    np.testing.assert_array_equal(ours.held[now], theirs.held[now])


def test_an_outcome_that_is_known_at_the_decision_is_used() -> None:
    """The counterpart of the test above: it would also pass if outcomes were never used."""
    ranks, probabilities = np.full(10, 0.01), np.full(10, 0.9)
    right, wrong = (record_of(np.full(10, label), probabilities, 5) for label in (1, 0))
    ours, theirs = (hold_coverage(ranks, each, 0.8).levels for each in (right, wrong))
    np.testing.assert_array_equal(ours[:5], theirs[:5])
    assert (ours[5:] > theirs[5:]).all()


def dependent_forecasts(rng: np.random.Generator, n: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping labels of a horizon, forecasts with some skill, and a confidence that collapses half-way."""
    shocks = rng.normal(size=n + horizon)
    signal = np.convolve(rng.normal(size=n + 20), np.full(20, 20**-0.5), mode="valid")[:n]
    future = np.array([shocks[t : t + horizon].sum() for t in range(n)]) / np.sqrt(horizon) + 0.25 * signal
    scale = np.where(np.arange(n) < n // 2, 0.06, 0.015)
    return (future > 0).astype(np.int8), np.clip(0.5 + scale * signal, 0.01, 0.99)


@pytest.mark.e2e
@pytest.mark.parametrize("horizon", [1, 5])
def test_realised_rates_on_dependent_data_whose_confidence_collapses(horizon: int) -> None:
    """Share 10 % and coverage 95 % are met within a point; a fixed threshold of the validation windows is not."""
    rng, shares, coverages, fixed, accuracies = np.random.default_rng(horizon), [], [], [], []
    for _ in range(20):
        labels, probabilities = dependent_forecasts(rng, 2450, horizon)
        record = record_of(labels[450:], probabilities[450:], horizon)
        ranks = rank_confidences(probabilities[:450], probabilities[450:])
        held = hold_share(ranks, 0.1).held
        shares.append(held.mean())
        right = (record.probabilities > 0.5) == (record.labels == 1)
        accuracies.append(right[held].mean() - right.mean())
        coverages.append((~hold_coverage(ranks, record, 0.95).held | right).mean())
        edge = np.quantile(np.abs(probabilities[:450] - 0.5), 0.9)
        fixed.append((np.abs(record.probabilities - 0.5) > edge).mean())
    assert np.abs(np.array(shares) - 0.1).max() < 0.01
    assert min(coverages) > coverage_bound(0.95, 2000, horizon)
    assert np.mean(coverages) == pytest.approx(0.95, abs=0.01)
    assert np.abs(np.array(fixed) - 0.1).mean() > 0.03
    assert np.mean(accuracies) > 0.05  # the opinions are the better decisions where confidence means something


def test_scores_are_those_of_the_decisions_with_an_opinion() -> None:
    rng = np.random.default_rng(3)
    probabilities = np.clip(rng.normal(0.5, 0.1, 400), 0.01, 0.99)
    labels = (rng.random(400) < probabilities).astype(np.int8)
    record, base, moves = record_of(labels, probabilities), np.full(400, 0.5), rng.normal(size=400)
    moves[7] = np.nan
    ranks = rank_confidences(np.empty(0), probabilities)
    found = score_abstention(AbstentionSpec(), record, ranks, base, moves, seed=1)
    held = hold_share(ranks, 0.1).held
    mine, ours = score(labels[held], probabilities[held]), found["share"]
    assert (ours.opinions, ours.share) == (held.sum(), held.mean())
    assert ours.accuracy.value == pytest.approx(mine["accuracy"])
    assert ours.log_loss.value == pytest.approx(mine["log_loss"])
    assert ours.vs_base_rate.value == pytest.approx(mine["log_loss"] - np.log(2))
    assert ours.move_bps.value == pytest.approx(np.nanmean(moves[held]))
    assert ours.coverage == pytest.approx(1 - held.mean() * (1 - mine["accuracy"]))
    assert ours.accuracy.low < ours.accuracy.value < ours.accuracy.high
    assert ours.guaranteed == share_bounds(0.1, 400)
    everything = found["all"]
    usual = bootstrap_intervals(labels, probabilities, seed=1)["accuracy"]
    assert everything.accuracy.value == pytest.approx(usual.value)
    assert everything.accuracy.high - everything.accuracy.low == pytest.approx(usual.high - usual.low, rel=0.3)
    width, narrow = (each.accuracy.high - each.accuracy.low for each in (ours, everything))
    assert width > 2 * narrow  # a tenth of the decisions


def test_the_rule_of_coverage_is_scored_at_its_own_rate_with_the_bound_of_its_horizon() -> None:
    rng, horizon = np.random.default_rng(4), 5
    probabilities = np.clip(rng.normal(0.5, 0.1, 400), 0.01, 0.99)
    record = record_of(rng.integers(0, 2, 400), probabilities, horizon)
    ranks = rank_confidences(np.empty(0), probabilities)
    spec = AbstentionSpec(opinion_share=0.2, coverage=0.9)
    scores = score_abstention(spec, record, ranks, np.full(400, 0.5), np.zeros(400), seed=1)
    found, held = scores["coverage"], hold_coverage(ranks, record, 0.9).held
    right = (probabilities > 0.5) == (record.labels == 1)
    assert (found.stated, found.opinions) == (0.9, held.sum())
    assert found.coverage == pytest.approx(1 - (held & ~right).mean())
    assert found.accuracy.value == pytest.approx(right[held].mean())
    low = 0.9 - (2 * 0.1 / STEP + 0.9 * horizon) / 400
    assert found.guaranteed == pytest.approx((low, 1.0))
    numbers = scores["share"].numbers()
    assert (numbers["guaranteed_low"], numbers["guaranteed_high"]) == share_bounds(0.2, 400)


def test_a_record_too_short_for_an_opinion_has_no_accuracy() -> None:
    record = record_of(np.array([1, 0, 1]), np.full(3, 0.5))
    found = score_abstention(AbstentionSpec(), record, np.ones(3), np.full(3, 0.5), np.zeros(3), seed=1)["share"]
    assert (found.opinions, found.coverage) == (0, 1)
    assert np.isnan([found.accuracy.value, found.log_loss.low, found.move_bps.high]).all()


def test_signed_moves_by_hand_and_none_where_a_bar_is_missing() -> None:
    close = np.array([100.0, 101.0, 99.0, 99.0])
    opened_at = np.datetime64("2017-05-31", "us") + np.array([0, 1, 2, 4]) * DAY  # closes at the decisions of a record
    bars = Bars("1d", opened_at, np.repeat(close[:, None], 5, axis=1))
    found = signed_moves(record_of(np.array([1, 0, 0]), np.array([0.6, 0.7, 0.4])), bars)
    np.testing.assert_allclose(found, [100.0, (99 / 101 - 1) * 1e4, np.nan])


def test_ranks_of_a_fold_compare_with_its_own_validation_windows() -> None:
    record = record_of(np.array([1, 0, 1, 0]), np.array([0.6, 0.6, 0.6, 0.6]), folds=2)
    loud, faint = (record_of(np.zeros(3), np.full(3, each)) for each in (0.9, 0.51))
    faint = replace(faint, fold=np.ones(3, dtype=np.int64))
    for validation in ([loud, faint], [faint, loud]):
        np.testing.assert_allclose(rank_record(record, validation), [1.0, 1.0, 1 / 4, 2 / 5])
    with pytest.raises(SpecError, match="expected the validation windows of every fold, found none of fold 2"):
        rank_record(record, [loud])
