"""End runs whose process is gone, in Prefect and in MLflow.

A process that is killed cannot report its end: Prefect would count its flow run as running and keep its place in the
queue, and MLflow would show its run as running for ever. `end_runs_of_earlier_up` is for one machine: whoever holds
the lock of a home knows that no run of an earlier `up` is alive. `end_stale_mlflow_runs` is for work pools, where
several machines share one MLflow: it ends a run only if Prefect itself reports that its flow run is over or deleted,
so a run that is alive is never touched.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from tasks.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

MAX_RUNS = 1000  # read at once: one page of MLflow
INTERRUPTED = "interrupted: `riseorfall up` ended while it ran"


def end_runs_of_earlier_up(deployments: Sequence[str], settings: Settings) -> int:
    """Mark the unfinished runs of the deployments (`flow/deployment`) as crashed, and return their number."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterName,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    unfinished = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=unfinished))),
            deployment_filter=DeploymentFilter(
                name=DeploymentFilterName(any_=[name.split("/")[1] for name in deployments])
            ),
        )
        for run in runs:
            client.set_flow_run_state(run.id, Crashed(message=INTERRUPTED), force=True)
            log.info("%s (%s): %s", run.name, run.id, INTERRUPTED)
    if runs:
        client, running = _running_mlflow_runs(settings)
        _end_mlflow_runs(client, running, dict.fromkeys((str(run.id) for run in runs), INTERRUPTED))
    return len(runs)


def end_stale_mlflow_runs(settings: Settings) -> int:
    """End the MLflow runs, with the runs of their folds, whose flow run is over; return the number of ended runs."""
    client, running = _running_mlflow_runs(settings)
    states = _final_states({run.data.tags["flow_run"] for run in running if run.data.tags.get("flow_run")})
    failures = {flow_run: f"interrupted: its flow run ended as {state}" for flow_run, state in states.items()}
    return _end_mlflow_runs(client, running, failures)


def _running_mlflow_runs(settings: Settings) -> tuple["MlflowClient", list["Run"]]:
    from mlflow import MlflowClient  # takes two seconds; needed after an interruption only

    client = MlflowClient(tracking_uri=settings.mlflow_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    if not experiments:
        return client, []
    return client, list(client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=MAX_RUNS))


def _end_mlflow_runs(client: "MlflowClient", running: Sequence["Run"], failures: Mapping[str, str]) -> int:
    """End the running runs that belong to one of the flow runs, with the runs of their folds.

    Args:
        client: of the MLflow server.
        running: runs with the status RUNNING.
        failures: reason by id of the flow run.
    """
    parents = {
        run.info.run_id: failures[run.data.tags["flow_run"]]
        for run in running
        if run.data.tags.get("flow_run") in failures
    }
    ended = 0
    for run in running:
        failure = parents.get(run.info.run_id) or parents.get(run.data.tags.get("mlflow.parentRunId", ""))
        if failure:
            client.set_tag(run.info.run_id, "failure", failure)
            client.set_terminated(run.info.run_id, "KILLED")
            log.info("run %s: %s", run.info.run_id, failure)
            ended += 1
    return ended


def _final_states(flow_runs: set[str]) -> dict[str, str]:
    """Return the name of the final state of each flow run that is over; `Deleted` for those that are gone."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    if not flow_runs:
        return {}
    ids = [UUID(each) for each in flow_runs]
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)))
    states = {str(run.id): run.state for run in found}
    final = {run: state.name or state.type.value for run, state in states.items() if state and state.is_final()}
    return final | dict.fromkeys(flow_runs - set(states), "Deleted")
