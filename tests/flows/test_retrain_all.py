"""Many series as runs of their own, and MLflow runs whose flow run died."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import mlflow
import pytest
from prefect import flow, runtime
from prefect.client.orchestration import get_client
from prefect.states import Crashed, Running

from flows.deployments import plans, served
from flows.retrain_all import retrain_all
from model.training import TrainingSpec
from tasks import retrain_mlflow_run
from tasks.retrain_mlflow_run import trigger
from tasks.services.dead_runs import end_stale_mlflow_runs
from tasks.services.group_runs import GROUP
from tasks.settings import Settings
from tasks.sources.source_spec import SourceSpec


@flow
def idle() -> None:
    """Do nothing."""


@pytest.fixture(scope="module", autouse=True)
def deployed() -> None:
    for plan in plans():
        if plan.full_name in {"retrain/series", "retrain_group/retrain_group"}:
            served(plan).apply()


@pytest.mark.e2e
def test_each_series_becomes_a_run_with_its_own_bars_and_the_same_recipe() -> None:
    symbols = ["BTC-USD", "ETH-USD", "SOL-USD"]
    ids = retrain_all([SourceSpec(symbol=symbol) for symbol in symbols], training=TrainingSpec(epochs=3), group_size=1)
    with get_client(sync_client=True) as client:
        runs = [client.read_flow_run(UUID(each)) for each in ids]
    assert [run.parameters["source"]["symbol"] for run in runs] == symbols
    assert all(run.parameters["training"]["epochs"] == 3 for run in runs)
    assert all(run.state is not None and run.state.is_scheduled() for run in runs)
    assert len({run.id for run in runs}) == len(symbols)


@pytest.mark.e2e
@pytest.mark.parametrize("group_size", [1, 10])
def test_what_is_not_said_of_a_series_is_left_to_its_preset(group_size: int) -> None:
    hourly = SourceSpec(symbol="LTC-USD", interval="1h")
    (identity,) = retrain_all([hourly], training=TrainingSpec(epochs=3), group_size=group_size)
    with get_client(sync_client=True) as client:
        given = client.read_flow_run(UUID(identity)).parameters
    assert (given["window"], given["training"]) == ({}, {"epochs": 3})


def test_the_same_series_twice_in_one_call_is_one_run() -> None:
    ids = retrain_all([SourceSpec(symbol="BTC-USD"), SourceSpec(symbol="BTC-USD")], group_size=1)
    assert len(set(ids)) == 1


@pytest.mark.e2e
def test_a_group_is_one_run_of_as_many_different_series_as_it_holds_those_of_one_interval_together() -> None:
    given = [("BTC-USD", "1h"), ("ETH-USD", "1d"), ("BTC-USD", "1h"), ("SOL-USD", "1d"), ("LTC-USD", "1d")]
    ids = retrain_all([SourceSpec(symbol=symbol, interval=interval) for symbol, interval in given], group_size=2)
    with get_client(sync_client=True) as client:
        runs = [client.read_flow_run(UUID(each)) for each in ids]
    listed = [[(each["symbol"], each["interval"]) for each in run.parameters["sources"]] for run in runs]
    assert listed == [[("ETH-USD", "1d"), ("SOL-USD", "1d")], [("LTC-USD", "1d"), ("BTC-USD", "1h")]]
    assert [run.name for run in runs] == [
        "retrain group: ETH-USD 1d and 1 more", "retrain group: LTC-USD 1d and 1 more",
    ]  # fmt: skip
    assert all({"riseorfall", "training", GROUP, "retrain_all"} == set(run.tags) for run in runs)


def test_runs_of_mlflow_end_when_their_flow_run_is_over_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISEORFALL_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = mlflow.MlflowClient(tracking_uri=Settings().mlflow_uri)
    experiment = client.create_experiment("orphans", artifact_location=tmp_path.as_uri())
    with get_client(sync_client=True) as prefect:
        dead, alive = (prefect.create_flow_run(idle, state=Running()) for _ in range(2))
        prefect.set_flow_run_state(dead.id, Crashed(message="killed"), force=True)
    gone = client.create_run(experiment, tags={"flow_run": str(dead.id)}).info.run_id
    fold = client.create_run(experiment, tags={"mlflow.parentRunId": gone}).info.run_id
    works = client.create_run(experiment, tags={"flow_run": str(alive.id)}).info.run_id
    shell = client.create_run(experiment, tags={"flow_run": ""}).info.run_id
    elsewhere = client.create_run(experiment, tags={"flow_run": str(uuid4())}).info.run_id  # of another Prefect server

    assert end_stale_mlflow_runs(Settings()) == 2
    states = {run: client.get_run(run).info.status for run in (gone, fold, works, shell, elsewhere)}
    alive = dict.fromkeys((works, shell, elsewhere), "RUNNING")
    assert states == {gone: "KILLED", fold: "KILLED"} | alive
    assert "Crashed" in client.get_run(gone).data.tags["failure"]
    assert end_stale_mlflow_runs(Settings()) == 0
    assert end_stale_mlflow_runs(Settings(), datetime.now(UTC) + timedelta(hours=25)) == 1
    assert client.get_run(elsewhere).info.status == "KILLED"


def test_a_run_is_tagged_by_what_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trigger() == "shell"
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("retrain/series").id
        by_person = client.create_flow_run_from_deployment(deployment)
        on_alarm = client._client.post(
            f"/deployments/{deployment}/create_flow_run",
            json={"state": {"type": "SCHEDULED"}},
            headers={"Prefect-Automation-Id": str(uuid4()), "Prefect-Automation-Name": b64encode(b"alarm").decode()},
        ).json()["id"]
        by_all = retrain_all([SourceSpec(symbol="XRP-USD")], group_size=1)[0]
        found = {}
        for run_id in (str(by_person.id), on_alarm, by_all):
            monkeypatch.setattr(runtime.deployment, "id", str(deployment), raising=False)
            monkeypatch.setattr(runtime.flow_run, "id", run_id, raising=False)
            monkeypatch.setattr(runtime.flow_run, "tags", client.read_flow_run(UUID(run_id)).tags, raising=False)
            found[run_id] = trigger()
        assert list(found.values()) == ["manual", "alarm", "retrain_all"]
        monkeypatch.setattr(runtime.flow_run, "tags", ["auto-scheduled"], raising=False)
        assert trigger() == "schedule"


@pytest.mark.parametrize(("tags", "times"), [([GROUP, "BTC-USD"], 2), ([], 4)])
def test_the_series_of_a_group_clean_up_after_dead_runs_now_and_then(
    tags: list[str], times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned: list[Settings] = []
    monkeypatch.setattr(retrain_mlflow_run, "clean_up_after_dead_runs", cleaned.append)
    monkeypatch.setattr(runtime.flow_run, "tags", tags, raising=False)
    settings = Settings(home=tmp_path)
    for seconds in (1000.0, 1100.0, 1599.0, 1601.0):  # a group: the first, and the one ten minutes after it
        monkeypatch.setattr(retrain_mlflow_run, "time", SimpleNamespace(monotonic=lambda now=seconds: now))
        retrain_mlflow_run._clean_up(settings)
    assert cleaned == [settings] * times
