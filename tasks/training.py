"""Train the folds and the final network: a task and an MLflow child run per fold, then one task for the final fit.

A fold's network learns from windows resolved before the test fold began, stops early on the newest of them, and
predicts the test fold (`fit_fold`). The final network is fitted on every resolved window, without early stopping, for
the median of the folds' best epochs (`fit_final_network`). Weights start fresh unless the recipe starts warm; then a
fold takes those of a champion older than its validation windows, and the final fit starts warm only if every fold did.
Folds run one after the other, in threads that share one traced network, or on a Dask cluster, with the same numbers.
Caution: weights repeat bit for bit on processors of one type, on any number of cores as long as an operation has one
thread (`Settings.announce`); with more threads only on as many cores, elsewhere to rounding.
"""

from datetime import UTC, datetime

from prefect import runtime, task

from model.final_fit import fit_final_network
from model.folds import Fold
from model.metrics import score
from model.panel import windows_of_fold
from model.plurals import counted
from model.recipe import Recipe
from model.scores_by_period import further_seeds
from model.times import iso_text, to_datetime
from model.training import Epoch, median_epochs
from model.walk_forward import FoldFit, fit_fold, trainer_for
from model.windows import Windows
from tasks.champion.warm_start import start_of_final, start_of_fold
from tasks.console.progress import current_progress
from tasks.registry.experiment_page import NOTE_TAG
from tasks.registry.run_artifacts import log_final_network, log_fold, read_calibrator
from tasks.registry.run_metrics import curves, kept_epoch_metrics, score_metrics
from tasks.results import FinalFit, FoldOutcome, WindowsRef
from tasks.services.fold_runner import dask_runner, run_folds, thread_runner
from tasks.windowing import read_folds, read_held_out_windows, read_windows
from tasks.workspace import open_workspace


def train_folds(ref: WindowsRef, recipe: Recipe, parent_run_id: str) -> list[FoldOutcome]:
    """Train every fold where the spec says, and return the results, oldest test fold first.

    Raises:
        SpecError: there is no such cluster, or Dask is not installed.
    """
    count = recipe.folds.count
    if recipe.folds.runner == "serial" or count == 1:
        return [train_fold(ref, recipe, index, parent_run_id) for index in range(count)]
    calls = [{"ref": ref, "recipe": recipe, "index": index, "parent_run_id": parent_run_id} for index in range(count)]
    if recipe.folds.runner == "threads":
        trainer_for(recipe)  # built before the threads start: each would build its own on an empty cache
        return run_folds(thread_runner(recipe.folds), train_fold, calls)
    return run_folds(dask_runner(recipe.folds.address), train_fold, calls)


def fold_run_name() -> str:
    """Return the name of a task run, such as `train fold 1 of 5`."""
    given = runtime.task_run.parameters
    return f"train {fold_name(given['index'], given['recipe'].folds.count)}"


def fold_name(index: int, count: int) -> str:
    """Return the name of a fold's run; names sort in the order of the folds.

    >>> fold_name(0, 5), fold_name(1, 12)
    ('fold 1 of 5', 'fold 02 of 12')
    """
    return f"fold {index + 1:0{len(str(count))}} of {count}"


def fold_note(windows: Windows, fold: Fold, fitted: FoldFit) -> str:
    """Return the description of a fold's run."""
    first, last = (f"{to_datetime(windows.decided_at[place]):%Y-%m-%d %H:%M}" for place in fold.test[[0, -1]])
    return (
        f"Trained on {len(fold.train):,} windows, tested on {len(fold.test):,} later ones, decided from {first} to "
        f"{last} UTC. Trained for {counted(len(fitted.history), 'epoch')}; epoch {fitted.best_epoch}, with the lowest "
        "validation log loss, was kept."
    )


@task(name="train fold", task_run_name=fold_run_name)
def train_fold(ref: WindowsRef, recipe: Recipe, index: int, parent_run_id: str) -> FoldOutcome:
    """Fit the network on one fold, predict its test fold, and log both as a child run."""
    progress = current_progress()
    with progress.step("train"):
        workspace = open_workspace(recipe.series)
        windows, folds = read_folds(ref.bars, ref.window, recipe.folds)
        name, seed = fold_name(index, len(folds)), recipe.training.seed
        test, held_out = windows.take(folds[index].test), read_held_out_windows(ref.bars, ref.window)
        trainer = trainer_for(recipe)  # before the clock: the first fold would include the import of TensorFlow
        began = datetime.now(UTC)

        def on_epoch(of_seed: int, epoch: Epoch) -> None:
            fit = name if of_seed == seed else f"{name}, seed {of_seed}"
            progress.epoch_finished(fit, epoch, recipe.training.epochs)

        fitted = fit_fold(
            trainer,
            windows,
            folds[index],
            seed,
            further_seeds(seed, recipe.folds.seeds),
            start=start_of_fold(workspace.registry, workspace.decision_log, recipe, windows, folds[index]),
            on_epoch=on_epoch,
            first_test=int(folds[0].test[0]),
            held_out=[windows_of_fold(each.windows, test) for each in held_out.values()] if held_out else None,
        )
        progress.fit_finished(name, len(fitted.history), fitted.best_epoch, recipe.training.epochs)
    with progress.step("log fold"):
        scores = score(fitted.record.labels, fitted.record.probabilities)
        tags = {"fold": str(index + 1), NOTE_TAG: fold_note(windows, folds[index], fitted)}
        run_id = workspace.runs.start_run(name, tags, parent=parent_run_id, started_at=began)
        workspace.runs.log_values(
            run_id,
            metrics=score_metrics(scores) | kept_epoch_metrics(fitted.history, fitted.best_epoch),
            params={
                "train_windows": len(folds[index].train),
                "test_windows": len(folds[index].test),
                "best_epoch": fitted.best_epoch,
                "calibrator": str(fitted.calibrator),
            },
            curves=curves(fitted.history),
        )
        log_fold(workspace.runs, run_id, fitted)
        workspace.runs.finish_run(run_id)
    return FoldOutcome(
        index, run_id, fitted.best_epoch, len(fitted.history), fitted.seconds, fitted.device, scores["log_loss"]
    )


@task(name="fit final model", task_run_name="fit final model")
def fit_final(ref: WindowsRef, recipe: Recipe, folds: list[FoldOutcome], parent_run_id: str) -> FinalFit:
    """Fit the network on every resolved window, for the number of epochs that the folds found, and log its files.

    Its calibrator is the newest fold's: it has no validation windows of its own.
    """
    progress = current_progress()
    with progress.step("train"):
        workspace = open_workspace(recipe.series)
        windows = read_windows(ref.bars, ref.window)
        resolved, split = read_folds(ref.bars, ref.window, recipe.folds)
        trainer = trainer_for(recipe)
        best_epochs = [fold.best_epoch for fold in folds]
        epochs = median_epochs(best_epochs)
        final = fit_final_network(
            trainer,
            windows,
            best_epochs,
            start=start_of_final(workspace.registry, workspace.decision_log, recipe, resolved, split),
            on_epoch=lambda epoch: progress.epoch_finished("final fit", epoch, epochs),
        )
    with progress.step("log network"):
        fitted = final.fitted
        calibrator = read_calibrator(workspace.runs, folds[-1].run_id)
        log_final_network(workspace.runs, parent_run_id, trainer.keras_model(fitted), final, calibrator)
        tags = {"device": fitted.device, "calibrator": str(calibrator)}
        workspace.runs.log_values(parent_run_id, tags=tags, curves=curves(fitted.history))
    until = iso_text(resolved.resolved_at[-1])
    return FinalFit(epochs, fitted.seconds, fitted.device, until)
