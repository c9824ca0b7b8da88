"""The expected absolute move until the outcome: its proper score, and the forecasts that a network must beat.

A move is a log return, for ranks of a panel less that of the median (`Windows.label_moves`); its size is the absolute
value, a forecast of the size is an expectation. Knows windows and folds, not the network. Caution: direction and size
give an expected return, (2 P - 1) times the expected size, only as far as rises and falls of a window are expected to
be of one size.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from model.folds import Fold
from model.windows import Windows

# Own choice: a forecast is at least one basis point times a factor, so that a window without a move has a finite score.
LEAST_MOVE = 1e-4
MOVE_BASELINES = ("training_mean", "trailing_mean")


def trailing_moves(windows: Windows) -> Float64[np.ndarray, " window"]:
    """Return the mean absolute log return from close to close in each window, at least `LEAST_MOVE`.

    Args:
        windows: the last feature before the context is the close.

    Returns:
        Shape (window,), float64.

    Time: entry w depends on the bars of window w.
    """
    close = windows.features[:, -1 - windows.context_count]
    with np.errstate(invalid="ignore", divide="ignore"):  # a close of zero or less has no logarithm
        moves = np.abs(np.diff(np.log(close)))
    steps = windows.lookback_bars - 1
    # Means first: choosing the windows first would copy them, lookback times the memory of the bars of a panel.
    means = np.lib.stride_tricks.sliding_window_view(moves, steps).mean(axis=1)[windows.ends - steps]
    return np.asarray(np.maximum(means, LEAST_MOVE), dtype=np.float64)


def move_factor(train: Windows) -> float:
    """Return the factor of `trailing_moves` with the lowest score on resolved training windows; above 0.

    Time: depends on these windows and their outcomes.
    """
    return max(float((np.abs(train.label_moves) / trailing_moves(train)).mean()), LEAST_MOVE)


def move_losses(
    moves: Float64[np.ndarray, " window"], expected: Float64[np.ndarray, " window"]
) -> Float64[np.ndarray, " window"]:
    """Return the score of each forecast of a size, shape (window,), nats; lower is better.

    Minus the log likelihood of an exponential distribution with that mean. It is a proper score of a mean, whatever the
    distribution: its expectation is lowest at the expected size.

    Args:
        moves: shape (window,), float64: log returns; their sign does not matter.
        expected: shape (window,), float64, above 0: forecasts of the absolute value.

    Source: Patton 2011 (QLIKE, up to a term without the forecast); Gneiting 2011, section 3.2.

    >>> move_losses(np.array([0.02, -0.02]), np.array([0.02, 0.04])).round(4).tolist()
    [-2.912, -2.7189]
    """
    return np.asarray(np.log(expected) + np.abs(moves) / expected, dtype=np.float64)


def walk_move_baselines(windows: Windows, folds: Sequence[Fold]) -> dict[str, Float64[np.ndarray, " window"]]:
    """Return each baseline's forecast of the size on the pooled test folds, shape (window,), learned fold by fold.

    `training_mean`: the mean size of the windows that train and validate the network. `trailing_mean`: the mean move of
    each window times the factor that fits those windows.

    Args:
        windows: resolved windows.
        folds: over those windows, oldest test fold first.

    Time: the forecast of a window depends on its bars and on what was resolved before its test fold began.
    """
    means, trailing = [], []
    for fold in folds:
        learned = windows.take(np.concatenate([fold.train, fold.validation]))
        mean = max(float(np.abs(learned.label_moves).mean()), LEAST_MOVE)
        means.append(np.full(len(fold.test), mean))
        trailing.append(move_factor(learned) * trailing_moves(windows.take(fold.test)))
    return dict(zip(MOVE_BASELINES, map(np.concatenate, (means, trailing)), strict=True))


def moves_of_folds(windows: Windows, folds: Sequence[Fold]) -> Float64[np.ndarray, " window"]:
    """Return the log returns of the pooled test folds, shape (window,)."""
    index: Int64[np.ndarray, " window"] = np.concatenate([fold.test for fold in folds])
    return windows.take(index).label_moves


def expected_returns(
    probabilities: Float64[np.ndarray, " window"], expected_moves: Float64[np.ndarray, " _"]
) -> Float64[np.ndarray, " _"]:
    """Return (2 P - 1) times the expected move, shape (window,); empty without moves.

    >>> expected_returns(np.array([0.75, 0.5]), np.array([0.02, 0.04])).tolist()
    [0.01, 0.0]
    """
    return (2 * probabilities - 1) * expected_moves if len(expected_moves) else expected_moves
