"""The records of baselines that are traded as the network is: test windows, and the validation windows of each fold.

A policy that chooses a band needs both. Boosting is fitted on the training windows for its validation windows, and on
both parts for its test windows, so that the forecaster that is traded is the one that is scored. The reversal learns
nothing. Knows windows, folds and probabilities; `model.trading_policy_comparison` and `model.panel_policies` have the
positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from model.baselines import MAX_TRAINING_WINDOWS, BaselineName, predict_baseline
from model.folds import Fold
from model.networks import Scaling
from model.record import Record
from model.windows import Windows

BOOSTING: BaselineName = "gradient_boosting"
REVERSAL = "reversal_1_bar"


@dataclass(frozen=True, slots=True)
class BaselineRecords:
    """What a baseline predicted.

    Attributes:
        test: the pooled test windows, oldest first.
        validation: the validation windows of each fold.
    """

    test: Record
    validation: tuple[Record, ...]


def boosting_records(
    windows: Windows,
    folds: Sequence[Fold],
    tested: Float64[np.ndarray, " window"],
    seed: int,
    scaling: Scaling = "window",
    max_windows: int | None = MAX_TRAINING_WINDOWS,
) -> BaselineRecords:
    """Return the records of gradient boosting.

    Args:
        windows: resolved windows.
        folds: over those windows, oldest test fold first.
        tested: shape (window,), float64: its P(rise) on the pooled test folds, by `walk_baselines_forward`.
        seed: of the boosting.
        scaling: how the network scales its windows.
        max_windows: newest windows of a fold that it learns from; None: all.

    Time: the probability of a validation window depends on what was resolved before the validation windows began.
    """
    return fold_records(windows, folds, tested, boosting_validation(windows, folds, seed, scaling, max_windows))


def boosting_validation(
    windows: Windows,
    folds: Sequence[Fold],
    seed: int,
    scaling: Scaling = "window",
    max_windows: int | None = MAX_TRAINING_WINDOWS,
) -> list[Float64[np.ndarray, " validation"]]:
    """Return what gradient boosting predicts for the validation windows of each fold; see `boosting_records`.

    Time: the probability of a validation window depends on what was resolved before the validation windows began.
    """
    return [
        predict_baseline(BOOSTING, windows, fold.train, fold.validation, seed, scaling, max_windows) for fold in folds
    ]


def reversal_records(
    windows: Windows, folds: Sequence[Fold], unusual_moves: Float64[np.ndarray, " window"]
) -> BaselineRecords:
    """Return the records of the short-term reversal: P(rise) is above one half after a fall, by its size.

    Args:
        windows: resolved windows.
        folds: over those windows, oldest test fold first.
        unusual_moves: shape (window,), float64: move of the bar that closed at the decision in multiples of its typical
            size, of which the probability is the logistic function with the sign turned; 0 where unknown.

    Time: a probability depends on the move before it.
    Source: Jegadeesh 1990 and Lehmann 1990 (reversal); the logistic scale: own, policies choose their bands on it.
    """
    probabilities = 1 / (1 + np.exp(unusual_moves))
    tested = np.concatenate([probabilities[fold.test] for fold in folds])
    return fold_records(windows, folds, tested, [probabilities[fold.validation] for fold in folds])


def fold_records(
    windows: Windows,
    folds: Sequence[Fold],
    tested: Float64[np.ndarray, " window"],
    validated: Sequence[Float64[np.ndarray, " _"]],
) -> BaselineRecords:
    """Return probabilities of the pooled test folds, and of the validation windows of each fold, as records."""
    test = np.concatenate([fold.test for fold in folds])
    number = np.concatenate([np.full(len(fold.test), fold.index, dtype=np.int64) for fold in folds])
    return BaselineRecords(
        _record(windows.take(test), tested, number),
        tuple(
            _record(windows.take(fold.validation), each, np.full(len(each), fold.index, dtype=np.int64))
            for fold, each in zip(folds, validated, strict=True)
        ),
    )


def _record(windows: Windows, probabilities: Float64[np.ndarray, " window"], fold: np.ndarray) -> Record:
    return Record(windows.decided_at, windows.resolved_at, windows.labels, probabilities, fold, windows.symbols)
