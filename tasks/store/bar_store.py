"""The bar store: a versioned Delta table of bars, with tables of revisions and of quarantined bars.

Knows how bars are kept: `bars` (partitioned by symbol, interval, year), `revisions` (old and new values) and
`quarantine`. It does not check bars (`data_checks/` does) and has no clock: times of writing are passed in. Times are
open times in UTC, volumes in the source's unit.

The trap is a crash between two tables. A merge commits `bars` first, atomically; its Delta log is the source of truth.
A commit that revises bars sets a transaction marker; `revisions` stores the last marker it has processed. The next
merge writes any missing revision rows by comparing the versions before and after the marked commit, so each revision is
recorded exactly once.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from model.bars import Bars, Series, gap_sizes
from model.errors import RiseOrFallError, SpecError
from model.times import as_utc, to_datetime, to_datetime64, to_timedelta
from tasks.store.bar_rows import (
    BATCH_BARS,
    VALUES,
    compare,
    differ,
    key_fields,
    layout,
    no_bars,
    overlaid,
    partition,
    picked,
    positions,
    read,
    read_rows,
    read_times,
    require_one_clock,
    rows,
    scan_times,
    sorted_bars,
    spans,
    value_columns,
    years,
)
from tasks.store.delta_table import Change, Table, place
from tasks.store.quarantine import Quarantine

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable

FILES_OF_A_YEAR = 64  # a year in more files than this is rewritten with the next bar
NOTE = "riseorfall"  # name under which a commit keeps its record
REVISING = "revising"  # marker in `bars`: the last version that revised a bar; in `revisions`: the last one processed


class BarsChanged(RiseOrFallError):
    """The bars of a reference are not those that it was made from."""


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What a merge did.

    Attributes:
        added: bars that were not there before.
        revised: bars whose values differ from the stored ones.
        unchanged: bars that were there already.
        version: version of the table that holds them all.
        revised_first: open time of the oldest revised bar; None when none was.
    """

    added: int
    revised: int
    unchanged: int
    version: int
    revised_first: datetime | None


@dataclass(frozen=True, slots=True)
class BarsRef:
    """A reference to the bars of one series: small, hashable, the same whenever the bars are the same.

    Attributes:
        uri: the table of bars.
        symbol: of the series.
        interval: of the series.
        version: version of the table.
        sha256: hash of times and values, whatever files they lie in.
        rows: number of bars.
        first: open time of the oldest bar, UTC-aware.
        last: open time of the newest bar, UTC-aware; later bars of this version do not belong to the reference.
    """

    uri: str
    symbol: str
    interval: str
    version: int
    sha256: str
    rows: int
    first: datetime
    last: datetime

    @property
    def series(self) -> Series:
        """The series that the bars belong to."""
        return Series(self.symbol, self.interval)

    @property
    def closed_at(self) -> datetime:
        """Close of the newest bar, UTC-aware."""
        return self.last + to_timedelta(self.series.delta)

    def to_dict(self) -> dict[str, str | int]:
        """Return the fields with times in ISO 8601, ready for JSON."""
        return {**asdict(self), "first": self.first.isoformat(), "last": self.last.isoformat()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "BarsRef":
        """Read back what `to_dict` wrote."""
        times = {name: datetime.fromisoformat(fields[name]) for name in ("first", "last")}
        return cls(**{**fields, **times})


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """What the store holds of one series.

    Attributes:
        symbol: of the series.
        interval: of the series.
        rows: number of bars.
        first: open time of the oldest bar.
        last: open time of the newest bar.
        gaps: places where bars are missing.
        missing_bars: bars missing in them.
        quarantined: different open times with quarantined bars that were not released.
        revised: bars that were revised, each time counted.
        version: version of the table.
    """

    symbol: str
    interval: str
    rows: int
    first: datetime
    last: datetime
    gaps: int
    missing_bars: int
    quarantined: int
    revised: int
    version: int

    def to_dict(self) -> dict[str, str | int]:
        """Return the fields with times in ISO 8601, ready for JSON."""
        return {**asdict(self), "first": self.first.isoformat(), "last": self.last.isoformat()}


class BarStore:
    """The three tables of bars below one root."""

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        """Store the location; no table is opened or created.

        Args:
            root: folder, or `s3://bucket/prefix`.
            storage_options: connection of an S3 store, with deltalake's keys.
        """
        self.root = root
        self.storage_options = dict(storage_options or {})
        self._quarantine = Quarantine(root, self.storage_options)

    @cached_property
    def _bars(self) -> Table:
        import pyarrow as pa  # imported here: a command that reads no bars starts without it

        fields = [*key_fields(), *[pa.field(name, pa.float64()) for name in VALUES], pa.field("year", pa.int32())]
        return Table(place(self.root, "bars"), pa.schema(fields), ("symbol", "interval", "year"), self.storage_options)

    @cached_property
    def _revisions(self) -> Table:
        import pyarrow as pa  # imported here: a command that reads no bars starts without it

        fields = [
            *key_fields(),
            *[pa.field(f"{age}_{name}", pa.float64()) for age in ("old", "new") for name in VALUES],
            pa.field("revised_at", pa.timestamp("us", "UTC")),
            pa.field("source", pa.string()),
            pa.field("bars_version", pa.int64()),
        ]
        return Table(place(self.root, "revisions"), pa.schema(fields), ("symbol", "interval"), self.storage_options)

    @property
    def tables(self) -> tuple[Table, ...]:
        """Bars, revisions and quarantine, for `tasks/repair/`."""
        return (self._bars, self._revisions, *self._quarantine.tables)

    def merge(
        self, series: Series, frame: "pd.DataFrame", metadata: Mapping[str, str], *, merged_at: datetime
    ) -> MergeResult:
        """Add the bars that are missing, revise those that differ; one commit, or none when nothing differs.

        Args:
            series: whose bars they are.
            frame: columns of `COLUMNS` in any order of rows; naive times are UTC; a missing volume is NaN.
            metadata: kept with the commit (`source`, what was inferred, counts).
            merged_at: time of writing, for the record of revisions.

        Raises:
            SpecError: a column is missing, a time is missing or duplicate.
            GapError: times off the interval grid, or not aligned with the stored bars.
        """
        incoming = sorted_bars(series, frame)
        counts: dict[str, int] = {}
        times = incoming.opened_at[:0]

        def plan(table: "DeltaTable") -> Change | None:
            nonlocal times
            files_by_year, anchor = layout(table, series)
            require_one_clock(series, incoming, anchor)
            added, revised = compare(table, series, incoming)
            times = incoming.opened_at[revised]
            counts.update(added=int(added.sum()), revised=len(times), unchanged=int((~added & ~revised).sum()))
            note = {
                **metadata,
                **{name: str(count) for name, count in counts.items()},
                "symbol": series.symbol,
                "interval": series.interval,
                "merged_at": as_utc(merged_at).isoformat(),
            }
            return self._changed(table, series, picked(incoming, added | revised), times, files_by_year, note)

        version = self._bars.change(plan)
        self._record_revisions(self._bars.open())
        return MergeResult(version=version, revised_first=to_datetime(times[0]) if len(times) else None, **counts)

    def _changed(
        self,
        table: "DeltaTable",
        series: Series,
        fresh: Bars,
        revised: Shaped[np.ndarray, " bar"],
        files_by_year: Counter[int],
        note: dict[str, str],
    ) -> Change | None:
        """Append new bars; if any is a revision, or a year has many small files, rewrite the affected year partitions.

        Args:
            table: the version to change.
            series: whose bars they are.
            fresh: bars that the version lacks, or holds with other values.
            revised: open times of the latter.
            files_by_year: number of files of the series.
            note: record of the commit.
        """
        if not len(fresh):
            return None
        mark = None
        if len(revised):
            self._record_revisions(table)  # the marker holds one commit only: write those of the previous one first
            mark = (REVISING, table.version() + 1)
            note = {**note, "revised_first": str(revised[0]), "revised_last": str(revised[-1])}
        metadata = {NOTE: json.dumps(note, ensure_ascii=False)}
        touched = np.unique(years(fresh)).tolist()
        if not mark and all(files_by_year[year] < FILES_OF_A_YEAR for year in touched):
            return Change(rows(self._bars.schema, series, fresh), metadata=metadata)
        whole = overlaid(read(table, series, years=touched), fresh)
        return Change(rows(self._bars.schema, series, whole), partition(series, touched), metadata, mark)

    def _record_revisions(self, bars: "DeltaTable | None") -> None:
        """Write the revisions of the last revising commit of `bars`, unless they are there already."""
        version = bars.transaction_version(REVISING) if bars else None
        if version is None:
            return
        existing = self._revisions.open()
        if existing is not None and (existing.transaction_version(REVISING) or 0) >= version:
            return

        def plan(revisions: "DeltaTable") -> Change | None:
            if (revisions.transaction_version(REVISING) or 0) >= version:
                return None
            after, before = self._open(version), self._open(version - 1)
            note = _note(self._bars.commit_at(version))
            series = Series(note["symbol"], note["interval"])
            ends = np.array([note["revised_first"], note["revised_last"]], "datetime64[us]")
            changes = [_pairs(before, after, series, *span) for span in spans(series, *ends)]
            return Change(_revision_rows(self._revisions.schema, changes, note, version), mark=(REVISING, version))

        self._revisions.change(plan)

    def _open(self, version: int | None = None) -> "DeltaTable":
        table = self._bars.open(version)
        if table is None:
            raise SpecError(f"{self._bars.uri}: expected a table of bars, found none. Ingest bars first.")
        return table

    def ref(self, series: Series, version: int | None = None, as_of: datetime | None = None) -> BarsRef:
        """Return a reference to the bars of a series at a version (None: the newest), those closed by `as_of` only.

        Raises:
            SpecError: there are none.
        """
        table = self._open(version)
        bars = read(table, series, last=_newest_open(series, as_of))
        if not len(bars):
            stored = sorted(f"{part['symbol']} {part['interval']}" for part in table.partitions())
            raise SpecError(
                f"{series.symbol} {series.interval}: expected bars{f' closed by {as_of}' if as_of else ''} in "
                f"version {table.version()} of {self._bars.uri}, found none; it holds {', '.join(stored)}. "
                "Ingest them first."
            )
        return BarsRef(
            uri=self._bars.uri,
            symbol=series.symbol,
            interval=series.interval,
            version=table.version(),
            sha256=hash_bars(bars),
            rows=len(bars),
            first=to_datetime(bars.opened_at[0]),
            last=to_datetime(bars.opened_at[-1]),
        )

    def read_bars(self, ref: BarsRef) -> Bars:
        """Read exactly the bars that a reference names.

        Raises:
            BarsChanged: the hash of the stored bars differs from the reference.
            SpecError: the table or its version is gone.
        """
        bars = read(self._open(ref.version), ref.series, last=to_datetime64(ref.last))
        found = hash_bars(bars)
        if found != ref.sha256:
            raise BarsChanged(
                f"{ref.symbol} {ref.interval}: expected {ref.rows} bars with sha256 {ref.sha256} up to {ref.last} in "
                f"version {ref.version} of {self._bars.uri}, found {len(bars)} bars with {found}. "
                "The reference belongs to another table, or files were edited manually. "
                "Create a new reference with `BarStore.ref`."
            )
        return bars

    def read_frame(self, series: Series, version: int | None = None, as_of: datetime | None = None) -> "pd.DataFrame":
        """Read the bars of a series at a version, oldest first; an empty frame when there are none."""
        table = self._bars.open(version)
        if table is None:
            return no_bars(series).frame()
        return read(table, series, last=_newest_open(series, as_of)).frame()

    def read_revisions(self, series: Series) -> "pd.DataFrame":
        """Read the old and new values of revised bars, in the order in which they were revised, then by time."""
        return read_rows(self._revisions, series).sort_values(["bars_version", "timestamp"], ignore_index=True)

    def ingests(self, series: Series, last: int | None = None) -> list[dict[str, str]]:
        """Return what was kept with each commit of a series, newest first, with its `version`."""
        table = self._bars.open()
        notes = [{**_note(entry), "version": str(entry["version"])} for entry in (table.history() if table else [])]
        ours = [
            note for note in notes if (note.get("symbol"), note.get("interval")) == (series.symbol, series.interval)
        ]
        return ours[:last]

    def quarantine(self, series: Series, frame: "pd.DataFrame", *, at: datetime, source: str) -> int:
        """Quarantine bars with the rule that failed, each entry once; return how many were new.

        Args:
            series: whose bars they are.
            frame: columns of `COLUMNS` and `rule`; `severity` and `value` if known. Duplicate times are allowed.
            at: time of writing.
            source: where the bars came from.
        """
        return self._quarantine.add(series, frame, at=at, source=source)

    def read_quarantine(self, series: Series) -> "pd.DataFrame":
        """Read the quarantined bars, oldest first, released ones (`released_at`) as well."""
        return self._quarantine.read(series)

    def released(self, series: Series) -> Shaped[np.ndarray, " bar"]:
        """Return the unique open times of released bars, ascending (datetime64[us])."""
        return self._quarantine.released(series)

    def refusals(self, series: Series) -> list[dict[str, Any]]:
        """Return the quarantined bars, oldest first, ready for JSON: times in ISO 8601, what is missing as None."""
        return self._quarantine.entries(series)

    def release(
        self, series: Series, opened_at: Sequence[datetime], reason: str, *, released_at: datetime
    ) -> MergeResult:
        """Merge quarantined bars into the bar table, with a reason; the entry is kept and marked as released.

        The bars are merged first. After a crash between the two writes the entry is still open; running the command
        again completes the release.

        Raises:
            SpecError: the reason is empty, a time has no open entry, the rule of one can never be waived, or entries of
                one time have different values.
        """
        frame = self._quarantine.held(series, opened_at, reason)
        result = self.merge(series, frame, {"source": "quarantine", "reason": reason}, merged_at=released_at)
        self._quarantine.mark_released(series, opened_at, reason, at=released_at)
        return result

    def decided_by_hand(self, series: Series) -> "tuple[pd.DataFrame, pd.DataFrame]":
        """Return the bars that were released from quarantine, and those that were removed from the table."""
        return self._quarantine.decided_by_hand(series)

    def remove(self, series: Series, opened_at: Sequence[datetime], reason: str, *, removed_at: datetime) -> int:
        """Move bars from the bar table to the quarantine, with a reason; return the version without them.

        Older versions of the table keep them. The quarantine is written first: after a crash between the two writes,
        running the command again completes the removal.

        Raises:
            SpecError: the reason is empty, no time is given, or a time has no bar.
        """
        if not reason.strip():
            raise SpecError("remove: expected a reason, found none. Pass --reason TEXT.")
        wanted = np.unique(np.array([to_datetime64(as_utc(time)) for time in opened_at], "datetime64[us]"))
        present = read_times(self._open(), series)
        absent = wanted[~np.isin(wanted, present)]
        if len(absent) or not len(wanted):
            found = f"none at {absent[0]} ({len(absent)} such)" if len(absent) else "no time"
            raise SpecError(
                f"{series.symbol} {series.interval}: expected open times of stored bars, found {found}. "
                "`riseorfall bars` shows the stored period."
            )
        touched = np.unique(wanted.astype("datetime64[Y]").astype(int) + 1970).tolist()

        def plan(table: "DeltaTable") -> Change | None:
            held = read(table, series, years=touched)
            gone = np.isin(held.opened_at, wanted)
            if not gone.any():
                return None
            frame, source = picked(held, gone).frame(), f"{self._bars.uri}, version {table.version()}"
            self._quarantine.add_removed(series, frame, reason, at=removed_at, source=source)
            note = {
                "source": "removal by hand",
                "reason": reason,
                "removed": str(int(gone.sum())),
                "symbol": series.symbol,
                "interval": series.interval,
                "merged_at": as_utc(removed_at).isoformat(),
            }
            kept = rows(self._bars.schema, series, picked(held, ~gone))
            return Change(kept, partition(series, touched), {NOTE: json.dumps(note, ensure_ascii=False)})

        return self._bars.change(plan)

    def newest(self, series: Series) -> datetime | None:
        """Return the open time of the newest bar, from the files of its year alone; None when there is no bar."""
        table = self._bars.open()
        files_by_year = layout(table, series)[0] if table else None
        if table is None or not files_by_year:
            return None
        return to_datetime(read_times(table, series, years=[max(files_by_year)])[-1])

    def summary(self, series: Series, version: int | None = None) -> SeriesSummary | None:
        """Sum up one series at a version; None when the store holds no bar of it."""
        table = self._bars.open(version)
        opened_at = read_times(table, series) if table else np.empty(0, "datetime64[us]")
        if table is None or not len(opened_at):
            return None
        sizes = gap_sizes(Bars(series.interval, opened_at, np.empty((len(opened_at), 5))))
        return SeriesSummary(
            symbol=series.symbol,
            interval=series.interval,
            rows=len(opened_at),
            first=to_datetime(opened_at[0]),
            last=to_datetime(opened_at[-1]),
            gaps=int((sizes > 0).sum()),
            missing_bars=int(sizes.sum()),
            quarantined=self._quarantine.count(series),
            revised=len(scan_times(self._revisions.open(), series, f"bars_version <= {table.version()}")),
            version=table.version(),
        )

    def series(self, version: int | None = None) -> tuple[SeriesSummary, ...]:
        """Sum up every series that the store holds at a version, by name."""
        found = (self.summary(series, version) for series in self.stored_series(version))
        return tuple(summary for summary in found if summary is not None)

    def stored_series(self, version: int | None = None) -> tuple[Series, ...]:
        """Return every series that the store holds at a version, by name; no bar is read."""
        table = self._bars.open(version)
        pairs = {(part["symbol"], part["interval"]) for part in table.partitions()} if table else set()
        return tuple(Series(*pair) for pair in sorted(pairs))


def hash_bars(bars: Bars) -> str:
    """Hash times and values of bars, sha256 in hexadecimal: equal bars, equal hash, wherever they are kept.

    Hashed are, bar by bar, the open time (microseconds since 1970, int64) and open, high, low, close, volume (float64),
    little-endian, every NaN the same and no negative zero.
    Source: own.
    """
    digest = hashlib.sha256()
    for start in range(0, len(bars), BATCH_BARS):
        rows = slice(start, start + BATCH_BARS)
        values = bars.ohlcv[rows] + 0.0  # -0.0 becomes 0.0, which it equals
        values[np.isnan(values)] = np.nan
        block = np.empty((len(values), 6), dtype="<i8")
        block[:, 0] = bars.opened_at[rows].astype("datetime64[us]").astype(np.int64)
        block[:, 1:] = values.astype("<f8").view("<i8")
        digest.update(block.data)
    return digest.hexdigest()


def _pairs(
    before: "DeltaTable", after: "DeltaTable", series: Series, first: np.datetime64, last: np.datetime64
) -> tuple[Bars, Bars]:
    """Return the bars of a span that two versions hold with different values: as they were, as they are."""
    old, new = read(before, series, first, last), read(after, series, first, last)
    spot, known = positions(old, new)
    old, new = picked(old, spot[known]), picked(new, known)
    revised = differ(new.ohlcv, old.ohlcv)
    return picked(old, revised), picked(new, revised)


def _revision_rows(
    schema: "pa.Schema", changes: Sequence[tuple[Bars, Bars]], note: Mapping[str, str], version: int
) -> "pa.RecordBatchReader":
    """Put old and new values of the revised bars side by side."""
    import pyarrow as pa  # imported here: a command that reads no bars starts without it

    revised_at = pa.scalar(datetime.fromisoformat(note["merged_at"]), schema.field("revised_at").type)

    def batch(old: Bars, new: Bars) -> "pa.RecordBatch":
        texts = [pa.repeat(note[name], len(new)) for name in ("symbol", "interval")]
        ends = [
            pa.repeat(end, len(new)) for end in (revised_at, note.get("source", ""), pa.scalar(version, pa.int64()))
        ]
        return pa.record_batch([*texts, *value_columns(old, new), *ends], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, (batch(*pair) for pair in changes if len(pair[0])))


def _note(entry: Mapping[str, Any]) -> dict[str, str]:
    """Read the record of a commit; empty where there is none."""
    note: dict[str, str] = json.loads(entry.get(NOTE, "{}"))
    return note


def _newest_open(series: Series, as_of: datetime | None) -> np.datetime64 | None:
    """Return the latest open time of a bar that has closed at `as_of`."""
    return None if as_of is None else to_datetime64(as_of) - series.delta
