"""The databases of these tests, copied from a template, are those that MLflow itself makes."""

import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow.store.db.utils as mlflow_databases
import pytest
from mlflow import MlflowClient
from sqlalchemy import create_engine


@pytest.mark.e2e
def test_a_copied_database_equals_one_that_mlflow_migrated(tmp_path: Path) -> None:
    real, copied = tmp_path / "real.db", tmp_path / "copied.db"
    engine = create_engine(f"sqlite:///{real}")
    mlflow_databases.InitialBase.metadata.create_all(engine)
    mlflow_databases._upgrade_db(engine)
    engine.dispose()
    MlflowClient(tracking_uri=f"sqlite:///{copied}").search_experiments()
    assert _content(copied, "experiments") == [("0", "Default")]  # the client adds it to tables without one
    with closing(sqlite3.connect(copied)) as database, database:
        database.execute("DELETE FROM experiments")
    assert _dump(real) == _dump(copied)
    assert len(_dump(real)) > 50


def _content(path: Path, table: str) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as database:
        return [(str(number), name) for number, name in database.execute(f"SELECT experiment_id, name FROM {table}")]


def _dump(path: Path) -> list[str]:
    """Return the lines of all statements in order of the alphabet; the migrations make indexes in any order."""
    with closing(sqlite3.connect(path)) as database:
        return sorted(line.strip().rstrip(",") for statement in database.iterdump() for line in statement.splitlines())
