"""Where the folds of a retrain run: in threads of this process, or on a Dask cluster, by Prefect's task runners."""

import os
from collections.abc import Sequence
from typing import Any, TypeVar

from prefect import Task
from prefect.task_runners import ThreadPoolTaskRunner

from model.errors import SpecError
from model.folds import FoldSpec

CLUSTER_TIMEOUT = "10s"  # own choice: a scheduler that runs answers at once
WORKERS_TIMEOUT = "5m"  # own choice: workers that fail to start, or that cannot import this code, end in seconds
LOST_WORKERS = ("NoWorkerError", "NoValidWorkerError", "KilledWorker")  # by name: distributed is an extra

Outcome = TypeVar("Outcome")


def thread_runner(spec: FoldSpec) -> Any:
    """Return a task runner with a thread for each fold that is fitted at once."""
    return ThreadPoolTaskRunner(max_workers=spec.threads)


def dask_runner(address: str) -> Any:
    """Return the task runner of a cluster; without an address, of one on this machine with a process per core.

    Raises:
        SpecError: there is no such cluster, or Dask is not installed.
    """
    try:
        import dask
        from distributed import Client  # imported here: an extra
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise SpecError(
            "folds.runner dask: expected the extra distributed, found it missing. Install riseorfall[distributed]."
        ) from error
    if not address:
        dask.config.set({"distributed.scheduler.no-workers-timeout": WORKERS_TIMEOUT})
        processes = {"n_workers": os.cpu_count() or 1, "threads_per_worker": 1, "dashboard_address": None}
        return DaskTaskRunner(cluster_kwargs=processes)
    try:
        Client(address, timeout=CLUSTER_TIMEOUT, set_as_default=False).close()
    except (OSError, ValueError) as error:
        raise SpecError(
            f"folds.address: expected a Dask scheduler at {address}, found none: {error}. Start one with `dask "
            "scheduler` and workers with `dask worker`."
        ) from error
    return DaskTaskRunner(address=address)


def run_folds(runner: Any, fold: Task[..., Outcome], calls: Sequence[dict[str, Any]]) -> list[Outcome]:
    """Submit the task of a fold with each set of arguments, and return the results in their order.

    The newest fold starts first: it has the most training windows, so the threads end at about the same time.

    Raises:
        SpecError: the cluster has lost its workers.
    """
    with runner:
        futures = [runner.submit(fold, call) for call in reversed(calls)]
        try:
            return [future.result() for future in reversed(futures)]
        except Exception as error:
            if type(error).__name__ not in LOST_WORKERS:
                raise
            raise SpecError(
                "folds.runner dask: expected Dask workers that run this version of riseorfall, found none left: "
                f"{error} Read the output of the workers; install the same version on them."
            ) from error
