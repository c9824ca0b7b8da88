"""Scores of a panel within each close, and intervals that know that the labels of one close are correlated."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from model.bootstrap import bootstrap_intervals, compare_losses
from model.errors import SpecError
from model.metrics import Record, record_from_frame
from model.panel_scores import auc_by_bar, flows, mean_interval, quantile_portfolio

DAY = np.timedelta64(1, "D")


def panel_record(closes: int, coins: int, seed: int = 1) -> Record:
    """Return a record of independent labels and probabilities."""
    rng = np.random.default_rng(seed)
    decided_at = np.repeat(np.datetime64("2024-01-01", "us") + np.arange(closes) * DAY, coins)
    return Record(
        decided_at,
        decided_at + DAY,
        rng.integers(0, 2, closes * coins).astype(np.int8),
        rng.uniform(0.3, 0.7, closes * coins),
        np.zeros(closes * coins, np.int64),
        np.tile(np.array([f"C{k}" for k in range(coins)]), closes),
    )


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


def test_portfolio_by_hand() -> None:
    record = panel_record(2, 5)
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.2, 0.3, 0.4, 0.1])
    returns = np.array([-0.01, 0.0, 0.0, 0.0, 0.02, 0.01, 0.0, 0.0, 0.0, -0.03])
    found = quantile_portfolio(record, scores, returns, 10.0, DAY, seed=1)
    # First close: long C4, short C0. Second: long C0, short C4, so both legs, as they drifted, turn over; then both are
    # closed at the weights that they drift to.
    second = (1 + 0.99 / 1.03) + (1 + 1.02 / 1.03) + 1.01 / 1.04 + 0.97 / 1.04
    assert found.gross.tolist() == pytest.approx([0.03, 0.04])
    assert found.traded.tolist() == pytest.approx([2.0, second])
    assert found.exposure == 2.0
    assert found.gross_bps == pytest.approx(350)
    assert found.net_bps == pytest.approx(350 - 10 * (2 + second) / 2)
    assert found.break_even_bps.value == pytest.approx((np.log(1.03) + np.log(1.04)) / (2 + second) / 1e-4)
    net = np.array([0.03 - 0.002, 0.04 - 0.001 * second])
    assert found.sharpe.value == pytest.approx(net.mean() / net.std(ddof=1) * np.sqrt(365.25))


def test_a_fifth_of_eight_series_is_two_and_of_seven_one() -> None:
    scores, returns = np.arange(8.0), np.array([-0.03, -0.01, 0.0, 0.0, 0.0, 0.0, 0.05, 0.07])
    eight = quantile_portfolio(panel_record(1, 8), scores, returns, 0.0, DAY, seed=1)
    seven = quantile_portfolio(panel_record(1, 7), scores[:7], returns[:7], 0.0, DAY, seed=1)
    assert eight.gross.tolist() == pytest.approx([0.06 + 0.02])  # the means of two
    assert seven.gross.tolist() == pytest.approx([0.05 + 0.03])
    assert eight.exposure == seven.exposure == pytest.approx(2.0)


def test_where_a_series_is_missing_the_best_of_those_present_is_held() -> None:
    record = panel_record(2, 5).take(np.array([0, 1, 2, 3, 4, 5, 6, 7, 8]))  # C4 misses the second close
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.3, 0.2, 0.1])
    returns = np.array([-0.01, 0.0, 0.0, 0.0, 0.02, 0.05, 0.0, 0.0, -0.03])
    found = quantile_portfolio(record, scores, returns, 0.0, DAY, seed=1)
    assert found.gross.tolist() == pytest.approx([0.02 + 0.01, 0.05 + 0.03])


def test_closes_without_a_value_change_no_mean_and_no_interval() -> None:
    values = np.random.default_rng(1).uniform(0, 1, 100)
    gaps = np.full(150, np.nan)
    gaps[np.arange(150) % 3 != 2] = values
    assert mean_interval(gaps, seed=1) == mean_interval(values, seed=1)
    found = mean_interval(values, seed=1)
    assert found.value == pytest.approx(values.mean())
    assert found.low < found.value < found.high


def test_the_drift_of_weights_is_traded_back_and_nothing_is_held_over_a_gap() -> None:
    record = panel_record(3, 2)
    weights, returns = np.full((3, 2), 0.5), np.array([0.1, -0.1] * 3)
    _, traded = flows(record, weights, returns, DAY)
    assert traded.tolist() == pytest.approx([1.0, 0.1, 0.1 + 1.0])  # 0.55 and 0.45 go back to halves
    late = np.array([0, 0, 1, 1, 5, 5]) * DAY + np.datetime64("2024-01-01", "us")
    gapped = Record(late, late + DAY, record.labels, record.probabilities, record.fold, record.symbols)
    _, traded = flows(gapped, weights, returns, DAY)
    assert traded.tolist() == pytest.approx([1.0, 0.1 + 1.0, 1.0 + 1.0])


def test_a_coin_that_is_missing_is_sold_and_one_coin_alone_is_not_held() -> None:
    whole = panel_record(3, 2)
    record = whole.take(np.array([0, 1, 2, 4, 5]))  # C1 misses the second close
    found = quantile_portfolio(record, np.array([1.0, 0.0, 1.0, 1.0, 0.0]), np.full(5, 0.01), 0.0, DAY, seed=1)
    assert found.traded.tolist() == pytest.approx([2.0, 2.02, 2.0 + 2.02])
    assert found.gross.tolist() == [0.0, 0.0, 0.0]


def test_a_longer_horizon_is_refused_and_a_close_of_one_class_has_no_area() -> None:
    record = panel_record(5, 4)
    late = Record(
        record.decided_at, record.decided_at + 2 * DAY, record.labels, record.probabilities, record.fold, record.symbols
    )
    with pytest.raises(SpecError, match="horizon of one bar, found one of 2"):
        quantile_portfolio(late, late.probabilities, late.probabilities, 0.0, DAY, seed=1)
    weekly = Record(
        record.decided_at + 6 * (record.decided_at - record.decided_at[0]),
        record.decided_at + 6 * (record.decided_at - record.decided_at[0]) + 7 * DAY,
        record.labels, record.probabilities, record.fold, record.symbols,
    )  # fmt: skip
    with pytest.raises(SpecError, match="horizon of one bar, found one of 7"):  # no two labels overlap
        quantile_portfolio(weekly, weekly.probabilities, weekly.probabilities, 0.0, DAY, seed=1)
    with pytest.raises(SpecError, match="both classes"):
        mean_interval(np.full(3, np.nan), seed=1)


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
