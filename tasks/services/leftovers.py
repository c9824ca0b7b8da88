"""Runs that an earlier `up` left behind: marked as crashed before new ones begin.

Whoever holds the lock of a home knows that no run of an earlier `up` can still be alive. Prefect believes it is
running until told, and it would keep its place in the queue; MLflow would show it as running for ever.
"""

import logging
from collections.abc import Sequence

from tasks.settings import Settings

log = logging.getLogger(__name__)

INTERRUPTED = "interrupted: `riseorfall up` ended while it ran"


def mark_leftovers(deployments: Sequence[str], settings: Settings) -> int:
    """Mark unfinished runs of the deployments (`flow/deployment`) as crashed, and return how many there were."""
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
        _mark_in_mlflow({str(run.id) for run in runs}, settings)
    return len(runs)


def _mark_in_mlflow(flow_runs: set[str], settings: Settings) -> None:
    """End the MLflow runs of these flow runs, and the folds below them."""
    from mlflow import MlflowClient  # here: two seconds, only after an accident

    client = MlflowClient(tracking_uri=settings.mlflow_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    running = client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=1000)
    mine = {run.info.run_id for run in running if run.data.tags.get("flow_run") in flow_runs}
    for run in running:
        if run.info.run_id in mine or run.data.tags.get("mlflow.parentRunId") in mine:
            client.set_tag(run.info.run_id, "failure", INTERRUPTED)
            client.set_terminated(run.info.run_id, "KILLED")
