"""Walk forward: fit a network on each fold, predict its test fold, pool the record.

The only training path, with `final_fit.py` for the network that will serve: retrain, replay and tuning call these
functions and differ only in where results go. Knows windows, folds and trainers; not MLflow, Prefect or progress bars.
Caution: once a recipe or an epoch has been chosen on a record, that record is no longer out of sample for it.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import lru_cache
from threading import Event
from typing import Any

import numpy as np
from jaxtyping import Float64

from model.baselines import BASELINES, MAX_TRAINING_WINDOWS, BaselineName, predict_baseline
from model.calibration import UNCALIBRATED, Calibrator
from model.ensemble import AnyTrainer, open_trainer
from model.errors import BarsTooShort
from model.folds import Fold
from model.network_heads import split_further
from model.networks import NetworkSpec, Scaling
from model.recipe import Recipe
from model.record import Record
from model.training import Epoch, TrainingSpec, median_epochs
from model.windows import Windows

Weights = tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True)
class FoldFit:
    """One fold, fitted and predicted.

    Attributes:
        record: the out-of-sample probabilities of the test fold.
        validation: the probabilities of the fold's validation windows, all resolved before its test fold began. Early
            stopping and the calibrator saw their labels, so they look better than out of sample; what is chosen by
            them is chosen before the test fold. Never pooled with `record`.
        best_epoch: number of the epoch with the lowest validation loss, counted from 1.
        history: every epoch run.
        calibrator: fitted on the validation windows.
        device: where it was fitted.
        seconds: time of the fit.
        further_seeds: shape (window,), float64, by seed: P(rise) of the same test windows.
        held_out: the probabilities of held-out series in the test period, by series; None without such series.
        uncalibrated: shape (tested,), float64: P(rise) before calibration, of the test windows of this fold and of all
            earlier folds, oldest first; for the check of the final network.
    """

    record: Record
    validation: Record
    best_epoch: int
    history: tuple[Epoch, ...]
    calibrator: Calibrator
    device: str
    seconds: float
    further_seeds: dict[int, Float64[np.ndarray, " window"]] = field(default_factory=dict)
    uncalibrated: Float64[np.ndarray, " tested"] = field(default_factory=lambda: np.empty(0, np.float64))
    held_out: tuple[Record, ...] | None = None


@dataclass(frozen=True, slots=True)
class WalkForward:
    """All folds, fitted and predicted.

    Attributes:
        record: the out-of-sample probabilities of all folds, oldest first.
        base_rate: shape (window,), float64: the base rate's P(rise) on the same windows, learned fold by fold.
        best_epochs: the best epoch of each fold.
        calibrator: the newest fold's, for the final fit, which has no validation windows to fit one on.
        fold_networks: shape (fold, window), float64: `stack_fold_networks` of the folds.
        validation: `FoldFit.validation` of each fold.
    """

    record: Record
    base_rate: Float64[np.ndarray, " window"]
    best_epochs: tuple[int, ...]
    calibrator: Calibrator
    fold_networks: Float64[np.ndarray, "fold window"]
    validation: tuple[Record, ...]

    @property
    def epochs(self) -> int:
        """Epochs of the final fit."""
        return median_epochs(self.best_epochs)


def trainer_for(recipe: Recipe) -> AnyTrainer:
    """Return the trainer of a recipe; a process builds and traces it once."""
    window, context_count = recipe.window, recipe.context_count
    feature_count = len(window.features) + context_count
    return _trainer(recipe.network, recipe.training, window.lookback_bars, feature_count, context_count)


@lru_cache(maxsize=1)
def _trainer(
    network: NetworkSpec, training: TrainingSpec, lookback_bars: int, feature_count: int, context_count: int
) -> AnyTrainer:
    return open_trainer(network, training, lookback_bars, feature_count, context_count)


def walk_forward(
    trainer: AnyTrainer,
    windows: Windows,
    folds: tuple[Fold, ...],
    seed: int,
    start: Callable[[Fold], Weights | None] = lambda _: None,
    threads: int = 1,
) -> WalkForward:
    """Fit and predict each fold.

    Args:
        trainer: fits networks.
        windows: resolved windows.
        folds: over those windows, oldest test fold first.
        seed: of networks and baseline.
        start: weights that a fold may start from; None for fresh ones.
        threads: how many folds are fitted at once; the numbers are the same to the last bit.

    Raises:
        BarsTooShort: there is no fold.

    Time: the probability of a window depends on what was resolved before its test fold began.
    """
    if not folds:
        raise BarsTooShort("walk forward: expected at least one fold, found none")
    first_test = int(folds[0].test[0])
    starts = [start(fold) for fold in folds]

    ended = Event()  # a fold failed, or a person pressed Ctrl-C: the others end with their epoch

    def end_early(_seed: int, _epoch: Epoch) -> None:
        if ended.is_set():
            raise CancelledError

    def fit(fold: Fold, weights: Weights | None) -> FoldFit:
        return fit_fold(trainer, windows, fold, seed, start=weights, on_epoch=end_early, first_test=first_test)

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(fit, fold, weights) for fold, weights in zip(folds, starts, strict=True)]
        try:
            for each in as_completed(running):
                each.result()  # raises what the first fold to fail raised
        except BaseException:
            ended.set()
            for each in running:
                each.cancel()
            raise
    fits = [each.result() for each in running]
    base_rate = walk_baselines_forward(windows, folds, seed, names=("base_rate",))["base_rate"]
    record = pool_records([each.record for each in fits])
    fold_networks = stack_fold_networks([each.uncalibrated for each in fits])
    return WalkForward(
        record,
        base_rate,
        tuple(each.best_epoch for each in fits),
        fits[-1].calibrator,
        fold_networks,
        tuple(each.validation for each in fits),
    )


def fit_fold(
    trainer: AnyTrainer,
    windows: Windows,
    fold: Fold,
    seed: int,
    further_seeds: Sequence[int] = (),
    *,
    start: Weights | None = None,
    on_epoch: Callable[[int, Epoch], None] = lambda _seed, _epoch: None,
    first_test: int | None = None,
    held_out: Sequence[Windows] | None = None,
) -> FoldFit:
    """Fit one fold with early stopping on its validation windows, and predict its test fold.

    Args:
        trainer: fits networks.
        windows: resolved windows.
        fold: which of them train, validate and test.
        seed: of the network whose probabilities are the record.
        further_seeds: fitted and predicted on the same windows, for the spread between seeds.
        start: weights to start from; None for fresh ones.
        on_epoch: called with seed and epoch after each epoch.
        first_test: index of the first test window of the oldest fold, where `uncalibrated` begins; None: this fold's.
        held_out: resolved windows of held-out series in the test period, predicted once the network is fitted.

    Time: the record's probabilities depend on what was resolved before the test fold began. Windows of folds before
        it are in-sample for its network.
    """
    test = windows.take(fold.test)
    tested = np.arange(fold.test[0] if first_test is None else first_test, fold.test[-1] + 1, dtype=np.int64)

    def fit(each: int) -> Any:
        return trainer.fit(
            windows, fold.train, fold.validation, on_epoch=lambda epoch: on_epoch(each, epoch), seed=each, start=start
        )

    def record_of(some: Windows) -> Record:
        probabilities, further = trainer.predict(fitted, some), split_further(trainer.predict_further(fitted, some))
        number = np.full(len(some), fold.index, dtype=np.int64)
        return Record(some.decided_at, some.resolved_at, some.labels, probabilities, number, some.symbols, *further)

    fitted = fit(seed)
    return FoldFit(
        record=record_of(test),
        validation=record_of(windows.take(fold.validation)),
        best_epoch=int(fitted.best_epoch),
        history=fitted.history,
        calibrator=fitted.calibrator,
        device=fitted.device,
        seconds=fitted.seconds,
        further_seeds={each: trainer.predict(fit(each), test) for each in further_seeds},
        uncalibrated=trainer.predict(replace(fitted, calibrator=UNCALIBRATED), windows.take(tested)),
        held_out=None if held_out is None else tuple(record_of(each) for each in held_out if len(each)),
    )


def stack_fold_networks(uncalibrated: Sequence[Float64[np.ndarray, " _"]]) -> Float64[np.ndarray, "fold window"]:
    """Return every fold's `FoldFit.uncalibrated`, on the windows of the record; NaN after the fold's own windows.

    >>> stack_fold_networks([np.array([0.4]), np.array([0.5, 0.6])])
    array([[0.4, nan],
           [0.5, 0.6]])
    """
    stacked = np.full((len(uncalibrated), len(uncalibrated[-1])), np.nan)
    for row, probabilities in zip(stacked, uncalibrated, strict=True):
        row[: len(probabilities)] = probabilities
    return stacked


def walk_baselines_forward(
    windows: Windows,
    folds: Sequence[Fold],
    seed: int,
    scaling: Scaling = "window",
    names: Sequence[BaselineName] = BASELINES,
    max_windows: int | None = MAX_TRAINING_WINDOWS,
) -> dict[str, Float64[np.ndarray, " window"]]:
    """Return each baseline's P(rise) on the pooled test folds: shape (window,), learned fold by fold.

    A baseline learns from the windows that train and validate the network; the two learners from the newest of them.

    Args:
        windows: resolved windows.
        folds: over those windows, oldest test fold first.
        seed: of gradient boosting.
        scaling: how the network scales its windows; the learning baselines see the same.
        names: which baselines.
        max_windows: newest windows of a fold that the learners use; None: all. See `predict_baseline`.

    Time: the probability of a window depends on what was resolved before its test fold began.
    """
    learned = [np.concatenate([fold.train, fold.validation]) for fold in folds]
    return {
        name: np.concatenate(
            [
                predict_baseline(name, windows, train, fold.test, seed, scaling, max_windows)
                for train, fold in zip(learned, folds, strict=True)
            ]
        )
        for name in names
    }


def pool_records(records: Sequence[Record]) -> Record:
    """Return several records as one, in their order; a further output that one of them lacks is left out of all."""
    sized = all(len(each.expected_moves) == len(each) for each in records)
    classed = all(len(each.class_probabilities) == len(each) for each in records)
    return Record(
        np.concatenate([each.decided_at for each in records]),
        np.concatenate([each.resolved_at for each in records]),
        np.concatenate([each.labels for each in records]),
        np.concatenate([each.probabilities for each in records]),
        np.concatenate([each.fold for each in records]),
        np.concatenate([each.symbols for each in records]),
        np.concatenate([each.expected_moves if sized else np.empty(0) for each in records]),
        np.concatenate([each.class_probabilities if classed else np.empty((0, 3)) for each in records]),
    )
