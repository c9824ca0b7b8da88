"""MLflow's local database is created by one of several processes that start at once, and appears complete."""

import fcntl
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from mlflow.store.db import utils

from model.bars import Series
from model.errors import StoreUnavailable
from tasks.registry.database_creation import open_client
from tasks.registry.experiment_runs import ExperimentRuns
from tasks.registry.local_database import DATABASE_TABLES

SERIES = Series("BTC-USD", "1d")
STARTS = """
import sys
import mlflow.store.db.utils, mlflow.store.tracking.sqlalchemy_store
from model.bars import Series
from model.errors import StoreUnavailable
from tasks.registry.experiment_runs import ExperimentRuns

runs = ExperimentRuns(sys.argv[1], "", Series("BTC-USD", "1d"))
print("ready", flush=True)
input()
print(runs.start_run("retrain", {}))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mlruns" / "mlflow.db"


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


@pytest.mark.e2e
def test_two_processes_that_start_at_once_in_a_new_home_both_get_a_run(path: Path) -> None:
    command = [sys.executable, "-c", STARTS, f"sqlite:///{path}"]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for each in started:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in started:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    ended = [each.communicate() for each in started]
    assert [each.returncode for each in started] == [0, 0], ended
    with closing(sqlite3.connect(path)) as database:
        found = {run for (run,) in database.execute("SELECT run_uuid FROM runs")}
    assert found == {out.strip() for out, _ in ended}


def test_a_client_waits_for_another_process_that_creates_the_database(path: Path) -> None:
    path.parent.mkdir()
    opened: list[Any] = []
    with path.with_name("mlflow.db.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = Thread(target=lambda: opened.append(ExperimentRuns(f"sqlite:///{path}", "", SERIES).client))
        waiting.start()
        waiting.join(0.3)
        assert not path.exists()
        assert opened == []
    waiting.join()
    assert opened[0].search_experiments()[0].name == "Default"


def test_a_database_appears_complete_and_what_a_killed_process_left_is_created_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create: Callable[[Any], None] = utils._initialize_tables
    seen = []

    def half(engine: Any) -> None:
        with closing(sqlite3.connect(engine.url.database)) as database:
            database.execute("CREATE TABLE experiments (name TEXT)")
        raise KeyboardInterrupt

    def watched(engine: Any) -> None:
        create(engine)
        seen.append(path.exists())

    monkeypatch.setattr(utils, "_initialize_tables", half)
    with pytest.raises(KeyboardInterrupt):
        open_client(f"sqlite:///{path}")
    assert not path.exists()
    monkeypatch.setattr(utils, "_initialize_tables", watched)
    open_client(f"sqlite:///{path}")
    assert seen == [False]
    assert tables(path) >= DATABASE_TABLES
    assert sorted(each.name for each in path.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
    open_client(f"sqlite:///{path}")
    assert seen == [False]


def test_a_database_is_opened_although_no_lock_can_be_held(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("mlflow.db.lock").mkdir()  # no file to lock
    assert open_client(f"sqlite:///{path}").search_experiments()


def test_a_database_that_may_not_be_read_is_an_error_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow would try for two minutes."""
    path = tmp_path / "mlflow.db"
    path.touch()
    monkeypatch.setattr("os.access", lambda _path, mode: mode != os.R_OK)
    with pytest.raises(StoreUnavailable, match="this user may not read it"):
        open_client(f"sqlite:///{path}")
