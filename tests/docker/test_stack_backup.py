"""What backup.sh and restore.sh do, in which order, with a stand-in for compose; verify.sh runs them on a stack."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

DOCKER = Path(__file__).parents[2] / "docker"
COMPOSE = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
*"ps --services"*) printf 'worker\\n%s\\n' "$RUNNING" ;;
*pg_restore*) cat >>"$CALLS" ;;
*) echo "$*" ;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the calls of compose, one a line, with what a restore reads."""
    stand_in = tmp_path / "compose"
    stand_in.write_text(COMPOSE)
    stand_in.chmod(0o700)
    for name, value in (("COMPOSE", str(stand_in)), ("CALLS", str(tmp_path / "calls")), ("RUNNING", "worker-gpu")):
        monkeypatch.setenv(name, value)
    return tmp_path / "calls"


def call(script: str, folder: Path, calls: Path) -> list[str]:
    calls.write_text("")
    subprocess.run([DOCKER / script, folder], check=True, capture_output=True, env=os.environ)
    return calls.read_text().splitlines()


def position(lines: list[str], words: str) -> int:
    (found,) = [number for number, line in enumerate(lines) if line.endswith(words)]
    return found


def test_what_names_something_is_copied_before_it(calls: Path, tmp_path: Path) -> None:
    """The decision log names versions of MLflow's database: one decided meanwhile must not be in the log alone."""
    lines = call("backup.sh", tmp_path / "copy", calls)
    order = ["save tables", "pg_dump -U postgres --format custom mlflow", "save mlflow"]
    found = [next(number for number, line in enumerate(lines) if line.endswith(words)) for words in order]
    assert found == sorted(found)
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {
        "prefect.dump", "mlflow.dump", "mlflow_users.dump", "tables.tar", "mlflow.tar", "SHA256SUMS",
    }  # fmt: skip


def test_a_backup_is_restored_into_empty_databases_while_no_worker_runs(calls: Path, tmp_path: Path) -> None:
    """Into the tables of another MLflow or Prefect a backup cannot be restored: these refer to each other."""
    call("backup.sh", tmp_path / "copy", calls)
    lines = call("restore.sh", tmp_path / "copy", calls)
    stopped = next(number for number, line in enumerate(lines) if " stop " in line)
    every = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    writers = {name for name in every if name.startswith("worker")} | {"prefect", "mlflow"}
    assert set(lines[stopped].split()) >= writers
    databases = {"prefect": "prefect", "mlflow": "mlflow", "mlflow_users": "mlflow"}
    prepared = next(number for number, line in enumerate(lines) if line.endswith("stores-prepared"))
    for name, owner in databases.items():
        dropped = [number for number, line in enumerate(lines) if "dropdb" in line and line.endswith(f" {name}")]
        created = position(lines, f"createdb -U postgres --owner {owner} {name}")
        # The first time, because the schema of a later version cannot be brought to this image's.
        assert (
            stopped
            < dropped[0]
            < prepared
            < dropped[1]
            < created
            < position(lines, f"--dbname {name} --single-transaction")
        )
    assert position(lines, "load tables") < position(lines, "load mlflow")
    assert "worker-gpu" in lines[-1]
    assert " up -d" in lines[-1]


def test_a_backup_with_one_archive_is_restored(calls: Path, tmp_path: Path) -> None:
    call("backup.sh", tmp_path / "copy", calls)
    for name in ("tables.tar", "mlflow.tar", "SHA256SUMS"):
        (tmp_path / "copy" / name).unlink()
    (tmp_path / "copy" / "objects.tar").write_text("objects")
    subprocess.run("sha256sum -- *.dump objects.tar >SHA256SUMS", shell=True, check=True, cwd=tmp_path / "copy")
    lines = call("restore.sh", tmp_path / "copy", calls)
    assert position(lines, "load tables mlflow") > 0
