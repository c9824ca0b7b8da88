"""A home that other processes write to is neither repaired nor restored into."""

import fcntl
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

import pytest
from damaged_home import database, halve, output, parquet

from flows.cli.terminal_session import flow_progress, quiet_libraries
from model.bars import Series
from tasks.registry.owning_process import PROCESS_TAG, _start_ticks, own_process
from tasks.repair.live_writers import hold_home, live_writers
from tasks.settings import Settings
from tasks.workspace import Workspace

SERIES = Series("BTC-USD", "1d")


@contextmanager
def another_process() -> Iterator[str]:
    """Yield the name of a process that runs, as an MLflow run has it in its tag."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        *place, _, _ = own_process().split()
        yield " ".join((*place, str(child.pid), _start_ticks(child.pid)))
    finally:
        child.communicate()


def test_a_home_is_not_repaired_while_a_retrain_of_another_process_runs(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Workspace(Settings(), SERIES).runs
    run_id = runs.start_run("retrain", {})  # by this process
    path = halve(parquet(home, "bars"))
    content = path.read_bytes()
    with another_process() as process:
        runs.client.set_tag(run_id, PROCESS_TAG, process)
        code, _, err = output(capsys, "doctor", "--repair")
        assert code == 2
        assert f"expected no process that writes to {home}, found MLflow run {run_id}" in err
        assert path.read_bytes() == content
        assert output(capsys, "doctor")[0] == 4  # reads only
    assert output(capsys, "doctor", "--repair")[0] == 0  # the run was killed
    assert not path.exists()


@pytest.mark.parametrize("command", ["doctor", "restore"])
def test_a_home_is_left_alone_while_a_command_writes_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("RISEORFALL_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    log = home / "data" / "logs" / "20260101T000000-1.log"
    log.parent.mkdir(parents=True)
    words = ("doctor", "--repair") if command == "doctor" else ("restore", str(tmp_path))
    with log.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _, err = output(capsys, *words)
        assert code == 2
        assert f"found a command with the log {log}" in err
    code, _, err = output(capsys, *words)
    assert "no process that writes" not in err


@pytest.mark.usefixtures("home")
def test_of_two_repairs_at_once_each_sees_the_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair holds the home before it looks, so no two of them can look first and write second."""
    seen: list[list[str]] = []

    def look(settings: Settings, own_log: Path) -> list[str]:
        seen.append(live_writers(settings))  # as another process sees it
        return live_writers(settings, own_log)

    monkeypatch.setattr("tasks.repair.live_writers.live_writers", look)
    assert output(capsys, "doctor", "--repair")[0] == 0
    assert len(seen[0]) == 1


@pytest.mark.parametrize(("occupies", "expected"), [({}, 0), ({"writes": True}, 1), ({"occupies": True}, 1)])
def test_commands_that_write_or_copy_hold_the_home_until_they_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, occupies: dict[str, bool], expected: int
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with quiet_libraries(**occupies):
        assert len(live_writers(Settings())) == expected
        with quiet_libraries(**occupies):  # in the same second: the same log
            pass
    assert live_writers(Settings()) == []


def test_a_command_that_starts_while_another_looks_holds_the_home(tmp_path: Path) -> None:
    log = tmp_path / "data" / "logs" / "20260101T000000-1.log"
    log.parent.mkdir(parents=True)
    with log.open("a") as file, log.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_EX)  # as `is_held` does for a moment
        starts = Thread(target=hold_home, args=(file,))
        starts.start()
        starts.join(0.2)
        fcntl.flock(looking, fcntl.LOCK_UN)
        starts.join()
        assert len(live_writers(Settings(home=tmp_path, tracking_uri=""))) == 1


def test_the_child_of_a_command_holds_the_home_after_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with quiet_libraries(writes=True):
        child = subprocess.Popen(["sleep", "60"])
    try:
        assert len(live_writers(Settings())) == 1
    finally:
        child.kill()
        child.wait()
    assert live_writers(Settings()) == []


def test_a_flow_from_the_command_line_holds_the_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, tracking_uri="")
    with flow_progress(settings) as (_, log):
        assert live_writers(settings) == [f"a command with the log {log}"]
    assert live_writers(settings) == []


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_home_whose_database_is_locked_is_not_repaired(
    lock: str, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer may hide which runs there are, so that a locked database read as one without runs."""
    monkeypatch.setattr("tasks.registry.local_database.BUSY_SECONDS", 0.1)
    path = halve(parquet(home, "bars"))
    content = path.read_bytes()
    with closing(sqlite3.connect(database(home), isolation_level=None)) as writer:
        writer.execute(f"BEGIN {lock}")
        found = f"a process that locks {database(home)}"
        assert live_writers(Settings()) == [found]
        code, _, err = output(capsys, "doctor", "--repair")
        assert code == 2
        assert f"expected no process that writes to {home}, found {found}" in err
    assert path.read_bytes() == content
    assert live_writers(Settings()) == []


def test_the_log_of_a_command_is_open_for_both_kinds_of_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk on the network grants a shared lock only on a file that is open for reading."""
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    opened: list[bool] = []
    monkeypatch.setattr("flows.cli.terminal_session.hold_home", lambda file: opened.append(file.readable()))
    with quiet_libraries(writes=True):
        pass
    assert opened == [True]
