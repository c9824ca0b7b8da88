"""Where the folds of a retrain are trained: one after the other, in threads, or on a Dask cluster. Same numbers.

Each fold stays a task and a child run in MLflow wherever it runs. Threads share one traced network, which TensorFlow
lets several fits use at once. Workers of a cluster build their own; they must reach the same bars and the same MLflow
by their own settings. The trap: weights repeat bit for bit on machines with as many cores, elsewhere to rounding.
"""

import os
from typing import Any

from prefect.task_runners import ThreadPoolTaskRunner

from model.errors import SpecError
from model.recipe import Recipe
from tasks.training import FoldOutcome, train_fold, trainer_for
from tasks.windowing import WindowsRef


def train_folds(ref: WindowsRef, recipe: Recipe, parent_run_id: str) -> list[FoldOutcome]:
    """Train every fold where the spec says, and return what they left behind, oldest test block first.

    Raises:
        SpecError: there is no such cluster, or Dask is not installed.
    """
    count = recipe.folds.count
    if recipe.folds.runner == "serial" or count == 1:
        return [train_fold(ref, recipe, index, parent_run_id) for index in range(count)]
    if recipe.folds.runner == "threads":
        # Built here, once: two threads that meet an empty cache would both build it.
        trainer_for(recipe.network, recipe.training, ref.window.lookback_bars, len(ref.window.features))
        return _submitted(ThreadPoolTaskRunner(max_workers=os.cpu_count() or 1), ref, recipe, parent_run_id)
    return _submitted(_dask(recipe.folds.address), ref, recipe, parent_run_id)


def _submitted(runner: Any, ref: WindowsRef, recipe: Recipe, parent_run_id: str) -> list[FoldOutcome]:
    """Give every fold to a task runner, and wait for all of them."""
    with runner:
        futures = [
            runner.submit(train_fold, {"ref": ref, "recipe": recipe, "index": index, "parent_run_id": parent_run_id})
            for index in range(recipe.folds.count)
        ]
        return [future.result() for future in futures]


def _dask(address: str) -> Any:
    """Return the task runner of a cluster; of one on this machine, a process a core, without an address."""
    try:
        from distributed import Client  # here: an extra
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise SpecError(
            "folds.runner dask: expected the extra distributed, found it missing. Install riseorfall[distributed]."
        ) from error
    if not address:
        return DaskTaskRunner(cluster_kwargs={"n_workers": os.cpu_count() or 1, "threads_per_worker": 1})
    try:
        Client(address, timeout="10s", set_as_default=False).close()
    except (OSError, ValueError) as error:
        raise SpecError(
            f"folds.address: expected a Dask scheduler at {address}, found none: {error}. Start one with `dask "
            "scheduler` and workers with `dask worker`."
        ) from error
    return DaskTaskRunner(address=address)
