"""The bar store: a versioned Delta table of bars, with tables of revisions and of quarantined bars.

Knows how bars are kept: `bars` (partitioned by symbol, interval, year), `revisions` (old and new values) and
`quarantine`. It does not check bars (`data_checks/` does) and has no clock: times of writing are passed in. Times are
open times in UTC, volumes in the source's unit.

A crash between `bars` and `revisions` loses no revision: see `tasks/store/revisions.py`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from model.bars import Bars, Series, gap_sizes
from model.errors import SpecError
from model.plurals import counted
from model.times import as_utc, to_datetime, to_datetime64
from tasks.store.bar_rows import (
    VALUES,
    changed_between,
    compare,
    key_fields,
    layout,
    newest_years,
    no_bars,
    open_bars,
    overlaid,
    partition,
    picked,
    read,
    read_times,
    require_one_clock,
    rows,
    sorted_bars,
    years,
)
from tasks.store.bars_hash import hash_bars
from tasks.store.bars_ref import BarsChanged, BarsRef
from tasks.store.delta_table import Change, Table, place
from tasks.store.quarantine import Quarantine
from tasks.store.revisions import REVISING, Revisions, read_note, written_note
from tasks.store.stated_reason import require_one_line
from tasks.store.table_cache import find_once

if TYPE_CHECKING:
    import pandas as pd
    from deltalake import DeltaTable

# If the bars of a year lie in more files than this, the next merge rewrites them as one: reading 64 files takes 90 ms.
FILES_OF_A_YEAR = 16  # of bars of an hour or longer, of which a year takes at most 0.4 MB
FILES_OF_A_YEAR_OF_MINUTES = 64  # of shorter ones
FIRST_COMMITS = 64  # own choice: read before more of them
LEAST_REVISED = 20  # own choice: an exchange corrects a few bars of the newest days, another exchange has other bars


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What a merge did.

    Attributes:
        added: bars that were not there before.
        revised: bars whose values differ from the stored ones.
        unchanged: bars that were there already.
        version: version of the table that holds them all.
        revised_first: open time of the oldest revised bar; None when none was.
        overtaken: bars left as another run made them since these were read.
    """

    added: int
    revised: int
    unchanged: int
    version: int
    revised_first: datetime | None
    overtaken: int = 0

    def warn_of_overtaking(self, symbol: str) -> str:
        """Return a warning where bars were left as another run made them; empty where none was."""
        return (
            f"{counted(self.overtaken, 'bar')} of {symbol} {'was' if self.overtaken == 1 else 'were'} changed or "
            "removed by another run since this one began, and stay so; ingest again to store what the source has now"
            if self.overtaken
            else ""
        )

    def warn_of_other_source(self, symbol: str, *, from_file: bool) -> str:
        """Return a warning where most of the bars that were there already changed; empty where they did not.

        Args:
            symbol: of the series.
            from_file: the bars are those of a file, which can be stored under any symbol.
        """
        known = self.revised + self.unchanged
        if self.revised < LEAST_REVISED or self.revised * 2 <= known:
            return ""
        advice = (
            f"If the file is from another exchange, store it as a series of its own, such as --source.symbol {symbol}-2"
            if from_file
            else "If they are from another exchange, the series now mixes the bars of two"
        )
        return (
            f"{self.revised} of {known} bars of {symbol} that were stored already have other values now. {advice}; "
            f"`riseorfall bars --table-version {self.version - 1}` still has the former ones"
        )


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
        partitions = ("symbol", "interval", "year")
        return Table(
            place(self.root, "bars"),
            pa.schema(fields),
            partitions,
            self.storage_options,
            keeps_versions=True,
            key=(*partitions, "timestamp"),
        )

    @cached_property
    def _revisions(self) -> Revisions:
        return Revisions(self._bars, self.root, self.storage_options)

    @property
    def tables(self) -> tuple[Table, ...]:
        """Bars, revisions and quarantine, for `tasks/repair/`."""
        return (self._bars, *self._revisions.tables, *self._quarantine.tables)

    def version(self) -> int:
        """Return the newest version of the table of bars; -1 before the first one."""
        table = self._bars.open()
        return -1 if table is None else table.version()

    def merge(
        self,
        series: Series,
        frame: "pd.DataFrame",
        metadata: Mapping[str, str],
        *,
        merged_at: datetime,
        read_at: int | None = None,
    ) -> MergeResult:
        """Add the bars that are missing, revise those that differ; one commit, or none when nothing differs.

        Args:
            series: whose bars they are.
            frame: columns of `COLUMNS` in any order of rows; naive times are UTC; a missing volume is NaN.
            metadata: kept with the commit (`source`, what was inferred, counts).
            merged_at: time of writing, for the record of revisions.
            read_at: version of the table when the source was read: a bar that has been changed or removed since is
                left as it is, since which of the two is newer is not known. None: every bar is merged.

        Raises:
            SpecError: a column is missing, a time is missing or duplicate, or another stored series has the same name.
            GapError: times off the interval grid, or not aligned with the stored bars.
        """
        incoming = sorted_bars(series, frame)
        counts: dict[str, int] = {}
        times = incoming.opened_at[:0]

        def plan(table: "DeltaTable") -> Change | None:
            nonlocal times
            files_by_year, anchor = layout(table, series)
            if not files_by_year:
                _require_own_name(table, series)
            require_one_clock(series, incoming, anchor)
            added, revised = compare(table, series, incoming)
            same, overtaken = ~added & ~revised, np.zeros(len(incoming), dtype=bool)
            if read_at is not None and read_at < table.version():
                before = self._bars.open(read_at) if read_at >= 0 else None
                overtaken[~same] = changed_between(before, table, series, picked(incoming, ~same))
                added, revised = added & ~overtaken, revised & ~overtaken
            times = incoming.opened_at[revised]
            counts.update(added=int(added.sum()), revised=len(times), unchanged=int(same.sum()))
            counts.update(overtaken=int(overtaken.sum()))
            note = {
                **metadata,
                **{name: str(count) for name, count in counts.items()},
                "symbol": series.symbol,
                "interval": series.interval,
                "merged_at": as_utc(merged_at).isoformat(),
            }
            return self._changed(table, series, picked(incoming, added | revised), times, files_by_year, note)

        version = self._bars.change(plan)
        self._revisions.record(self._bars.open())
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

        The first bars of a year rewrite the year before as one file: no more are expected to come.

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
            # The marker names one commit only: first write the revisions of the commit that it names now.
            self._revisions.record(table)
            mark = (REVISING, table.version() + 1)
            note = {**note, "revised_first": str(revised[0]), "revised_last": str(revised[-1])}
        metadata = written_note(note)
        added = np.unique(years(fresh)).tolist()
        most = FILES_OF_A_YEAR if series.delta >= np.timedelta64(1, "h") else FILES_OF_A_YEAR_OF_MINUTES
        ended = {year - 1 for year in added if not files_by_year[year] and files_by_year[year - 1] > 1}
        if not mark and not ended and all(files_by_year[year] < most for year in added):
            return Change(rows(self._bars.schema, series, fresh), metadata=metadata)
        touched = sorted(ended.union(added))
        whole = overlaid(read(table, series, years=touched), fresh)
        return Change(rows(self._bars.schema, series, whole), partition(series, touched), metadata, mark)

    def ref(self, series: Series, version: int | None = None, as_of: datetime | None = None) -> BarsRef:
        """Return a reference to the bars of a series at a version (None: the newest), those closed by `as_of` only.

        Raises:
            SpecError: there are none.
        """
        table = open_bars(self._bars, version)
        bars = self._require(table, series, read(table, series, last=_open_of(series, as_of)), as_of)
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

    def _require(self, table: "DeltaTable", series: Series, bars: Bars, as_of: datetime | None = None) -> Bars:
        """Return the bars; raise SpecError if there are none."""
        if not len(bars):
            stored = sorted(f"{part['symbol']} {part['interval']}" for part in table.partitions())
            raise SpecError(
                f"{series.symbol} {series.interval}: expected bars{f' closed by {as_of}' if as_of else ''} in "
                f"version {table.version()} of {self._bars.uri}, found none; it holds {', '.join(stored)}. "
                "Ingest them first."
            )
        return bars

    def read_bars(self, ref: BarsRef) -> Bars:
        """Read exactly the bars that a reference names.

        Raises:
            BarsChanged: the hash of the stored bars differs from the reference.
            SpecError: the table or its version is gone.
        """
        bars = read(open_bars(self._bars, ref.version), ref.series, last=to_datetime64(ref.last))
        found = hash_bars(bars)
        if found != ref.sha256:
            raise BarsChanged(
                f"{ref.symbol} {ref.interval}: expected {ref.rows} bars with sha256 {ref.sha256} up to {ref.last} in "
                f"version {ref.version} of {self._bars.uri}, found {len(bars)} bars with {found}. "
                "The reference belongs to another table, or files were edited manually. "
                "Create a new reference with `BarStore.ref`."
            )
        return bars

    def bars(
        self,
        series: Series,
        version: int | None = None,
        as_of: datetime | None = None,
        closed_since: datetime | None = None,
    ) -> Bars:
        """Read the bars of a series at a version, oldest first, shape (bar,); none where the store has none.

        Args:
            series: symbol and interval.
            version: of the table; None for the newest.
            as_of: later closes are left out, UTC; None for no bound.
            closed_since: earlier closes are left out, UTC; None for no bound. Files that hold only such are not opened.
        """
        table = self._bars.open(version)
        bounds = _open_of(series, closed_since), _open_of(series, as_of)
        return no_bars(series) if table is None else read(table, series, *bounds)

    def recent_bars(self, series: Series, count: int, as_of: datetime | None = None) -> Bars:
        """Read the bars of the newest years: at least `count` closed by `as_of`, if there are so many, and all later.

        Raises:
            SpecError: there is none.
        """
        table = open_bars(self._bars)
        opened_at = _open_of(series, as_of)
        before = None if opened_at is None else to_datetime(opened_at).year
        return self._require(table, series, read(table, series, years=newest_years(table, series, count, before)))

    def read_frame(self, series: Series, version: int | None = None, as_of: datetime | None = None) -> "pd.DataFrame":
        """Read the bars of a series at a version, oldest first; an empty frame when there are none."""
        return self.bars(series, version, as_of).frame()

    def read_revisions(self, series: Series) -> "pd.DataFrame":
        """Read the old and new values of revised bars, in the order in which they were revised, then by time."""
        return self._revisions.read(series)

    def ingests(self, series: Series, last: int | None = None) -> list[dict[str, str]]:
        """Return what was kept with each commit of a series, newest first, with its `version`."""
        ours = [
            note
            for note in self._notes()
            if (note.get("symbol"), note.get("interval")) == (series.symbol, series.interval)
        ]
        return ours[:last]

    def has_exchange_bars(self, series: Collection[Series]) -> bool:
        """Return whether bars of any of these series were fetched from an exchange, by what was kept with the commits.

        The newest commits are read first: a home of many series has tens of thousands.
        """
        table = self._bars.open()
        if table is None:
            return False
        wanted = frozenset((each.symbol, each.interval) for each in series)
        return find_once(table, ("exchange", wanted), lambda: _has_exchange_commit(table, wanted))

    def _notes(self) -> list[dict[str, str]]:
        """Return what was kept with each commit, newest first, with its `version`."""
        table = self._bars.open()
        return [{**read_note(entry), "version": str(entry["version"])} for entry in (table.history() if table else [])]

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
        self._quarantine.mark_released(series, frame, reason, at=released_at)
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
        require_one_line(reason)
        wanted = np.unique(np.array([to_datetime64(as_utc(time)) for time in opened_at], "datetime64[us]"))
        present = read_times(open_bars(self._bars), series)
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
            return Change(kept, partition(series, touched), written_note(note))

        return self._bars.change(plan)

    def newest(self, series: Series) -> datetime | None:
        """Return the open time of the newest bar, from the files of its year alone; None when there is no bar."""
        return self._at_end(series, max, -1)

    def oldest(self, series: Series) -> datetime | None:
        """Return the open time of the oldest bar, likewise."""
        return self._at_end(series, min, 0)

    def _at_end(self, series: Series, year_of: Callable[[Iterable[int]], int], place: int) -> datetime | None:
        table = self._bars.open()
        files_by_year = layout(table, series)[0] if table else None
        if table is None or not files_by_year:
            return None
        return to_datetime(read_times(table, series, years=[year_of(files_by_year)])[place])

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
            revised=self._revisions.count(series, table.version()),
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


def _has_exchange_commit(table: "DeltaTable", wanted: Collection[tuple[str, str]]) -> bool:
    """Return whether a commit holds bars of any of these symbols and intervals that came from an exchange."""
    read, limit = 0, FIRST_COMMITS
    while True:
        entries = table.history(limit)
        notes = (read_note(entry) for entry in entries[read:])
        if any(note.get("kind") == "exchange" and (note["symbol"], note["interval"]) in wanted for note in notes):
            return True
        if len(entries) < limit:
            return False
        read, limit = limit, 8 * limit


def _require_own_name(table: "DeltaTable", series: Series) -> None:
    """Raise SpecError if another stored series has the name of a new one, such as BTC/USD that of BTC-USD."""
    stored = {Series(part["symbol"], part["interval"]) for part in table.partitions()}
    for other in stored - {series}:
        if other.name == series.name:
            raise SpecError(
                f"{series.symbol} {series.interval}: expected a name that no other stored series has, but "
                f"{series.name} is also the name of {other.symbol}: their versions, decisions and predictions would "
                f"mix. Use the stored spelling `{other.symbol}`, or another one."
            )


def _open_of(series: Series, closed_at: datetime | None) -> np.datetime64 | None:
    """Return the open time of a bar that closes at a time; None for None."""
    return None if closed_at is None else to_datetime64(closed_at) - series.delta
