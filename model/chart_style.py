"""Colours, fold shades and axis rules that all charts and pictures share.

Knows arrays only, neither matplotlib nor plotly. Rises are blue and falls orange throughout, so that colour-blind
readers can tell them apart too.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

RISE, FALL, QUIET, INK = "#0072b2", "#d55e00", "#9a9a9a", "#222222"  # Okabe and Ito 2008
FOLD_SHADES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7f6c00", "#555555")
COIN_LOSS = float(np.log(2))  # nats: log loss of always predicting 0.5
LOG_SCALE_RATIO = 5.0  # highest over lowest price from which a price axis is logarithmic
GAP_FACTOR = 2.0  # a time step this many times the median counts as a gap
LOSS_QUANTILE = 0.98  # losses above it may be cut off: one diverged epoch would hide the others
MOST_FLATTENING = 3.0  # own choice: the axis may be so many times as long for the highest losses
NARROWEST_SPAN = 0.1  # of a probability axis


def gap_starts(times: Shaped[np.ndarray, " window"]) -> Int64[np.ndarray, " gap"]:
    """Return the indices of the first window after each gap, so that no line is drawn across it."""
    steps = np.diff(times)
    if not len(steps):
        return np.empty(0, np.int64)
    return np.flatnonzero(steps > GAP_FACTOR * np.median(steps)) + 1


def needs_log_scale(close: Float64[np.ndarray, " window"]) -> bool:
    """Return whether a price axis should be logarithmic: all prices positive, over a wide range."""
    return bool(len(close) and np.nanmin(close) > 0 and np.nanmax(close) / np.nanmin(close) > LOG_SCALE_RATIO)


def probability_limits(probabilities: Float64[np.ndarray, " window"]) -> tuple[float, float]:
    """Return the limits of an axis that shows all probabilities and is never narrower than `NARROWEST_SPAN`."""
    low, high = float(probabilities.min()), float(probabilities.max())
    room = max(0.05 * (high - low), (NARROWEST_SPAN - (high - low)) / 2)
    return max(low - room, -0.02), min(high + room, 1.02)


def loss_limits(losses: Sequence[float]) -> tuple[float, float] | None:
    """Return the limits of a loss axis that shows `COIN_LOSS` and all losses; None where none is finite.

    Losses that would flatten the others, such as those of a first epoch that went astray, lie above it.

    >>> [round(each, 3) for each in loss_limits([0.78, 0.70, 0.69, 0.68])]
    [0.672, 0.788]
    >>> [round(each, 3) for each in loss_limits([9.0] + 99 * [0.70])]
    [0.692, 0.701]
    """
    finite = np.array([each for each in losses if np.isfinite(each)])
    if not len(finite):
        return None
    low, high = min(float(finite.min()), COIN_LOSS), max(float(np.quantile(finite, LOSS_QUANTILE)), COIN_LOSS)
    if finite.max() - low <= MOST_FLATTENING * (high - low):
        high = max(float(finite.max()), COIN_LOSS)
    room = max(high - low, 0.01) * 0.08
    return low - room, high + room


def is_best_epoch(losses: Float64[np.ndarray, " epoch"]) -> Bool[np.ndarray, " epoch"]:
    """Mark the epoch of the lowest validation loss; none where no loss is finite."""
    best = np.zeros(len(losses), dtype=np.bool_)
    if np.isfinite(losses).any():
        best[int(np.nanargmin(losses))] = True
    return best
