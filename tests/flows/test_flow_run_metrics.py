"""Metrics of flow runs and the next runs, from a real Prefect server."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect import flow, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import get_current_settings
from prefect.states import Completed, Failed, Running, Scheduled
from prometheus_client.core import Metric

from flows.ingest import ingest
from tasks.services.flow_run_metrics import FlowRunCollector
from tasks.services.scheduled_runs import service_status
from tasks.settings import Settings


@flow(name="counted")
def counted() -> None:
    """Do nothing."""


def test_flow_runs_are_counted_by_deployment_and_state(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", get_current_settings().api.url or "")
    settings = Settings(home=home)
    with get_client(sync_client=True) as client:
        identity = client.create_deployment(client.create_flow(counted), "counted-daily", tags=["riseorfall"])
        foreign = client.create_deployment(client.create_flow(counted), "foreign")
        monkeypatch.setattr("tasks.services.flow_run_metrics.PAGE_SIZE", 2)  # they are read page by page
        ours = [(identity, state) for state in (Completed(), Completed(), Failed(message="no bars"))]
        for deployment, state in (*ours, (foreign, Completed())):
            run = client.create_flow_run_from_deployment(deployment)
            client.set_flow_run_state(run.id, Running(), force=True)
            client.set_flow_run_state(run.id, state, force=True)
        client.create_flow_run_from_deployment(identity)  # scheduled: it has not ended
    metrics = list(FlowRunCollector(settings).collect())
    assert not any(values(metric, "foreign") for metric in metrics)
    found = {metric.name: values(metric, "counted-daily") for metric in metrics}
    assert found["riseorfall_flow_runs"] == {"completed": 2, "failed": 1}
    (seconds,) = found["riseorfall_flow_run_seconds"].values()
    assert 0 < seconds < 60


def test_the_next_runs_of_a_server_are_read_page_by_page(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", get_current_settings().api.url or "")
    monkeypatch.setattr("tasks.services.scheduled_runs.RUNS_AT_ONCE", 2)
    now, daily = datetime.now(UTC), CronSchedule(cron="10 0 * * *")
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(counted)
        for name, hours in (("often", (1, 2, 3, 4)), ("seldom", (9,))):
            parameters = {"symbol": name.upper()}
            deployment = client.create_deployment(
                flow_id, f"next-{name}", tags=["riseorfall"], parameters=parameters,
                schedules=[DeploymentScheduleCreate(schedule=daily, active=True)],
            )  # fmt: skip
            for hour in hours:
                client.create_flow_run_from_deployment(
                    deployment, state=Scheduled(scheduled_time=now + timedelta(hours=hour))
                )
        form = client.create_deployment(
            client.create_flow(ingest),
            "next-ingest",
            tags=["riseorfall"],
            schedules=[DeploymentScheduleCreate(schedule=daily, active=True)],
            parameter_openapi_schema=ingest.parameters.model_dump_for_openapi(),
        )
        client.create_flow_run_from_deployment(form, state=Scheduled(scheduled_time=now + timedelta(hours=10)))
    found = {each["name"]: each for each in service_status(Settings(home=home))["next_runs"]}
    assert found["next-often"]["series"] == "OFTEN 1d"
    assert datetime.fromisoformat(found["next-often"]["at"]) == now + timedelta(hours=1)
    assert found["next-seldom"]["series"] == "SELDOM 1d"
    assert found["next-ingest"]["series"] == "BTC-USD 1d"  # of the defaults of the flow
    assert datetime.fromisoformat(found["next-seldom"]["at"]) == now + timedelta(hours=9)


@pytest.mark.parametrize("address", ["", "http://127.0.0.1:9/api"])
def test_without_a_server_there_are_no_flow_runs(home: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("PREFECT_API_URL", address)
    assert not [sample for metric in FlowRunCollector(Settings(home=home)).collect() for sample in metric.samples]


def values(metric: Metric, deployment: str) -> dict[str, float]:
    """Return the values of a deployment, by state."""
    return {
        sample.labels.get("state", ""): sample.value
        for sample in metric.samples
        if sample.labels["deployment"] == deployment
    }
