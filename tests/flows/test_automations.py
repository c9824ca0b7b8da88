"""Automations are installed once and changed when they must be; runs left behind are marked; artifacts are shown."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect import flow, runtime
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Running
from synthetic_bars import random_walk
from tiny_home import tiny_home

from flows.deployments import plans, served
from flows.monitor import monitor
from flows.predict import predict
from model.errors import UnsoundModel
from model.training import Epoch
from tasks.console.progress import current_progress
from tasks.pages import prefect_artifacts
from tasks.pages.prefect_artifacts import artifact_key, show_links, show_table, shown
from tasks.services.automations import NOTIFY, QUIET, RETRAIN, install
from tasks.services.stale_runs import INTERRUPTED, end_runs_of_earlier_up
from tasks.settings import Settings

NAMES = ["retrain/retrain", "monitor/monitor"]


@pytest.fixture(scope="module", autouse=True)
def deployed() -> None:
    for plan in plans():
        if plan.full_name in NAMES:
            served(plan).apply()


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as opened:
        yield opened


def test_alarms_start_one_retrain_in_three_days_and_quiet_days_are_reported(client: SyncPrefectClient) -> None:
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
    for automation in (retrain, quiet):  # another series' alarm or decision is none of theirs
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


def test_a_notification_block_is_told_of_alarms(client: SyncPrefectClient) -> None:
    block = CustomWebhookNotificationBlock(name="ours", url="https://example.org/hook", json_data={"text": "{{body}}"})
    identity = block.save("riseorfall", overwrite=True)
    assert install(NAMES) == [RETRAIN, QUIET, NOTIFY]
    (tell,) = client.read_automations_by_name(NOTIFY)
    assert tell.actions[0].block_document_id == identity
    assert "riseorfall.checks.failed" in tell.trigger.expect
    client.delete_block_document(identity)


def test_a_broken_champion_is_told_by_whoever_meets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tiny_home(tmp_path, random_walk(130, seed=4), 100)
    told: list[tuple[str, str]] = []
    for module in ("prediction", "monitoring"):
        monkeypatch.setattr(
            f"tasks.{module}.emit_event_for", lambda name, series, *_, **__: told.append((name, series))
        )
    for file, runs in (("network.onnx", predict), ("record.parquet", monitor)):
        (found,) = tmp_path.rglob(file)
        found.write_bytes(b"torn")
        with pytest.raises(UnsoundModel, match=file):
            runs()
    assert told == [("riseorfall.champion.broken", "BTC-USD-1d")] * 2


def test_a_run_left_running_is_marked_and_others_are_left_alone(client: SyncPrefectClient, home: Path) -> None:
    deployment = client.read_deployment_by_name("monitor/monitor")
    left = client.create_flow_run_from_deployment(deployment.id, state=Running())
    scheduled = client.create_flow_run_from_deployment(deployment.id)
    assert end_runs_of_earlier_up(NAMES, Settings(home=home)) == 1
    marked = client.read_flow_run(left.id)
    assert marked.state is not None
    assert (marked.state.type, marked.state.message) == ("CRASHED", INTERRUPTED)
    assert client.read_flow_run(scheduled.id).state_type == "SCHEDULED"
    assert end_runs_of_earlier_up(NAMES, Settings(home=home)) == 0


@flow
def speaks() -> str:
    with shown("train", "register"):
        run = current_progress()
        with run.step("train"):
            for number in (1, 2, 3):
                run.epoch_finished("fold 1 of 5", Epoch(number, 0.7, 0.5, 0.69, 0.5, 0.001, 0.1), 60)
        show_table("metrics", [{"log loss": "0.69"}], "on unseen bars")
        show_links({"Data Docs": "http://127.0.0.1/docs", "A file": "file:///tmp/x"})
    return str(runtime.flow_run.id)


def test_a_deployed_run_shows_bars_tables_and_links_that_open(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_artifacts, "runtime", SimpleNamespace(deployment=SimpleNamespace(id=str(uuid4()))))
    run_id = speaks()
    found = {each.key: each for each in client.read_artifacts() if str(each.flow_run_id) == run_id}
    assert found.keys() == {"progress", "fold-1-of-5", "metrics", "data-docs"}
    assert [float(found[key].data) for key in ("progress", "fold-1-of-5")] == [100, 100]


def test_keys_are_lowercase_with_dashes() -> None:
    assert artifact_key("Monitor BTC/USD 1d") == "monitor-btc-usd-1d"
