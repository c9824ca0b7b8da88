"""Backtest the probabilities: long-flat or long-short, net of costs, vs. buy-and-hold.

Knows closes and P(rise); no order books, no funding, no borrowing fees of short positions. A decision made at a close
is executed at that close and earns the return of the next bar; every change of position pays costs. Returns are simple
returns as shares, costs are in basis points (1 bps = 0.01 %). A bar without a decision (a gap, or no window) is flat.
Caution: the return of the bar on which a decision was made is already known, and never earned.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Shaped
from pydantic import BaseModel, ConfigDict, Field

from model.bars import Bars
from model.bootstrap import Interval, optimal_block_bars, percentile_bounds, resample
from model.errors import SpecError
from model.metrics import THRESHOLD, Record

BPS = 1e-4
YEAR = np.timedelta64(31_557_600, "s")  # 365.25 days: crypto markets never close


class TradingSpec(BaseModel):
    """How probabilities become positions, and the costs of a change."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Trading")

    kind: Literal["long_flat", "long_short"] = Field(
        default="long_flat", description="long_flat: long or flat; long_short: long, or short on a predicted fall"
    )
    threshold: float = Field(
        default=THRESHOLD,
        ge=THRESHOLD,
        lt=1,
        description="Long when P(rise) is above this; long_short: short when P(fall) is above this, flat otherwise "
        "(probability)",
    )
    cost_bps: float = Field(default=10, ge=0, le=1000, description="Exchange fee on the value traded (basis points)")
    slippage_bps: float = Field(
        default=5, ge=0, le=1000, description="Slippage of a fill relative to the close (basis points)"
    )


@dataclass(frozen=True, slots=True)
class Performance:
    """Performance of a series of positions, net of costs.

    Attributes:
        positions: shape (bar,), float64: 1 long, 0 flat, -1 short, held over the bar.
        net_returns: shape (bar,), float64: simple return of each bar net of costs; the last one pays the exit.
        equity: shape (bar,), float64: equity curve, starting from 1, at the end of each bar.
        net_return: net return over the whole span, share.
        gross_return: the same before costs, share.
        sharpe: annualised Sharpe ratio of the net returns, with its 95 % bootstrap interval; 0 where they are constant.
        max_drawdown: maximum drawdown from a former high (the start included), share, 0 to 1.
        turnover: value traded over the whole span, in multiples of the equity.
        exposure: share of bars with a position.
        break_even_bps: costs per side (each value traded once) at which the net return is 0, basis points, with its
            95 % bootstrap interval; NaN where nothing was traded.
    """

    positions: Float64[np.ndarray, " bar"]
    net_returns: Float64[np.ndarray, " bar"]
    equity: Float64[np.ndarray, " bar"]
    net_return: float
    gross_return: float
    sharpe: Interval
    max_drawdown: float
    turnover: float
    exposure: float
    break_even_bps: Interval

    def numbers(self) -> dict[str, float]:
        """Return the numbers without the series, by name; those with an interval also with `_low` and `_high`."""
        names = ("net_return", "gross_return", "max_drawdown", "turnover", "exposure")
        numbers = {name: float(getattr(self, name)) for name in names}
        for name in ("sharpe", "break_even_bps"):
            found = getattr(self, name)
            numbers |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        return numbers


@dataclass(frozen=True, slots=True)
class TradingResult:
    """A strategy vs. buy-and-hold over the same bars.

    Attributes:
        closed_at: shape (bar,), datetime64[us], UTC: when the return of each bar is known.
        strategy: performance of trading by the probabilities.
        buy_and_hold: long from the first decision to the last bar, with the same costs of entry and exit.
    """

    closed_at: Shaped[np.ndarray, " bar"]
    strategy: Performance
    buy_and_hold: Performance


def trade(record: Record, bars: Bars, spec: TradingSpec, seed: int) -> TradingResult:
    """Backtest a record on the bars that follow its decisions.

    A position is held until the next decision, at most until the outcome of its own: a forecast of five bars is held
    for five bars where decisions are five bars apart, and is replaced at each close where they are one bar apart.

    Args:
        record: out-of-sample probabilities, oldest first.
        bars: the bars from the first decision to the last outcome; more do not matter.
        spec: positions and costs.
        seed: of the bootstrap of the Sharpe ratios.

    Returns:
        One entry for each bar after the first decision, until the outcome of the last one.

    Raises:
        SpecError: the record is empty, or no bar follows a decision.

    Time: entry t depends on the newest decision at or before close t and on closes t and t + 1.
    """
    closed_at, positions, returns = _hold_positions(record, bars, spec)
    bars_a_year = float(YEAR / bars.delta)
    return TradingResult(
        closed_at=closed_at,
        strategy=_perform(positions, returns, spec, bars_a_year, seed),
        buy_and_hold=_perform(np.ones(len(returns)), returns, spec, bars_a_year, seed),
    )


def net_returns(record: Record, bars: Bars, spec: TradingSpec) -> Float64[np.ndarray, " bar"]:
    """Return the net return of each bar that `trade` earns, without its figures and intervals."""
    _, positions, returns = _hold_positions(record, bars, spec)
    return np.asarray(positions * returns - _costs(positions, spec), dtype=np.float64)


def _hold_positions(
    record: Record, bars: Bars, spec: TradingSpec
) -> tuple[Shaped[np.ndarray, " bar"], Float64[np.ndarray, " bar"], Float64[np.ndarray, " bar"]]:
    """Return for each bar its close, the position held over it, and the return of the price."""
    first, last = _span(record, bars)
    decided_at = bars.closed_at[first:last]
    closes = bars.column("close")[first : last + 1]
    returns = closes[1:] / closes[:-1] - 1
    newest = np.maximum(np.searchsorted(record.decided_at, decided_at, side="right") - 1, 0)
    adjacent = np.diff(bars.opened_at[first : last + 1]) == bars.delta
    held = (record.decided_at[newest] <= decided_at) & (decided_at < record.resolved_at[newest]) & adjacent
    positions = np.where(held, take_positions(record.probabilities[newest], spec), 0.0)
    return bars.closed_at[first + 1 : last + 1], positions, returns


def _costs(positions: Float64[np.ndarray, " bar"], spec: TradingSpec) -> Float64[np.ndarray, " bar"]:
    """Return the costs of each bar: of the change of position before it, and of the exit at the last one."""
    return np.asarray(_traded(positions) * (spec.cost_bps + spec.slippage_bps) * BPS, dtype=np.float64)


def _traded(positions: Float64[np.ndarray, " bar"]) -> Float64[np.ndarray, " bar"]:
    """Return the value traded at each bar, in multiples of the equity."""
    traded = np.abs(np.diff(positions, prepend=0.0))
    traded[-1] += abs(positions[-1])
    return np.asarray(traded)


def _span(record: Record, bars: Bars) -> tuple[int, int]:
    """Return the index of the bar of the first decision, and of the bar of the last outcome."""
    if not len(record):
        raise SpecError("trading: expected a record of at least one decision, found none")
    closed_at = bars.closed_at
    first = int(np.searchsorted(closed_at, record.decided_at[0], side="left"))
    last = min(int(np.searchsorted(closed_at, record.resolved_at[-1], side="left")), len(bars) - 1)
    if first >= last:
        raise SpecError(
            f"trading: expected bars {bars.interval} after the decision at {record.decided_at[0]}, found the last "
            f"close at {closed_at[-1] if len(bars) else 'none'}. Pass the bars that the record was decided on."
        )
    return first, last


def take_positions(probabilities: Float64[np.ndarray, " window"], spec: TradingSpec) -> Float64[np.ndarray, " window"]:
    """Return the position for each probability, shape (window,): 1 long, 0 flat, -1 short.

    Time: entry t depends on probability t alone.

    Examples:
        >>> take_positions(np.array([0.7, 0.5, 0.3]), TradingSpec(kind="long_short", threshold=0.6)).tolist()
        [1.0, 0.0, -1.0]
    """
    long = (probabilities > spec.threshold).astype(np.float64)
    if spec.kind == "long_flat":
        return long
    return long - (1 - probabilities > spec.threshold)


def _perform(
    positions: Float64[np.ndarray, " bar"],
    returns: Float64[np.ndarray, " bar"],
    spec: TradingSpec,
    bars_a_year: float,
    seed: int,
) -> Performance:
    """Measure positions, shape (bar,); entry t is held over the bar with return t."""
    traded, gross = _traded(positions), positions * returns
    net = gross - _costs(positions, spec)
    equity = np.cumprod(1 + net)
    highs = np.maximum.accumulate(np.concatenate([[1.0], equity]))[1:]
    return Performance(
        positions=positions,
        net_returns=net,
        equity=equity,
        net_return=float(equity[-1] - 1),
        gross_return=float(np.prod(1 + gross) - 1),
        sharpe=sharpe_interval(net, bars_a_year, seed),
        max_drawdown=float((1 - equity / highs).max()),
        turnover=float(traded.sum()),
        exposure=float((positions != 0).mean()),
        break_even_bps=break_even_interval(gross, traded, seed),
    )


def sharpe_interval(returns: Float64[np.ndarray, " bar"], bars_a_year: float, seed: int) -> Interval:
    """Return the annualised Sharpe ratio with its 95 % stationary block bootstrap interval; 0 for constant returns.

    Args:
        returns: shape (bar,), float64: simple returns.
        bars_a_year: bars per year, for the annualisation.
        seed: of the resampling.
    """
    n = len(returns)

    def ratio(counts: Float64[np.ndarray, "resample bar"]) -> Float64[np.ndarray, "resample number"]:
        mean = counts @ returns / n
        variance = np.maximum(counts @ returns**2 / n - mean**2, 0) * n / max(n - 1, 1)
        moved = variance > np.finfo(np.float64).eps * np.maximum(mean**2, np.finfo(np.float64).tiny)
        sharpe: Float64[np.ndarray, " resample"] = mean / np.sqrt(np.where(moved, variance, 1.0)) * np.sqrt(bars_a_year)
        return np.where(moved, sharpe, 0.0)[:, None]

    value = float(ratio(np.ones((1, n)))[0, 0])
    return Interval(value, *percentile_bounds(resample(ratio, n, optimal_block_bars(returns), seed)[:, 0]))


def break_even_interval(gross: Float64[np.ndarray, " bar"], traded: Float64[np.ndarray, " bar"], seed: int) -> Interval:
    """Return the costs per side at which the net return is 0, in basis points, with their 95 % interval.

    That is the logarithmic gross return for each unit of value traded. Draws the same resamples as `sharpe_interval`
    for the same seed.

    Args:
        gross: shape (bar,), float64: simple returns before costs.
        traded: shape (bar,), float64: value traded, in multiples of the equity.
        seed: of the resampling.
    """
    if not traded.any():
        return Interval(np.nan, np.nan, np.nan)
    growth = np.log(np.maximum(1 + gross, np.finfo(np.float64).tiny)) / BPS

    def ratio(counts: Float64[np.ndarray, "resample bar"]) -> Float64[np.ndarray, "resample number"]:
        value = counts @ traded
        return np.asarray((counts @ growth / np.where(value > 0, value, np.nan))[:, None])

    found = resample(ratio, len(gross), optimal_block_bars(gross), seed)[:, 0]
    return Interval(float(growth.sum() / traded.sum()), *percentile_bounds(found[np.isfinite(found)]))


def net_return_interval(returns: Float64[np.ndarray, " bar"], seed: int) -> Interval:
    """Return the compounded return of the whole span with its 95 % stationary block bootstrap interval, as shares.

    Draws the same resamples as `sharpe_interval` for the same seed.

    Args:
        returns: shape (bar,), float64: simple returns after costs; -1 or less is a total loss.
        seed: of the resampling.
    """
    growth = np.log(np.maximum(1 + returns, np.finfo(np.float64).tiny))
    resamples = resample(
        lambda counts: np.expm1(counts @ growth)[:, None], len(returns), optimal_block_bars(returns), seed
    )[:, 0]
    return Interval(float(np.prod(1 + returns) - 1), *percentile_bounds(resamples))
