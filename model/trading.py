"""Backtest the probabilities: long-flat or long-short, net of costs, vs. buy-and-hold.

Knows closes and P(rise); no order books, no funding, no borrowing fees of short positions. A decision made at a close
is executed at that close and earns the return of the next bar; every change of position pays costs. Returns are simple
returns as shares, costs are in basis points (1 bps = 0.01 %). A bar without a decision (a gap, or no window) is flat.
How probabilities become positions is in `trading_policies.py`. Caution: the return of the bar on which a decision was
made is already known, and never earned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped
from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.bars import Bars
from model.bootstrap import Interval, optimal_block_bars, percentile_bounds, resample
from model.errors import SpecError
from model.metrics import THRESHOLD, Record
from model.trading_policies import Band, PolicyName, candidate_bands, hold_bands

BPS = 1e-4
YEAR = np.timedelta64(31_557_600, "s")  # 365.25 days: crypto markets never close
# Exchange fee and slippage of a side, basis points. Source: docs/trading.md, with the date.
COST_PRESETS = {"spot_taker": (10.0, 5.0), "spot_maker": (10.0, 0.0), "perpetual_taker": (5.0, 5.0)}


class TradingSpec(BaseModel):
    """How probabilities become positions, and the costs of a change."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Trading")

    kind: Literal["long_flat", "long_short"] = Field(
        default="long_flat", description="long_flat: long or flat; long_short: long, or short on a predicted fall"
    )
    policy: PolicyName = Field(
        default="sign",
        description="sign: a position wherever P is above the threshold; threshold: enters above one threshold, leaves "
        "at a lower one; no_trade_band: trades only when the expected return exceeds the cost. The last two learn "
        "their numbers in each fold, on its validation windows",
    )
    threshold: float = Field(
        default=THRESHOLD,
        ge=THRESHOLD,
        lt=1,
        description="sign: long when P(rise) is above this; long_short: short when P(fall) is above this, flat "
        "otherwise (probability)",
    )
    costs: Literal["custom", "spot_taker", "spot_maker", "perpetual_taker"] = Field(
        default="custom",
        description="custom: cost_bps and slippage_bps as given; any other choice replaces both: spot_taker 10 and 5, "
        "spot_maker 10 and 0, perpetual_taker 5 and 5, without funding (basis points)",
    )
    cost_bps: float = Field(default=10, ge=0, le=1000, description="Exchange fee on the value traded (basis points)")
    slippage_bps: float = Field(
        default=5, ge=0, le=1000, description="Slippage of a fill relative to the close (basis points)"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, given: Any) -> Any:
        """Put the costs of a preset into their fields, so that what is logged is what was paid."""
        preset = COST_PRESETS.get(given.get("costs", "")) if isinstance(given, dict) else None
        return {**given, "cost_bps": preset[0], "slippage_bps": preset[1]} if preset else given

    @property
    def side_bps(self) -> float:
        """Costs of a side: of each unit of value traded, basis points."""
        return self.cost_bps + self.slippage_bps


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


def trade(record: Record, bars: Bars, spec: TradingSpec, seed: int, validation: Sequence[Record] = ()) -> TradingResult:
    """Backtest a record on the bars that follow its decisions.

    A position is held until the next decision, at most until the outcome of its own: a forecast of five bars is held
    for five bars where decisions are five bars apart, and is replaced at each close where they are one bar apart.

    Args:
        record: out-of-sample probabilities, oldest first.
        bars: the bars from the first decision to the last outcome; more do not matter.
        spec: positions and costs.
        seed: of the bootstrap of the Sharpe ratios.
        validation: each fold's probabilities of its validation windows, for the policies that learn from them.

    Returns:
        One entry for each bar after the first decision, until the outcome of the last one.

    Raises:
        SpecError: the record is empty, no bar follows a decision, or the policy lacks the validation of a fold.

    Time: entry t depends on decisions at or before close t, on closes t and t + 1, and on the validation windows of the
        folds of those decisions, which were resolved before their test folds began.
    """
    held = _hold(record, bars)
    positions, returns = _positions(held, record, bars, spec, validation), held.returns
    bars_a_year = float(YEAR / bars.delta)
    return TradingResult(
        closed_at=held.closed_at,
        strategy=_perform(positions, returns, spec, bars_a_year, seed),
        buy_and_hold=_perform(np.ones(len(returns)), returns, spec, bars_a_year, seed),
    )


def net_returns(
    record: Record, bars: Bars, spec: TradingSpec, validation: Sequence[Record] = ()
) -> Float64[np.ndarray, " bar"]:
    """Return the net return of each bar that `trade` earns, without its figures and intervals."""
    held = _hold(record, bars)
    positions = _positions(held, record, bars, spec, validation)
    return np.asarray(positions * held.returns - _costs(positions, spec), dtype=np.float64)


def learn_bands(record: Record, bars: Bars, spec: TradingSpec, validation: Sequence[Record]) -> dict[int, Band]:
    """Return the band of each fold of a record: the candidate with the highest net growth on its validation windows.

    Args:
        record: out-of-sample probabilities, for the numbers of its folds.
        bars: the bars that the windows were cut from.
        spec: policy, kind and costs; a policy other than sign.
        validation: each fold's probabilities of its validation windows, in any order.

    Raises:
        SpecError: a fold has no validation windows.

    Time: the band of a fold depends on its validation windows, and on bars until the last of them was resolved.
    """
    known = {int(each.fold[0]): each for each in validation if len(each)}
    numbers = [int(number) for number in np.unique(record.fold)]
    lacking = [number for number in numbers if number not in known]
    if lacking:
        raise SpecError(
            f"trading policy {spec.policy}: expected the validation windows of every fold, found none of fold "
            f"{lacking[0] + 1}. Retrain, or use --promotion.trading.policy sign."
        )
    return {number: _learn_band(known[number], bars, spec) for number in numbers}


def _learn_band(validation: Record, bars: Bars, spec: TradingSpec) -> Band:
    held, close = _hold(validation, bars), bars.column("close")
    decided, resolved = (
        np.minimum(np.searchsorted(bars.closed_at, times), len(bars) - 1)
        for times in (validation.decided_at, validation.resolved_at)
    )
    candidates = candidate_bands(
        spec.policy, validation.probabilities, close[resolved] / close[decided] - 1, spec.side_bps * BPS
    )

    def growth(band: Band) -> float:
        positions = _band_positions(held, validation, {int(validation.fold[0]): band}, spec)
        return float(_log_growth(positions * held.returns - _costs(positions, spec)).sum())

    return candidates[int(np.argmax([growth(band) for band in candidates]))]


@dataclass(frozen=True, slots=True)
class _Held:
    """Which decision of a record is in force over each bar that follows the first one.

    Attributes:
        closed_at: shape (bar,), datetime64[us], UTC: close of the bar.
        newest: shape (bar,), int64: index of the newest decision.
        in_force: shape (bar,), bool: whether it is unresolved and no gap follows.
        returns: shape (bar,), float64: simple return of the price.
    """

    closed_at: Shaped[np.ndarray, " bar"]
    newest: Int64[np.ndarray, " bar"]
    in_force: Bool[np.ndarray, " bar"]
    returns: Float64[np.ndarray, " bar"]


def _hold(record: Record, bars: Bars) -> _Held:
    first, last = _span(record, bars)
    decided_at = bars.closed_at[first:last]
    closes = bars.column("close")[first : last + 1]
    newest = np.maximum(np.searchsorted(record.decided_at, decided_at, side="right") - 1, 0)
    adjacent = np.diff(bars.opened_at[first : last + 1]) == bars.delta
    in_force = (record.decided_at[newest] <= decided_at) & (decided_at < record.resolved_at[newest]) & adjacent
    return _Held(bars.closed_at[first + 1 : last + 1], newest, in_force, closes[1:] / closes[:-1] - 1)


def _positions(
    held: _Held, record: Record, bars: Bars, spec: TradingSpec, validation: Sequence[Record]
) -> Float64[np.ndarray, " bar"]:
    """Return the position held over each bar by the policy of the spec."""
    if spec.policy == "sign":
        return np.where(held.in_force, take_positions(record.probabilities[held.newest], spec), 0.0)
    return _band_positions(held, record, learn_bands(record, bars, spec, validation), spec)


def _band_positions(
    held: _Held, record: Record, bands: dict[int, Band], spec: TradingSpec
) -> Float64[np.ndarray, " bar"]:
    return hold_bands(
        record.probabilities[held.newest],
        record.fold[held.newest],
        bands,
        held.in_force,
        short=spec.kind == "long_short",
    )


def _costs(positions: Float64[np.ndarray, " bar"], spec: TradingSpec) -> Float64[np.ndarray, " bar"]:
    """Return the costs of each bar: of the change of position before it, and of the exit at the last one."""
    return np.asarray(traded_value(positions) * spec.side_bps * BPS, dtype=np.float64)


def traded_value(positions: Float64[np.ndarray, " bar"]) -> Float64[np.ndarray, " bar"]:
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
    traded, gross = traded_value(positions), positions * returns
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
    growth = _log_growth(gross) / BPS

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
    growth = _log_growth(returns)
    resamples = resample(
        lambda counts: np.expm1(counts @ growth)[:, None], len(returns), optimal_block_bars(returns), seed
    )[:, 0]
    return Interval(float(np.prod(1 + returns) - 1), *percentile_bounds(resamples))


def _log_growth(returns: Float64[np.ndarray, " bar"]) -> Float64[np.ndarray, " bar"]:
    """Return the logarithmic growth of each bar; a total loss is the smallest number."""
    return np.asarray(np.log(np.maximum(1 + returns, np.finfo(np.float64).tiny)), dtype=np.float64)
