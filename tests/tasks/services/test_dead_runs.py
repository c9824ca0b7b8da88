"""A process that is killed with SIGKILL leaves a running MLflow run, a landing file and a temporary folder."""

import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.filters import FlowRunFilter

from model.bars import Series
from tasks.registry.owning_process import _start_ticks, is_alive, is_gone, own_process
from tasks.services.dead_runs import (
    MAX_RUN_TIME,
    PROCESS_GONE,
    _read_flow_runs,
    clean_up_after_dead_runs,
    end_dead_mlflow_runs,
)
from tasks.services.leftover_files import remove_landing_files, remove_temporary_folders
from tasks.settings import Settings
from tasks.workspace import Workspace

# Prints the run, the fold's run and the temporary folder, then works for ever.
WORKER = """
import tempfile, time
from pathlib import Path
from model.bars import Series
from tasks.services.leftover_files import use_own_temporary_folder
from tasks.settings import Settings
from tasks.workspace import Workspace
use_own_temporary_folder()
runs = Workspace(Settings(), Series("BTC-USD", "1d")).runs
run = runs.start_run("retrain", {})
fold = runs.start_run("fold", {}, parent=run)
landing = Settings().landing_folder
landing.mkdir(parents=True)
(landing / f"{run}.parquet").write_bytes(b"bars")
(landing / f"{run}.accepted.parquet").write_bytes(b"bars")
place = tempfile.mkdtemp()
print(run, fold, place, flush=True)
time.sleep(600)
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return Settings()


@pytest.mark.e2e  # a process is killed at work
def test_what_a_killed_process_left_is_ended_and_deleted_and_what_is_alive_stays(settings: Settings) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout is not None
        run, fold, place = worker.stdout.readline().split()
        runs = Workspace(settings, Series("BTC-USD", "1d")).runs
        own = runs.start_run("our own", {})
        assert clean_up_after_dead_runs(settings) == []  # everybody is alive
        assert Path(place).is_dir()
        assert len(list(settings.landing_folder.iterdir())) == 2
    finally:
        worker.kill()
        worker.communicate()

    assert set(clean_up_after_dead_runs(settings)) == {run, fold}
    assert [runs.client.get_run(each).info.status for each in (run, fold, own)] == ["KILLED", "KILLED", "RUNNING"]
    assert runs.run_tags(run)["failure"] == PROCESS_GONE
    assert list(settings.landing_folder.iterdir()) == []
    assert not Path(place).exists()
    assert list(Path(place).parents[1].iterdir()) == []
    assert clean_up_after_dead_runs(settings) == []
    runs.claim_run(run)  # as a resumed search does
    assert runs.client.get_run(run).info.status == "RUNNING"
    assert clean_up_after_dead_runs(settings) == []


def test_the_process_of_a_run_of_an_older_home_is_read_too(settings: Settings) -> None:
    """Its tag had a name that MLflow's pages show; a search that is resumed has both, and the new one counts."""
    runs = Workspace(settings, Series("BTC-USD", "1d")).runs
    *place, _, start = own_process().split()
    gone = " ".join((*place, "999999999", start))
    old, resumed = (runs.client.create_run(runs.experiment_id(), tags={"process": gone}).info.run_id for _ in range(2))
    runs.claim_run(resumed)
    assert runs.database.running_processes() == {old: gone, resumed: own_process()}
    assert end_dead_mlflow_runs(settings) == [old]


def test_a_run_that_names_no_process_is_ended_when_no_run_takes_that_long(settings: Settings) -> None:
    runs = Workspace(settings, Series("BTC-USD", "1d")).runs

    def started(experiment: str, **tags: str) -> str:
        return str(runs.client.create_run(experiment, tags=tags).info.run_id)

    own = runs.experiment_id()
    old = started(own, recipe="617e126177cc")  # as version 0.1 did
    fold = started(own, fold="1", **{"mlflow.parentRunId": old})
    theirs = runs.client.create_experiment("of another team on a shared MLflow")
    foreign = [started(theirs), started(theirs, fold="1"), started(theirs, recipe="pancakes"), started(own)]
    now = datetime.now(UTC)
    assert end_dead_mlflow_runs(settings, now + MAX_RUN_TIME - timedelta(minutes=1)) == []
    assert set(end_dead_mlflow_runs(settings, now + MAX_RUN_TIME + timedelta(minutes=1))) == {old, fold}
    assert {runs.client.get_run(each).info.status for each in foreign} == {"RUNNING"}


def test_a_landing_file_of_an_unknown_run_is_kept_for_a_day(settings: Settings) -> None:
    settings.landing_folder.mkdir(parents=True)
    fresh, old = (settings.landing_folder / f"{name}.parquet" for name in ("fresh", "old"))
    for path, hours in ((fresh, 23), (old, 25)):
        path.touch()
        os.utime(path, (time.time() - hours * 3600,) * 2)
    assert remove_landing_files(settings, []) == [old]
    assert list(settings.landing_folder.iterdir()) == [fresh]


def test_the_folder_of_another_machine_or_program_stays(settings: Settings, tmp_path: Path) -> None:  # noqa: ARG001
    for name in ("riseorfall-elsewhere+1+1+x", "riseorfall-notes", "tmp123"):
        (tmp_path / "temporary" / name).mkdir()
    assert remove_temporary_folders() == []


def test_a_process_creates_one_temporary_folder_however_often_it_asks(settings: Settings, tmp_path: Path) -> None:  # noqa: ARG001
    ask = "from tasks.services.leftover_files import use_own_temporary_folder as use; import os, tempfile\n"
    look = "use(); use(); use(); print(len(os.listdir(os.environ['BASE'])), len(os.listdir(tempfile.gettempdir())))"
    environment = {**os.environ, "BASE": str(tmp_path / "temporary")}
    found = subprocess.run(
        [sys.executable, "-c", ask + look], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["1", "0"]


def test_a_process_is_known_by_machine_boot_container_number_and_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.registry.owning_process._machine", lambda: "abc")
    machine, boot, namespace, pid, start = own_process().split()
    assert not is_gone(own_process())
    assert is_alive(own_process())
    assert is_gone(f"{machine} {boot} {namespace} {pid} {int(start) - 1}")  # its number is used again
    assert is_gone(f"{machine} {boot} {namespace} 999999999 {start}")
    assert is_gone(f"{machine} before {namespace} {pid} {start}")  # the machine was started again
    unknown = (
        f"another before {namespace} {pid} {start}",  # of another machine
        f"- before {namespace} {pid} {start}",  # of a machine without an id
        f"{machine} {boot} another 999999999 1",  # of another container, which has numbers of its own
    )
    assert not any(map(is_gone, ("", *unknown)))
    assert not any(map(is_alive, ("", *unknown)))
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = f"{machine} {boot} {namespace} {ended.pid} {_start_ticks(ended.pid)}"
    assert not is_gone(name)
    ended.kill()
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(name)  # a zombie: nobody has waited for it
    ended.communicate()
    assert is_gone(name)


def test_a_name_of_an_earlier_version_is_acted_on_after_a_day_and_without_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its start is wall time: a clock that was set by more than five seconds made a live run look dead."""
    host, now = socket.gethostname(), int(time.time())
    assert not is_gone(f"{host} {os.getpid()} {now - 100}")
    assert not is_gone(f"{host} {os.getpid()} {now - 90_000}")
    assert not is_gone(f"{host} 999999999 {now - 80_000}")
    assert is_gone(f"{host} 999999999 {now - 90_000}")
    assert not is_gone(f"another-{host} 999999999 {now - 90_000}")
    monkeypatch.setattr("tasks.registry.owning_process.KERNEL", Path("/absent"))  # another system
    assert own_process().split()[:2] == [host, str(os.getpid())]
    assert is_alive(own_process())
    assert is_gone(f"{host} 999999999 {now}")


def test_more_flow_runs_than_a_page_of_prefect_are_asked_for_page_by_page() -> None:
    """A run that is left out of an answer would be ended as deleted."""

    asked: list[int] = []

    class Server:
        def read_flow_runs(self, *, flow_run_filter: FlowRunFilter, limit: int) -> list[UUID]:
            ids = list(flow_run_filter.id.any_)
            asked.append(len(ids))
            return ids[:limit][:200]

    wanted = {str(uuid4()) for _ in range(450)}
    assert {str(each) for each in _read_flow_runs(Server(), wanted)} == wanted
    assert asked == [200, 200, 50]
