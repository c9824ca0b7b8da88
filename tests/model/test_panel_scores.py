"""Scores of a panel within each close, and intervals that know that the labels of one close are correlated."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from synthetic_panel import DAY, panel_record

from model.bootstrap import bootstrap_intervals, compare_losses
from model.errors import SpecError
from model.panel_scores import auc_by_bar, mean_interval
from model.record import Record, record_from_frame


def test_area_under_the_curve_is_scikit_learns_within_each_close() -> None:
    record = panel_record(20, 9)
    scores = np.round(record.probabilities, 1)  # ties
    found = auc_by_bar(record, scores)
    for bar in range(20):
        part = slice(9 * bar, 9 * bar + 9)
        labels = record.labels[part]
        expected = roc_auc_score(labels, scores[part]) if 0 < labels.sum() < 9 else np.nan
        assert found[bar] == pytest.approx(expected, nan_ok=True)


def test_copies_of_one_series_add_no_evidence() -> None:
    """Ten coins that move as one are one coin: intervals and p-values must be those of the single series."""
    one = panel_record(300, 1)
    record = Record(
        *(np.repeat(part, 10) for part in (one.decided_at, one.resolved_at, one.labels, one.probabilities, one.fold)),
        symbols=np.tile(np.array([f"C{k}" for k in range(10)]), 300),
    )
    alone = Record(one.decided_at, one.resolved_at, one.labels, one.probabilities, one.fold)
    single = compare_losses(alone, np.full(300, 0.5), 1)
    copied = compare_losses(record, np.full(3000, 0.5), 1)
    assert (copied.low, copied.high, copied.p_value) == pytest.approx((single.low, single.high, single.p_value))
    assert (copied.n, copied.closes, single.closes) == (3000, 300, 0)
    single_numbers = bootstrap_intervals(alone.labels, alone.probabilities, 1)
    numbers = bootstrap_intervals(record.labels, record.probabilities, 1, bar_numbers=record.bar_numbers())
    for name, expected in single_numbers.items():
        assert (numbers[name].low, numbers[name].high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_independent_coins_add_evidence() -> None:
    record = panel_record(300, 9)
    first = record.take(record.symbols == "C0")
    alone = Record(first.decided_at, first.resolved_at, first.labels, first.probabilities, first.fold)
    of_all, of_one = compare_losses(record, np.full(2700, 0.5), 1), compare_losses(alone, np.full(300, 0.5), 1)
    # Nine independent coins: a third of the width.
    assert (of_all.high - of_all.low) / (of_one.high - of_one.low) == pytest.approx(1 / 3, rel=0.25)


def test_closes_without_a_value_change_no_mean_and_no_interval() -> None:
    values = np.random.default_rng(1).uniform(0, 1, 100)
    gaps = np.full(150, np.nan)
    gaps[np.arange(150) % 3 != 2] = values
    assert mean_interval(gaps, seed=1) == mean_interval(values, seed=1)
    found = mean_interval(values, seed=1)
    assert found.value == pytest.approx(values.mean())
    assert found.low < found.value < found.high


def test_records_of_a_panel_pair_by_close_and_series_and_survive_storage() -> None:
    ours, theirs = panel_record(4, 3), panel_record(4, 3, seed=2).take(np.array([1, 5, 11, 3]))
    a, b = ours.common_decisions(theirs)
    assert a.symbols.tolist() == b.symbols.tolist() == ["C1", "C0", "C2", "C2"]
    assert np.array_equal(a.decided_at, b.decided_at)
    again = record_from_frame(ours.frame())
    assert np.array_equal(again.symbols, ours.symbols)
    assert np.array_equal(again.probabilities, ours.probabilities)


def test_independent_windows_of_a_panel_are_one_a_close() -> None:
    record = panel_record(6, 3).take(np.array([0, 1, 2, 3, 4, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17]))
    chosen = record.take(record.independent_windows())
    assert np.array_equal(chosen.decided_at, np.unique(record.decided_at))
    # In rotation; the second close holds two coins, the fourth C0 alone.
    assert chosen.symbols.tolist() == ["C0", "C1", "C2", "C0", "C1", "C2"]
    late = Record(
        record.decided_at, record.decided_at + 2 * DAY, record.labels, record.probabilities, record.fold, record.symbols
    )
    assert np.array_equal(late.take(late.independent_windows()).decided_at, np.unique(record.decided_at)[::2])


def test_closes_of_one_class_have_no_area() -> None:
    with pytest.raises(SpecError, match="both classes"):
        mean_interval(np.full(3, np.nan), seed=1)
