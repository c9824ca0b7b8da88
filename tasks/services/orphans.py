"""MLflow runs that nobody ends: their flow run is over in Prefect, but its process died before it could say so.

For work pools, where several workers on several machines share one MLflow. It ends a run only when Prefect itself
says that the flow run is over or gone, so a run that is alive is never touched.
"""

import logging
from uuid import UUID

from tasks.settings import Settings

log = logging.getLogger(__name__)

MOST = 1000  # runs looked at in one go; MLflow's page


def end_orphans(settings: Settings) -> int:
    """End the MLflow runs, and the folds below them, whose flow run is over; return how many were ended."""
    from mlflow import MlflowClient  # here: two seconds, which a worker's start must not pay twice

    client = MlflowClient(tracking_uri=settings.mlflow_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    running = client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=MOST) if experiments else []
    over = _over({run.data.tags["flow_run"] for run in running if run.data.tags.get("flow_run")})
    dead = {
        run.info.run_id: over[run.data.tags["flow_run"]] for run in running if run.data.tags.get("flow_run") in over
    }
    ended = 0
    for run in running:
        state = dead.get(run.info.run_id) or dead.get(run.data.tags.get("mlflow.parentRunId", ""))
        if state:
            client.set_tag(run.info.run_id, "failure", f"interrupted: its flow run ended as {state}")
            client.set_terminated(run.info.run_id, "KILLED")
            log.info("run %s: its flow run ended as %s", run.info.run_id, state)
            ended += 1
    return ended


def _over(flow_runs: set[str]) -> dict[str, str]:
    """Return those of the flow runs that are over, each with the name of its last state."""
    from prefect.client.orchestration import get_client  # here: as above
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    if not flow_runs:
        return {}
    asked = [UUID(each) for each in flow_runs]
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=asked)))
    states = {str(run.id): run.state for run in found}
    ends = {run: state.name or state.type.value for run, state in states.items() if state and state.is_final()}
    return ends | dict.fromkeys(flow_runs - set(states), "Deleted")
