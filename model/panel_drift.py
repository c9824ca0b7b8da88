"""Compare the newest closes of a panel with its training closes: one value for each close, however many series it has.

The series of a close move together, so a test for each series, or one over all their bars, would take one turbulent
day for many. Here each property is averaged over the series of a close first, each series in units of its own usual
move, and the series of these means is compared as that of a single series is (`model/drift.py`): with the most unusual
stretch of the training closes, which holds for any correlation. Caution: a change of a few series among many is no
drift of the panel.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float64, Shaped

from model.bars import Bars
from model.drift import (
    Drift,
    bar_properties,
    compare_with_references,
    drift_references,
    level_drift,
    price_level,
)
from model.errors import SpecError
from model.panel_outcomes import PATIENCE_BARS

LEAST_SHARE = 0.5  # own choice: a close counts if this share of the series listed then has a bar at it
UNIT = {"move": "move size", "move size": "move size", "range": "range"}  # property -> the one whose median is its unit


def measure_panel_drift(
    bars: Mapping[str, Bars],
    trained_until: np.datetime64,
    recent_bars: int,
    slack: float,
    max_level_factor: float,
) -> tuple[Drift, ...]:
    """Compare the newest closes of a panel with the training closes before them.

    The newest `recent_bars` closes are never part of the reference, whatever the champion was trained on. A series with
    fewer training bars than that has no unit yet and is left out.

    Args:
        bars: by symbol, shape (bar,), oldest first: the series of the panel.
        trained_until: close of the champion's newest training bar, datetime64, UTC.
        recent_bars: newest closes compared.
        slack: factor between the most unusual stretch of the training closes and the limit.
        max_level_factor: largest ratio of price levels, in either direction; the median over series is compared.

    Raises:
        SpecError: there are too few closes for a comparison, or no series with enough training bars.

    Returns:
        Drift of move, move size, range and level. Ten copies of one series drift exactly as that series does.

    Time: depends on bars up to the newest close.
    Source: own.
    """
    closes = counted_closes(bars)
    if len(closes) <= recent_bars:
        raise SpecError(_too_few(recent_bars, 0, len(closes)))
    end = min(trained_until, closes[-recent_bars - 1])
    known = {symbol: each for symbol, each in bars.items() if len(each.closed_by(end)) > recent_bars}
    if not known:
        raise SpecError(_too_few(recent_bars, int((closes <= end).sum()), recent_bars))
    means = mean_properties(known, closes, end)
    training, newest = (np.isfinite(means["move"]) & part for part in (closes <= end, closes > end))
    if training.sum() < 2 * recent_bars or newest.sum() < recent_bars:
        raise SpecError(_too_few(recent_bars, int(training.sum()), int(newest.sum())))
    references = drift_references(_chosen(means, training), recent_bars, slack)
    going_on = [each for each in known.values() if each.closed_at[-1] > end]
    ratios = [price_level(each) / price_level(each.closed_by(end)) for each in going_on]
    level = level_drift(float(np.median(ratios)), max_level_factor)
    return (*compare_with_references(references, _chosen(means, newest)), level)


def counted_closes(bars: Mapping[str, Bars]) -> Shaped[np.ndarray, " close"]:
    """Return the closes at which at least `LEAST_SHARE` of the series listed then have a move, oldest first.

    A series is listed from its first move until `PATIENCE_BARS` bars after its last one.
    """
    moves = [(each.closed_at[1:], each.delta) for each in bars.values() if len(each) > 1]
    closes, counts = np.unique(np.concatenate([np.empty(0, "datetime64[us]"), *(at for at, _ in moves)]),
                               return_counts=True)  # fmt: skip
    began = np.sort(np.array([at[0] for at, _ in moves], "datetime64[us]"))
    ended = np.sort(np.array([at[-1] + PATIENCE_BARS * delta for at, delta in moves], "datetime64[us]"))
    listed = np.searchsorted(began, closes, side="right") - np.searchsorted(ended, closes, side="left")
    return np.asarray(closes[counts >= LEAST_SHARE * listed])


def mean_properties(
    bars: Mapping[str, Bars], closes: Shaped[np.ndarray, " close"], end: np.datetime64
) -> dict[str, Float64[np.ndarray, " close"]]:
    """Return the mean over the series of each property at each close, each series in its own unit.

    Args:
        bars: by symbol, shape (bar,), oldest first.
        closes: shape (close,), datetime64[us], UTC, rising.
        end: the unit of a series is the median of its property over the bars closed by then; 1 where that is 0.

    Returns:
        By name, shape (close,); NaN where no series has a move.
    """
    sums, counts = {name: np.zeros(len(closes)) for name in UNIT}, np.zeros(len(closes))
    for each in bars.values():
        training, values = bar_properties(each.closed_by(end)), bar_properties(each)
        _, at, own = np.intersect1d(closes, each.closed_at[1:], assume_unique=True, return_indices=True)
        counts[at] += 1
        for name, unit in UNIT.items():
            sums[name][at] += values[name][own] / (float(np.median(training[unit])) or 1.0)
    return {
        name: np.divide(each, counts, out=np.full(len(closes), np.nan), where=counts > 0) for name, each in sums.items()
    }


def _chosen(
    means: Mapping[str, Float64[np.ndarray, " close"]], chosen: Bool[np.ndarray, " close"]
) -> dict[str, Float64[np.ndarray, " chosen"]]:
    return {name: values[chosen] for name, values in means.items()}


def _too_few(recent_bars: int, training: int, newest: int) -> str:
    return (
        f"drift: expected {2 * recent_bars} training closes and {recent_bars} newer ones at which at least half of the "
        f"listed series have a bar; found {training} and {newest}. Lower recent_bars."
    )
