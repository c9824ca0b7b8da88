"""Automations are installed once and updated on change; stale runs are ended; artifacts are shown."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow, runtime
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import ArtifactSort
from prefect.events.schemas.automations import AutomationCore, CompoundTrigger
from prefect.schedules import Cron, Interval, Schedule
from prefect.states import Completed, Paused, Pending, Running
from synthetic_bars import random_walk
from tiny_home import tiny_home

from flows import deployment_runner
from flows.cli import app
from flows.deployments import ScheduleSpec, plans, served
from flows.monitor import monitor
from flows.predict import predict
from flows.up import up
from model.errors import UnsoundModel
from model.training import Epoch
from tasks.console.progress import current_progress
from tasks.pages import prefect_artifacts
from tasks.pages.prefect_artifacts import artifact_key, show_links, show_table, shown
from tasks.services.automations import FAILED, NAMES_OF_0_1, NOTIFY, PREDICTED, QUIET, RETRAIN, install
from tasks.services.dead_runs import (
    INTERRUPTED,
    PROCESS_GONE,
    end_flow_runs_without_process,
    end_runs_of_earlier_up,
)
from tasks.services.supervisor import Service, Supervisor
from tasks.settings import Settings

NAMES = ["retrain/retrain", "monitor/monitor"]
CRON = CronSchedule(cron="20 0 * * *", timezone="UTC")


@pytest.fixture(scope="module", autouse=True)
def deployed() -> None:
    for plan in plans():
        if plan.full_name in NAMES:
            served(plan).apply()


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as opened:
        yield opened


def test_alarms_start_one_retrain_in_three_days_and_a_missing_retrain_is_reported(client: SyncPrefectClient) -> None:
    assert install(NAMES) == [RETRAIN, QUIET]
    (retrain,) = client.read_automations_by_name(RETRAIN)
    assert retrain.trigger.expect == {
        "riseorfall.champion.degraded", "riseorfall.champion.drifted", "riseorfall.champion.stale",
        "riseorfall.champion.broken",
    }  # fmt: skip
    assert (retrain.trigger.posture, retrain.trigger.within) == ("Reactive", timedelta(days=3))
    assert retrain.actions[0].deployment_id == client.read_deployment_by_name("retrain/retrain").id
    (quiet,) = client.read_automations_by_name(QUIET)
    assert (quiet.trigger.posture, quiet.trigger.within) == ("Proactive", timedelta(hours=26))
    for automation in (retrain, quiet):  # alarms and decisions of other series do not match
        assert automation.trigger.match.model_dump() == {"prefect.resource.id": "riseorfall.series.BTC-USD-1d"}


def test_installing_twice_changes_nothing_and_a_new_cool_down_replaces_the_old(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(NAMES)
    (before,) = client.read_automations_by_name(RETRAIN)
    with monkeypatch.context() as patch:
        for forbidden in ("update_automation", "create_automation"):  # an update would restart the clock
            patch.setattr(SyncPrefectClient, forbidden, None)
        install(NAMES)
    install(NAMES, cool_down=timedelta(days=5))
    (changed,) = client.read_automations_by_name(RETRAIN)
    assert (changed.id, changed.trigger.within) == (before.id, timedelta(days=5))


@pytest.mark.parametrize(
    ("schedule", "hours"),
    [
        (Cron("10 * * * *"), 3),
        pytest.param(Cron("10 0 * * 0"), 170, marks=pytest.mark.e2e),
        pytest.param(Interval(timedelta(hours=6)), 8, marks=pytest.mark.e2e),
        pytest.param(Cron("@daily"), 26, marks=pytest.mark.e2e),
    ],
)
def test_a_missing_retrain_is_one_later_than_its_schedule(
    client: SyncPrefectClient, schedule: Schedule, hours: int
) -> None:
    (plan,) = (each for each in plans() if each.full_name == "retrain/retrain")
    plan.load().to_deployment(name=plan.deployed_as, schedules=[schedule], entrypoint_type="module_path").apply()  # type: ignore[union-attr]  # not a coroutine
    install(NAMES)
    (quiet,) = client.read_automations_by_name(QUIET)
    served(plan).apply()  # as the other tests know it
    assert quiet.trigger.within == timedelta(hours=hours)


def test_an_automation_that_a_person_changed_is_installed_again(client: SyncPrefectClient) -> None:
    install(NAMES)
    (before,) = client.read_automations_by_name(QUIET)
    both = CompoundTrigger(triggers=[before.trigger, before.trigger], require="all", within=timedelta(hours=1))
    changed = AutomationCore(name=QUIET, trigger=both, actions=before.actions, enabled=False)
    client.update_automation(before.id, changed)
    install(NAMES)
    (after,) = client.read_automations_by_name(QUIET)
    client.delete_automation(after.id)  # the other tests know an enabled one
    assert (after.id, after.trigger.within, after.enabled) == (before.id, timedelta(hours=26), False)


def test_an_automation_of_0_1_is_renamed_in_place(client: SyncPrefectClient) -> None:
    for name in install(NAMES):
        for each in client.read_automations_by_name(name):
            client.delete_automation(each.id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.services.automations.QUIET", NAMES_OF_0_1[QUIET])
        install(NAMES)
    (old,) = client.read_automations_by_name(NAMES_OF_0_1[QUIET])
    install(NAMES)
    install(NAMES)
    assert not client.read_automations_by_name(NAMES_OF_0_1[QUIET])
    (new,) = client.read_automations_by_name(QUIET)
    assert new.id == old.id


@pytest.mark.e2e
def test_a_notification_block_receives_alarms(client: SyncPrefectClient) -> None:
    block = CustomWebhookNotificationBlock(name="ours", url="https://example.org/hook", json_data={"text": "{{body}}"})
    identity = block.save("riseorfall", overwrite=True)
    assert install(NAMES) == [RETRAIN, QUIET, NOTIFY, FAILED]
    notify, failed = (client.read_automations_by_name(name)[0] for name in (NOTIFY, FAILED))
    assert notify.actions[0].block_document_id == failed.actions[0].block_document_id == identity
    assert {"riseorfall.checks.failed", "riseorfall.promoted", "riseorfall.held"} <= notify.trigger.expect
    assert failed.trigger.expect == {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"}
    client.delete_block_document(identity)


def test_a_webhook_block_receives_predictions(client: SyncPrefectClient) -> None:
    identity = Webhook(url="https://example.org/predictions").save("riseorfall-predictions", overwrite=True)
    assert install(NAMES) == [RETRAIN, QUIET, PREDICTED]
    (predicted,) = client.read_automations_by_name(PREDICTED)
    assert predicted.actions[0].block_document_id == identity
    assert predicted.trigger.expect == {"riseorfall.predicted"}
    client.delete_block_document(identity)


def test_predict_emits_what_it_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tiny_home(tmp_path, random_walk(130, seed=4), 100)
    emitted: list[dict[str, Any]] = []
    monkeypatch.setattr("prefect.events.emit_event", lambda **event: emitted.append(event))
    found = predict().prediction
    (event,) = emitted
    assert event["event"] == "riseorfall.predicted"
    assert event["resource"]["prefect.resource.id"] == "riseorfall.series.BTC-USD-1d"
    payload = event["payload"]
    assert (payload["series_name"], payload["probability"]) == ("BTC-USD-1d", found.probability)
    assert (payload["version"], payload["decided_at"]) == ("1", found.decided_at.isoformat())
    assert json.loads(json.dumps(payload)) == payload  # what the webhook posts


def test_an_alarm_found_from_a_shell_reaches_the_automations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduled run, which would emit it, does not raise it again for a week."""
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tiny_home(tmp_path, random_walk(130, seed=4), 100)
    emitted: list[str] = []
    monkeypatch.setattr("prefect.events.emit_event", lambda event, **_: emitted.append(event))
    for _ in range(2):
        assert app.run(["monitor", "--spec.max-champion-age-days", "10"]) == 0
    assert emitted == ["riseorfall.champion.stale"]


@pytest.mark.e2e
def test_predict_and_monitor_emit_an_event_for_a_broken_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tiny_home(tmp_path, random_walk(130, seed=4), 100)
    emitted: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "tasks.services.events.emit_event_for", lambda name, series, *_, **__: emitted.append((name, series))
    )
    for file, runs in (("network.onnx", predict), ("record.parquet", monitor)):
        (found,) = tmp_path.rglob(file)
        found.write_bytes(b"torn")
        with pytest.raises(UnsoundModel, match=file):
            runs()
    assert emitted == [("riseorfall.champion.broken", "BTC-USD-1d")] * 2


def test_a_stale_run_is_ended_and_scheduled_runs_are_untouched(client: SyncPrefectClient, home: Path) -> None:
    deployment = client.read_deployment_by_name("monitor/monitor")
    stale = client.create_flow_run_from_deployment(deployment.id, state=Running())
    waiting = client.create_flow_run_from_deployment(deployment.id, state=Running())  # for a person's approval
    client.set_flow_run_state(waiting.id, Paused(timeout_seconds=600), force=True)
    scheduled = client.create_flow_run_from_deployment(deployment.id)
    assert end_runs_of_earlier_up(NAMES, Settings(home=home)) == 2
    for run in (stale, waiting):
        marked = client.read_flow_run(run.id)
        assert marked.state is not None
        assert (marked.state.type, marked.state.message) == ("CRASHED", INTERRUPTED)
    assert client.read_flow_run(scheduled.id).state_type == "SCHEDULED"
    assert end_runs_of_earlier_up(NAMES, Settings(home=home)) == 0


@pytest.mark.e2e
@pytest.mark.parametrize("state", [Pending(), Running()], ids=["pending", "running"])
def test_a_run_without_a_process_does_not_wedge_its_deployment(
    client: SyncPrefectClient, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ingest` cancels a run while another one has the only place, so a dead one would cancel all that follow."""
    (plan,) = (plan for plan in plans() if plan.name == "ingest")
    identity = served(plan).apply()

    def start() -> FlowRun:
        run = client.create_flow_run_from_deployment(identity)
        client.set_flow_run_state(run.id, Pending())
        return client.read_flow_run(run.id)

    stuck = start()
    assert stuck.state_type == "PENDING"
    if state.type == "RUNNING":
        client.set_flow_run_state(stuck.id, state)
    assert start().state_type == "CANCELLED"

    now = datetime.now(UTC)
    assert end_flow_runs_without_process(["ingest/ingest"], now) == 0  # it may be starting
    script = "import time; time.sleep(600)"
    environment = os.environ | {"PREFECT__FLOW_RUN_ID": str(stuck.id)}  # as the runner starts it
    process = subprocess.Popen([sys.executable, "-c", script], env=environment)
    try:
        assert end_flow_runs_without_process(["ingest/ingest"], now + timedelta(minutes=3)) == 0
    finally:
        process.kill()
        process.wait()
    assert end_flow_runs_without_process(["ingest/ingest"], now + timedelta(minutes=3)) == 1
    found = client.read_flow_run(stuck.id)
    assert (found.state_type, found.state and found.state.message) == ("CRASHED", PROCESS_GONE)
    after = start()
    assert after.state_type == "PENDING"
    monkeypatch.setattr(  # it ends between the two questions, so no process is found
        "tasks.services.dead_runs._executed_flow_runs",
        lambda: client.set_flow_run_state(after.id, Completed(), force=True) and set(),
    )
    assert end_flow_runs_without_process(["ingest/ingest"], datetime.now(UTC) + timedelta(minutes=3)) == 0
    assert client.read_flow_run(after.id).state_type == "COMPLETED"


def test_the_runner_goes_on_ending_runs_after_the_server_did_not_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopping, looked = threading.Event(), []

    def end(names: list[str]) -> int:
        looked.append(names)
        if len(looked) == 1:
            raise ConnectionError("refused")
        if len(looked) == 3:
            stopping.set()
        return 0

    monkeypatch.setattr(deployment_runner, "end_flow_runs_without_process", end)
    monkeypatch.setattr(deployment_runner, "POLL_SECONDS", 0.01)
    loop = threading.Thread(target=deployment_runner.keep_runs_true, args=(NAMES, stopping), daemon=True)
    loop.start()
    loop.join(10)
    assert not loop.is_alive()
    assert looked == [NAMES] * 3  # none after it was stopped
    assert [each.getMessage() for each in caplog.records if each.name == deployment_runner.log.name] == [
        "runs without a process were not looked for: refused"
    ]


@pytest.mark.parametrize("paused", ["deployment", "schedule"])
def test_what_a_person_paused_stays_paused_when_up_starts_again(client: SyncPrefectClient, paused: str) -> None:
    (plan,) = (each for each in plans() if each.full_name == "monitor/monitor")

    def start() -> tuple[bool, list[bool]]:
        """Install the deployment as the runner does; return whether it is paused, and its schedules are active."""
        deployment = served(plan)
        deployment_runner.keep_schedules([deployment])
        deployment.apply()
        found = client.read_deployment_by_name("monitor/monitor")
        return found.paused, [each.active for each in found.schedules]

    assert start() == (False, [True])
    found = client.read_deployment_by_name("monitor/monitor")
    if paused == "deployment":
        client.pause_deployment(found.id)
        assert start() == (True, [True])
        client.resume_deployment(found.id)
    else:
        client.update_deployment_schedule(found.id, found.schedules[0].id, active=False)
        assert start() == start() == (False, [False])
        found = client.read_deployment_by_name("monitor/monitor")
        client.update_deployment_schedule(found.id, found.schedules[0].id, active=True)
    assert start() == (False, [True])


@pytest.mark.parametrize("name", ["predict/predict", "retrain_panel/retrain_panel_hourly"])
def test_a_schedule_that_a_person_added_stays_when_up_starts_again(client: SyncPrefectClient, name: str) -> None:
    """Of two deployments: one that `up` schedules too, and one that it does not."""
    (plan,) = (each for each in plans() if each.full_name == name)

    def start() -> list[tuple[bool, dict[str, Any]]]:
        deployment = served(plan)
        deployment_runner.keep_schedules([deployment])
        deployment.apply()
        return [(each.active, each.parameters) for each in client.read_deployment_by_name(name).schedules]

    before = start()
    assert start() == before
    found, panel = client.read_deployment_by_name(name), {"interval": "1h"}
    client.create_deployment_schedules(found.id, [DeploymentScheduleCreate(schedule=CRON, parameters=panel)])
    assert sorted(start(), key=str) == sorted(start(), key=str) == sorted([*before, (True, panel)], key=str)


@pytest.mark.parametrize("own_server", [True, False])
def test_runs_are_ended_on_the_server_of_up_only(own_server: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a shared server, a deployment of the same name may run on another machine."""
    called = []
    monkeypatch.setattr(deployment_runner, "end_runs_of_earlier_up", lambda *_: called.append("earlier"))
    monkeypatch.setattr(deployment_runner, "keep_runs_true", lambda *_: called.append("loop"))
    for name in ("clean_up_after_dead_runs", "keep_schedules", "_remove", "install", "start_runs_by"):
        monkeypatch.setattr(deployment_runner, name, lambda *_: None)
    monkeypatch.setattr(deployment_runner, "plans", lambda *_: ())
    monkeypatch.setattr("prefect.serve", lambda *_, **__: None)
    deployment_runner.main(json.dumps({"parameters": {}, "schedule": {}, "own_server": own_server}))
    time.sleep(0.1)  # the loop is a thread
    assert called == (["earlier", "loop"] if own_server else [])


@pytest.mark.parametrize("address", ["", "https://prefect.example/api"])
def test_up_says_whether_it_started_the_server(address: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", address)
    started = []

    def start(supervisor: Supervisor, service: Service) -> None:
        started.append(service)
        supervisor.stopping.set()

    monkeypatch.setattr(Supervisor, "start", start)
    up(Settings(home=home), {}, ScheduleSpec(), (0, 0, 0), lambda _: None)
    assert json.loads(started[-1].command[-1])["own_server"] == (not address)
    assert ("Prefect" in {each.name for each in started}) == (not address)


@flow
def reporting_flow() -> str:
    with shown("train", "register"):
        run = current_progress()
        with run.step("train"):
            for number in (1, 2, 3):
                run.epoch_finished("fold 1 of 5", Epoch(number, 0.7, 0.5, 0.69, 0.5, 0.001, 0.1), 60)
        show_table("metrics", [{"log loss": "0.69"}], "out-of-sample")
        show_links({"Data Docs": "http://127.0.0.1/docs", "A file": "file:///tmp/x"})
    return str(runtime.flow_run.id)


@pytest.mark.parametrize(("update_seconds", "bars"), [(0.0, {"progress", "folds"}), (60.0, set())])
def test_a_deployed_run_shows_tables_links_that_open_and_bars_of_what_takes_long(
    update_seconds: float, bars: set[str], client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_artifacts, "runtime", SimpleNamespace(deployment=SimpleNamespace(id=str(uuid4()))))
    monkeypatch.setattr(prefect_artifacts, "UPDATE_SECONDS", update_seconds)
    run_id = reporting_flow()
    found = {
        each.key: each
        for each in client.read_artifacts(sort=ArtifactSort.CREATED_DESC)
        if str(each.flow_run_id) == run_id
    }
    assert found.keys() == {"metrics", "data-docs"} | bars
    assert [float(found[key].data) for key in bars] == [100] * len(bars)


def test_keys_are_lowercase_with_dashes() -> None:
    assert artifact_key("Monitor BTC/USD 1d") == "monitor-btc-usd-1d"
