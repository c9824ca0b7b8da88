"""Backtest the probabilities: long-flat or long-short, net of costs, vs. buy-and-hold.

Knows closes and P(rise); no order books, no funding, no borrowing fees of short positions. A decision made at a close
is executed at that close and earns the return of the next bar; every change of position pays costs. Returns are simple
returns as shares, costs are in basis points (1 bps = 0.01 %). A bar without a decision (a gap, or no window) is flat.
How probabilities become positions is in `trading_policies.py`. Caution: the return of the bar on which a decision was
made is already known, and never earned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped
from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.bars import Bars
from model.bootstrap import Interval
from model.errors import SpecError
from model.metrics import THRESHOLD
from model.record import Record, validation_by_fold
from model.sharpe_and_break_even import BPS, break_even_interval, growth_factors, log_growth, sharpe_interval
from model.trading_policies import Band, PolicyName, candidate_bands, hold_bands

YEAR = np.timedelta64(31_557_600, "s")  # 365.25 days: crypto markets never close
# Exchange fee and slippage of a side, basis points. Source: docs/trading.md, with the date.
COST_PRESETS = {"spot_taker": (10.0, 5.0), "spot_maker": (10.0, 0.0), "perpetual_taker": (5.0, 5.0)}


class TradingCosts(BaseModel):
    """Costs of a change of a position."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Costs")

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


class TradingSpec(TradingCosts):
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


@dataclass(frozen=True, slots=True)
class Performance:
    """Performance of a series of positions, net of costs.

    Attributes:
        positions: shape (bar,), float64: 1 long, 0 flat, -1 short, held over the bar.
        net_returns: shape (bar,), float64: simple return of each bar net of costs; the last one pays the exit.
        equity: shape (bar,), float64: equity curve, starting from 1, at the end of each bar; 0 from a total loss on.
        net_return: net return over the whole span, share.
        gross_return: the same before costs, share.
        sharpe: annualised Sharpe ratio of the net returns, with its 95 % bootstrap interval; 0 where they are constant.
        max_drawdown: maximum drawdown from a former high (the start included), share, 0 to 1.
        turnover: value traded over the whole span, in multiples of the equity; see `traded_value`.
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
class StrategyResult:
    """A strategy on the bars that follow its decisions.

    Attributes:
        closed_at: shape (bar,), datetime64[us], UTC: when the return of each bar is known.
        strategy: performance of trading by the probabilities.
        returns: shape (bar,), float64: simple return of the price.
        bands: in force in each fold; none for the policy sign.
    """

    closed_at: Shaped[np.ndarray, " bar"]
    strategy: Performance
    returns: Float64[np.ndarray, " bar"]
    bands: Mapping[int, Band]


@dataclass(frozen=True, slots=True)
class TradingResult(StrategyResult):
    """A strategy vs. buy-and-hold over the same bars.

    Attributes:
        buy_and_hold: long from the first decision to the last bar, with the same costs of entry and exit.
    """

    buy_and_hold: Performance


def trade(record: Record, bars: Bars, spec: TradingSpec, seed: int, validation: Sequence[Record] = ()) -> TradingResult:
    """Backtest a record and buy-and-hold on the bars that follow its decisions; see `trade_strategy`."""
    found = trade_strategy(record, bars, spec, seed, validation)
    held = _perform(np.ones(len(found.returns)), found.returns, spec, float(YEAR / bars.delta), seed)
    return TradingResult(found.closed_at, found.strategy, found.returns, found.bands, held)


def trade_strategy(
    record: Record, bars: Bars, spec: TradingSpec, seed: int, validation: Sequence[Record] = ()
) -> StrategyResult:
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
    held, bands = _hold(record, bars), learn_bands(record, bars, spec, validation)
    positions, returns = _positions(held, record, bands, spec), held.returns
    performance = _perform(positions, returns, spec, float(YEAR / bars.delta), seed)
    return StrategyResult(held.closed_at, performance, returns, bands)


def net_returns(
    record: Record, bars: Bars, spec: TradingSpec, validation: Sequence[Record] = ()
) -> Float64[np.ndarray, " bar"]:
    """Return the net return of each bar that `trade` earns, without its figures and intervals."""
    held = _hold(record, bars)
    positions = _positions(held, record, learn_bands(record, bars, spec, validation), spec)
    return np.asarray(positions * held.returns - _costs(positions, held.returns, spec), dtype=np.float64)


def learn_bands(record: Record, bars: Bars, spec: TradingSpec, validation: Sequence[Record]) -> dict[int, Band]:
    """Return the band of each fold of a record: the candidate with the highest net growth on its validation windows.

    The policy sign has none.

    Args:
        record: out-of-sample probabilities, for the numbers of its folds.
        bars: the bars that the windows were cut from.
        spec: policy, kind and costs.
        validation: each fold's probabilities of its validation windows, in any order.

    Raises:
        SpecError: a fold has no validation windows.

    Time: the band of a fold depends on its validation windows, and on bars until the last of them was resolved.
    """
    if spec.policy == "sign":
        return {}
    remedy = "Retrain, or use --promotion.trading.policy sign."
    by_fold = validation_by_fold(record, validation, f"trading policy {spec.policy}", remedy)
    return {number: _learn_band(each, bars, spec) for number, each in by_fold.items()}


def _learn_band(validation: Record, bars: Bars, spec: TradingSpec) -> Band:
    held, close = _hold(validation, bars), bars.column("close")
    decided, resolved = (
        np.minimum(np.searchsorted(bars.closed_at, times), len(bars) - 1)
        for times in (validation.decided_at, validation.resolved_at)
    )
    returns, expected = close[resolved] / close[decided] - 1, validation.expected_returns()
    candidates = candidate_bands(spec.policy, validation.probabilities, returns, spec.side_bps * BPS, expected)

    def growth(band: Band) -> float:
        positions = _positions(held, validation, {int(validation.fold[0]): band}, spec)
        return float(log_growth(positions * held.returns - _costs(positions, held.returns, spec)).sum())

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
    held: _Held, record: Record, bands: Mapping[int, Band], spec: TradingSpec
) -> Float64[np.ndarray, " bar"]:
    """Return the position held over each bar by the policy of the spec."""
    now = record.take(held.newest)
    if spec.policy == "sign":
        return np.where(held.in_force, take_positions(now.probabilities, spec), 0.0)
    short, expected = spec.kind == "long_short", now.expected_returns()
    return hold_bands(now.probabilities, now.fold, bands, held.in_force, short=short, expected_returns=expected)


def _costs(
    positions: Float64[np.ndarray, " bar"], returns: Float64[np.ndarray, " bar"], spec: TradingSpec
) -> Float64[np.ndarray, " bar"]:
    """Return the costs of each bar: of the value traded at the close before it, and of the exit at the last one."""
    return np.asarray(traded_value(positions, returns) * spec.side_bps * BPS, dtype=np.float64)


def traded_value(
    positions: Float64[np.ndarray, " bar"], returns: Float64[np.ndarray, " bar"]
) -> Float64[np.ndarray, " bar"]:
    """Return the value traded at the close before each bar, in multiples of the equity; the last one adds the exit.

    A long position moves as the equity does. A short one grows where the equity falls, so a short position of once the
    equity is traded back to it at every close, without which its returns would not compound.

    Args:
        positions: shape (bar,), float64: held over each bar, in multiples of the equity.
        returns: shape (bar,), float64: simple return of the price.

    >>> traded_value(np.array([1.0, 1.0]), np.array([0.5, 0.5])).tolist()
    [1.0, 1.0]
    >>> traded_value(np.array([-1.0, -1.0]), np.array([0.5, 0.0])).tolist()  # 1.5 short of an equity of 0.5
    [1.0, 3.0]
    """
    equity = growth_factors(positions * returns)
    drifted = np.divide(positions * (1 + returns), equity, out=np.zeros(len(positions)), where=equity > 0)
    traded = np.abs(positions - np.concatenate([[0.0], drifted[:-1]]))
    traded[-1] += abs(drifted[-1])
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
    traded, gross = traded_value(positions, returns), positions * returns
    net = gross - traded * spec.side_bps * BPS
    equity = np.cumprod(growth_factors(net))
    highs = np.maximum.accumulate(np.concatenate([[1.0], equity]))[1:]
    return Performance(
        positions=positions,
        net_returns=net,
        equity=equity,
        net_return=float(equity[-1] - 1),
        gross_return=float(np.prod(growth_factors(gross)) - 1),
        sharpe=sharpe_interval(net, bars_a_year, seed),
        max_drawdown=float((1 - equity / highs).max()),
        turnover=float(traded.sum()),
        exposure=float((positions != 0).mean()),
        break_even_bps=break_even_interval(gross, traded, seed),
    )
