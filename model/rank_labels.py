"""Labels of the kind `rank`: is the return of a series above the median of the others at the same close?"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64, Int8, Int64, Shaped

from model.labels import FALL, RISE, UNRESOLVED
from model.windows import Windows


def label_ranks(windows: Windows, returns: Float64[np.ndarray, " window"], least_series: int) -> Windows:
    """Replace the labels: 1 above the median return of the others at the same close, 0 else; unresolved with too few.

    Against the median of all, the series in the middle of an odd number would always get 0: of five series, 40 % of the
    labels would be 1.
    """
    medians, counts = _medians_of_others(returns, windows.decided_at)
    known = (counts >= least_series) & np.isfinite(returns)
    labels: Int8[np.ndarray, " window"] = np.where(known, np.where(returns > medians, RISE, FALL), UNRESOLVED).astype(
        np.int8
    )
    return replace(
        windows,
        labels=labels,
        resolved_at=np.where(known, windows.resolved_at, np.datetime64("NaT")),
        label_moves=np.where(known, np.log1p(returns) - np.log1p(medians), np.nan),
    )


def _medians_of_others(
    returns: Float64[np.ndarray, " window"], decided_at: Shaped[np.ndarray, " window"]
) -> tuple[Float64[np.ndarray, " window"], Int64[np.ndarray, " window"]]:
    """Return the median of the other known returns of each window's close, and how many are known there.

    The median is NaN where the return is unknown, or the only one.
    """
    at = np.flatnonzero(np.isfinite(returns))
    _, close, sizes = np.unique(decided_at[at], return_inverse=True, return_counts=True)
    order = np.lexsort((returns[at], close))
    ranked, count = returns[at][order], sizes[close[order]]
    first = (np.cumsum(sizes) - sizes)[close[order]]
    rank, half = np.arange(len(at)) - first, count // 2
    # Without the one at `rank`: the middle of an odd number of others, or the mean of their two middle ones.
    low = half - 1 + (rank < half)
    high = np.where(count % 2 == 0, low, half + (rank <= half))
    others = np.where(
        count > 1, (ranked[np.maximum(first + low, 0)] + ranked[np.minimum(first + high, len(at) - 1)]) / 2, np.nan
    )
    medians, counts = np.full(len(returns), np.nan), np.zeros(len(returns), np.int64)
    medians[at[order]], counts[at[order]] = others, count
    return medians, counts
