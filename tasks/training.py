"""Training as tasks: one per fold, one for the final model. Each fold is a child run in MLflow.

The network is built and traced once per recipe and process, then refitted. What a task leaves behind lies in MLflow:
a fold's curves and out-of-sample probabilities, the final network's files and a probe of its probabilities. What it
returns is small.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from prefect import task

from model.calibration import calibrator_to_json
from model.metrics import Record, score
from model.networks import NetworkSpec
from model.recipe import Recipe
from model.scores_by_period import further_seeds
from model.training import Epoch, Fitted, TrainingSpec
from tasks.champion.warm_start import start_of_final, start_of_fold
from tasks.console.progress import current_progress
from tasks.registry.run_artifacts import SEEDS, parquet_bytes, read_calibrator
from tasks.registry.tracking import CALIBRATOR
from tasks.windowing import WindowsRef, read_folds, read_windows
from tasks.workspace import open_workspace

if TYPE_CHECKING:
    import pandas as pd

    from model.ensemble import AnyTrainer, FittedEnsemble

PROBE_WINDOWS = 64  # newest windows on which the registered files must repeat what was trained


@dataclass(frozen=True, slots=True)
class FoldOutcome:
    """What training one fold left behind."""

    index: int
    run_id: str
    best_epoch: int
    epochs: int
    seconds: float
    device: str
    log_loss: float


@dataclass(frozen=True, slots=True)
class FinalFit:
    """What the final fit left behind, in the retrain's run."""

    epochs: int
    seconds: float
    device: str
    trained_until: str


@lru_cache(maxsize=1)
def trainer_for(network: NetworkSpec, training: TrainingSpec, lookback_bars: int, feature_count: int) -> "AnyTrainer":
    """Return the trainer of a recipe; built and traced once in a process."""
    from model.ensemble import open_trainer

    return open_trainer(network, training, lookback_bars, feature_count)


@task(name="train fold", task_run_name="train fold {index}")
def train_fold(ref: WindowsRef, recipe: Recipe, index: int, parent_run_id: str) -> FoldOutcome:
    """Fit the network on one fold, predict its unseen test block, and log both as a child run.

    Further seeds do the same on the same windows; what they say is kept beside the record and not in it.
    """
    import pandas as pd

    run = current_progress()
    with run.step("train"):
        windows, folds = read_folds(ref.bars, ref.window, recipe.folds)
        fold = folds[index]
        trainer = trainer_for(recipe.network, recipe.training, ref.window.lookback_bars, len(ref.window.features))
        fit = f"fold {index + 1} of {len(folds)}"
        workspace = open_workspace(recipe.series)
        start = start_of_fold(workspace.tracking, workspace.decision_log, recipe, windows, fold)
        tell = _teller(fit, recipe.training.epochs)
        fitted = trainer.fit(windows, fold.train, fold.validation, on_epoch=tell, start=start)
        test = windows.take(fold.test)
        probabilities = trainer.predict(fitted, test)
        others = {}
        for seed in further_seeds(recipe.training.seed, recipe.folds.seeds):
            tell = _teller(f"{fit}, seed {seed}", recipe.training.epochs)
            again = trainer.fit(windows, fold.train, fold.validation, on_epoch=tell, seed=seed, start=start)
            others[str(seed)] = trainer.predict(again, test)
    with run.step("register"):
        record = Record(
            test.decided_at, test.resolved_at, test.labels, probabilities, np.full(len(test), index, dtype=np.int64)
        )
        scores = score(record.labels, record.probabilities)
        tracking = workspace.tracking
        run_id = tracking.start_run(fit, {"fold": str(index)}, parent=parent_run_id)
        tracking.log_values(
            run_id,
            metrics={f"test_{name}": value for name, value in scores.items()},
            params={
                "train_windows": len(fold.train),
                "test_windows": len(fold.test),
                "best_epoch": fitted.best_epoch,
                "calibrator": str(fitted.calibrator),
            },
        )
        tracking.log_curves(run_id, curves(fitted))
        files = {
            "record.parquet": parquet_bytes(record.frame()),
            CALIBRATOR: calibrator_to_json(fitted.calibrator).encode(),
        }
        if others:
            files[SEEDS] = parquet_bytes(pd.DataFrame(others))
        tracking.log_files(run_id, files, "")
        tracking.finish_run(run_id)
    return FoldOutcome(
        index, run_id, fitted.best_epoch, len(fitted.history), fitted.seconds, fitted.device, scores["log_loss"]
    )


@task(name="fit final model", task_run_name="fit final model")
def fit_final(ref: WindowsRef, recipe: Recipe, folds: list[FoldOutcome], parent_run_id: str) -> FinalFit:
    """Fit the network on every resolved window, for the number of epochs that the folds found, and log its files.

    Its calibrator is the newest fold's: every window of its own it has learned from. The probe is what the network
    says before it.
    """
    from model.network_files import network_to_bytes, network_to_onnx

    run = current_progress()
    epochs = max(1, round(median(fold.best_epoch for fold in folds)))
    with run.step("train"):
        every = read_windows(ref.bars, ref.window)
        windows = every.resolved()
        trainer = trainer_for(recipe.network, recipe.training, ref.window.lookback_bars, len(ref.window.features))
        everything = np.arange(len(windows), dtype=np.int64)
        workspace = open_workspace(recipe.series)
        start = start_of_final(workspace.tracking, workspace.decision_log, recipe, windows)
        fitted = trainer.fit(windows, everything, None, epochs, _teller("final fit", epochs), start=start)
        probe = every.take(np.arange(max(0, len(every) - PROBE_WINDOWS), len(every), dtype=np.int64))
        probabilities = trainer.predict(fitted, probe)
    with run.step("register"):
        tracking = workspace.tracking
        calibrator = read_calibrator(tracking, folds[-1].run_id)
        network = trainer.keras_model(fitted)
        files = {
            "network.keras": network_to_bytes(network),
            "network.onnx": network_to_onnx(network),
            "probe.parquet": parquet_bytes(_probe(probe.decided_at, probabilities)),
            CALIBRATOR: calibrator_to_json(calibrator).encode(),
        }
        tracking.log_files(parent_run_id, files, "network")
        final_loss = {f"final_{name}": values for name, values in curves(fitted).items()}
        tracking.log_curves(parent_run_id, final_loss)
        tracking.log_values(parent_run_id, tags={"device": fitted.device, "calibrator": str(calibrator)})
    until = str(np.datetime_as_string(windows.resolved_at[-1], unit="s")) + "+00:00"
    return FinalFit(epochs, fitted.seconds, fitted.device, until)


def curves(fitted: "Fitted | FittedEnsemble") -> dict[str, list[float]]:
    """Return the curves of a fit by metric name, one value an epoch."""
    names = ("loss", "accuracy", "validation_loss", "validation_accuracy", "learning_rate")
    return {name: [getattr(epoch, name) for epoch in fitted.history] for name in names}


def _probe(decided_at: np.ndarray, probabilities: np.ndarray) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({"decided_at": decided_at, "probability": probabilities})


def _teller(fit: str, epochs: int) -> "Callable[[Epoch], None]":
    run = current_progress()
    return lambda epoch: run.epoch_finished(fit, epoch, epochs)
