"""A linear model of the cross-section: what the ranks of a panel's series at a close say of their next returns.

Its inputs are five ranks among the series of a close: last move, trend, volatility, momentum, value traded. What it
predicts is the log return in excess of the close's mean, for the label `rank` the rank of the return within the close,
because a few large returns decide a mean and no rank. One set of coefficients is fitted on the training windows of a
fold; a logistic link, fitted on its validation windows, turns the prediction into a probability. Caution: it says
nothing about the move that all series share: for the label `rise` the link's intercept is all it knows of the market.

Source: Fama and MacBeth 1973 (a regression at each close, coefficients averaged over closes). Ranks have the same
spread at each close, so one regression within closes, each close weighing the same, is close to that average, and it is
defined where a close has fewer series than there are factors. Caution: the link is fitted on the validation windows on
which a policy then chooses its band, so that choice is in-sample; test windows are not affected.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from model.baseline_records import BaselineRecords, fold_records
from model.baselines import PROBABILITY_MARGIN
from model.folds import Fold
from model.label_names import LabelKind
from model.panel import Panel

FACTOR_MODEL = "linear_factor_model"
RIDGE = 1.0  # own choice: as strong as about one close of data; it matters only where a factor is 0 for all series


@dataclass(frozen=True, slots=True)
class FactorForecasts:
    """What the linear factor model predicted.

    Attributes:
        scores: shape (window,), float64: prediction for the pooled test windows, less that for the middle rank of all
            factors: log return, or rank from -1 to 1. They rank the series of a close.
        records: the probabilities of label 1.
        coefficients: shape (fold, factor), float64: of `model.panel.FACTORS`, what the highest rank adds to the
            middle one.
    """

    scores: Float64[np.ndarray, " window"]
    records: BaselineRecords
    coefficients: Float64[np.ndarray, "fold factor"]


def walk_factor_model(panel: Panel, folds: Sequence[Fold], label: LabelKind) -> FactorForecasts:
    """Fit and predict each fold in turn.

    Args:
        panel: its resolved windows.
        folds: over those windows, oldest test fold first.
        label: of the panel.

    Time: a test prediction depends on ranks at its close, and on what was resolved before its test fold began.
    """
    factors, closes = panel.factors(), panel.windows.decided_at
    response = _ranks(panel.returns, closes) if label == "rank" else np.log1p(panel.returns)
    fits = [_fit(factors[fold.train], response[fold.train], closes[fold.train]) for fold in folds]
    scores = [factors @ each for each in fits]
    linked = [
        _link(each[fold.validation], panel.windows.labels[fold.validation])
        for each, fold in zip(scores, folds, strict=True)
    ]
    validated, tested = (
        [link(each[getattr(fold, part)]) for link, each, fold in zip(linked, scores, folds, strict=True)]
        for part in ("validation", "test")
    )
    return FactorForecasts(
        np.concatenate([each[fold.test] for each, fold in zip(scores, folds, strict=True)]),
        fold_records(panel.windows, folds, np.concatenate(tested), validated),
        np.stack(fits),
    )


def _ranks(
    returns: Float64[np.ndarray, " window"], closes: Shaped[np.ndarray, " window"]
) -> Float64[np.ndarray, " window"]:
    """Return the rank of each return within its close, from -1 to 1; 0 where it is alone."""
    import pandas as pd  # imported here: pandas takes a second

    by_close = pd.Series(returns).groupby(closes)
    places, counts = by_close.rank().to_numpy(), by_close.transform("count").to_numpy()
    return np.asarray(2 * (places - 1) / np.maximum(counts - 1, 1) - (counts > 1), dtype=np.float64)


def _fit(
    factors: Float64[np.ndarray, "window factor"],
    response: Float64[np.ndarray, " window"],
    closes: Shaped[np.ndarray, " window"],
) -> Float64[np.ndarray, " factor"]:
    """Return the coefficients of a regression within closes, in which each close weighs the same."""
    from sklearn.linear_model import Ridge  # imported here: scikit-learn takes seconds to import

    _, close, sizes = np.unique(closes, return_inverse=True, return_counts=True)
    within = _less_the_mean(np.column_stack([factors, response]), close, sizes)
    fitted = Ridge(alpha=RIDGE, fit_intercept=False).fit(within[:, :-1], within[:, -1], 1 / sizes[close])
    return np.asarray(fitted.coef_, dtype=np.float64)


def _less_the_mean(
    values: Float64[np.ndarray, "window column"], close: Int64[np.ndarray, " window"], sizes: Int64[np.ndarray, " bar"]
) -> Float64[np.ndarray, "window column"]:
    sums = np.stack([np.bincount(close, weights=column) for column in values.T], axis=1)
    return np.asarray(values - (sums / sizes[:, None])[close])


def _link(scores: Float64[np.ndarray, " window"], labels: Shaped[np.ndarray, " window"]) -> Any:
    """Return a function from scores to P(label 1): logistic, or the share of label 1 where no score rises with it.

    Source: Platt 1999.
    """
    from sklearn.linear_model import LogisticRegression  # imported here: scikit-learn takes seconds to import

    scale, share = float(scores.std()), float(labels.mean())
    slope, intercept = 0.0, 0.0
    if scale > 0 and 0 < share < 1:
        fitted = LogisticRegression().fit(scores[:, None] / scale, labels)
        slope, intercept = float(fitted.coef_[0, 0]) / scale, float(fitted.intercept_[0])

    def probabilities(given: Float64[np.ndarray, " _"]) -> Float64[np.ndarray, " _"]:
        found = 1 / (1 + np.exp(-(intercept + slope * given))) if slope > 0 else np.full(len(given), share)
        return np.clip(found, PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)

    return probabilities
