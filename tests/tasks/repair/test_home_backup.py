"""A backup is whole while runs write, refuses to overwrite, and a restored home predicts the same."""

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from home_0_1 import STORED_PREDICTION, drop_prediction_log

from flows.cli import run
from model.bars import Series
from model.errors import SpecError
from tasks.repair.home_backup import back_up
from tasks.repair.home_examination import examine_home
from tasks.repair.home_restore import restore
from tasks.settings import Settings
from tasks.workspace import Workspace

SERIES = Series("BTC-USD", "1d")


@pytest.fixture
def locked(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another process writes to MLflow's database."""
    monkeypatch.setattr("tasks.registry.local_database.LOCKED_SECONDS", 0.1)
    with closing(sqlite3.connect(home / "mlruns" / "mlflow.db")) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        yield


@pytest.mark.usefixtures("locked")
def test_a_locked_database_ends_a_backup_without_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backup", str(tmp_path / "backup")]) == 1
    assert "database is locked" in capsys.readouterr().err
    assert not (tmp_path / "backup").exists()


def test_a_backup_holds_no_half_of_a_transaction(home: Path, tmp_path: Path) -> None:
    """The process that wrote was killed; its journal lies there."""
    path = home / "mlruns" / "mlflow.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN")
        writer.execute("DELETE FROM model_versions")
        for number in range(1000):
            writer.execute("INSERT INTO experiments (name) VALUES (?)", (f"{number}" * 500,))
        copies = {name: (path.parent / name).read_bytes() for name in (path.name, f"{path.name}-journal")}
    for name, content in copies.items():
        (path.parent / name).write_bytes(content)
    back_up(Settings(), tmp_path / "backup", lambda _: None)
    with closing(sqlite3.connect(tmp_path / "backup" / "mlflow.db")) as copy:
        assert copy.execute("SELECT count(*) FROM model_versions").fetchone() == (1,)
        assert copy.execute("PRAGMA quick_check").fetchone() == ("ok",)


def use(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize("place", ["a new place/home", ".", "home/below"], ids=["elsewhere", "parent", "below"])
def test_a_restored_home_predicts_the_same_without_the_old_one(
    place: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "data" / "reports" / SERIES.name).mkdir(parents=True)
    (home / "data" / "reports" / SERIES.name / "a.html").write_text("report")
    assert run(["backup", str(tmp_path / "backup")]) == 0
    assert "table ledger: version 1" in capsys.readouterr().out
    shutil.rmtree(home)

    other = tmp_path / place
    use(monkeypatch, other)
    assert run(["restore", str(tmp_path / "backup")]) == 0
    assert {each.state for each in examine_home(Settings())} == {"whole"}
    assert (other / "data" / "reports" / SERIES.name / "a.html").read_text() == "report"
    with closing(sqlite3.connect(other / "mlruns" / "mlflow.db")) as database:
        (source,) = database.execute("SELECT storage_location FROM model_versions").fetchone()
        (run_place,) = database.execute("SELECT artifact_uri FROM runs LIMIT 1").fetchone()
    assert source.startswith((other / "mlruns" / "artifacts").as_uri())
    assert run_place.startswith((other / "mlruns" / "artifacts").as_uri())
    drop_prediction_log(other)
    capsys.readouterr()
    assert run(["predict", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["probability"] == pytest.approx(STORED_PREDICTION["probability"], abs=1e-6)
    assert found["version"] == "1"


def test_every_table_is_copied_at_one_version_with_its_earlier_ones(home: Path, tmp_path: Path) -> None:
    """A decision that is committed after the decision log was copied is not in the backup."""
    log = Workspace(Settings()).decision_log
    (first,) = log.rows()

    def commit_more(line: str) -> None:
        if line.startswith("table ledger"):
            log.append(replace(first, decision_id="later", action="hold", champion_before="1"))

    back_up(Settings(), tmp_path / "backup", commit_more)
    assert len(log.rows()) == 2
    copy = Workspace(Settings(store=str(tmp_path / "backup" / "tables")))
    assert copy.decision_log.rows() == (first,)
    assert copy.bar_store.summary(SERIES, version=1) == Workspace(Settings()).bar_store.summary(SERIES, version=1)
    manifest = json.loads((tmp_path / "backup" / "backup.json").read_text())
    assert (manifest["home"], manifest["tables"]["ledger"]) == (str(home), 1)


def test_files_that_others_delete_meanwhile_do_not_fail_a_backup(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit deletes old checkpoints and commits, housekeeping files of earlier versions and runs."""
    for name in ("ledger", "predictions"):
        DeltaTable(str(home / "data" / "tables" / name)).create_checkpoint()
    (home / "data" / "tune").mkdir()
    (home / "data" / "tune" / "search.journal").write_text("trials")
    picture, true = home / "mlruns" / "artifacts" / "old.png", shutil.copyfile
    picture.write_text("of an old run")
    runs = [home / "mlruns" / "artifacts" / SERIES.name / name for name in ("first", "second")]
    for folder in runs:
        folder.mkdir()
        (folder / "a.txt").write_text("of a run")

    def copied(source: str | Path, target: str | Path, **named: Any) -> Any:
        if Path(source).parent in runs:  # the folder that is being copied, and one that is still to be
            for folder in runs:
                shutil.rmtree(folder, ignore_errors=True)
        if str(source).endswith((".checkpoint.parquet", "old.png")):
            raise FileNotFoundError(source)
        return true(source, target, **named)

    monkeypatch.setattr("tasks.repair.home_backup.shutil.copyfile", copied)
    back_up(Settings(), tmp_path / "backup", lambda _: None)
    monkeypatch.undo()
    assert not list((tmp_path / "backup").rglob("*.checkpoint.parquet"))
    assert not (tmp_path / "backup" / "artifacts" / "old.png").exists()
    copy, ours = (Workspace(Settings(store=str(each / "tables"))) for each in (tmp_path / "backup", home / "data"))
    assert copy.decision_log.rows() == ours.decision_log.rows()
    assert copy.prediction_log.read().equals(ours.prediction_log.read())
    assert (tmp_path / "backup" / "tune" / "search.journal").read_text() == "trials"


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_what_is_no_file_ends_a_backup_and_is_named(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """A copy of /dev/zero would fill the disk of the backup."""
    path = home / "mlruns" / "artifacts" / "notes"
    if kind == "device":
        path.symlink_to("/dev/null")
    else:
        os.mkfifo(path)
    assert run(["backup", str(tmp_path / "backup")]) == 2
    assert f"expected a regular file, found a device or a pipe: {path}." in capsys.readouterr().err
    assert not (tmp_path / "backup").exists()


def test_a_database_is_copied_while_another_process_writes_to_it(home: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(home / "mlruns" / "mlflow.db")) as writer:
        writer.execute("DELETE FROM model_versions")  # not committed
        back_up(Settings(), tmp_path / "backup", lambda _: None)
    with closing(sqlite3.connect(tmp_path / "backup" / "mlflow.db")) as copy:
        assert copy.execute("SELECT count(*) FROM model_versions").fetchone() == (1,)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_nothing_is_overwritten(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "backup"
    target.mkdir()
    assert run(["backup", str(target)]) == 0  # an empty folder is fine
    before = sorted(target.rglob("*"))
    assert run(["backup", str(target)]) == 2
    assert sorted(target.rglob("*")) == before
    assert run(["restore", str(target)]) == 2  # the home is not empty
    assert "Nothing was changed" in capsys.readouterr().err
    assert run(["backup", str(home / "data" / "backup")]) == 2
    assert "outside the home" in capsys.readouterr().err
    assert run(["restore", str(tmp_path)]) == 2
    assert "backup.json" in capsys.readouterr().err


def test_a_backup_goes_into_a_folder_that_can_be_created(
    home: Path,  # noqa: ARG001 - the settings name it
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    for folder, reason in (("/proc/x", "No such file or directory"), (tmp_path / "file" / "x", "Not a directory")):
        assert run(["backup", str(folder)]) == 2
        expected = f"riseorfall: backup: expected a folder that can be created, found {folder} ({reason})"
        assert expected in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mlruns/artifacts/a.txt", "elsewhere.db-journal"])
def test_restore_changes_nothing_if_one_file_is_in_the_way(
    home: Path,  # noqa: ARG001 - the settings name it
    tmp_path: Path,
    name: str,
) -> None:
    """The database may lie outside `mlruns`; a journal of an earlier one would be applied to the restored one."""
    back_up(Settings(), tmp_path / "backup", lambda _: None)
    target = tmp_path / "target"
    (target / name).parent.mkdir(parents=True)
    (target / name).write_text("mine")
    settings = Settings(home=target, tracking_uri=f"sqlite:///{target}/elsewhere.db")
    with pytest.raises(SpecError, match="restore: expected"):
        restore(settings, tmp_path / "backup", lambda _: None)
    assert [path for path in target.rglob("*") if path.is_file()] == [target / name]


def test_an_interrupted_backup_is_none(
    home: Path,  # noqa: ARG001 - the settings name it
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tasks.repair.home_backup.copy_database", interrupt)
    with pytest.raises(KeyboardInterrupt):
        back_up(Settings(), tmp_path / "backup", lambda _: None)
    assert not list(tmp_path.glob("backup*"))
    monkeypatch.undo()
    use(monkeypatch, tmp_path / "home")
    (tmp_path / "backup.partial").mkdir()
    with pytest.raises(SpecError, match="partial, found it"):  # another process may write it, or was killed
        back_up(Settings(), tmp_path / "backup", lambda _: None)
    (tmp_path / "backup.partial").rmdir()
    back_up(Settings(), tmp_path / "backup", lambda _: None)
    assert not list(tmp_path.glob("*.partial"))


def damage(backup: Path, kind: str) -> None:
    database = backup / "mlflow.db"
    if kind == "one byte":
        path = max((backup / "tables" / "bars").rglob("part-*.parquet"))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif kind == "no tables":
        shutil.rmtree(backup / "tables")
    elif kind == "no ledger":
        shutil.rmtree(backup / "tables" / "ledger")
    elif kind == "newest commit":
        max((backup / "tables" / "bars" / "_delta_log").glob("*.json")).unlink()
    elif kind == "manifest":
        found = json.loads((backup / "backup.json").read_text(encoding="utf-8"))
        found["tables"]["bars"] = 99
        (backup / "backup.json").write_text(json.dumps(found), encoding="utf-8")
    elif kind == "half a database":
        database.write_bytes(database.read_bytes()[: database.stat().st_size // 2])
    elif kind == "no artifacts":
        shutil.rmtree(backup / "artifacts")


@pytest.mark.parametrize(
    ("kind", "found", "without_digests"),
    [
        ("one byte", "tables/bars/.*parquet changed since the backup", None),
        ("no tables", r"tables/.* unreadable \(No such file or directory\).* and \d+ more", "no table in tables/bars"),
        ("no ledger", "tables/ledger/.* unreadable", "no table in tables/ledger"),
        (
            "newest commit",
            "tables/bars/_delta_log/.* unreadable",
            "version 0 of tables/bars, where backup.json states 1",
        ),
        ("manifest", "backup.json changed", "version 1 of tables/bars, where backup.json states 99"),
        ("half a database", "mlflow.db changed", "mlflow.db damaged"),
        ("no artifacts", "artifacts/.* unreadable", "no folder artifacts for the 1 versions"),
    ],
)
def test_a_damaged_backup_is_refused_and_changes_nothing(
    home: Path,  # noqa: ARG001 - the settings name it
    tmp_path: Path,
    kind: str,
    found: str,
    without_digests: str | None,
) -> None:
    """One without SHA256SUMS was made by an earlier version."""
    backup = tmp_path / "backup"
    back_up(Settings(), backup, lambda _: None)
    damage(backup, kind)
    settings = Settings(home=tmp_path / "target", tracking_uri="")
    with pytest.raises(SpecError, match=f"restore: expected a whole backup in .*, found .*{found}"):
        restore(settings, backup, lambda _: None)
    (backup / "SHA256SUMS").unlink()
    if without_digests is not None:
        with pytest.raises(SpecError, match=without_digests):
            restore(settings, backup, lambda _: None)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("name", ["backup.json", "SHA256SUMS", "mlflow.db"])
def test_a_device_in_a_backup_is_not_read(name: str, home: Path, tmp_path: Path) -> None:  # noqa: ARG001
    back_up(Settings(), tmp_path / "backup", lambda _: None)
    (tmp_path / "backup" / name).unlink()
    os.mkfifo(tmp_path / "backup" / name)  # reading waits for a writer
    with pytest.raises(
        SpecError, match=rf"restore: .*(a device, a pipe or a folder.*{name}|{name}.* a device, a pipe)"
    ):
        restore(Settings(home=tmp_path / "target", tracking_uri=""), tmp_path / "backup", lambda _: None)


def test_the_digests_of_a_backup_are_those_of_sha256sum(home: Path, tmp_path: Path) -> None:  # noqa: ARG001
    back_up(Settings(), tmp_path / "backup", lambda _: None)
    listed = (tmp_path / "backup" / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    assert len(listed) == sum(path.is_file() for path in (tmp_path / "backup").rglob("*")) - 1
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path / "backup", check=True)


def test_an_interrupted_restore_leaves_nothing_in_the_way_of_the_next(
    home: Path,  # noqa: ARG001 - the settings name it
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    back_up(Settings(), tmp_path / "backup", lambda _: None)
    settings, true, copied = Settings(home=tmp_path / "target", tracking_uri=""), shutil.copytree, []

    def killed(source: Path, target: Path, *options: Any, **named: Any) -> Any:
        if str(target).endswith(".restoring"):
            copied.append(target)
        if len(copied) == 2:
            raise KeyboardInterrupt
        return true(source, target, *options, **named)

    monkeypatch.setattr(shutil, "copytree", killed)
    with pytest.raises(KeyboardInterrupt):
        restore(settings, tmp_path / "backup", lambda _: None)
    monkeypatch.undo()
    assert copied[0].is_dir()
    assert not (tmp_path / "target" / "data" / "tables").exists()
    restore(settings, tmp_path / "backup", lambda _: None)
    assert not list((tmp_path / "target").rglob("*.restoring"))
    assert {each.state for each in examine_home(settings)} == {"whole"}


def test_a_prediction_in_an_empty_home_leaves_it_empty_for_a_restore(
    home: Path,  # noqa: ARG001 - the settings name it
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    back_up(Settings(), tmp_path / "backup", lambda _: None)
    use(monkeypatch, tmp_path / "target")
    assert run(["predict"]) == 1  # no champion
    assert run(["restore", str(tmp_path / "backup")]) == 0
