"""End runs whose process is gone, in Prefect and in MLflow.

A process that is killed cannot report its end: Prefect would count its flow run as running and keep its place in the
queue, and MLflow would show its run as running for ever. What is known differs by place. Each MLflow run names its
process (in a tag), so on one machine `end_dead_mlflow_runs` finds the dead ones, whatever started them. A flow run
of `up`, on the Prefect server that `up` itself started, is a process that carries the run's id in its environment
(`end_flow_runs_without_process`), and none of an earlier `up` is alive (`end_runs_of_earlier_up`); other machines may
serve deployments of the same names on a shared server. `end_stale_mlflow_runs` is for work pools, where several
machines share one MLflow: it ends a run only if Prefect itself reports that its flow run is over. A run that is alive
is never touched.
"""

import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING
from uuid import UUID

from model.recipe import RECIPE_HASH_LENGTH
from model.times import to_milliseconds
from tasks.registry.database_creation import open_client
from tasks.registry.owning_process import is_gone, process_of
from tasks.services.leftover_files import remove_landing_files, remove_temporary_folders
from tasks.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities import Run
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from tasks.services.group_runs import Continuations

log = logging.getLogger(__name__)

MAX_RUNS = 1000  # read at once: one page of MLflow
PAGE_RUNS = 200  # of flow runs: Prefect's largest page
MAX_RUN_TIME = timedelta(hours=24)  # of a run of version 0.1, which names no process; a retrain is stopped after 6
STARTUP_TIME = timedelta(minutes=2)  # in which a flow run may have no process yet, or none any more
INTERRUPTED = "interrupted: `riseorfall up` ended while it ran"
PROCESS_GONE = "interrupted: its process is gone"


def clean_up_after_dead_runs(settings: Settings) -> list[str]:
    """End the MLflow runs whose process is gone, delete what killed runs left on the disk, and return the runs."""
    ended = end_dead_mlflow_runs(settings)
    remove_landing_files(settings, ended)
    remove_temporary_folders()
    return ended


def end_runs_of_earlier_up(deployments: Sequence[str], settings: Settings) -> int:
    """Mark the unfinished runs of the deployments (`flow/deployment`) as crashed, and return their number.

    Only for the Prefect server of `up`: another one may run deployments of these names elsewhere.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        runs = _crash(client, _unfinished_flow_runs(client, deployments), INTERRUPTED)
    if runs:
        ids = {str(run.id) for run in runs}
        _end_mlflow_runs(settings, lambda run: INTERRUPTED if run.data.tags.get("flow_run") in ids else "")
    return len(runs)


def end_flow_runs_without_process(deployments: Sequence[str], now: datetime | None = None) -> int:
    """Mark the unfinished runs of the deployments as crashed that no process of this machine executes.

    Only for the Prefect server of `up`, whose deployments are served on this machine. Such a run, pending or running,
    would keep the one place of its deployment, and the next ones would wait or be cancelled.

    Args:
        deployments: `flow/deployment`.
        now: the clock if None; a run that entered its state within `STARTUP_TIME` is left alone.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        before = (now or datetime.now(UTC)) - STARTUP_TIME
        found = [
            run
            for run in _unfinished_flow_runs(client, deployments)
            if run.state is not None and run.state.timestamp < before
        ]
        alive = _executed_flow_runs() if found else set()
        dead = [run for run in found if str(run.id) not in alive]
        return len(_crash(client, dead, PROCESS_GONE))


def end_dead_mlflow_runs(settings: Settings, now: datetime | None = None) -> list[str]:
    """End the MLflow runs whose process is gone, with the runs of their folds, and their flow runs; return their ids.

    Args:
        settings: address of MLflow.
        now: the clock if None.
    """
    oldest = to_milliseconds((now or datetime.now(UTC)) - MAX_RUN_TIME)

    def failure(run: "Run") -> str:
        process = process_of(run.data.tags)
        if is_gone(process):
            return PROCESS_GONE
        too_old = not process and _is_ours(run) and run.info.start_time < oldest
        return f"interrupted: it has not ended within {MAX_RUN_TIME / timedelta(hours=1):.0f} hours" if too_old else ""

    ended = _end_mlflow_runs(settings, failure)
    _end_flow_runs({run.data.tags.get("flow_run", "") for run in ended} - {""})
    return [run.info.run_id for run in ended]


def _is_ours(run: "Run") -> bool:
    """Return whether riseorfall started a run that has no parent; a shared MLflow holds runs of others."""
    return re.fullmatch(rf"[0-9a-f]{{{RECIPE_HASH_LENGTH}}}", run.data.tags.get("recipe", "")) is not None


def end_stale_mlflow_runs(settings: Settings, now: datetime | None = None) -> int:
    """End the MLflow runs, with the runs of their folds, whose flow run is over; return the number of ended runs.

    A flow run that Prefect does not know may be one of another Prefect server, such as the temporary one of a retrain
    from a shell elsewhere, or deleted: its MLflow run is ended when no run takes that long.

    Args:
        settings: address of MLflow.
        now: the clock if None.
    """
    running = _running_mlflow_runs(settings)
    states = _states({run.data.tags["flow_run"] for run in running if run.data.tags.get("flow_run")})
    oldest = to_milliseconds((now or datetime.now(UTC)) - MAX_RUN_TIME)

    def failure(run: "Run") -> str:
        flow_run = run.data.tags.get("flow_run", "")
        if flow_run in states:
            return f"interrupted: its flow run ended as {states[flow_run]}" if states[flow_run] else ""
        return "interrupted: Prefect does not know its flow run" if flow_run and run.info.start_time < oldest else ""

    return len(_end_mlflow_runs(settings, failure))


def _unfinished_flow_runs(client: "SyncPrefectClient", deployments: Sequence[str]) -> list["FlowRun"]:
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterName,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    unfinished = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING, StateType.PAUSED]
    names = sorted({name.split("/")[1] for name in deployments})
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=unfinished))),
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=names)),
    )


def _crash(client: "SyncPrefectClient", runs: Sequence["FlowRun"], message: str) -> list["FlowRun"]:
    """Mark runs as crashed, except those that were deleted or entered another state meanwhile; return the marked.

    A run that a person was cancelling is marked as cancelled. A group of retrains continues with the series that had
    not started, unless it is cancelled. One that cannot be continued now stays unfinished, so that the next call tries
    it again, until its attempts are used up.
    """
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Cancelled, Crashed

    from tasks.services.group_runs import cancel_series, is_group  # imported here: it loads Prefect

    crashed = []
    for run in runs:
        with suppress(ObjectNotFound):
            found = client.read_flow_run(run.id)
            if found.state and run.state and found.state.id == run.state.id:
                if found.state.is_cancelling():
                    if is_group(run):
                        cancel_series(client, run)
                    client.set_flow_run_state(run.id, Cancelled(message=message), force=True)
                    crashed.append(run)
                    continue
                # A group is continued first: a crashed one is not looked at again.
                text = _continuations().attempt(client, run, message) if is_group(run) else message
                if text:
                    client.set_flow_run_state(run.id, Crashed(message=text), force=True)
                    log.info("%s (%s): %s", run.name, run.id, text)
                    crashed.append(run)
    return crashed


@cache
def _continuations() -> "Continuations":
    """Return the attempts of this process."""
    from tasks.services.group_runs import Continuations  # imported here: it loads Prefect

    return Continuations()


def _executed_flow_runs() -> set[str]:
    """Return the ids of the flow runs that a process of this user executes."""
    import psutil  # imported here: needed only where a run may be dead

    return {
        (process.info["environ"] or {}).get("PREFECT__FLOW_RUN_ID", "")
        for process in psutil.process_iter(["environ", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
    }


def _running_mlflow_runs(settings: Settings) -> list["Run"]:
    if settings.local_database is not None and not settings.local_database.exists():
        return []  # the client would create it
    client = open_client(settings.mlflow_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    if not experiments:
        return []
    return list(client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=MAX_RUNS))


def _end_mlflow_runs(settings: Settings, failure_of: Callable[["Run"], str]) -> list["Run"]:
    """End the running runs for which there is a failure, with the runs of their folds; return them.

    Args:
        settings: address of MLflow.
        failure_of: why a run has to be ended; empty if it is alive.
    """
    running = _running_mlflow_runs(settings)
    if not running:
        return []
    client = open_client(settings.mlflow_uri)
    own = {run.info.run_id: failure_of(run) for run in running}
    ended = []
    for run in running:
        failure = own[run.info.run_id] or own.get(run.data.tags.get("mlflow.parentRunId", ""))
        if failure:
            client.set_tag(run.info.run_id, "failure", failure)
            client.set_terminated(run.info.run_id, "KILLED")
            log.info("run %s: %s", run.info.run_id, failure)
            ended.append(run)
    return ended


def _end_flow_runs(flow_runs: set[str]) -> None:
    """Mark flow runs as crashed that the Prefect server in use, if there is one, still counts as unfinished."""
    if not flow_runs:
        return
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    if get_current_settings().api.url is None:
        return
    with get_client(sync_client=True) as client:
        unfinished = [run for run in _read_flow_runs(client, flow_runs) if run.state and not run.state.is_final()]
        _crash(client, unfinished, PROCESS_GONE)


def _states(flow_runs: set[str]) -> dict[str, str]:
    """Return the name of the final state of each flow run that Prefect knows, empty for one that is not over."""
    from prefect.client.orchestration import get_client

    if not flow_runs:
        return {}
    with get_client(sync_client=True) as client:
        states = {str(run.id): run.state for run in _read_flow_runs(client, flow_runs)}
    return {run: (each.name or each.type.value) if each and each.is_final() else "" for run, each in states.items()}


def _read_flow_runs(client: "SyncPrefectClient", flow_runs: set[str]) -> list["FlowRun"]:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    ids = [UUID(each) for each in flow_runs]
    pages = [ids[first : first + PAGE_RUNS] for first in range(0, len(ids), PAGE_RUNS)]
    filters = (FlowRunFilter(id=FlowRunFilterId(any_=page)) for page in pages)
    return [run for each in filters for run in client.read_flow_runs(flow_run_filter=each, limit=PAGE_RUNS)]
