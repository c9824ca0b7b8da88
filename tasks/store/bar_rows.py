"""Layout of bars in a Delta table: one row per bar, read by time range, compared bit for bit.

Knows columns, partitions (symbol, interval, year) and conditions, and when two bars are the same (NaN equals NaN).
`bar_store.py` decides when a table is written. Times are open times, UTC, datetime64[us] inside and timestamp[us, UTC]
in the table. Note: `interval` and `timestamp` are SQL keywords and must be quoted in conditions.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from model.bars import COLUMNS, Bars, Series
from model.errors import GapError, SpecError
from model.times import column_times, to_datetime64
from tasks.store.delta_table import Table, quoted
from tasks.store.table_cache import is_small, read_once

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable

VALUES = COLUMNS[1:]
BATCH_BARS = 131_072  # bars handed over at once: 6 MB
FILE_COLUMNS = ("partition.symbol", "partition.interval", "partition.year", "num_records", "min.timestamp")
SPAN_BARS = 524_288  # bars compared at once: 25 MB on either side


def key_fields() -> "list[pa.Field]":
    """Return the columns that each table begins with."""
    import pyarrow as pa  # imported here: a command that reads no bars starts without it

    return [
        pa.field("symbol", pa.string()),
        pa.field("interval", pa.string()),
        pa.field("timestamp", pa.timestamp("us", "UTC")),
    ]


def sorted_bars(series: Series, frame: "pd.DataFrame") -> Bars:
    """Convert a frame to bars sorted by time.

    Raises:
        SpecError: a column is missing, or times are missing or duplicate.
        GapError: times are off the interval grid.
    """
    missing = [name for name in COLUMNS[:-1] if name not in frame.columns]
    if missing:
        raise SpecError(f"{series.symbol} {series.interval}: expected columns {', '.join(COLUMNS)}; missing {missing}")
    opened_at = column_times(frame["timestamp"])
    absent = np.isnat(opened_at)
    if absent.any():
        raise SpecError(
            f"{series.symbol} {series.interval}: expected a time for each bar; row {int(absent.argmax())} has none"
        )
    ohlcv = frame.reindex(columns=list(VALUES)).to_numpy(dtype=np.float64)
    order = np.argsort(opened_at, kind="stable")
    bars = Bars(series.interval, opened_at[order], np.ascontiguousarray(ohlcv[order]))
    steps = np.diff(bars.opened_at)
    duplicates = np.flatnonzero(steps == np.timedelta64(0))
    if len(duplicates):
        raise SpecError(
            f"{series.symbol} {series.interval}: expected unique open times, found duplicates ({len(duplicates)}), the "
            f"first at {bars.opened_at[duplicates[0]]}. The data checks quarantine such bars; run them first."
        )
    off = np.flatnonzero(steps % series.delta != np.timedelta64(0))
    if len(off):
        raise GapError(
            f"{series.symbol} {series.interval}: expected open times whole intervals apart, found "
            f"{bars.opened_at[off[0] + 1]} after {bars.opened_at[off[0]]} ({len(off)} such steps). "
            "The data checks quarantine such bars; run them first."
        )
    return bars


def require_one_clock(series: Series, incoming: Bars, anchor: np.datetime64 | None) -> None:
    """Raise GapError if incoming bars are not aligned with the stored ones: another time zone or day boundary."""
    if anchor is None or not len(incoming):
        return
    shift = (incoming.opened_at[0] - anchor) % series.delta
    if shift != np.timedelta64(0):
        raise GapError(
            f"{series.symbol} {series.interval}: expected open times aligned with the grid of the stored bars "
            f"(such as {anchor}), found {incoming.opened_at[0]}, off by {shift.astype('timedelta64[s]')}. "
            "The source uses a different time zone or day boundary. Set `--source.timezone`, or store the bars under "
            "another symbol."
        )


def open_bars(bars: Table, version: int | None = None) -> "DeltaTable":
    """Open the table of bars at a version (None: the newest).

    Raises:
        SpecError: no bar was ever stored, or there is no such version.
    """
    table = bars.open(version)
    if table is None:
        raise SpecError(f"{bars.uri}: expected a table of bars, found none. Ingest bars first.")
    return table


def layout(table: "DeltaTable", series: Series) -> tuple[Counter[int], np.datetime64 | None]:
    """Count the files of a series by year, and return the open time of one of its bars (None without bars)."""
    files = _files(table, series)
    firsts = [each["min.timestamp"] for each in files if each.get("min.timestamp") is not None]
    years = Counter(each["partition.year"] for each in files)
    return years, to_datetime64(firsts[0]) if firsts else None


def newest_years(table: "DeltaTable", series: Series, count: int, before: int | None = None) -> list[int]:
    """Return the newest years that hold at least `count` bars of a series; all where there are not so many.

    Args:
        table: at any version.
        series: symbol and interval.
        count: number of bars.
        before: bars of this year and later ones are not counted; None to count all.
    """
    held = Counter[int]()
    for each in _files(table, series):
        held[each["partition.year"]] += each["num_records"] or 0  # a file that does not say
    found: list[int] = []
    counted = 0
    for year in sorted(held, reverse=True):
        if counted >= count:
            break
        found.append(year)
        counted += held[year] if before is None or year < before else 0
    return found


def _files(table: "DeltaTable", series: Series) -> list[dict[str, Any]]:
    """Return what the log says about each file of a series: its year, its bars and its first open time if known."""
    import pyarrow as pa  # imported here: a command that reads no bars starts without it

    files = pa.table(table.get_add_actions(flatten=True))
    ours = series.symbol, series.interval
    known = [name for name in FILE_COLUMNS if name in files.column_names]
    # Without pyarrow.compute, whose import takes longer than all of this.
    rows = files.select(known).to_pylist()
    return [each for each in rows if (each["partition.symbol"], each["partition.interval"]) == ours]


def read(
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
        return no_bars(series)
    opened_at, ohlcv = np.concatenate(times), np.concatenate(blocks)
    del times, blocks  # half of the memory at this point
    if np.any(opened_at[1:] <= opened_at[:-1]):
        order = np.argsort(opened_at, kind="stable")
        opened_at, ohlcv = opened_at[order], ohlcv[order]
    return Bars(series.interval, opened_at, ohlcv)


def read_times(table: "DeltaTable", series: Series, years: Sequence[int] = ()) -> Shaped[np.ndarray, " bar"]:
    """Read open times alone, of some years only if any are named, oldest first, shape (bar,), datetime64[us]."""
    return np.sort(scan_times(table, series, partition(series, years)))


def scan_times(table: "DeltaTable | None", series: Series, condition: str) -> Shaped[np.ndarray, " row"]:
    """Read the times of a series' rows that meet a SQL condition, in no order, datetime64[us]."""
    import pyarrow as pa  # imported here: a command that reads no bars starts without it

    if table is None:
        return np.empty(0, "datetime64[us]")
    where = f"{partition(series)} AND {condition}"
    found = read_once(table, ("timestamp", where), lambda: pa.table(table.scan(["timestamp"], where)))
    return _times(found.column(0))


def _scan(
    table: "DeltaTable",
    series: Series,
    columns: list[str],
    first: np.datetime64 | None = None,
    last: np.datetime64 | None = None,
    years: Sequence[int] = (),
) -> "Iterable[pa.RecordBatch]":
    import pyarrow as pa  # imported here: a command that reads no bars starts without it

    bounds = [partition(series, years)]
    bounds += [f"\"timestamp\" >= '{first}Z'"] if first is not None else []
    bounds += [f"\"timestamp\" <= '{last}Z'"] if last is not None else []
    where = " AND ".join(bounds)
    if is_small(table):
        kept: list[pa.RecordBatch] = read_once(
            table, (*columns, where), lambda: pa.table(table.scan(columns, where))
        ).to_batches()
        return kept
    batches: Iterable[pa.RecordBatch] = pa.RecordBatchReader.from_stream(table.scan(columns, where))
    return batches


def partition(series: Series, years: Sequence[int] = ()) -> str:
    """Return the SQL condition that holds for a series, in some years only if any are named."""
    whole = f'symbol = {quoted(series.symbol)} AND "interval" = {quoted(series.interval)}'
    return f"{whole} AND year IN ({', '.join(str(year) for year in years)})" if len(years) else whole


def compare(
    table: "DeltaTable", series: Series, incoming: Bars
) -> tuple[Bool[np.ndarray, " bar"], Bool[np.ndarray, " bar"]]:
    """Return two masks: bars missing from the table, and bars stored with different values.

    Processes one time range at a time.
    """
    added, revised = np.zeros(len(incoming), dtype=bool), np.zeros(len(incoming), dtype=bool)
    for first, last in spans(series, *incoming.opened_at[[0, -1]]) if len(incoming) else []:
        part = slice(*np.searchsorted(incoming.opened_at, [first, last + np.timedelta64(1, "us")]))
        if part.start == part.stop:
            continue
        arrived, stored = picked(incoming, part), read(table, series, first, last)
        spot, known = positions(stored, arrived)
        added[part] = ~known
        revised[part][known] = differ(arrived.ohlcv[known], stored.ohlcv[spot[known]])
    return added, revised


def changed_between(
    before: "DeltaTable | None", after: "DeltaTable", series: Series, wanted: Bars
) -> Bool[np.ndarray, " bar"]:
    """Return a mask of the wanted bars that one version holds and the other does not, or holds with other values.

    Args:
        before: the earlier version; None before the first one.
        after: the later version.
        series: whose bars they are.
        wanted: bars of some open times; their values do not matter.
    """
    found = np.zeros(len(wanted), dtype=bool)
    for first, last in spans(series, *wanted.opened_at[[0, -1]]) if len(wanted) else []:
        part = slice(*np.searchsorted(wanted.opened_at, [first, last + np.timedelta64(1, "us")]))
        here = picked(wanted, part)
        old, new = read(before, series, first, last) if before else no_bars(series), read(after, series, first, last)
        (spot, known), (place, stays) = positions(old, here), positions(new, here)
        both = known & stays
        changed = known != stays
        changed[both] = differ(old.ohlcv[spot[both]], new.ohlcv[place[both]])
        found[part] = changed
    return found


def positions(stored: Bars, wanted: Bars) -> tuple[Int64[np.ndarray, " bar"], Bool[np.ndarray, " bar"]]:
    """Return for each wanted bar the position of the stored bar of its time, and a mask of those that are stored."""
    spot = np.searchsorted(stored.opened_at, wanted.opened_at)
    known = spot < len(stored)
    known[known] = stored.opened_at[spot[known]] == wanted.opened_at[known]
    return spot, known


def picked(bars: Bars, which: "np.ndarray | slice") -> Bars:
    """Take some bars, by position, by mask or by slice."""
    return Bars(bars.interval, bars.opened_at[which], bars.ohlcv[which])


def differ(values: Float64[np.ndarray, "bar 5"], others: Float64[np.ndarray, "bar 5"]) -> Bool[np.ndarray, " bar"]:
    """Return a mask of the bars with a value that is not exactly the other's; NaN equals NaN."""
    unequal: np.ndarray = ((values != others) & ~(np.isnan(values) & np.isnan(others))).any(axis=1)
    return unequal


def spans(series: Series, first: np.datetime64, last: np.datetime64) -> list[tuple[np.datetime64, np.datetime64]]:
    """Split the range between two open times into ranges of at most `SPAN_BARS` bars, both ends included."""
    starts = np.arange(first, last + series.delta, SPAN_BARS * series.delta)
    return [(start, min(start + (SPAN_BARS - 1) * series.delta, last)) for start in starts]


def overlaid(stored: Bars, changed: Bars) -> Bars:
    """Lay changed bars over stored ones, oldest first."""
    opened_at = np.concatenate([stored.opened_at, changed.opened_at])
    order = np.argsort(opened_at, kind="stable")  # of two bars at one time the changed one comes last
    opened_at = opened_at[order]
    newest = np.append(opened_at[1:] != opened_at[:-1], True)
    return Bars(stored.interval, opened_at[newest], np.concatenate([stored.ohlcv, changed.ohlcv])[order[newest]])


def rows(schema: "pa.Schema", series: Series, bars: Bars) -> "pa.RecordBatchReader":
    """Return bars as rows of the table, in batches."""
    import pyarrow as pa  # imported here: a command that reads no bars starts without it

    return pa.RecordBatchReader.from_batches(schema, _batches(schema, series, bars))


def _batches(schema: "pa.Schema", series: Series, bars: Bars) -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa  # imported here: a command that reads no bars starts without it

    for start in range(0, len(bars), BATCH_BARS):
        part = picked(bars, slice(start, start + BATCH_BARS))
        columns = [
            pa.repeat(series.symbol, len(part)),
            pa.repeat(series.interval, len(part)),
            *value_columns(part),
            pa.array(years(part)),
        ]
        yield pa.record_batch(columns, schema=schema)


def value_columns(*alternatives: Bars) -> "list[pa.Array]":
    """Return the open times, then the values of each of several sets of bars of those times, as columns."""
    import pyarrow as pa  # imported here: a command that reads no bars starts without it

    times = pa.array(alternatives[0].opened_at.astype(np.int64)).cast(pa.timestamp("us", "UTC"))
    return [times, *[pa.array(np.ascontiguousarray(column)) for bars in alternatives for column in bars.ohlcv.T]]


def no_bars(series: Series) -> Bars:
    """Return bars of a series that has none."""
    return Bars(series.interval, np.empty(0, "datetime64[us]"), np.empty((0, len(VALUES))))


def _times(column: "pa.Array") -> Shaped[np.ndarray, " bar"]:
    """Take a column of times as datetime64[us]."""
    times: np.ndarray = column.to_numpy(zero_copy_only=False).astype("datetime64[us]")
    return times


def years(bars: Bars) -> Shaped[np.ndarray, " bar"]:
    """Return the calendar years of open times, int32."""
    return bars.opened_at.astype("datetime64[Y]").astype(np.int32) + np.int32(1970)


def scan_rows(table: "DeltaTable", schema: "pa.Schema", series: Series) -> "pd.DataFrame":
    """Read all columns of a series from a table whose first partitions are symbol and interval."""
    import pyarrow as pa  # imported here: a command that reads no bars starts without it

    where = partition(series)
    found = read_once(table, (*schema.names, where), lambda: pa.table(table.scan(schema.names, where)).cast(schema))
    frame: pd.DataFrame = found.to_pandas()
    return frame


def read_rows(table: Table, series: Series) -> "pd.DataFrame":
    """Read all columns of a series from the newest version; no row when the table was never written."""
    newest = table.open()
    empty: pd.DataFrame = table.schema.empty_table().to_pandas()
    return scan_rows(newest, table.schema, series) if newest else empty
