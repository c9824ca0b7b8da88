"""The bars: a versioned Delta table, with the values that were revised and the bars that were refused beside it.

Knows how bars are kept: `bars` (partitioned by symbol, interval, year), `revisions` (old and new values) and
`quarantine`. It does not judge bars (`data_checks/` does) and has no clock: times of writing are passed in. Times are
open times in UTC, volumes in the source's unit.

The trap is a crash between two tables. A merge commits `bars` first, in one step, and the log of `bars` then is the
truth: a commit that revises marks itself, `revisions` marks up to which commit it has been written, and whoever merges
next derives the missing rows from the two versions around the marked commit. So each revision is recorded exactly once.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from model.bars import COLUMNS, Bars, Series, gap_sizes
from model.errors import GapError, RiseOrFallError, SpecError
from tasks.tables import Change, Table, place, quoted, utc

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable

VALUES = COLUMNS[1:]
BATCH_BARS = 131_072  # rows handed over at once: 6 MB
FILES_OF_A_YEAR = 64  # a year in more files than this is written anew with the next bar
NOTE = "riseorfall"  # name under which a commit keeps its record
REVISING = "revising"  # mark in `bars`: the last version that revised a bar; in `revisions`: the last one recorded


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
    """Names the bars of one series: small, hashable, the same whenever the bars are the same.

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
        quarantined: different open times with refused bars that were not released.
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
        """Name the place; nothing is opened or made yet.

        Args:
            root: folder, or `s3://bucket/prefix`.
            storage_options: how to reach an S3 server, as deltalake names it.
        """
        self.root = root
        self.storage_options = dict(storage_options or {})

    @cached_property
    def _bars(self) -> Table:
        import pyarrow as pa  # here: a command that reads no bars starts without it

        fields = [*_key_fields(), *[pa.field(name, pa.float64()) for name in VALUES], pa.field("year", pa.int32())]
        return Table(place(self.root, "bars"), pa.schema(fields), ("symbol", "interval", "year"), self.storage_options)

    @cached_property
    def _revisions(self) -> Table:
        import pyarrow as pa  # here: a command that reads no bars starts without it

        fields = [
            *_key_fields(),
            *[pa.field(f"{age}_{name}", pa.float64()) for age in ("old", "new") for name in VALUES],
            pa.field("revised_at", pa.timestamp("us", "UTC")),
            pa.field("source", pa.string()),
            pa.field("bars_version", pa.int64()),
        ]
        return Table(place(self.root, "revisions"), pa.schema(fields), ("symbol", "interval"), self.storage_options)

    @cached_property
    def _quarantine(self) -> Table:
        import pyarrow as pa  # here: a command that reads no bars starts without it

        fields = [
            *_key_fields(),
            *[pa.field(name, pa.float64()) for name in VALUES],
            *[pa.field(name, pa.string()) for name in ("rule", "severity", "value", "source")],
            pa.field("quarantined_at", pa.timestamp("us", "UTC")),
            pa.field("released_at", pa.timestamp("us", "UTC")),
            pa.field("release_reason", pa.string()),
        ]
        return Table(place(self.root, "quarantine"), pa.schema(fields), ("symbol", "interval"), self.storage_options)

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
            SpecError: a column is missing, a time is missing or doubled.
            GapError: times off the clock of the interval, or off that of the stored bars.
        """
        incoming = _sorted_bars(series, frame)
        seen: dict[str, Any] = {"added": 0, "revised": 0, "unchanged": 0, "revised_first": None}

        def plan(table: "DeltaTable") -> Change | None:
            files_by_year, anchor = _layout(table, series)
            _require_one_clock(series, incoming, anchor)
            stored = _read(table, series, *_ends(incoming))
            spot, known = _positions(stored, incoming)
            revised = known.copy()
            revised[known] = _differ(incoming.ohlcv[known], stored.ohlcv[spot[known]])
            times = incoming.opened_at[revised]
            seen.update(
                added=int((~known).sum()),
                revised=len(times),
                unchanged=int((known & ~revised).sum()),
                revised_first=_aware(times[0]) if len(times) else None,
            )
            fresh = ~known | revised
            if not fresh.any():
                return None
            record = {
                **metadata,
                **{name: str(seen[name]) for name in ("added", "revised", "unchanged")},
                "symbol": series.symbol,
                "interval": series.interval,
                "merged_at": utc(merged_at).isoformat(),
            }
            mark = None
            if len(times):
                self._record_revisions(table)  # the mark remembers one commit: the one before must be recorded
                mark = (REVISING, table.version() + 1)
                record |= {"revised_first": str(times[0]), "revised_last": str(times[-1])}
            changed = _picked(incoming, fresh)
            years = np.unique(_years(changed.opened_at)).tolist()
            crowded = [year for year in years if files_by_year[year] >= FILES_OF_A_YEAR]
            if not mark and not crowded:
                return Change(_rows(self._bars.schema, series, changed), metadata=_noted(record))
            whole = _overlaid(_read(table, series, years=years), changed)
            return Change(_rows(self._bars.schema, series, whole), _partition(series, years), _noted(record), mark)

        version = self._bars.change(plan)
        self._record_revisions(self._bars.open())
        return MergeResult(version=version, **seen)

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
            after = self._open(version)
            note = _note(after.history(1)[0])
            series = Series(note["symbol"], note["interval"])
            span = np.datetime64(note["revised_first"], "us"), np.datetime64(note["revised_last"], "us")
            new, old = _read(after, series, *span), _read(self._open(version - 1), series, *span)
            spot, known = _positions(old, new)
            before, since = _picked(old, spot[known]), _picked(new, known)
            differ = _differ(before.ohlcv, since.ohlcv)
            schema = self._revisions.schema
            rows = _revision_rows(schema, _picked(before, differ), _picked(since, differ), note, version)
            return Change(rows, mark=(REVISING, version))

        self._revisions.change(plan)

    def _open(self, version: int | None = None) -> "DeltaTable":
        table = self._bars.open(version)
        if table is None:
            raise SpecError(f"{self._bars.uri}: expected a table of bars, found none. Ingest bars first.")
        return table

    def ref(self, series: Series, version: int | None = None, as_of: datetime | None = None) -> BarsRef:
        """Name the bars of a series at a version (the newest when None), those closed by `as_of` only.

        Raises:
            SpecError: there are none.
        """
        table = self._open(version)
        bars = _read(table, series, last=_newest_open(series, as_of))
        if not len(bars):
            raise SpecError(
                f"{series.symbol} {series.interval}: expected bars{f' closed by {as_of}' if as_of else ''} in "
                f"version {table.version()} of {self._bars.uri}, found none. Ingest them first."
            )
        return BarsRef(
            uri=self._bars.uri,
            symbol=series.symbol,
            interval=series.interval,
            version=table.version(),
            sha256=hash_bars(bars),
            rows=len(bars),
            first=_aware(bars.opened_at[0]),
            last=_aware(bars.opened_at[-1]),
        )

    def read_bars(self, ref: BarsRef) -> Bars:
        """Read exactly the bars that a reference names.

        Raises:
            BarsChanged: their hash is another.
            SpecError: the table or its version is gone.
        """
        bars = _read(self._open(ref.version), ref.series, last=np.datetime64(ref.last.replace(tzinfo=None), "us"))
        found = hash_bars(bars)
        if found != ref.sha256:
            raise BarsChanged(
                f"{ref.symbol} {ref.interval}: expected {ref.rows} bars with sha256 {ref.sha256} up to {ref.last} in "
                f"version {ref.version} of {self._bars.uri}, found {len(bars)} bars with {found}. "
                "The reference belongs to another table, or files were changed by hand; make a new one."
            )
        return bars

    def read_frame(self, series: Series, version: int | None = None, as_of: datetime | None = None) -> "pd.DataFrame":
        """Read the bars of a series at a version, oldest first; an empty frame when there are none."""
        table = self._bars.open(version)
        if table is None:
            return _no_bars(series).frame()
        return _read(table, series, last=_newest_open(series, as_of)).frame()

    def read_revisions(self, series: Series) -> "pd.DataFrame":
        """Read the old and new values of revised bars, in the order in which they were revised, then by time."""
        rows = _side(self._revisions.open(), self._revisions.schema, series)
        return rows.sort_values(["bars_version", "timestamp"], ignore_index=True)

    def ingests(self, series: Series, last: int | None = None) -> list[dict[str, str]]:
        """Return what was kept with each commit of a series, newest first, with its `version`."""
        table = self._bars.open()
        entries = table.history() if table else []
        notes = [{**_note(entry), "version": str(entry["version"])} for entry in entries]
        ours = [
            note for note in notes if (note.get("symbol"), note.get("interval")) == (series.symbol, series.interval)
        ]
        return ours[:last]

    def quarantine(self, series: Series, frame: "pd.DataFrame", *, at: datetime, source: str) -> int:
        """Keep refused bars with the rule that refused them; the same refusal is kept once.

        Args:
            series: whose bars they are.
            frame: columns of `COLUMNS` and `rule`; `severity` and `value` if known. Times may be doubled.
            at: time of writing.
            source: where the bars came from.

        Returns:
            How many were not there yet.
        """
        refused = _refused(frame)
        added = 0

        def plan(table: "DeltaTable") -> Change | None:
            nonlocal added
            known = set(_refusals(_side(table, self._quarantine.schema, series)))
            fresh = {refusal: position for position, refusal in enumerate(_refusals(refused)) if refusal not in known}
            added = len(fresh)
            if not fresh:
                return None
            rows = refused.iloc[list(fresh.values())].assign(
                symbol=series.symbol,
                interval=series.interval,
                source=source,
                quarantined_at=utc(at),
                released_at=None,
                release_reason=None,
            )
            return Change(_rows_of_frame(self._quarantine.schema, rows))

        if len(refused):
            self._quarantine.change(plan)
        return added

    def read_quarantine(self, series: Series) -> "pd.DataFrame":
        """Read the refused bars, oldest first, released ones (`released_at`) as well."""
        rows = _side(self._quarantine.open(), self._quarantine.schema, series)
        return rows.sort_values(["timestamp", "rule"], ignore_index=True)

    def release(
        self, series: Series, opened_at: Sequence[datetime], reason: str, *, released_at: datetime
    ) -> MergeResult:
        """Put refused bars among the bars after all, with a reason; the refusal stays on record as released.

        The bars are merged first: a crash before the refusal is marked leaves it open, and the same command ends it.

        Raises:
            SpecError: the reason is empty, a time has no open refusal, or refusals of one time with different values.
        """
        if not reason.strip():
            raise SpecError("release: expected a reason, found none. Say why these bars are good.")
        wanted = {utc(time) for time in opened_at}
        refusals = self.read_quarantine(series)
        held = refusals[refusals["timestamp"].isin(wanted) & refusals["released_at"].isna()]
        absent = wanted - set(held["timestamp"])
        if absent:
            raise SpecError(
                f"{series.symbol} {series.interval}: expected refused bars at {len(wanted)} open times, found none at "
                f"{min(absent).isoformat()} ({len(absent)} such). Look at the quarantine for their times."
            )
        frame = held[list(COLUMNS)].drop_duplicates()
        doubled = frame["timestamp"][frame["timestamp"].duplicated()]
        if len(doubled):
            raise SpecError(
                f"{series.symbol} {series.interval}: expected one refused bar at {doubled.iloc[0].isoformat()}, found "
                "several with different values. Which one is right cannot be told; correct the source and ingest it."
            )
        result = self.merge(series, frame, {"source": "quarantine", "reason": reason}, merged_at=released_at)

        def plan(table: "DeltaTable") -> Change | None:
            rows = _side(table, self._quarantine.schema, series)
            released = rows["timestamp"].isin(wanted) & rows["released_at"].isna()
            if not released.any():
                return None
            rows.loc[released, "released_at"] = utc(released_at)
            rows["release_reason"] = rows["release_reason"].astype(object).where(~released, reason)
            return Change(_rows_of_frame(self._quarantine.schema, rows), _partition(series))

        self._quarantine.change(plan)
        return result

    def summary(self, series: Series, version: int | None = None) -> SeriesSummary | None:
        """Sum up one series at a version; None when the store holds no bar of it."""
        table = self._bars.open(version)
        opened_at = _read_times(table, series) if table else np.empty(0, "datetime64[us]")
        if table is None or not len(opened_at):
            return None
        sizes = gap_sizes(Bars(series.interval, opened_at, np.empty((len(opened_at), 5))))
        refusals = self.read_quarantine(series)
        revisions = self.read_revisions(series)
        return SeriesSummary(
            symbol=series.symbol,
            interval=series.interval,
            rows=len(opened_at),
            first=_aware(opened_at[0]),
            last=_aware(opened_at[-1]),
            gaps=int((sizes > 0).sum()),
            missing_bars=int(sizes.sum()),
            quarantined=int(refusals["timestamp"][refusals["released_at"].isna()].nunique()),
            revised=int((revisions["bars_version"] <= table.version()).sum()),
            version=table.version(),
        )

    def series(self, version: int | None = None) -> tuple[SeriesSummary, ...]:
        """Sum up every series that the store holds at a version, by name."""
        table = self._bars.open(version)
        pairs = {(part["symbol"], part["interval"]) for part in table.partitions()} if table else set()
        found = (self.summary(Series(*pair), version) for pair in sorted(pairs))
        return tuple(summary for summary in found if summary is not None)


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


def _key_fields() -> "list[pa.Field]":
    """Return the columns that each table begins with."""
    import pyarrow as pa  # here: a command that reads no bars starts without it

    return [
        pa.field("symbol", pa.string()),
        pa.field("interval", pa.string()),
        pa.field("timestamp", pa.timestamp("us", "UTC")),
    ]


def _sorted_bars(series: Series, frame: "pd.DataFrame") -> Bars:
    """Take a frame in any order as bars, oldest first; SpecError or GapError where its times cannot be."""
    import pandas as pd  # here: reading bars needs no pandas

    missing = [name for name in COLUMNS[:-1] if name not in frame.columns]
    if missing:
        raise SpecError(f"{series.symbol} {series.interval}: expected columns {', '.join(COLUMNS)}; missing {missing}")
    times = pd.DatetimeIndex(frame["timestamp"])
    if times.tz is not None:
        times = times.tz_convert("UTC").tz_localize(None)
    if times.hasnans:
        raise SpecError(
            f"{series.symbol} {series.interval}: expected a time for each bar; row {times.argmin()} has none"
        )
    opened_at = times.to_numpy().astype("datetime64[us]")
    ohlcv = frame.reindex(columns=list(VALUES)).to_numpy(dtype=np.float64)
    order = np.argsort(opened_at, kind="stable")
    bars = Bars(series.interval, opened_at[order], np.ascontiguousarray(ohlcv[order]))
    steps = np.diff(bars.opened_at)
    doubled = np.flatnonzero(steps == np.timedelta64(0))
    if len(doubled):
        raise SpecError(
            f"{series.symbol} {series.interval}: expected one bar at each open time, found {len(doubled)} doubled, the "
            f"first at {bars.opened_at[doubled[0]]}. The data checks put such bars into the quarantine; run them first."
        )
    off = np.flatnonzero(steps % series.delta != np.timedelta64(0))
    if len(off):
        raise GapError(
            f"{series.symbol} {series.interval}: expected open times whole intervals apart, found "
            f"{bars.opened_at[off[0] + 1]} after {bars.opened_at[off[0]]} ({len(off)} such steps). "
            "The data checks put such bars into the quarantine; run them first."
        )
    return bars


def _require_one_clock(series: Series, incoming: Bars, anchor: np.datetime64 | None) -> None:
    """Raise GapError where incoming bars lie between the stored ones: another time zone, or another day's start."""
    if anchor is None or not len(incoming):
        return
    shift = (incoming.opened_at[0] - anchor) % series.delta
    if shift != np.timedelta64(0):
        raise GapError(
            f"{series.symbol} {series.interval}: expected open times on the clock of the stored bars (such as "
            f"{anchor}), found {incoming.opened_at[0]}, off by {shift.astype('timedelta64[s]')}. "
            "The source's time zone or start of the day is another: say which it is, or store it under another symbol."
        )


def _layout(table: "DeltaTable", series: Series) -> tuple[Counter[int], np.datetime64 | None]:
    """Count the files of a series by year, and return the open time of one of its bars (None without bars)."""
    import pyarrow as pa  # here: a command that reads no bars starts without it
    import pyarrow.compute as pc  # here: the same

    files = pa.table(table.get_add_actions(flatten=True))
    ours = files.filter(
        pc.and_(
            pc.equal(files["partition.symbol"], series.symbol), pc.equal(files["partition.interval"], series.interval)
        )
    )
    years = Counter(ours["partition.year"].to_pylist())
    if not years or "min.timestamp" not in ours.column_names:
        return years, None
    times = ours["min.timestamp"].drop_null().slice(0, 1).combine_chunks()
    return years, _times(times)[0] if len(times) else None


def _read(
    table: "DeltaTable",
    series: Series,
    first: np.datetime64 | None = None,
    last: np.datetime64 | None = None,
    years: Sequence[int] = (),
) -> Bars:
    """Read bars from `first` to `last` (both included, None for no bound), of some years only, oldest first.

    Files outside those bounds are not opened.
    """
    times, blocks = [], []
    for batch in _scan(table, series, ["timestamp", *VALUES], first, last, years):
        times.append(_times(batch.column(0)))
        block = np.empty((batch.num_rows, len(VALUES)))
        for position in range(len(VALUES)):
            block[:, position] = batch.column(position + 1).to_numpy(zero_copy_only=False)
        blocks.append(block)
    if not times:
        return _no_bars(series)
    opened_at, ohlcv = np.concatenate(times), np.concatenate(blocks)
    del times, blocks  # half of the memory at this point
    if np.any(opened_at[1:] <= opened_at[:-1]):
        order = np.argsort(opened_at, kind="stable")
        opened_at, ohlcv = opened_at[order], ohlcv[order]
    return Bars(series.interval, opened_at, ohlcv)


def _read_times(table: "DeltaTable", series: Series) -> Shaped[np.ndarray, " bar"]:
    """Read open times alone, oldest first, shape (bar,), datetime64[us]."""
    parts = [_times(batch.column(0)) for batch in _scan(table, series, ["timestamp"])]
    return np.sort(np.concatenate([np.empty(0, "datetime64[us]"), *parts]))


def _scan(
    table: "DeltaTable",
    series: Series,
    columns: list[str],
    first: np.datetime64 | None = None,
    last: np.datetime64 | None = None,
    years: Sequence[int] = (),
) -> "pa.RecordBatchReader":
    import pyarrow as pa  # here: a command that reads no bars starts without it

    bounds = [_partition(series, years)]
    bounds += [f"\"timestamp\" >= '{first}Z'"] if first is not None else []
    bounds += [f"\"timestamp\" <= '{last}Z'"] if last is not None else []
    return pa.RecordBatchReader.from_stream(table.scan(columns, " AND ".join(bounds)))


def _partition(series: Series, years: Sequence[int] = ()) -> str:
    """Return the SQL condition that holds for a series, in some years only if any are named."""
    whole = f'symbol = {quoted(series.symbol)} AND "interval" = {quoted(series.interval)}'
    return f"{whole} AND year IN ({', '.join(str(year) for year in years)})" if len(years) else whole


def _positions(stored: Bars, wanted: Bars) -> tuple[Int64[np.ndarray, " bar"], Bool[np.ndarray, " bar"]]:
    """Say for each wanted bar where the stored one of its time is, and whether there is one."""
    spot = np.searchsorted(stored.opened_at, wanted.opened_at)
    known = spot < len(stored)
    known[known] = stored.opened_at[spot[known]] == wanted.opened_at[known]
    return spot, known


def _picked(bars: Bars, which: np.ndarray) -> Bars:
    """Take some bars, by position or by mask."""
    return Bars(bars.interval, bars.opened_at[which], bars.ohlcv[which])


def _differ(values: Float64[np.ndarray, "bar 5"], others: Float64[np.ndarray, "bar 5"]) -> Bool[np.ndarray, " bar"]:
    """Say which bars have a value that is not exactly the other's; NaN equals NaN."""
    differ: np.ndarray = ((values != others) & ~(np.isnan(values) & np.isnan(others))).any(axis=1)
    return differ


def _overlaid(stored: Bars, changed: Bars) -> Bars:
    """Lay changed bars over stored ones, oldest first."""
    opened_at = np.concatenate([stored.opened_at, changed.opened_at])
    order = np.argsort(opened_at, kind="stable")  # of two bars at one time the changed one comes last
    opened_at = opened_at[order]
    newest = np.append(opened_at[1:] != opened_at[:-1], True)
    return Bars(stored.interval, opened_at[newest], np.concatenate([stored.ohlcv, changed.ohlcv])[order[newest]])


def _rows(schema: "pa.Schema", series: Series, bars: Bars) -> "pa.RecordBatchReader":
    """Hand bars over as rows of the table, a batch at a time."""
    import pyarrow as pa  # here: a command that reads no bars starts without it

    def batches() -> "Iterator[pa.RecordBatch]":
        for start in range(0, len(bars), BATCH_BARS):
            opened_at, ohlcv = bars.opened_at[start : start + BATCH_BARS], bars.ohlcv[start : start + BATCH_BARS]
            columns = [
                pa.repeat(series.symbol, len(ohlcv)),
                pa.repeat(series.interval, len(ohlcv)),
                pa.array(opened_at.astype(np.int64)).cast(schema.field("timestamp").type),
                *[pa.array(np.ascontiguousarray(column)) for column in ohlcv.T],
                pa.array(_years(opened_at)),
            ]
            yield pa.record_batch(columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _revision_rows(schema: "pa.Schema", old: Bars, new: Bars, note: Mapping[str, str], version: int) -> "pa.Table":
    """Put old and new values of the revised bars side by side."""
    import pyarrow as pa  # here: a command that reads no bars starts without it

    count = len(new)
    revised_at = datetime.fromisoformat(note["merged_at"])
    columns = [
        pa.repeat(note["symbol"], count),
        pa.repeat(note["interval"], count),
        pa.array(new.opened_at.astype(np.int64)).cast(schema.field("timestamp").type),
        *[pa.array(np.ascontiguousarray(column)) for bars in (old, new) for column in bars.ohlcv.T],
        pa.array([revised_at] * count, schema.field("revised_at").type),
        pa.repeat(note.get("source", ""), count),
        pa.array([version] * count, pa.int64()),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _side(table: "DeltaTable | None", schema: "pa.Schema", series: Series) -> "pd.DataFrame":
    """Read the rows of a series from a table of revisions or refusals; none when there is no table."""
    import pyarrow as pa  # here: a command that reads no bars starts without it

    found = pa.table(table.scan(schema.names, _partition(series))).cast(schema) if table else schema.empty_table()
    rows: pd.DataFrame = found.to_pandas()
    return rows


def _rows_of_frame(schema: "pa.Schema", frame: "pd.DataFrame") -> "pa.Table":
    """Take a frame as rows of a table, what is missing as null."""
    import pandas as pd  # here: reading bars needs no pandas
    import pyarrow as pa  # here: a command that reads no bars starts without it

    columns = []
    for part in schema:
        column = frame[part.name]
        if pa.types.is_timestamp(part.type):
            column = pd.DatetimeIndex(pd.to_datetime(column, utc=True)).tz_localize(None).as_unit("us").to_numpy()
            columns.append(pa.array(column.astype(np.int64), mask=np.isnat(column)).cast(part.type))
        else:
            columns.append(pa.array(column, part.type, from_pandas=True))
    return pa.Table.from_arrays(columns, schema=schema)


def _refused(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Take refused bars as rows of the quarantine: times UTC-aware or missing, values float64, the rest text."""
    import pandas as pd  # here: reading bars needs no pandas

    rows = pd.DataFrame(index=range(len(frame)))
    rows["timestamp"] = pd.DatetimeIndex(pd.to_datetime(frame["timestamp"], utc=True)).as_unit("us")
    for name in VALUES:
        rows[name] = frame[name].to_numpy(dtype=np.float64) if name in frame.columns else np.nan
    for name in ("rule", "severity", "value"):
        rows[name] = [str(text) for text in frame[name]] if name in frame.columns else ""
    return rows


def _refusals(rows: "pd.DataFrame") -> list[tuple[int, str, bytes]]:
    """Return what makes a refusal the same one: time, rule and values."""
    values = rows[list(VALUES)].to_numpy(dtype=np.float64) + 0.0
    values[np.isnan(values)] = np.nan
    times = rows["timestamp"].to_numpy(dtype="datetime64[us]").astype(np.int64)
    return [
        (time, rule, block.tobytes()) for time, rule, block in zip(times.tolist(), rows["rule"], values, strict=True)
    ]


def _noted(record: Mapping[str, str]) -> dict[str, str]:
    """Put a record of a commit under one name, away from the names that Delta uses itself."""
    return {NOTE: json.dumps(record, ensure_ascii=False)}


def _note(entry: Mapping[str, Any]) -> dict[str, str]:
    """Read the record of a commit; empty where there is none."""
    note: dict[str, str] = json.loads(entry.get(NOTE, "{}"))
    return note


def _newest_open(series: Series, as_of: datetime | None) -> np.datetime64 | None:
    """Return the latest open time of a bar that has closed at `as_of`."""
    return None if as_of is None else np.datetime64(utc(as_of).replace(tzinfo=None), "us") - series.delta


def _ends(bars: Bars) -> tuple[np.datetime64 | None, np.datetime64 | None]:
    return (bars.opened_at[0], bars.opened_at[-1]) if len(bars) else (None, None)


def _no_bars(series: Series) -> Bars:
    return Bars(series.interval, np.empty(0, "datetime64[us]"), np.empty((0, len(VALUES))))


def _times(column: "pa.Array") -> Shaped[np.ndarray, " bar"]:
    """Take a column of times as datetime64[us]."""
    import pyarrow as pa  # here: a command that reads no bars starts without it

    times: np.ndarray = column.cast(pa.int64()).to_numpy(zero_copy_only=False).astype("datetime64[us]")
    return times


def _years(opened_at: Shaped[np.ndarray, " bar"]) -> Shaped[np.ndarray, " bar"]:
    """Return calendar years, int32."""
    return opened_at.astype("datetime64[Y]").astype(np.int32) + np.int32(1970)


def _aware(moment: np.datetime64) -> datetime:
    """Return a datetime64[us] as a UTC-aware datetime."""
    instant: datetime = moment.astype("datetime64[us]").item()
    return instant.replace(tzinfo=UTC)
