"""A Delta table with optimistic concurrency: read, plan a change, commit it as the next version, or read again.

Knows how a table is created, opened at a version and changed while others write; not what its rows mean. A change is
planned on one version and committed as exactly the next one. If another commit comes first, Delta refuses it and the
change is planned again, so that "add what is missing" never doubles a row. Caution: Delta's own retries would let two
appends of the same row both pass, therefore they are switched off.
"""

import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from model.errors import DamagedHome, RiseOrFallError, SpecError
from model.times import as_utc
from tasks.store.table_cache import local_files, newest_version, read_once

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

ATTEMPTS = 200
LONGEST_PAUSE_SECONDS = 0.5
EVERYTHING = "*"
MAX_FILES = 16  # so many small files of a log are merged: a read takes about a millisecond for each file
MERGED_BYTES = 2 << 20  # own choice: of a merged file; full ones stay, so that no log is rewritten whole
CHECKPOINT_COMMITS = 16  # a table is opened from its newest checkpoint and the commits after it, 0.5 ms each
KEPT_CHECKPOINT_COMMITS = 100  # deltalake's own interval: those checkpoints stay, for earlier versions of the bars
RECENT = timedelta(days=30)  # own choice: the newest row of a series is read from these days if it lies in them
CAST_ROWS = 2_000  # with fewer, a cast takes less time than the import of pyarrow.compute before it, 70 ms
COMPRESSED = WriterProperties(compression="ZSTD")
COLOURS = re.compile("\x1b\\[[0-9;]*m|↳")  # deltalake draws its errors for a terminal
DELETED_FILES = "delta.deletedFileRetentionDuration"  # how long a checkpoint names a file that a merge replaced
COMMITS = "delta.logRetentionDuration"  # how long commits are kept that a later checkpoint contains
KEEP_EVERY_VERSION: Mapping[str, str | None] = {  # a model's bars must be readable years later, at their version
    "delta.enableExpiredLogCleanup": "false",
    COMMITS: "interval 36500 days",
    DELETED_FILES: "interval 36500 days",
}
FORGET_EARLIER_VERSIONS: Mapping[str, str] = {  # else ten years of a daily log are 3,000 names and commits
    COMMITS: "interval 30 days",
    DELETED_FILES: "interval 30 days",
}


class TableUnreachable(RiseOrFallError):
    """The folder or the S3 server of a table did not answer, or refused."""


class TableBusy(RiseOrFallError):
    """Other writers committed first in every attempt."""


@dataclass(frozen=True, slots=True)
class Change:
    """One commit to a table.

    Attributes:
        rows: rows to write; a reader is consumed once.
        replaces: SQL condition on partition columns: the rows that are replaced; empty to append,
            `EVERYTHING` for all.
        metadata: kept with the commit, shown by the table's history.
        mark: name and number of a Delta application transaction, or None.
        widens: add columns that the table does not have yet, null in its older rows.
        compacts: merge small files afterwards where there are many, in a commit of its own that changes no row.
    """

    rows: "pa.Table | pa.RecordBatchReader"
    replaces: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    mark: tuple[str, int] | None = None
    widens: bool = False
    compacts: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A Delta table in a folder or an S3 bucket; it is created by its first change.

    Attributes:
        uri: absolute folder or `s3://bucket/prefix`.
        schema: its columns.
        partition_by: partition columns.
        storage_options: connection of an S3 store, with deltalake's keys; empty for a folder.
        keeps_versions: earlier versions are read too, so every commit stays and checkpoints name every file; else those
            of 30 days.
        key: columns that no two rows share, partition columns included; empty if two rows may be equal.
    """

    uri: str
    schema: "pa.Schema"
    partition_by: tuple[str, ...] = ()
    storage_options: Mapping[str, str] = field(default_factory=dict)
    keeps_versions: bool = False
    key: tuple[str, ...] = ()

    def open(self, version: int | None = None) -> DeltaTable | None:
        """Open the newest or the named version, for reading; None if nothing was ever written.

        Raises:
            SpecError: there is no such version, or its files were deleted.
            TableUnreachable: the store does not answer.
        """
        table = newest_version(self.uri, self.open_for_writing)
        if table is None or version is None or version == table.version():
            return table
        newest = table.version()
        if not 0 <= version <= newest:
            raise SpecError(f"{self.uri}: expected a version from 0 to {newest}, found {version}")
        earlier = DeltaTable(self.uri, version=version, storage_options=dict(self.storage_options))
        self._require_files(earlier)
        return earlier

    def open_for_writing(self) -> DeltaTable | None:
        """Open the newest version, for this caller alone; None if nothing was ever written.

        Raises:
            DamagedHome: the log is gone and rows are there; a new table would be created over them.
            TableUnreachable: the store does not answer.
        """
        try:
            return DeltaTable(self.uri, storage_options=dict(self.storage_options))
        except TableNotFoundError:
            self._require_unwritten()
            return None
        except OSError as failure:
            reason = " ".join(COLOURS.sub("", str(failure)).split())
            raise TableUnreachable(
                f"{self.uri}: expected a store that answers, found: {reason}. "
                "Check the store's address, its credentials, and whether its server runs."
            ) from failure

    def _require_unwritten(self) -> None:
        """Raise DamagedHome if a folder without a log holds rows; in S3 nothing but the log is looked for."""
        root = Path(self.uri)
        if "://" not in self.uri and next(root.rglob("*.parquet"), None):
            raise DamagedHome(
                f"{root / '_delta_log'}: expected the log of the table, because its Parquet files are there; found "
                "none. Run `riseorfall doctor`."
            )

    def _require_files(self, table: DeltaTable) -> None:
        """Raise SpecError if a file of an earlier version is gone; on S3 the read itself fails."""
        gone = [] if "://" in self.uri else [path for path in local_files(table) if not Path(path).exists()]
        if gone:
            raise SpecError(
                f"{self.uri}: expected the files of version {table.version()}, found {len(gone)} of them deleted. "
                "`riseorfall housekeeping` deletes files of earlier versions that no kept model was trained on."
            )

    def commit_at(self, version: int) -> dict[str, Any]:
        """Return the history entry of the commit that made a version.

        Raises:
            SpecError: there is no such version.
        """
        table = self.open()
        newest = table.version() if table else -1
        # The history always begins at the newest version, also of a table opened at an older one.
        entries = table.history(newest - version + 1) if table and 0 <= version <= newest else []
        found = [entry for entry in entries if entry["version"] == version]
        if not found:
            raise SpecError(f"{self.uri}: expected a version from 0 to {newest}, found {version}")
        return found[0]

    def change(self, plan: Callable[[DeltaTable], Change | None]) -> int:
        """Commit the change planned on the newest version, as the next version.

        Args:
            plan: called with the newest version, again after each lost race; None for no change.

        Returns:
            The version that the change made, or the newest if there was none.

        Raises:
            TableBusy: every attempt lost its race.
        """
        for attempt in range(ATTEMPTS):
            table = self.open_for_writing() or self.create()
            change = plan(table)
            if change is None:
                return table.version()
            try:
                return self._commit(table, change)
            except CommitFailedError as lost:
                log.debug("%s: attempt %d lost a race: %s", self.uri, attempt + 1, lost)
                longest = min(0.01 * 2 ** min(attempt, 10), LONGEST_PAUSE_SECONDS)
                time.sleep(random.SystemRandom().uniform(0, longest))
        raise TableBusy(
            f"{self.uri}: expected a commit within {ATTEMPTS} attempts, but other writers committed first each time"
        )

    def create(self) -> DeltaTable:
        """Create the empty table, or open it if another writer has just created it."""
        try:
            return DeltaTable.create(
                self.uri,
                self.schema,
                partition_by=list(self.partition_by),
                configuration={**KEEP_EVERY_VERSION, **({} if self.keeps_versions else FORGET_EARLIER_VERSIONS)},
                storage_options=dict(self.storage_options),
            )
        except DeltaError:
            table = self.open_for_writing()
            if table is None:
                raise
            return table

    def _commit(self, table: DeltaTable, change: Change) -> int:
        """Write the rows and commit them as the version after the table's own; CommitFailedError if it is taken.

        Caution: nothing may be committed between plan and rows. deltalake opens the newest version after each commit,
        so rows that were planned on an older one would no longer be refused.
        """
        before = table.version()
        properties = CommitProperties(
            custom_metadata=dict(change.metadata),
            max_commit_retries=0,
            app_transactions=[Transaction(*change.mark)] if change.mark else None,
        )
        schema_mode: Literal["merge"] | None = "merge" if change.widens else None
        if change.replaces:
            condition = None if change.replaces == EVERYTHING else change.replaces
            write_deltalake(
                table,
                change.rows,
                mode="overwrite",
                predicate=condition,
                schema_mode=schema_mode,
                commit_properties=properties,
                writer_properties=COMPRESSED,
            )
        else:
            write_deltalake(
                table,
                change.rows,
                mode="append",
                schema_mode=schema_mode,
                commit_properties=properties,
                writer_properties=COMPRESSED,
            )
        made = table.version()
        if change.compacts and _is_crowded(table):
            self._merge_files(table)
        if table.version() // CHECKPOINT_COMMITS > before // CHECKPOINT_COMMITS:
            self._write_checkpoint(table)
        return made

    def _merge_files(self, table: DeltaTable) -> None:
        """Merge the small files of a table; a failure is logged, and the next commit tries again."""
        once = CommitProperties(max_commit_retries=0)
        try:
            table.optimize.compact(target_size=MERGED_BYTES, writer_properties=COMPRESSED, commit_properties=once)
        except CommitFailedError as lost:
            log.debug("%s: small files stay, another writer was first: %s", self.uri, lost)
        except (OSError, DeltaError) as error:
            log.warning("%s: small files of version %d were not merged: %s", self.uri, table.version(), error)

    def _write_checkpoint(self, table: DeltaTable) -> None:
        """Write a checkpoint of a table in a folder, and delete those before the last two that nobody needs.

        Each names all files of the table, so they would take more room than the rows. A reader that has just found the
        one before still reads it. A failure is logged: the commit before it is valid without a checkpoint. Of a log old
        commits go too: each command that opens it lists them. At least two checkpoints stay, with all commits since the
        first of them, so `doctor` can do without the newest.
        """
        if "://" in self.uri:
            return
        try:
            if self.keeps_versions:
                table.create_checkpoint()
            else:
                if not FORGET_EARLIER_VERSIONS.items() <= table.metadata().configuration.items():
                    table.alter.set_table_properties(dict(FORGET_EARLIER_VERSIONS))  # a table of an earlier release
                table.create_checkpoint()
                table.cleanup_metadata()
            found = sorted((Path(self.uri) / "_delta_log").glob("*.checkpoint.parquet"))
            own = [path for path in found if (int(path.name.partition(".")[0]) + 1) % KEPT_CHECKPOINT_COMMITS]
            for path in own[:-2]:
                path.unlink(missing_ok=True)
        except (OSError, DeltaError) as error:
            log.warning("%s: version %d has no checkpoint: %s", self.uri, table.version(), error)


def place(root: str, name: str) -> str:
    """Return the location of a table: an absolute folder, or an address below an S3 prefix.

    Raises:
        SpecError: the folder's path has a part such as `%20`, which deltalake takes for an encoded letter.
    """
    base = root.rstrip("/") if "://" in root else str(Path(root).resolve())
    if "://" not in root and unquote(base) != base:
        raise SpecError(
            f"{base}: expected a folder without a percent sign before two hexadecimal digits, which Delta tables take "
            "for an encoded letter. Choose another RISEORFALL_HOME or RISEORFALL_STORE."
        )
    return f"{base}/{name}"


def read_rows(table: DeltaTable, schema: "pa.Schema", where: str | None = None) -> "pa.Table":
    """Read the rows that meet a SQL condition; all when it is None. Columns that an older table lacks are null."""
    return read_once(table, (*schema.names, where), lambda: _with_types(read_as_stored(table, schema, where), schema))


def _with_types(found: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    """Return a table with the types of a schema."""
    import pyarrow as pa  # imported here: a command that reads no table starts without it

    if found.num_rows > CAST_ROWS:
        return found.cast(schema)
    columns = [found[field.name] for field in schema]
    return pa.table(
        [
            column if column.type == field.type else pa.array(column.to_pylist(), field.type)
            for column, field in zip(columns, schema, strict=True)
        ],
        schema=schema,
    )


def read_as_stored(table: DeltaTable, schema: "pa.Schema", where: str | None = None) -> "pa.Table":
    """Read rows as `read_rows` does, with texts as views: they are not copied, but cannot be picked by position."""
    import pyarrow as pa  # imported here: a command that reads no table starts without it

    missing = _missing_columns(table, schema)
    found = pa.table(table.scan([name for name in schema.names if name not in missing], where))
    for name in missing:
        found = found.append_column(name, pa.nulls(found.num_rows))
    return found.select(schema.names)


def _missing_columns(table: DeltaTable, schema: "pa.Schema") -> list[str]:
    stored = {column.name for column in table.schema().fields}
    return [name for name in schema.names if name not in stored]


def append_rows(table: DeltaTable, schema: "pa.Schema", rows: list[dict[str, Any]]) -> Change:
    """Append rows to a log; afterwards small files are merged where there are `MAX_FILES` of them."""
    import pyarrow as pa  # imported here: a command that reads no table starts without it

    added = pa.Table.from_pylist(rows, schema=schema)
    return Change(added, widens=bool(_missing_columns(table, schema)), compacts=True)


def _is_crowded(table: DeltaTable) -> bool:
    import pyarrow as pa  # imported here: see append_rows

    if len(table.file_uris()) < MAX_FILES:
        return False
    sizes: list[int] = pa.table(table.get_add_actions(flatten=True))["size_bytes"].to_pylist()
    return sum(size < MERGED_BYTES // 2 for size in sizes) >= MAX_FILES  # two of them always fit into one


def newest_first(table: DeltaTable, column: str) -> tuple[str, ...]:
    """Return SQL conditions to try in turn for the newest row: a time in the last `RECENT`, any time."""
    newest = newest_value(table, column)  # of any series
    recent = (f"{column} >= {quoted((newest - RECENT).isoformat())}",) if newest else ()
    return (*recent, "TRUE")


def newest_value(table: DeltaTable, column: str) -> datetime | None:
    """Return the largest time in a column by the statistics of the files; None where they do not say."""
    import pyarrow as pa  # imported here: see append_rows

    files = pa.table(table.get_add_actions(flatten=True))
    name = f"max.{column}"
    if name not in files.column_names or files[name].null_count:
        return None
    found = max(files[name].to_pylist(), default=None)
    return None if found is None else as_utc(found)


def field_names(kind: Callable[..., Any]) -> list[str]:
    """Return the names of a dataclass's fields, in order."""
    return [part.name for part in fields(kind)]  # type: ignore[arg-type]


def quoted(text: str) -> str:
    """Return a text as a SQL literal."""
    return "'" + text.replace("'", "''") + "'"
