"""Trade every series of a panel by one policy, in equal parts, net of costs.

Each series present gets the same share of the equity at every close and holds its own position: long, flat or short by
its own probability. The band of a policy is chosen fold by fold on the validation windows of all series together. Knows
no funding and no borrowing fees. The market-neutral portfolio of ranks is in `model.panel_scores`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from model.bootstrap import Interval
from model.metrics import Record
from model.panel_scores import require_one_bar
from model.trading import BPS, YEAR, break_even_interval, sharpe_interval
from model.trading_policies import Band, PolicyName, candidate_bands, hold_bands


@dataclass(frozen=True, slots=True)
class PanelTrading:
    """A policy on all series of a panel.

    Attributes:
        gross: shape (bar,), float64: mean over the series of position times return, before costs.
        traded: shape (bar,), float64: value traded at each close, in multiples of the equity; the last closes all.
        exposure: mean share of the equity with a position.
        break_even_bps: costs per side at which the net return is 0, basis points, with its 95 % interval; NaN where
            nothing was traded.
        sharpe: annualised Sharpe ratio net of the costs, with its 95 % interval.
        net_bps: mean net return per bar, basis points.
    """

    gross: Float64[np.ndarray, " bar"]
    traded: Float64[np.ndarray, " bar"]
    exposure: float
    break_even_bps: Interval
    sharpe: Interval
    net_bps: float


def choose_bands(
    policy: PolicyName,
    validation: Record,
    returns: Float64[np.ndarray, " window"],
    cost_bps: float,
) -> dict[int, Band]:
    """Return the band of each fold: the one with the highest net growth on the fold's validation windows.

    Args:
        policy: which policy.
        validation: the validation windows of all folds, with the fold that they belong to, oldest first in each.
        returns: shape (window,), float64: simple return of each until its outcome.
        cost_bps: costs per side, basis points.

    Time: the band of a fold depends on windows that were resolved before its test windows were decided.
    """
    chosen = {}
    for number in np.unique(validation.fold).tolist():
        windows = np.flatnonzero(validation.fold == number)
        part, earned = validation.take(windows), returns[windows]
        bands = candidate_bands(policy, part.probabilities, earned, cost_bps * BPS)
        growths = [_growth(part, earned, {number: band}, cost_bps) for band in bands]
        chosen[number] = bands[int(np.argmax(growths))]
    return chosen


def _growth(
    record: Record, returns: Float64[np.ndarray, " window"], bands: Mapping[int, Band], cost_bps: float
) -> float:
    gross, traded, _ = _hold(record, returns, bands)
    return float(np.log1p(np.maximum(gross - traded * cost_bps * BPS, -1 + BPS)).sum())


def trade_panel(
    record: Record,
    returns: Float64[np.ndarray, " window"],
    bands: Mapping[int, Band],
    cost_bps: float,
    bar: np.timedelta64,
    seed: int,
) -> PanelTrading:
    """Trade a panel's record long or short by the bands of its folds.

    Args:
        record: of a panel with a horizon of one bar.
        returns: shape (window,), float64: simple return until the outcome, one bar later.
        bands: by fold, as `choose_bands` returns.
        cost_bps: costs per side, basis points.
        bar: length of a bar, for the annualisation.
        seed: of the intervals.

    Raises:
        SpecError: the horizon is longer than a bar, so that positions would overlap.

    Time: positions at a close depend on the probabilities of that close and of those before.
    """
    require_one_bar(record)
    gross, traded, exposure = _hold(record, returns, bands)
    net = gross - traded * cost_bps * BPS
    return PanelTrading(
        gross=gross,
        traded=traded,
        exposure=exposure,
        break_even_bps=break_even_interval(gross, traded, seed),
        sharpe=sharpe_interval(net, float(YEAR / bar), seed),
        net_bps=float(net.mean() / BPS),
    )


def _hold(
    record: Record, returns: Float64[np.ndarray, " window"], bands: Mapping[int, Band]
) -> tuple[Float64[np.ndarray, " bar"], Float64[np.ndarray, " bar"], float]:
    """Return gross return and value traded of each close, and the mean exposure; equal parts of the series present."""
    bars, (_, series) = record.bar_numbers(), np.unique(record.symbols, return_inverse=True)
    shape = (int(bars[-1]) + 1, int(series.max()) + 1)
    probabilities, earned, present = np.full(shape, 0.5), np.zeros(shape), np.zeros(shape, dtype=bool)
    probabilities[bars, series], earned[bars, series], present[bars, series] = record.probabilities, returns, True
    fold: Int64[np.ndarray, " bar"] = np.zeros(shape[0], np.int64)
    fold[bars] = record.fold
    held = [hold_bands(probabilities[:, k], fold, bands, present[:, k], short=True) for k in range(shape[1])]
    weights = np.stack(held, axis=1) / np.maximum(present.sum(axis=1, keepdims=True), 1)
    traded = np.abs(np.diff(weights, axis=0, prepend=0.0)).sum(axis=1)
    traded[-1] += np.abs(weights[-1]).sum()
    return (weights * earned).sum(axis=1), traded, float(np.abs(weights).sum(axis=1).mean())
