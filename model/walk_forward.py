"""Walk forward: fit a network on each fold, predict its unseen block, and pool what was said.

Knows windows, folds and anything that fits and predicts; not where results go. Replays and tuning judge a recipe by
it in one process, without a run for each fold. The trap: what is chosen by a record - a recipe, an epoch - is no
longer measured by it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float64

from model.baselines import predict_baseline
from model.calibration import UNCALIBRATED, Calibrator
from model.errors import BarsTooShort
from model.folds import Fold
from model.metrics import Record
from model.windows import Windows


class Fits(Protocol):
    """What fits a network and predicts with it, such as a `model.training.Trainer`."""

    def fit(self, windows: Windows, train_index: Any, validation_index: Any = None, *, start: Any = None) -> Any:
        """Fit on windows, from given weights or from fresh ones."""
        ...

    def predict(self, fitted: Any, windows: Windows) -> Float64[np.ndarray, " window"]:
        """Return P(rise)."""
        ...


@dataclass(frozen=True, slots=True)
class WalkForward:
    """What walking forward found.

    Attributes:
        record: the out-of-sample probabilities of all folds, oldest first.
        base_rate: shape (window,), float64: the base rate's P(rise) on the same windows, learned fold by fold.
        best_epochs: the best epoch of each fold.
        calibrator: the newest fold's, for the final fit, which has no validation windows to fit one on.
    """

    record: Record
    base_rate: Float64[np.ndarray, " window"]
    best_epochs: tuple[int, ...]
    calibrator: Calibrator = UNCALIBRATED

    @property
    def epochs(self) -> int:
        """Epochs for the final fit: the median of the folds' best ones."""
        return max(1, round(median(self.best_epochs)))


def walk_forward(
    trainer: Fits, windows: Windows, folds: tuple[Fold, ...], seed: int, start: Callable[[Fold], Any] = lambda _: None
) -> WalkForward:
    """Fit and predict each fold in turn.

    Args:
        trainer: fits networks.
        windows: resolved windows.
        folds: over those windows, oldest test block first.
        seed: of the baseline.
        start: weights that a fold may start from; None for fresh ones.

    Raises:
        BarsTooShort: there is no fold.

    Time: the probability of a window depends on what was resolved before its block was asked.
    """
    if not folds:
        raise BarsTooShort("walk forward: expected at least one fold, found none")
    said, base_rates, epochs = [], [], []
    for fold in folds:
        fitted = trainer.fit(windows, fold.train, fold.validation, start=start(fold))
        said.append(trainer.predict(fitted, windows.take(fold.test)))
        learned = np.concatenate([fold.train, fold.validation])
        base_rates.append(predict_baseline("base_rate", windows, learned, fold.test, seed))
        epochs.append(int(fitted.best_epoch))
        calibrator = fitted.calibrator
    test = windows.take(np.concatenate([fold.test for fold in folds]))
    number = np.concatenate([np.full(len(fold.test), fold.index, dtype=np.int64) for fold in folds])
    record = Record(test.decided_at, test.resolved_at, test.labels, np.concatenate(said), number)
    return WalkForward(record, np.concatenate(base_rates), tuple(epochs), calibrator)
