"""Label bars: 1 (rise) where the close `horizon_bars` later is higher, else 0 (fall).

Equal closes are a fall. A label that needs a missing bar, at the end of the series or inside a gap, is UNRESOLVED. The
trap: the label of bar t is known only when bar t + horizon has closed; `model.windows` keeps that time as
`resolved_at`, and the folds purge by it.
"""

from typing import Final

import numpy as np
from jaxtyping import Int8, Int64

from model.bars import Bars, gap_sizes
from model.errors import SpecError

RISE: Final = 1
FALL: Final = 0
UNRESOLVED: Final = -1


def stretch_numbers(bars: Bars) -> Int64[np.ndarray, " bar"]:
    """Number the gapless stretches: two bars have the same number iff there is no gap between them.

    Returns:
        Shape (bar,), int64, from 0, never falling in time.

    Time: entry t depends on bars 0..t.
    Source: own.
    """
    return np.concatenate((np.zeros(min(len(bars), 1), np.int64), np.cumsum(gap_sizes(bars) > 0, dtype=np.int64)))


def label_rises(bars: Bars, horizon_bars: int) -> Int8[np.ndarray, " bar"]:
    """Return for each bar whether the close `horizon_bars` later is higher than its own.

    Args:
        bars: shape (bar,), oldest first.
        horizon_bars: bars until the outcome, at least 1.

    Returns:
        Shape (bar,), int8: 1 rise, 0 fall (equal included), -1 unresolved: the later bar is missing, there is a
        gap in between, or one of the two closes is NaN.

    Raises:
        SpecError: the horizon is below 1.

    Time: entry t depends on bars t..t+horizon; it is known when bar t+horizon has closed.
    Source: the article's rule, `y_close > last close of the window`.

    Examples:
        >>> opened_at = np.arange("2024-01-01", "2024-01-05", dtype="datetime64[D]").astype("datetime64[us]")
        >>> close = np.array([10.0, 12.0, 12.0, 11.0])
        >>> label_rises(Bars("1d", opened_at, np.repeat(close[:, None], 5, axis=1)), horizon_bars=1).tolist()
        [1, 0, 0, -1]
    """
    if horizon_bars < 1:
        raise SpecError(f"horizon_bars: expected at least 1, found {horizon_bars}")
    close, stretch = bars.column("close"), stretch_numbers(bars)
    now, later = close[:-horizon_bars], close[horizon_bars:]
    known = (stretch[:-horizon_bars] == stretch[horizon_bars:]) & ~np.isnan(now) & ~np.isnan(later)
    labels = np.full(len(bars), UNRESOLVED, np.int8)
    labels[: len(now)] = np.where(known, later > now, UNRESOLVED)
    return labels


def require_labels(labels: Int8[np.ndarray, " window"]) -> None:
    """Raise unless each label is 0 or 1."""
    bad = np.flatnonzero((labels != 0) & (labels != 1))
    if len(bad):
        raise SpecError(
            f"expected labels 0 (fall) or 1 (rise); found {labels[bad[0]]} at window {bad[0]} ({len(bad)} such). "
            "Drop unresolved windows first."
        )
