"""The portfolio of a panel by hand: fifths, drift of weights, gaps, series that are missing; portfolios compared."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kurtosis, norm, skew
from synthetic_panel import DAY, panel_record

from model.errors import SpecError
from model.panel_portfolio import compare_portfolios, compare_rank_portfolios, flows, quantile_portfolio
from model.record import Record
from model.trading import TradingCosts
from model.trading_policy_comparison import COST_CURVE_BPS

COSTS = TradingCosts(cost_bps=10, slippage_bps=5)


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
    with pytest.raises(SpecError, match="horizon of one bar, found one of 2"):
        compare_rank_portfolios(late, {}, late.probabilities, COSTS, DAY, seed=1)
    weekly = Record(
        record.decided_at + 6 * (record.decided_at - record.decided_at[0]),
        record.decided_at + 6 * (record.decided_at - record.decided_at[0]) + 7 * DAY,
        record.labels, record.probabilities, record.fold, record.symbols,
    )  # fmt: skip
    with pytest.raises(SpecError, match="horizon of one bar, found one of 7"):  # no two labels overlap
        quantile_portfolio(weekly, weekly.probabilities, weekly.probabilities, 0.0, DAY, seed=1)


def rank_record(closes: int, probabilities: list[float]) -> Record:
    """Return a record with the same probabilities at each close."""
    return replace(panel_record(closes, len(probabilities)), probabilities=np.tile(probabilities, closes))


def test_a_portfolio_of_ranks_that_never_changes_by_hand() -> None:
    """Long A, short D at each of 120 closes: 3 % gross, all by exposure; weights drift and are traded back."""
    closes = 120
    record = rank_record(closes, [0.7, 0.6, 0.4, 0.3])
    returns = np.tile([0.02, 0.01, 0.0, -0.01], closes)
    found = compare_rank_portfolios(record, {}, returns, COSTS, DAY, seed=1)
    assert (list(found.results), found.tried, found.spec.side_bps) == (["market_neutral"], 1, 15)
    assert found.buy_and_hold_return == pytest.approx(closes * 0.005)
    figures, curve = found.results["market_neutral"].figures, found.results["market_neutral"].net_by_cost
    # Two legs are opened; at each close they have drifted to 1.02 / 1.03 and 0.99 / 1.03; the last counts the exit too.
    drifted = (1.02 + 0.99) / 1.03
    traded = np.array([2.0, *[2 - drifted] * (closes - 2), 2.0])
    assert figures["turnover"] == pytest.approx(traded.sum())
    assert figures["gross_bps"] == pytest.approx(300)
    assert figures["net_bps"] == pytest.approx(300 - traded.sum() * 15 / closes)
    assert figures["gross_return"] == pytest.approx(1.03**closes - 1)
    assert figures["net_return"] == pytest.approx(np.prod(1.03 - traded * 15e-4) - 1)
    assert figures["break_even_bps"] == pytest.approx(1e4 * closes * np.log(1.03) / traded.sum())  # of log returns
    assert figures["exposure"] == pytest.approx(2.0)
    assert figures["exposure_return"] == pytest.approx(0.03 * closes)
    assert figures["timing_return"] == pytest.approx(0.0, abs=1e-9)
    assert curve == pytest.approx([np.prod(1.03 - traded * cost * 1e-4) - 1 for cost in COST_CURVE_BPS])
    assert curve[15] == pytest.approx(figures["net_return"])


def test_exposure_and_timing_of_a_portfolio_of_ranks_by_hand() -> None:
    """A and B take turns: each is long and short equally often, so all is timing. C and D are never held."""
    record = replace(
        panel_record(4, 4),
        probabilities=np.array([0.9, 0.1, 0.5, 0.5, 0.1, 0.9, 0.5, 0.5] * 2),
    )
    returns = np.array([0.03, -0.01, 0.5, -0.5, -0.01, 0.02, 0.5, -0.5] * 2)
    figures = compare_rank_portfolios(record, {}, returns, COSTS, DAY, seed=1).results["market_neutral"].figures
    assert figures["mean_position"] == pytest.approx(0.0)
    assert figures["exposure_return"] == pytest.approx(0.0)
    assert figures["timing_return"] == pytest.approx(2 * (0.04 + 0.03))


def test_holding_every_series_present_is_no_timing_though_one_is_listed_later() -> None:
    """C2 is listed at close 30 and rises: an equal part of each series present, at every close, times nothing."""
    closes, rng = 60, np.random.default_rng(9)
    listed = np.tile([True, True, False], closes) | (np.arange(3 * closes) >= 90)
    record, returns = panel_record(closes, 3).take(listed), rng.normal(0.01, 0.02, 3 * closes)[listed]
    present = np.bincount(record.bar_numbers())
    weights = np.where(listed.reshape(-1, 3), 1 / present[:, None], 0.0)
    found = compare_portfolios(record, {"held": weights, "short": -weights}, {}, returns, COSTS, DAY, seed=1)
    for name, sign in (("held", 1), ("short", -1)):
        figures = found.results[name].figures
        assert figures["exposure_return"] == pytest.approx(sign * found.buy_and_hold_return)
        assert figures["mean_position"] == pytest.approx(sign)
        timing = [figures[f"timing_return{bound}"] for bound in ("", "_low", "_high")]
        assert timing == pytest.approx([0, 0, 0], abs=1e-12)


def test_with_a_size_there_are_two_tries_and_plain_ranks_are_none() -> None:
    """By P it holds A against D; by (2 P - 1) times the move B against C, which move most; a plain rank D against A."""
    closes, rng = 60, np.random.default_rng(7)
    record = replace(
        rank_record(closes, [0.7, 0.6, 0.4, 0.3]), expected_moves=np.tile([0.01, 0.05, 0.05, 0.01], closes)
    )
    returns = (np.array([0.02, 0.01, 0.0, -0.01]) + rng.normal(0, 0.02, (closes, 4))).ravel()
    plain = {"reversal_1_bar": np.tile([0.0, 1.0, 2.0, 3.0], closes)}
    found = compare_rank_portfolios(record, plain, returns, COSTS, DAY, seed=1, recipes=3)
    by_chance, by_return, by_rank = (
        "market_neutral", "market_neutral_by_expected_return", "market_neutral_by_reversal_1_bar",
    )  # fmt: skip
    assert (tuple(found.results), found.tried) == ((by_chance, by_return, by_rank), 6)
    earned = returns.reshape(-1, 4)
    held = {name: each.figures["gross_bps"] for name, each in found.results.items()}
    assert held == pytest.approx(
        {
            by_chance: 1e4 * (earned[:, 0] - earned[:, 3]).mean(),
            by_return: 1e4 * (earned[:, 1] - earned[:, 2]).mean(),
            by_rank: 1e4 * (earned[:, 3] - earned[:, 0]).mean(),
        }
    )
    assert "deflated_sharpe" not in found.results[by_rank].figures
    net = [
        quantile_portfolio(record, scores, returns, 15.0, DAY, seed=1).net_returns
        for scores in (record.probabilities, record.expected_returns())
    ]
    variance = np.var([each.mean() / each.std() for each in net], ddof=1)
    assert variance > 1 / closes
    for name, each in zip((by_chance, by_return), net, strict=True):
        assert found.results[name].figures["deflated_sharpe"] == pytest.approx(deflated(each, 6, variance), rel=1e-3)


def deflated(returns: np.ndarray, trials: int, variance: float) -> float:
    """Return the deflated Sharpe ratio of Bailey and Lopez de Prado, 2014."""
    ratio, share = returns.mean() / returns.std(), np.euler_gamma
    largest = np.sqrt(variance) * ((1 - share) * norm.ppf(1 - 1 / trials) + share * norm.ppf(1 - 1 / (trials * np.e)))
    spread = 1 - skew(returns) * ratio + (kurtosis(returns, fisher=False) - 1) / 4 * ratio**2
    return float(norm.cdf((ratio - largest) * np.sqrt((len(returns) - 1) / spread)))


def test_two_portfolios_that_are_alike_do_not_undo_the_deflation() -> None:
    """With the same size for all, both rank alike: the ten trials of five recipes vary by chance, not by 0."""
    closes, rng = 250, np.random.default_rng(8)
    record = replace(rank_record(closes, [0.7, 0.6, 0.4, 0.3]), expected_moves=np.full(4 * closes, 0.02))
    returns = (np.array([0.003, 0.0, 0.0, -0.003]) + rng.normal(0, 0.02, (closes, 4))).ravel()
    found = compare_rank_portfolios(record, {}, returns, COSTS, DAY, seed=1, recipes=5)
    net = quantile_portfolio(record, record.probabilities, returns, 15.0, DAY, seed=1).net_returns
    for each in found.results.values():
        assert each.figures["deflated_sharpe"] == pytest.approx(deflated(net, 10, 1 / closes), rel=1e-3)
    assert found.results["market_neutral"].figures["deflated_sharpe"] < 0.95 < deflated(net, 10, 0.0)
