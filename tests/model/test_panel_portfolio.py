"""The portfolio of a panel by hand: fifths, drift of weights, gaps, series that are missing."""

import numpy as np
import pytest
from synthetic_panel import DAY, panel_record

from model.errors import SpecError
from model.metrics import Record
from model.panel_portfolio import flows, quantile_portfolio


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


def test_a_longer_horizon_is_refused() -> None:
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
