"""Metrics of flow runs, from a real Prefect server."""

from pathlib import Path

import pytest
from prefect import flow, get_client
from prefect.settings import get_current_settings
from prefect.states import Completed, Failed, Running
from prometheus_client.core import Metric

from tasks.services.flow_run_metrics import FlowRunCollector
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
        monkeypatch.setattr("tasks.services.flow_run_metrics.PAGE_RUNS", 2)  # they are read page by page
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
