"""Resample bars to a longer interval.

Groups are anchored at midnight UTC, because all intervals divide a day. A bar is made of the bars that its group holds:
exchanges leave out bars without a trade, and those stay missing. Caution: the first and the last group may be
incomplete; the caller aligns the start and drops what has not closed.
"""

import numpy as np

from model.bars import COLUMNS, Bars, interval_delta
from model.errors import SpecError


def resample_bars(bars: Bars, interval: str) -> Bars:
    """Return bars of a longer interval.

    Volume is conserved, and resampling nests: 1m to 5m to 1h equals 1m to 1h (volumes up to rounding).

    Args:
        bars: oldest first, shape (bar,).
        interval: a whole multiple of the bars' own; with the same interval the bars are returned unchanged.

    Returns:
        One bar for each group that holds at least one bar: first open, highest high, lowest low, last close, sum of
        volumes. NaN in a group makes its own column NaN.

    Raises:
        SpecError: the interval is no whole multiple of the bars' own.

    Time: a bar depends on the bars that opened within it, and may be used once it has closed.
    Source: own.

    Examples:
        >>> opened_at = np.array(["2024-01-01T00:00", "2024-01-01T00:30"], dtype="datetime64[us]")
        >>> halves = Bars("30m", opened_at, np.array([[10.0, 12, 9, 11, 5], [11.0, 15, 10, 14, 2]]))
        >>> resample_bars(halves, "1h").ohlcv.tolist()
        [[10.0, 15.0, 9.0, 14.0, 7.0]]
    """
    delta = interval_delta(interval)
    if delta % bars.delta != np.timedelta64(0):
        raise SpecError(f"resample: expected a whole multiple of {bars.interval}, found {interval}")
    if delta == bars.delta or not len(bars):
        return Bars(interval, bars.opened_at, bars.ohlcv)
    group = bars.opened_at.astype("datetime64[us]").astype(np.int64) // delta.astype(np.int64)
    first = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
    last = np.append(first[1:], len(bars)) - 1
    opened_at = (group[first] * delta.astype(np.int64)).astype("datetime64[us]")
    ohlcv = np.empty((len(first), len(COLUMNS) - 1))
    ohlcv[:, 0] = bars.column("open")[first]
    ohlcv[:, 1] = np.maximum.reduceat(bars.column("high"), first)
    ohlcv[:, 2] = np.minimum.reduceat(bars.column("low"), first)
    ohlcv[:, 3] = bars.column("close")[last]
    ohlcv[:, 4] = np.add.reduceat(bars.column("volume"), first)
    return Bars(interval, opened_at, ohlcv)
