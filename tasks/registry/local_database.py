"""The local registry read with sqlite3: aliases, versions and parameters without importing MLflow.

Importing MLflow takes seconds and would dominate the run time of `predict`. This module reads the SQLite database
directly (read-only). It returns None if the schema is unknown, the tables do not exist or the URI is a server; callers
then use the MLflow client. It is an optimisation only. Note: a deleted version stays in the table, marked by its stage.
"""

import atexit
import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from tasks.registry.file_verification import local_path
from tasks.registry.owning_process import PROCESS_TAG, SHOWN_PROCESS_TAG
from tasks.registry.unreachable_store import store_unavailable
from tasks.settings import database_file

DELETED = "Deleted_Internal"  # stage that MLflow sets
# Queries read this workspace only.
DEFAULT_WORKSPACE = "default"
BUSY_SECONDS = 5.0
LOCKED_SECONDS = 20.0  # own choice: a writer holds the lock for a moment; doctor waits longer than a command
DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
PRIMARY_CODE = 0xFF  # bits of an SQLite error code; the others are details
DATABASE_TABLES = frozenset(
    {"experiments", "runs", "registered_models", "registered_model_aliases", "model_versions", "model_version_tags"}
)  # of MLflow's database, those that riseorfall cannot do without


@contextmanager
def opened_database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that others may be writing to; SQLite rolls back a transaction of a process that was killed.

    Raises:
        StoreUnavailable: it is locked, or the disk or the permissions are the reason; its content may be whole.
        sqlite3.Error: SQLite found damage.
    """
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", LOCKED_SECONDS, uri=True)) as database:
            yield database
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE in DAMAGE:
            raise
        raise store_unavailable(str(path), error) from error


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the table of model versions.

    Attributes:
        run_id: the run that created it.
        tags: of the version.
        folder: its files on this machine; None if they are elsewhere.
    """

    run_id: str
    tags: dict[str, str]
    folder: Path | None


class LocalDatabase:
    """MLflow's database, read-only; every method returns None where the MLflow client must be used."""

    def __init__(self, uri: str) -> None:
        """Store the path of the database; `uri` is the tracking address, of any kind."""
        self._path = database_file(uri)

    def alias(self, name: str, alias: str) -> tuple[str | None] | None:
        """Return the version of an alias in a tuple; `(None,)` if the alias is not set, or no database exists."""
        if self._path is not None and not self._path.exists():
            return (None,)  # MLflow's client would create it
        rows = self._rows(
            "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ? AND workspace = ?",
            (name, alias, DEFAULT_WORKSPACE),
        )
        return None if rows is None else (str(rows[0][0]) if rows else None,)

    def version(self, name: str, number: str) -> Entry | None:
        """Return a version that exists."""
        rows = self._rows(
            "SELECT run_id, storage_location, source, current_stage, key, value FROM model_versions "
            "LEFT JOIN model_version_tags USING (workspace, name, version) "
            "WHERE name = ? AND version = ? AND workspace = ?",
            (name, number, DEFAULT_WORKSPACE),
        )
        if not rows or rows[0][3] == DELETED:
            return None
        run_id, location, source, *_ = rows[0]
        tags = {key: value for *_, key, value in rows if key is not None}
        return Entry(str(run_id), tags, local_path(location or source))

    def newest_versions(self, name: str, count: int) -> tuple[str, ...] | None:
        """Return the numbers of the newest versions that exist, newest first."""
        rows = self._rows(
            "SELECT version FROM model_versions WHERE name = ? AND workspace = ? AND current_stage != ? "
            "ORDER BY version DESC LIMIT ?",
            (name, DEFAULT_WORKSPACE, DELETED, count),
        )
        return None if rows is None else tuple(str(row[0]) for row in rows)

    def all_versions(self) -> tuple[tuple[str, str, Entry], ...] | None:
        """Return every version of every name that exists: name, number, row."""
        rows = self._rows(
            "SELECT workspace, name, version, run_id, storage_location, source FROM model_versions "
            "WHERE current_stage IS NOT ?",
            (DELETED,),
        )
        tags = self._rows("SELECT workspace, name, version, key, value FROM model_version_tags", ())
        if rows is None or tags is None:
            return None
        own: dict[tuple[Any, ...], dict[str, str]] = {}
        for *place, key, value in tags:
            own.setdefault(tuple(place), {})[key] = value
        return tuple(
            (name, str(number), Entry(str(run_id), own.get((space, name, number), {}), local_path(location or source)))
            for space, name, number, run_id, location, source in rows
        )

    def experiment_folders(self) -> dict[str, Path] | None:
        """Return the folder of each experiment whose files are on this machine, by name."""
        rows = self._rows("SELECT name, artifact_location FROM experiments WHERE workspace = ?", (DEFAULT_WORKSPACE,))
        if rows is None:
            return None
        return {name: folder for name, place in rows if (folder := local_path(place)) is not None}

    def experiment_id(self, name: str) -> tuple[str | None] | None:
        """Return the identifier of an experiment in a tuple; `(None,)` if there is none of that name."""
        key = (name, DEFAULT_WORKSPACE)
        rows = self._rows("SELECT experiment_id FROM experiments WHERE name = ? AND workspace = ?", key)
        return None if rows is None else (str(rows[0][0]) if rows else None,)

    def ended_runs(
        self, experiments: Collection[str], ended: Collection[str], before: int, folds_before: int
    ) -> tuple[str, ...] | None:
        """Return the runs of some experiments that ended before a time, without those in MLflow's trash.

        Args:
            experiments: by name.
            ended: statuses of a run that has ended.
            before: milliseconds since 1970.
            folds_before: the same, for the runs of single folds.
        """
        rows = self._rows(
            "SELECT runs.run_uuid FROM runs JOIN experiments ON experiments.experiment_id = runs.experiment_id "
            "WHERE experiments.workspace = ? AND experiments.name IN (SELECT value FROM json_each(?)) "
            "AND experiments.lifecycle_stage = 'active' AND runs.lifecycle_stage = 'active' "
            "AND runs.status IN (SELECT value FROM json_each(?)) AND runs.end_time < CASE WHEN EXISTS "
            "(SELECT 1 FROM tags WHERE tags.run_uuid = runs.run_uuid AND tags.key = 'fold') THEN ? ELSE ? END",
            (DEFAULT_WORKSPACE, *(json.dumps(sorted(each)) for each in (experiments, ended)), folds_before, before),
        )
        return None if rows is None else tuple(str(row[0]) for row in rows)

    def running_processes(self) -> dict[str, str] | None:
        """Return the process that each running run names, by the id of the run."""
        rows = self._rows(
            "SELECT runs.run_uuid, tags.value FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid "
            "WHERE runs.status = 'RUNNING' AND tags.key IN (?, ?) "
            "ORDER BY tags.key = ?",  # a resumed search may have both
            (PROCESS_TAG, SHOWN_PROCESS_TAG, PROCESS_TAG),
        )
        return None if rows is None else dict(rows)

    def is_locked(self) -> bool:
        """Return whether another process has been writing for `BUSY_SECONDS`; False where the database is not local."""
        if self._path is None or not self._path.is_file():
            return False
        address = f"{self._path.as_uri()}?mode=rw"
        try:
            with closing(sqlite3.connect(address, BUSY_SECONDS, isolation_level=None, uri=True)) as database:
                database.execute("BEGIN IMMEDIATE")  # ends with the connection
        except sqlite3.Error as error:
            return getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE in LOCKED
        return False

    def params(self, run_id: str) -> dict[str, str] | None:
        """Return the parameters of a run."""
        if not self._rows("SELECT 1 FROM runs WHERE run_uuid = ?", (run_id,)):
            return None
        rows = self._rows("SELECT key, value FROM params WHERE run_uuid = ?", (run_id,))
        return None if rows is None else dict(rows)

    def metrics(self, run_id: str) -> dict[str, float]:
        """Return the last values of the metrics of a run; none where the database is not local."""
        query = "SELECT key, value FROM latest_metrics WHERE run_uuid = ? AND NOT is_nan"
        return dict(self._rows(query, (run_id,)) or ())

    def run_folder(self, run_id: str) -> Path | None:
        """Return the folder of a run's files; None if it is not on this machine."""
        rows = self._rows("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run_id,))
        return local_path(rows[0][0]) if rows else None

    def _rows(self, query: str, values: Sequence[str | int]) -> list[Any] | None:
        if self._path is None:
            return None
        try:
            return _reader.rows(self._path, query, values)
        except (OSError, sqlite3.Error):  # no file, or an unknown MLflow schema
            return None


class _Reader:
    """The connection used last; a new one costs more than most queries, because it reads the schema."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._place: tuple[Path, int, int, int] | None = None
        self._database: sqlite3.Connection | None = None

    def rows(self, path: Path, query: str, values: Sequence[str | int]) -> list[Any]:
        """Return what a query finds.

        Raises:
            OSError: there is no such file.
            sqlite3.Error: it is locked or damaged, or its tables are others.
        """
        found = path.stat()
        place = path, found.st_dev, found.st_ino, os.getpid()  # not that of a file that was replaced, or after a fork
        with self._lock:
            if self._database is None or self._place != place:
                self.close()
                address = f"{path.as_uri()}?mode=ro"
                self._database = sqlite3.connect(address, BUSY_SECONDS, uri=True, check_same_thread=False)
                self._place = place
            try:
                return self._database.execute(query, values).fetchall()
            except sqlite3.Error:
                self.close()
                raise

    def close(self) -> None:
        """Close the connection."""
        if self._database is not None:
            self._database.close()
        self._database = None


_reader = _Reader()
atexit.register(_reader.close)
