"""Score the probabilities of a panel within each close: does a higher probability mean a higher rank that bar?

The area under the curve is taken within each close and averaged, so a move that all series share adds nothing. All
intervals draw whole closes in blocks, because the labels of one close are correlated. What a portfolio by rank earns is
in `model.panel_portfolio`.
"""

import numpy as np
from jaxtyping import Float64

from model.bootstrap import Interval, overlap_bounds, resample, score_block_bars
from model.errors import SpecError
from model.record import Record


def auc_by_bar(record: Record, scores: Float64[np.ndarray, " window"]) -> Float64[np.ndarray, " bar"]:
    """Return the area under the curve of the windows of each close; NaN where they hold one class.

    Args:
        record: of a panel.
        scores: shape (window,), float64: what ranks the windows, higher for a higher expected rank.

    Time: an entry depends on the windows of its close and their labels.
    Source: the Mann-Whitney form; equal scores count half.

    Examples:
        >>> at = np.repeat(np.datetime64("2024-01-01", "us"), 4)
        >>> labels = np.array([0, 1, 0, 1], dtype=np.int8)
        >>> record = Record(at, at, labels, np.full(4, 0.5), np.zeros(4, np.int64), np.array(["A", "B", "C", "D"]))
        >>> auc_by_bar(record, np.array([0.1, 0.4, 0.2, 0.15])).tolist()
        [0.75]
    """
    import pandas as pd  # imported here: pandas takes a second

    bars = record.bar_numbers()
    ranks = pd.Series(scores).groupby(bars).rank().to_numpy()
    rises = np.bincount(bars, weights=record.labels)
    falls = np.bincount(bars) - rises
    sums = np.bincount(bars, weights=ranks * record.labels)
    both = (rises > 0) & (falls > 0)
    return np.where(both, (sums - rises * (rises + 1) / 2) / np.where(both, rises * falls, 1.0), np.nan)


def mean_interval(values: Float64[np.ndarray, " bar"], seed: int, overlap_bars: int = 1) -> Interval:
    """Return the mean of the known values of each close with its 95 % stationary block bootstrap interval.

    Args:
        values: shape (bar,), float64: one a close, oldest first; NaN where there is none.
        seed: of the resampling.
        overlap_bars: closes until a label is resolved; 1 where labels do not overlap.

    Raises:
        SpecError: no value is known.
    """
    known = np.isfinite(values)
    if not known.any():
        raise SpecError("panel: expected a close at which both classes occur, found none")
    values = values[known]
    n, block_bars = len(values), score_block_bars(values, overlap_bars)
    means = resample(lambda counts: (counts @ values / n)[:, None], n, block_bars, seed)[:, 0]
    return Interval(float(values.mean()), *overlap_bounds(means, n, block_bars, overlap_bars))
