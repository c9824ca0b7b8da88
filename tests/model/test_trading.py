"""Positions, costs and ratios by hand; the bar of the decision earns nothing, and chance earns nothing after costs."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from synthetic_bars import bars_of_closes, random_walk, scrambled

from model.bars import Bars
from model.errors import SpecError
from model.panel_scores import mean_interval
from model.record import Record
from model.sharpe_and_break_even import break_even_interval, net_return_interval, sharpe_interval
from model.trading import (
    Performance,
    TradingSpec,
    net_returns,
    take_positions,
    trade,
)
from model.trading_policy_comparison import net_by_cost, split_return

FREE = TradingSpec(cost_bps=0, slippage_bps=0)


def record_on(bars: Bars, index: Iterable[int], probabilities: Iterable[float]) -> Record:
    """Return decisions at the close of the bars of an index, with whatever labels followed."""
    chosen = np.array(list(index))
    decided_at = bars.closed_at[chosen]
    close = bars.column("close")
    labels = (close[np.minimum(chosen + 1, len(bars) - 1)] > close[chosen]).astype(np.int8)
    return Record(
        decided_at,
        decided_at + bars.delta,
        labels,
        np.array(list(probabilities)),
        np.zeros(len(chosen), dtype=np.int64),
    )


def test_net_returns_are_those_of_a_backtest() -> None:
    bars = random_walk(120, seed=4, absent=(60,))
    record = record_on(bars, range(5, 100, 2), np.random.default_rng(1).random(48))
    for kind in ("long_flat", "long_short"):
        spec = TradingSpec(kind=kind)
        found, traded = net_returns(record, bars, spec), trade(record, bars, spec, 1).strategy
        assert np.prod(1 + found) - 1 == pytest.approx(traded.net_return)
        assert (found == traded.net_returns).all()


def test_at_the_break_even_cost_nothing_is_earned() -> None:
    bars = random_walk(400, seed=4)
    rises = np.diff(bars.column("close")) > 0
    probabilities = np.where(np.random.default_rng(1).random(399) < 0.6, rises, ~rises) * 0.2 + 0.4
    record = record_on(bars, range(399), probabilities)
    for kind in ("long_flat", "long_short"):
        found = trade(record, bars, TradingSpec(kind=kind), 1).strategy.break_even_bps
        assert 0 < found.low < found.value < found.high
        numbers = trade(record, bars, TradingSpec(kind=kind), 1).strategy.numbers()
        assert (numbers["break_even_bps_low"], numbers["break_even_bps_high"]) == (found.low, found.high)
        paid = TradingSpec(kind=kind, cost_bps=found.value, slippage_bps=0)
        assert trade(record, bars, paid, 1).strategy.net_return == pytest.approx(0, abs=0.03)
        assert trade(record, bars, FREE.model_copy(update={"kind": kind}), 1).strategy.net_return > 1


def test_break_even_costs_by_hand() -> None:
    found = break_even_interval(np.array([0.1, 0.0, 0.0, 1.0]), np.array([1.0, 1.0, 0.0, 2.0]), seed=1)
    assert found.value == pytest.approx(1e4 * np.log(2.2) / 4)
    assert np.isnan(break_even_interval(np.zeros(5), np.zeros(5), seed=1).value)


def test_resamples_that_trade_nothing_are_left_out_of_the_interval_of_break_even_costs() -> None:
    """One position in 20 bars: a third of the resamples hold neither its entry nor its exit, the others earn 50 bps."""
    traded = np.zeros(20)
    traded[10] = 2.0
    found = break_even_interval(np.expm1(traded * 0.005), traded, seed=1)
    assert [found.low, found.value, found.high] == pytest.approx([50, 50, 50])


def test_the_interval_of_break_even_costs_covers_chance_at_its_rate() -> None:
    """Random positions on returns with mean 0: the true value is 0; 95 % intervals should hold it 38 times in 40."""
    rng, covered = np.random.default_rng(5), 0
    for _ in range(40):
        positions = (rng.random(300) < 0.5).astype(float)
        growth = positions * rng.normal(0, 0.02, 300)
        found = break_even_interval(np.expm1(growth), np.abs(np.diff(positions, prepend=0.0)), seed=1)
        covered += found.low <= 0 <= found.high
    assert 34 <= covered <= 40


def test_long_flat_by_hand() -> None:
    bars = bars_of_closes([100, 110, 99, 99, 198])
    record = record_on(bars, range(4), [0.6, 0.4, 0.5, 0.9])
    found = trade(record, bars, TradingSpec(cost_bps=10, slippage_bps=40), seed=1)
    cost = 0.005
    assert found.strategy.positions.tolist() == [1, 0, 0, 1]
    assert found.strategy.net_returns == pytest.approx([0.1 - cost, -cost, 0, 1 - 2 * cost])
    assert found.strategy.net_return == pytest.approx((1.1 - cost) * (1 - cost) * (2 - 2 * cost) - 1)
    assert found.strategy.gross_return == pytest.approx(1.2)
    assert found.strategy.turnover == 4  # in, out, in, and out at the end
    assert found.strategy.exposure == 0.5
    assert found.strategy.max_drawdown == pytest.approx(cost)
    assert (found.closed_at == bars.closed_at[1:]).all()


def test_buy_and_hold_by_hand() -> None:
    bars = bars_of_closes([100, 110, 99, 99, 198])
    found = trade(record_on(bars, range(4), [0.4] * 4), bars, TradingSpec(cost_bps=100, slippage_bps=0), seed=1)
    assert found.buy_and_hold.net_return == pytest.approx((1.1 - 0.01) * 0.9 * (2 - 0.01) - 1)
    assert found.buy_and_hold.max_drawdown == pytest.approx(0.1)
    assert found.buy_and_hold.turnover == 2
    assert found.strategy.net_return == 0
    assert found.strategy.sharpe.value == 0


def test_long_short_by_hand() -> None:
    spec = TradingSpec(kind="long_short", threshold=0.6, cost_bps=0, slippage_bps=0)
    assert take_positions(np.array([0.7, 0.6, 0.5, 0.4, 0.3]), spec).tolist() == [1, 0, 0, 0, -1]
    bars = bars_of_closes([100, 110, 99])
    found = trade(record_on(bars, range(2), [0.9, 0.1]), bars, spec, seed=1).strategy
    assert found.net_return == pytest.approx(1.1 * 1.1 - 1)
    # One in, two to turn round; out: the price fell to 0.9, the equity rose to 1.1.
    assert found.turnover == pytest.approx(1 + 2 + 0.9 / 1.1)
    assert found.exposure == 1.0  # a short position counts


def test_a_short_position_pays_for_being_brought_back_to_the_equity() -> None:
    """An account of cash and coins that is traded back to minus one, zero or one times its equity at every close."""
    bars = random_walk(300, seed=4)
    probabilities = np.repeat(np.random.default_rng(1).choice([0.3, 0.5, 0.7], size=30), 10)[:299]
    for cost_bps in (0.0, 20.0):
        spec = TradingSpec(kind="long_short", threshold=0.6, cost_bps=cost_bps, slippage_bps=0)
        found = trade(record_on(bars, range(299), probabilities), bars, spec, seed=1).strategy
        cash, coins, turnover = 1.0, 0.0, 0.0
        for price, position in zip(bars.column("close"), [*found.positions, 0.0], strict=True):
            equity = cash + coins * price
            wanted = position * equity / price
            traded = abs(wanted - coins) * price
            cash, coins = cash - (wanted - coins) * price - traded * cost_bps * 1e-4, wanted
            turnover += traded / equity
        assert {-1, 0, 1} == set(found.positions)
        assert found.turnover == pytest.approx(turnover, rel=1e-12 if cost_bps == 0 else 5e-3)
        assert found.net_return == pytest.approx(cash - 1, abs=1e-12 if cost_bps == 0 else 1e-3)


def test_a_total_loss_of_a_short_position_ends_the_equity_curve() -> None:
    """Twice short of a price that more than doubles: two factors of -0.5 would leave a quarter of the equity."""
    bars = bars_of_closes([100, 250, 625, 500])
    found = trade(record_on(bars, range(3), [0.1] * 3), bars, FREE.model_copy(update={"kind": "long_short"}), seed=1)
    assert found.strategy.equity.tolist() == [0, 0, 0]
    assert (found.strategy.net_return, found.strategy.gross_return, found.strategy.max_drawdown) == (-1, -1, 1)
    assert net_return_interval(found.strategy.net_returns, seed=1).value == -1
    assert set(net_by_cost(found.strategy.positions * found.returns, np.array([1.0, 0.0, 1.0]))) == {-1}


def test_a_loss_from_the_start_is_a_drawdown() -> None:
    bars = bars_of_closes([100, 50, 60])
    found = trade(record_on(bars, range(2), [0.9, 0.9]), bars, FREE, seed=1).strategy
    assert found.max_drawdown == pytest.approx(0.5)


def test_a_decision_earns_the_next_bar_only() -> None:
    bars = random_walk(200, seed=4)
    record = record_on(bars, range(50, 150), np.random.default_rng(1).random(100))
    found = trade(record, bars, FREE, seed=1).strategy
    same_past = trade(record, scrambled(bars, 101), FREE, seed=1).strategy
    assert (found.net_returns[:50] == same_past.net_returns[:50]).all()
    assert found.net_returns[50] != same_past.net_returns[50] or found.positions[50] == 0
    # what only knows the bar that has just closed earns nothing by it
    moved = np.diff(bars.column("close")) > 0
    late = record_on(bars, range(1, 199), np.where(moved[:-1], 0.9, 0.1))
    early = record_on(bars, range(198), np.where(moved[:-1], 0.9, 0.1))
    assert trade(late, bars, FREE, seed=1).strategy.sharpe.value < 2
    assert trade(early, bars, FREE, seed=1).strategy.sharpe.value > 10


def test_a_gap_and_a_missing_decision_are_spent_flat() -> None:
    bars = bars_of_closes([100, 110, 120, 130, 140, 150], absent=(3,))  # closes 100 110 120 140 150
    record = record_on(bars, [0, 2, 3], [0.9, 0.9, 0.9])
    found = trade(record, bars, FREE, seed=1)
    assert found.strategy.positions.tolist() == [1, 0, 0, 1]
    assert found.strategy.net_return == pytest.approx(1.1 * 150 / 140 - 1)
    assert found.buy_and_hold.net_return == pytest.approx(0.5)


def with_horizon(record: Record, bars: Bars, horizon_bars: int) -> Record:
    return replace(record, resolved_at=record.decided_at + horizon_bars * bars.delta)


def test_a_forecast_is_held_until_its_outcome_where_decisions_are_further_apart() -> None:
    bars = bars_of_closes([100, 110, 121, 110, 99, 198, 99])
    record = with_horizon(record_on(bars, [0, 3], [0.9, 0.9]), bars, 2)
    found = trade(record, bars, FREE, seed=1)
    assert found.strategy.positions.tolist() == [1, 1, 0, 1, 1]  # bar 2 has no forecast: the first one resolved
    assert found.strategy.gross_return == pytest.approx(1.21 * 198 / 110 - 1)


def test_a_later_decision_replaces_a_forecast_that_has_not_resolved() -> None:
    bars = bars_of_closes([100, 110, 121, 110, 99])
    record = with_horizon(record_on(bars, [0, 1], [0.9, 0.1]), bars, 3)
    assert trade(record, bars, FREE, seed=1).strategy.positions.tolist() == [1, 0, 0, 0]


def test_a_perfect_forecast_of_five_bars_earns_all_of_them() -> None:
    bars = random_walk(500, seed=3)
    close, chosen = bars.column("close"), np.arange(0, 495, 5)
    rises = close[chosen + 5] > close[chosen]
    record = with_horizon(record_on(bars, chosen, np.where(rises, 0.9, 0.1)), bars, 5)
    expected = np.prod(np.where(rises, close[chosen + 5] / close[chosen], 1.0)) - 1
    assert trade(record, bars, FREE, seed=1).strategy.gross_return == pytest.approx(expected)


def test_the_sharpe_ratio_by_numpy() -> None:
    returns = np.random.default_rng(3).normal(0.001, 0.02, 500)
    found = sharpe_interval(returns, 365.25, seed=1)
    assert found.value == pytest.approx(returns.mean() / returns.std(ddof=1) * np.sqrt(365.25))
    assert found.low < found.value < found.high


def test_the_sharpe_ratio_is_taken_to_a_year_by_interval() -> None:
    def sharpe(interval: str) -> float:
        bars = random_walk(100, seed=2, interval=interval)
        return trade(record_on(bars, range(99), [0.9] * 99), bars, FREE, seed=1).strategy.sharpe.value

    assert sharpe("1h") == pytest.approx(np.sqrt(24) * sharpe("1d"))


def test_costs_only_lower_returns() -> None:
    bars = random_walk(300, seed=6)
    record = record_on(bars, range(299), np.random.default_rng(2).random(299))

    def net(cost_bps: float) -> Performance:
        return trade(record, bars, TradingSpec(cost_bps=cost_bps, slippage_bps=0), seed=1).strategy

    free, cheap, dear = net(0), net(10), net(50)
    assert free.net_return == pytest.approx(free.gross_return)
    assert free.net_return > cheap.net_return > dear.net_return
    assert free.gross_return == cheap.gross_return == dear.gross_return


def test_a_record_without_bars_is_refused() -> None:
    bars = random_walk(10)
    record = record_on(bars, range(9), [0.5] * 9)
    with pytest.raises(SpecError, match="found none"):
        trade(record.take(np.arange(0)), bars, FREE, seed=1)
    with pytest.raises(SpecError, match="after the decision at 2018-01-02"):
        trade(record, bars.closed_by(bars.closed_at[0]), FREE, seed=1)


def test_the_net_return_compounds_and_its_interval_is_that_of_resampled_sums_of_logs() -> None:
    returns = np.random.default_rng(3).normal(0.001, 0.02, 400)
    found = net_return_interval(returns, seed=1)
    assert found.value == pytest.approx(np.prod(1 + returns) - 1)
    spread = 1.96 * np.log1p(returns).std() * np.sqrt(len(returns))  # returns are independent
    assert np.log1p([found.low, found.high]) == pytest.approx(np.log1p(returns).sum() + np.array([-spread, spread]),
                                                              abs=0.3 * spread)  # fmt: skip
    assert found == net_return_interval(returns, seed=1)


def autoregressive(seed: int, count: int = 800) -> np.ndarray:
    """Return values of mean 0 whose correlation with the value before is 0.9."""
    values = np.random.default_rng(seed).normal(size=count)
    for t in range(1, count):
        values[t] += 0.9 * values[t - 1]
    return values


def test_intervals_of_dependent_returns_are_wider_than_those_of_the_same_returns_in_random_order() -> None:
    """Whole blocks are drawn: with a correlation of 0.9, the mean of many bars varies four times as much."""
    returns, positions = 0.01 * autoregressive(1), np.sign(autoregressive(2))
    order = np.random.default_rng(3).permutation(len(returns))

    def widths(returns: np.ndarray, positions: np.ndarray) -> np.ndarray:
        timing = split_return(positions, returns, seed=1)
        grown = net_return_interval(returns, seed=1)
        intervals = (
            sharpe_interval(returns, 365.25, seed=1),
            break_even_interval(returns, np.ones(len(returns)), seed=1),
            mean_interval(returns, seed=1),
        )
        return np.array(
            [*(each.high - each.low for each in intervals), np.log1p(grown.high) - np.log1p(grown.low),
             timing["timing_return_high"] - timing["timing_return_low"]]
        )  # fmt: skip

    assert (widths(returns, positions) > 1.5 * widths(returns[order], positions[order])).all()


def test_constant_returns_have_an_interval_of_no_width() -> None:
    found = net_return_interval(np.full(100, 0.01), seed=1)
    assert [found.low, found.value, found.high] == pytest.approx([1.01**100 - 1] * 3)


def test_a_total_loss_loses_everything_in_each_resample_that_holds_it() -> None:
    found = net_return_interval(np.array([*[0.01] * 50, -1.2]), seed=1)
    assert found.low == -1.0
