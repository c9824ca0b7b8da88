"""The flow ends runs whose process is gone, deletes what exceeds the retention, and is deployed on a schedule."""

import os
import time
from pathlib import Path

import pytest
from synthetic_bars import random_walk
from tiny_home import SERIES, tiny_home

from flows.deployments import ScheduleSpec, plans
from flows.housekeeping import housekeeping
from tasks.registry.owning_process import PROCESS_TAG, own_process
from tasks.repair.retention_spec import RetentionSpec
from tasks.services.scheduled_runs import with_local_registry
from tasks.settings import Settings
from tasks.workspace import Workspace


def test_the_flow_ends_dead_runs_and_deletes_old_pages(home: Path) -> None:
    workspace = Workspace(tiny_home(home, random_walk(130, seed=4), 100), SERIES)
    *place, _, start = own_process().split()
    dead = workspace.runs.client.create_run(
        workspace.runs.experiment_id(), tags={PROCESS_TAG: " ".join((*place, "999999999", start))}
    ).info.run_id
    page = home / "data" / "reports" / SERIES.name / "old.html"
    page.parent.mkdir(parents=True)
    page.write_text("x" * 100)
    os.utime(page, (time.time() - 31 * 24 * 3600,) * 2)
    result = housekeeping(RetentionSpec(page_days=30))
    assert result.ended == (dead,)
    assert workspace.runs.client.get_run(dead).info.status == "KILLED"
    assert result.rows() == [{"deleted": "report", "number": "1", "bytes": "100"}]
    assert not page.exists()
    assert housekeeping(RetentionSpec()).removed == ()


def test_it_is_deployed_on_its_schedule() -> None:
    (plan,) = (
        plan for plan in plans(schedule=ScheduleSpec(housekeeping_cron="1 2 * * *")) if plan.name == "housekeeping"
    )
    assert (plan.cron, plan.collision, plan.full_name) == ("1 2 * * *", "CANCEL_NEW", "housekeeping/housekeeping")


def test_the_database_behind_the_server_of_up_is_opened_directly_and_no_other(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = "http://127.0.0.1:5000", "http://mlflow.example:5000"
    state = {"parts": {"MLflow": {"address": ours}}}
    monkeypatch.setattr("tasks.services.scheduled_runs.read_state", lambda *_: state)
    assert with_local_registry(Settings(tracking_uri=ours)).local_database == home / "mlruns" / "mlflow.db"
    assert with_local_registry(Settings(tracking_uri=theirs)).local_database is None
    state["parts"] = {}
    assert with_local_registry(Settings(tracking_uri=ours)).local_database is None
