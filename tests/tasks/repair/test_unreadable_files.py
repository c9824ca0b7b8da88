"""What is locked, half-written or cannot be read now is no damage: `doctor --repair` moves nothing of it."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaged_home import database, halve, log_file, output, parquet

from model.errors import DamagedHome, StoreUnavailable
from tasks.repair.registry_damage import require_registry
from tasks.repair.table_damage import examine_table
from tasks.settings import Settings
from tasks.store.delta_table import Table
from tasks.workspace import Workspace

# Writes part of a transaction to the database, as a large one does, and kills itself.
HALF_A_TRANSACTION = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN")
database.execute("DELETE FROM model_versions")
for number in range(1000):
    database.execute("INSERT INTO experiments (name) VALUES (?)", (f"{number}" * 500,))
os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_while_writing(home: Path) -> Path:
    path = database(home)
    killed = subprocess.run([sys.executable, "-c", HALF_A_TRANSACTION, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    journal = path.with_name(f"{path.name}-journal")
    assert journal.stat().st_size > 0
    return journal


def test_a_transaction_of_a_killed_process_is_rolled_back_and_is_no_damage(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = kill_while_writing(home)
    code, out, err = output(capsys, "doctor", "--repair", "--json")
    assert code == 0, err
    assert json.loads(out)["repaired"] == []
    assert not (home / "data" / "damaged").exists()
    assert not journal.exists()
    with closing(sqlite3.connect(database(home))) as opened:
        assert opened.execute("SELECT count(*) FROM model_versions").fetchone() == (1,)
        assert opened.execute("SELECT count(*) FROM metrics").fetchone()[0] > 100  # a rebuilt one has few
    require_registry(Settings())


def test_a_relative_address_names_the_same_database_and_one_with_options_is_left_to_mlflow(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home / "mlruns")
    relative = Settings(tracking_uri="sqlite:///mlflow.db")
    assert relative.local_database == database(home)
    require_registry(relative)
    halve(database(home))
    with pytest.raises(DamagedHome, match="riseorfall doctor"):
        require_registry(relative)
    assert Settings(tracking_uri="sqlite:///mlflow.db?timeout=60").local_database is None


@pytest.mark.parametrize("reason", ["locked", "no file"])
def test_a_database_that_cannot_be_read_now_is_not_taken_for_damaged(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    for name in ("LOCKED_SECONDS", "BUSY_SECONDS"):
        monkeypatch.setattr(f"tasks.registry.local_database.{name}", 0.1)
    path = database(home)
    with closing(sqlite3.connect(path)) as writer:
        if reason == "locked":
            writer.execute("BEGIN EXCLUSIVE")
        else:
            path.rename(path.with_suffix(".kept"))
            path.mkdir()
        with pytest.raises(StoreUnavailable, match="database is locked" if reason == "locked" else "unable to open"):
            require_registry(Settings())
        code, _, err = output(capsys, "doctor", "--repair")
        assert code == (2 if reason == "locked" else 1)
        assert ("found a process that locks" if reason == "locked" else "Nothing was decided") in err
    assert path.exists()
    assert not (home / "data" / "damaged").exists()


def test_a_commit_whose_text_divides_lines_elsewhere_is_whole(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A note of a person in the newest commit; another commit is truncated, so the log is examined."""
    log = Workspace(Settings()).decision_log
    (first,) = log.rows()
    for name in ("a", "b"):
        log.append(replace(first, decision_id=name, action="hold", champion_before="1"))
    path = log_file(home, "ledger", 3)
    note = json.dumps({"commitInfo": {"operation": "WRITE", "note": "one\u2028two\x85three"}}, ensure_ascii=False)
    others = [line for line in path.read_text().splitlines() if not line.startswith('{"commitInfo"')]
    path.write_text("\n".join((note, *others)) + "\n", encoding="utf-8")
    halve(log_file(home, "ledger", 2))
    assert output(capsys, "doctor", "--repair")[0] == 0
    assert [row.decision_id for row in log.rows()] == [first.decision_id, "b"]


@pytest.mark.parametrize("part", ["table", "Parquet"])
def test_a_failure_that_is_no_damage_is_not_examined_and_moves_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """A log that names a newer protocol, and too little memory."""
    table = next(each for each in Workspace(Settings()).tables if each.uri.endswith("bars"))
    path = log_file(home, "bars", 0) if part == "table" else parquet(home, "bars")
    if part == "table":
        opened = table.open()
        assert opened is not None
        opened.create_checkpoint()
        for each in path.parent.glob("*.json"):
            each.write_text(each.read_text().replace('"minReaderVersion":1', '"minReaderVersion":99'))
        for each in (*path.parent.glob("*.checkpoint.parquet"), path.parent / "_last_checkpoint"):
            each.unlink()
    else:
        read_row_group = pq.ParquetFile.read_row_group

        def fail(file: pq.ParquetFile, *numbers: int) -> pa.Table:
            if file.metadata.num_rows == pq.read_metadata(path).num_rows:
                raise pa.ArrowMemoryError("malloc of size 64 failed")
            return read_row_group(file, *numbers)

        monkeypatch.setattr(pq.ParquetFile, "read_row_group", fail)
    content = path.read_bytes()
    findings = [each for each in examine_table("bars", table) if each.state != "whole"]
    assert findings
    assert {(each.state, each.repair) for each in findings} == {("not examined", None)}
    assert ("99" if part == "table" else "malloc") in findings[0].problem
    code, out, err = output(capsys, "doctor", "--repair")
    assert code == 0, err
    assert "not examined" in out
    assert not (home / "data" / "damaged").exists()
    assert path.read_bytes() == content


def test_a_damaged_checkpoint_is_moved_and_the_commits_are_read_instead(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = next(each for each in Workspace(Settings()).tables if each.uri.endswith("bars"))
    opened = table.open()
    assert opened is not None
    opened.create_checkpoint()
    (checkpoint,) = (home / "data" / "tables" / "bars" / "_delta_log").glob("*.checkpoint.parquet")
    checkpoint.write_bytes(b"x" * checkpoint.stat().st_size)
    (found,) = examine_table("bars", table)
    assert (found.state, found.path) == ("damaged", checkpoint)
    assert output(capsys, "doctor", "--repair")[0] == 0
    assert not checkpoint.exists()
    assert {each.state for each in examine_table("bars", table)} == {"whole"}


@pytest.fixture
def ledger(home: Path) -> Table:
    """The decision log with 20 more decisions, and so with a checkpoint."""
    log = Workspace(Settings()).decision_log
    (first,) = log.rows()
    for number in range(20):
        log.append(replace(first, decision_id=str(number), action="hold", champion_before="1"))
    (checkpoint,) = (home / "data" / "tables" / "ledger" / "_delta_log").glob("*.checkpoint.parquet")
    assert int(checkpoint.name.partition(".")[0]) > 3
    (table,) = log.tables
    return table


def test_a_checkpoint_keeps_the_rows_of_a_commit_that_was_lost_before_it(
    home: Path, ledger: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest version needs the checkpoint only: unnoticed, until the newest commit is truncated too."""
    before = Workspace(Settings()).decision_log.rows()
    Workspace(Settings()).decision_log.append(replace(before[-1], decision_id="newest"))
    halve(log_file(home, "ledger", 3))
    assert examine_table("ledger", ledger, deep=False)[0].state == "whole"  # what a command needs can be read
    (found,) = examine_table("ledger", ledger)
    assert (found.state, found.path) == ("damaged", log_file(home, "ledger", 3))
    assert "the newest version is whole" in found.remedy
    newest = max((home / "data" / "tables" / "ledger" / "_delta_log").glob("*.json"))
    halve(newest)
    (found,) = examine_table("ledger", ledger)
    assert found.remedy.startswith(f"the rows of version {int(newest.stem)} are lost")
    assert output(capsys, "doctor", "--repair")[0] == 0
    assert Workspace(Settings()).decision_log.rows() == before
    assert ledger.open(4) is not None


def test_a_checkpoint_that_is_gone_is_damage_and_the_commits_are_read_instead(
    home: Path, ledger: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name stands in a file of its own, without which deltalake would read the commits."""
    before = Workspace(Settings()).decision_log.rows()
    log = home / "data" / "tables" / "ledger" / "_delta_log"
    (checkpoint,) = log.glob("*.checkpoint.parquet")
    checkpoint.unlink()
    (found,) = examine_table("ledger", ledger)
    assert (found.state, found.path) == ("damaged", log / "_last_checkpoint")
    assert output(capsys, "doctor", "--repair")[0] == 0
    assert Workspace(Settings()).decision_log.rows() == before


@pytest.fixture
def old_ledger(home: Path) -> Table:
    """The decision log with 60 more decisions; commits of the first months have been deleted."""
    log = Workspace(Settings()).decision_log
    (first,) = log.rows()
    for number in range(60):
        log.append(replace(first, decision_id=str(number), action="hold", champion_before="1"))
        if number % 20 == 0:
            for path in (home / "data" / "tables" / "ledger" / "_delta_log").iterdir():
                os.utime(path, (0, 0))
    assert not log_file(home, "ledger", 0).exists()
    (table,) = log.tables
    return table


def test_deleted_commits_that_a_checkpoint_contains_are_no_damage(home: Path, old_ledger: Table) -> None:
    assert [each.state for each in examine_table("ledger", old_ledger)] == ["whole"]
    first = min(path for path in log_file(home, "ledger", 0).parent.glob("*.json"))
    first.unlink()  # as a process that was killed while it deleted them
    assert [each.state for each in examine_table("ledger", old_ledger)] == ["whole"]


def test_of_a_log_without_its_first_commits_the_checkpoint_before_a_damaged_one_is_read(
    home: Path, old_ledger: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Workspace(Settings()).decision_log.rows()
    assert len(before) == 61
    checkpoints = sorted(log_file(home, "ledger", 0).parent.glob("*.checkpoint.parquet"))
    assert len(checkpoints) > 1
    halve(checkpoints[-1])
    (found,) = examine_table("ledger", old_ledger)
    assert (found.state, found.path, found.remedy) == ("damaged", checkpoints[-1], "read the commits instead")
    assert output(capsys, "doctor", "--repair")[0] == 0
    assert Workspace(Settings()).decision_log.rows() == before
    for path in checkpoints[:-1]:
        path.unlink()
    (found, *_) = examine_table("ledger", old_ledger)
    assert found.state == "damaged"
    assert found.remedy.startswith("the rows of versions 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... ")


@pytest.mark.parametrize("part", ["log", "Parquet"])
def test_a_file_that_cannot_be_read_is_not_examined_and_not_moved(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    path = log_file(home, "bars", 1) if part == "log" else parquet(home, "bars")
    content = path.read_bytes()
    if part == "log":
        path.unlink()
        path.symlink_to(path)  # ELOOP, also for root, whom permissions do not stop
    else:
        opened = pq.ParquetFile

        def fail(source: Path) -> pq.ParquetFile:
            if source == path:
                raise PermissionError(13, "Permission denied", str(path))
            return opened(source)

        monkeypatch.setattr(pq, "ParquetFile", fail)
    findings = examine_table("bars", next(each for each in Workspace(Settings()).tables if each.uri.endswith("bars")))
    assert [(each.state, each.path, each.repair) for each in findings] == [("not examined", path, None)]
    assert "cannot be read" in findings[0].remedy
    output(capsys, "doctor", "--repair")
    assert not (home / "data" / "damaged").exists()
    assert path.is_symlink() if part == "log" else path.read_bytes() == content


@pytest.mark.usefixtures("ends_in_10_seconds")
@pytest.mark.parametrize("name", ["0.json", "0.checkpoint.parquet"])
def test_a_pipe_in_the_log_of_a_table_is_moved_and_not_read(
    home: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Reading it waits for a writer."""
    number, ending = name.split(".", 1)
    path = log_file(home, "ledger", int(number)).with_suffix(f".{ending}")
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    table = next(each for each in Workspace(Settings()).tables if each.uri.endswith("ledger"))
    (found,) = examine_table("ledger", table)
    assert (found.state, found.path) == ("damaged", path)
    assert output(capsys, "doctor", "--repair")[0] == 0
    (kept,) = (home / "data" / "damaged").glob(f"**/{path.name}")
    assert kept.is_fifo()
    assert output(capsys, "doctor")[0] == 0


def test_a_command_names_a_file_that_cannot_be_read_and_doctor_does_not_call_it_whole(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = parquet(home, "bars")
    path.unlink()
    path.symlink_to(path)  # ELOOP, also for root, whom permissions do not stop
    code, _, err = output(capsys, "bars")
    assert code == 1
    assert err == f"riseorfall: {path}: cannot be read: Too many levels of symbolic links. Run `riseorfall doctor`.\n"
    code, out, _ = output(capsys, "doctor")
    assert code == 0
    assert "1 part could not be read and may be damaged" in out
    assert "everything is whole" not in out


@pytest.mark.parametrize("name", ["ledger", "ledger/_delta_log"])
def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(
    home: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = home / "data" / "tables" / name
    folder.rename(home / "kept")
    folder.symlink_to(folder)
    code, out, _ = output(capsys, "doctor", "--json")
    (found,) = [each for each in json.loads(out)["findings"] if each["state"] != "whole"]
    assert (code, found["state"], found["path"]) == (0, "not examined", str(folder))
    assert found["problem"] == "cannot be read: Too many levels of symbolic links"
