"""The three classes of a cost: the close is lower by more than it at the outcome, higher by more, or neither.

A move of exactly the cost is neither. Knows windows, folds and a cost in basis points, not the network. Caution: with a
cost far below the usual move, `neither` is rare, and its calibration is measured on few windows.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float64, Int8

from model.errors import SpecError
from model.expected_moves import trailing_moves
from model.folds import Fold
from model.windows import Windows

DOWN, NEITHER, UP = range(3)
CLASS_NAMES: Final = ("down beyond cost", "neither", "up beyond cost")
CLASS_COLUMNS: Final = ("p_down_beyond_cost", "p_neither", "p_up_beyond_cost")  # of a frame
CLASS_BASELINES: Final = ("base_rates", "trailing_move")
BPS = 1e-4
LEAST_SHARE = 1e-6  # own choice, as of the baselines of the direction: a share of 0 could cost an infinite log loss


def label_cost_classes(moves: Float64[np.ndarray, " window"], cost_bps: float) -> Int8[np.ndarray, " window"]:
    """Return the class of each outcome.

    Args:
        moves: shape (window,), float64: log returns from decision to outcome, NaN where unresolved.
        cost_bps: cost, basis points of the price at the decision.

    Returns:
        Shape (window,), int8: 0 down by more than the cost, 1 neither, 2 up by more; -1 where unresolved.

    Raises:
        SpecError: the cost is not above 0, or not below the whole price.

    Examples:
        >>> label_cost_classes(np.log([1.002, 1.001, 0.998, 1.0]), cost_bps=15).tolist()
        [2, 1, 0, 1]
    """
    if not 0 < cost_bps < 1 / BPS:
        raise SpecError(f"beyond_cost_bps: expected a cost above 0 and below 10,000, found {cost_bps:g}")
    returns = np.expm1(moves)
    classes = np.where(returns > cost_bps * BPS, UP, np.where(returns < -cost_bps * BPS, DOWN, NEITHER))
    return np.where(np.isnan(moves), -1, classes).astype(np.int8)


def class_losses(
    classes: Int8[np.ndarray, " window"], probabilities: Float64[np.ndarray, "window class"]
) -> Float64[np.ndarray, " window"]:
    """Return the log loss of each window, shape (window,), nats: minus the log of the probability of its class.

    >>> class_losses(np.array([2, 0], np.int8), np.array([[0.25, 0.25, 0.5], [1.0, 0.0, 0.0]])).round(4).tolist()
    [0.6931, -0.0]
    """
    own = np.take_along_axis(probabilities, classes.astype(np.int64)[:, None], axis=1)[:, 0]
    return np.asarray(-np.log(np.maximum(own, LEAST_SHARE)), dtype=np.float64)


def brier_losses(
    classes: Int8[np.ndarray, " window"], probabilities: Float64[np.ndarray, "window class"]
) -> Float64[np.ndarray, " window"]:
    """Return the Brier score of each window, shape (window,), 0 to 2: squared errors summed over the three classes.

    Source: Brier 1950.

    >>> brier_losses(np.array([2, 0], np.int8), np.array([[0.25, 0.25, 0.5], [1.0, 0.0, 0.0]])).tolist()
    [0.375, 0.0]
    """
    hits = classes[:, None] == np.arange(3)
    return np.asarray(np.square(probabilities - hits).sum(axis=1), dtype=np.float64)


def class_shares(classes: Int8[np.ndarray, " window"]) -> Float64[np.ndarray, " class"]:
    """Return the share of each class, shape (3,), with one window of each added: none is 0.

    Source: add-one smoothing, Laplace's rule of succession.
    """
    counts = np.bincount(classes, minlength=3) + 1
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def fit_trailing_move(train: Windows, cost_bps: float) -> Float64[np.ndarray, "two class"]:
    """Fit a logistic regression of the class on the log of the window's mean absolute move in units of the cost.

    Args:
        train: resolved windows.
        cost_bps: cost, basis points.

    Returns:
        Shape (2, 3), float64: slopes, then intercepts, of the logits of the three classes. A class that does not occur
        has the least share.

    Time: depends on these windows and their outcomes.
    """
    from sklearn.linear_model import LogisticRegression  # imported here: scikit-learn takes seconds to import

    classes, logs = label_cost_classes(train.label_moves, cost_bps), _log_moves(train, cost_bps)
    known = np.unique(classes)
    fitted = np.zeros((2, 3))
    if len(known) > 1:
        mean = logs.mean()
        model = LogisticRegression(max_iter=1_000).fit((logs - mean)[:, None], classes)
        slopes, intercepts = model.coef_[:, 0], model.intercept_
        if len(known) == 2:  # noqa: PLR2004 - scikit-learn has one logit for two classes
            slopes, intercepts = np.append(0.0, slopes), np.append(0.0, intercepts)
        fitted[:, known] = slopes, intercepts - slopes * mean
    missing = np.setdiff1d(np.arange(3), known)
    fitted[1, missing] = fitted[1, known].min() + np.log(LEAST_SHARE)
    return fitted


def by_trailing_move(
    windows: Windows, fitted: Float64[np.ndarray, "two class"], cost_bps: float
) -> Float64[np.ndarray, "window class"]:
    """Return the class probabilities of windows by `fit_trailing_move`, shape (window, 3)."""
    logits = _log_moves(windows, cost_bps)[:, None] * fitted[0] + fitted[1]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float64)


def _log_moves(windows: Windows, cost_bps: float) -> Float64[np.ndarray, " window"]:
    return np.asarray(np.log(trailing_moves(windows) / (cost_bps * BPS)), dtype=np.float64)


def walk_class_baselines(
    windows: Windows, folds: Sequence[Fold], cost_bps: float
) -> dict[str, Float64[np.ndarray, "window class"]]:
    """Return each baseline's probabilities on the pooled test folds, shape (window, 3), learned fold by fold.

    `base_rates`: the shares of the windows that train and validate the network. `trailing_move`: a logistic regression
    of the class on the log of the window's own mean absolute move, which knows how volatile a window is.

    Args:
        windows: resolved windows.
        folds: over those windows, oldest test fold first.
        cost_bps: cost, basis points.

    Time: the probabilities of a window depend on its bars and on what was resolved before its test fold began.
    """
    classes = label_cost_classes(windows.label_moves, cost_bps)
    shares, fitted = [], []
    for fold in folds:
        learned = np.concatenate([fold.train, fold.validation])
        shares.append(np.tile(class_shares(classes[learned]), (len(fold.test), 1)))
        regression = fit_trailing_move(windows.take(learned), cost_bps)
        fitted.append(by_trailing_move(windows.take(fold.test), regression, cost_bps))
    return dict(zip(CLASS_BASELINES, map(np.concatenate, (shares, fitted)), strict=True))
