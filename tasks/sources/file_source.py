"""A file as a source of bars: CSV (plain or compressed), zip, Parquet and Feather, read as they are and never written.

Reads the columns (`file_tables.py`), their times and numbers (`time_formats.py`, `number_formats.py`), and orders the
bars. Bad bars are passed on, a negative price for example: the data checks refuse them. Caution: what the file does not
say (time zone, open or close stamp) is assumed and recorded in the layout, not known.
"""

import io
import logging
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int64, Shaped

from model.bars import COLUMNS, INTERVAL_NAMES, interval_delta
from model.errors import AmbiguousFile, RiseOrFallError, SpecError, UnreadableFile
from model.times import as_utc, column_times, to_datetime, utc_index
from tasks.sources.archives import OpenedFile, open_unpacked
from tasks.sources.arrow_tables import read_arrow_table
from tasks.sources.column_roles import NEUTRAL, SYMBOL_NAMES, option_name
from tasks.sources.file_tables import FileTable, read_text_table
from tasks.sources.number_formats import read_numbers
from tasks.sources.printable_text import printable, shortened
from tasks.sources.source_spec import SourceBars, SourceSpec
from tasks.sources.symbol_names import is_exactly, names_symbol
from tasks.sources.time_formats import Place, Times, newest_first, read_times
from tasks.sources.unpacked_size_limits import RATIO_FROM_BYTES, SizeLimits

log = logging.getLogger(__name__)

SECOND_MICROSECONDS = 1_000_000
MINUTE_MICROSECONDS = 60_000_000  # every interval is a whole number of minutes, in every time zone
PREVIEW_BYTES = 2 * RATIO_FROM_BYTES  # unpacked; read and split in half a second
LISTED_SYMBOLS = 30  # of a file of several, in a message
DAMAGED = (
    *(EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, UnicodeError, struct.error),
    NotImplementedError,  # a zip whose damaged header names a feature that zipfile does not have
)


class FileSource:
    """A file as a source. It is read once and then kept in memory."""

    def __init__(self, spec: SourceSpec) -> None:
        """Take the spec; the file is opened at the first fetch."""
        self._spec = spec
        self._bars: SourceBars | None = None

    def fetch(self, since: datetime | None = None) -> SourceBars:
        """Return the file's bars that opened at `since` or later.

        Raises:
            UnreadableFile: the file is missing, empty, or contains no bars.
            AmbiguousFile: the file can be read in more than one way.
            SpecError: the file has another interval or symbol than the spec.
        """
        bars = self._bars = self._bars or read_file(self._spec)
        if since is None:
            return bars
        start = pd.Timestamp(as_utc(since))
        keep = (bars.frame["timestamp"] >= start).to_numpy()
        return SourceBars(bars.frame[keep].reset_index(drop=True), bars.layout, bars.line_numbers[keep])

    def default_as_of(self) -> datetime:
        """Return the close of the file's last bar."""
        last = column_times(self.fetch().frame["timestamp"])[-1]
        return to_datetime(last + interval_delta(self._spec.interval))


def read_file(spec: SourceSpec) -> SourceBars:
    """Read all bars of a file; see `FileSource.fetch`. What errors and layout quote of the file is safe to print."""
    with _printable_errors():
        bars = _assemble(_read_path(_path(spec), spec), spec)
    layout = {key: shortened(printable(value)) for key, value in bars.layout.items()}
    log.info("%s: %d bars; %s", layout["source"], len(bars), "; ".join(f"{key}: {layout[key]}" for key in layout))
    return SourceBars(bars.frame, layout, bars.line_numbers)


def preview_file(spec: SourceSpec) -> None:
    """Raise what `read_file` would raise for the beginning of a text file, or for the columns of a table.

    Times and numbers are not converted: what they mean may show only later in the file.
    """
    with _printable_errors():
        _read_path(_path(spec), spec, preview=True)


@contextmanager
def _printable_errors() -> Iterator[None]:
    """Make what an error quotes of a file safe to print."""
    try:
        yield
    except RiseOrFallError as error:
        error.args = (shortened(printable(str(error))),)
        raise


def _path(spec: SourceSpec) -> Path:
    """Return the path of the file, after checking that it is one."""
    try:
        path = Path(spec.path).expanduser()
        if path.is_dir():
            raise UnreadableFile(f"{spec.path}: expected a file of bars, found a folder; choose a file in it")
        if not path.is_file():
            raise UnreadableFile(f"{spec.path}: expected a file of bars, found none; check --source.path")
    except (OSError, ValueError, RuntimeError) as error:  # no such user, no permission, a name that no file can have
        raise UnreadableFile(f"{spec.path[:200]}: expected a path of a file, found none ({error})") from error
    return path


def _read_path(path: Path, spec: SourceSpec, *, preview: bool = False) -> FileTable:
    """Read the columns of a file that exists; of a text only the beginning for a preview."""
    name, limits = path.name, SizeLimits.configured()
    try:
        with path.open("rb") as stream, open_unpacked(stream, name, limits) as opened:
            if opened.kind in {"parquet", "feather"}:
                table = read_arrow_table(opened, spec, limits)
            else:
                table = read_text_table(_beginning(opened) if preview else opened, spec, limits)
    except PermissionError as error:
        raise UnreadableFile(f"{spec.path}: expected a readable file, found that read permission is denied") from error
    except DAMAGED as error:
        raise UnreadableFile(f"{name}: expected a whole file, found a damaged one ({error})") from error
    except OSError as error:  # bz2 raises it for damage, too
        raise UnreadableFile(f"{name}: expected a readable file, found a damaged one or none ({error})") from error
    except MemoryError as error:
        raise UnreadableFile(
            f"{name}: expected a file that fits into memory; lower RISEORFALL_MAX_FILE_MB, or split the file"
        ) from error
    if not len(table.place.numbers):
        raise UnreadableFile(f"{name}: expected bars, found column names and no rows")
    return table


def _beginning(opened: OpenedFile) -> OpenedFile:
    """Return the whole lines in the first `PREVIEW_BYTES` of a text."""
    content = opened.stream.read(PREVIEW_BYTES)
    if len(content) == PREVIEW_BYTES:
        content = content[: content.rfind(b"\n") + 1] or content
    return replace(opened, stream=io.BytesIO(content))


def _assemble(table: FileTable, spec: SourceSpec) -> SourceBars:
    """Convert the columns of a file into bars, oldest first."""
    table = _rows_of_symbol(table, spec)
    columns, place = table.columns, table.place
    times = _times(table, spec)
    numbers, style = read_numbers(table, spec.decimal, spec.symbol)
    opened_at = _opened_at(times.moments, spec, place.source)
    opened_at, numbers, lines, order = _oldest_first(opened_at, numbers, place.numbers)
    listed, unlisted = _listed(numbers, place.source)
    opened_at, numbers, lines = opened_at[listed], [column[listed] for column in numbers], lines[listed]
    _require_interval(opened_at, spec, place.source)
    frame = pd.DataFrame(dict(zip(COLUMNS[1:], numbers, strict=True)), copy=False)
    frame.insert(0, "timestamp", utc_index(opened_at))
    names = [table.names[at] or f"column {at + 1}" for at in range(len(table.names))]
    used = {"timestamp": "+".join(names[at] for at in columns.timestamp)}
    used |= {
        role: names[at] for role, at in zip(COLUMNS[1:], (*columns.prices, columns.volume), strict=True) if at >= 0
    }
    layout = {
        "source": place.source,
        **table.layout,
        "columns": ", ".join(f"{role}={name}" for role, name in used.items()),
        "order": order,
        "time unit": times.unit,
        "time format": times.format,
        "timezone": times.zone,
        "bar stamp": f"{spec.bar_stamp} time"
        + ("" if spec.bar_stamp == "close" else " (assumed; see --source.bar-stamp)"),
        "numbers": style,
        "volume unit": columns.volume_unit,
    }
    if notes := (*columns.notes, *unlisted):
        layout["notes"] = "; ".join(notes)
    return SourceBars(frame, layout, lines)


def _rows_of_symbol(table: FileTable, spec: SourceSpec) -> FileTable:
    """Return the rows of the spec's symbol in a file of several symbols, and all rows of a file of one.

    Raises:
        AmbiguousFile: none of several symbols is the spec's, or more than one.
        SpecError: the file's only symbol is another one.
    """
    for place, at in enumerate(table.columns.symbols):
        table = _rows_of_column(table, at, spec, first=place == 0)
    return table


def _rows_of_column(table: FileTable, at: int, spec: SourceSpec, *, first: bool) -> FileTable:
    """Return the rows whose symbol in one column is the spec's; a further column may hold numbers."""
    symbols = pc.cast(table.fields[at], pa.string())
    values = [value for value in pc.unique(symbols).to_pylist() if value is not None and value.strip()]
    column, source = table.names[at], table.place.source
    numeric = not any(re.search("[A-Za-z]", value) for value in values)
    if numeric and (not first or column.lower() in SYMBOL_NAMES):
        return table  # such as market_dominance, or a price named quote
    kind = re.search("symbol|ticker|pair|coin", column.lower()) is None
    if kind and len(values) == 1 and set(re.findall(r"[a-z]+", values[0].lower())) <= NEUTRAL:
        return table  # a venue, such as Binance, or a kind, such as spot
    if len(values) == 1 and not names_symbol(values[0], spec.symbol):
        raise SpecError(
            f"{source}: expected bars of {spec.symbol}, found {values[0]!r} in column {column!r}; set --source.symbol "
            "to the series that these bars are of; if they are the expected ones, remove the column or correct it"
        )
    if len(values) > 1:
        chosen = [value for value in values if is_exactly(value, spec.symbol)]
        chosen = chosen or [value for value in values if names_symbol(value, spec.symbol)]
        if len(chosen) != 1:
            near = chosen or get_close_matches(spec.symbol, values, cutoff=0.5)
            listed = ", ".join([*near, *sorted(set(values) - set(near))][:LISTED_SYMBOLS])
            which = f"{len(chosen)} of them may be meant" if chosen else f"none of them {spec.symbol}"
            raise AmbiguousFile(
                f"{source}: expected bars of {spec.symbol}, found {len(values)} symbols in column {column!r}, {which}: "
                f"{listed}{', ...' if len(values) > LISTED_SYMBOLS else ''}. Name it as the file does: --source.symbol"
            )
        rows = pc.fill_null(pc.equal(symbols, chosen[0]), fill_value=False)
        lines = table.place.numbers[rows.to_numpy()]
        fields = {number: field.filter(rows) for number, field in table.fields.items()}
        note = f"of {len(values)} symbols {chosen[0]!r} was read"
        columns = replace(table.columns, notes=(*table.columns.notes, note))
        return replace(table, fields=fields, columns=columns, place=replace(table.place, numbers=lines))
    return table


def _times(table: FileTable, spec: SourceSpec) -> Times:
    """Read the time column, and compare further time columns with it."""
    columns, place = table.columns, table.place
    column = table.fields[columns.timestamp[0]]
    if len(columns.timestamp) > 1:
        clock = table.fields[columns.timestamp[1]]
        column = pc.binary_join_element_wise(pc.utf8_trim_whitespace(column), pc.utf8_trim_whitespace(clock), " ")
    times = read_times(column, spec.timestamp_format, spec.timezone, place)
    for witness in columns.witnesses:
        try:
            other = _witness(table.fields[witness], spec.timezone, place)
        except UnreadableFile:
            continue  # not a time column after all
        rows = np.flatnonzero(
            (other.moments != times.moments) & (other.moments != times.moments.astype("datetime64[D]"))
        )
        if len(rows):
            row = int(rows[0])
            first, second = table.names[columns.timestamp[0]], table.names[witness]
            one, another = (option_name(table.names, at) for at in (columns.timestamp[0], witness))
            raise AmbiguousFile(
                f"{place.of(row)}: {first!r} is {times.moments[row]}, {second!r} is {other.moments[row]} "
                f"({len(rows)} rows differ); choose with --source.columns 'timestamp={one}' or 'timestamp={another}'"
            )
    return times


def _witness(column: pa.ChunkedArray, zone: str, place: Place) -> Times:
    """Read a further time column, in a zone unless the column has its own."""
    try:
        return read_times(column, "", zone, place)
    except SpecError:
        return read_times(column, "", "", place)


def _opened_at(moments: Shaped[np.ndarray, " bar"], spec: SourceSpec, source: str) -> Shaped[np.ndarray, " bar"]:
    """Convert the times of the file into open times; a closing time of 23:59:59 is the next midnight."""
    delta = interval_delta(spec.interval)
    short = -moments.astype(np.int64) % MINUTE_MICROSECONDS  # up to the next whole minute
    almost = (short > 0) & (short <= SECOND_MICROSECONDS)
    if spec.bar_stamp == "close":
        return np.where(almost, moments + short.astype("timedelta64[us]"), moments) - delta
    if almost.mean() > 0.5:  # noqa: PLR2004 - most of them
        raise AmbiguousFile(
            f"{source}: times such as {moments[int(np.flatnonzero(almost)[0])]} look like the close of a bar; "
            "set --source.bar-stamp close"
        )
    return moments


def _oldest_first(
    opened_at: Shaped[np.ndarray, " bar"], numbers: list[Float64[np.ndarray, " bar"]], lines: Int64[np.ndarray, " bar"]
) -> tuple[Shaped[np.ndarray, " bar"], list[Float64[np.ndarray, " bar"]], Int64[np.ndarray, " bar"], str]:
    """Sort bars by time; duplicates keep their order in the file, read from oldest to newest."""
    backwards = newest_first(opened_at)
    if backwards:
        opened_at, lines, numbers = opened_at[::-1], lines[::-1], [column[::-1] for column in numbers]
    broken = int((np.diff(opened_at).astype(np.int64) < 0).sum())
    order = ("newest first" if backwards else "oldest first") if len(lines) > 1 else "one bar"
    if broken:
        order += f", out of order at {broken} places"
        by_time = np.argsort(opened_at, kind="stable")
        opened_at, lines, numbers = opened_at[by_time], lines[by_time], [column[by_time] for column in numbers]
    return (
        np.ascontiguousarray(opened_at),
        [np.ascontiguousarray(column) for column in numbers],
        np.ascontiguousarray(lines),
        order,
    )


def _listed(numbers: list[Float64[np.ndarray, " bar"]], source: str) -> tuple[slice, tuple[str, ...]]:
    """Return the bars from the first to the last row that has a price, and a note about the empty rows around them.

    A file of several coins has empty rows before a coin's listing: no bar is missing there.
    """
    priced = np.flatnonzero(~np.logical_and.reduce([np.isnan(column) for column in numbers[:4]]))
    if not len(priced):
        raise UnreadableFile(f"{source}: expected prices, found {len(numbers[0])} rows without one")
    first, last = int(priced[0]), int(priced[-1])
    counts = {"before the first": first, "after the last": len(numbers[0]) - 1 - last}
    notes = tuple(f"{count} rows without prices {where} bar were left out" for where, count in counts.items() if count)
    return slice(first, last + 1), notes


def _require_interval(opened_at: Shaped[np.ndarray, " bar"], spec: SourceSpec, source: str) -> None:
    """Raise if the most common time step of the file is not the interval of the spec."""
    steps = np.diff(opened_at).astype(np.int64)
    steps = steps[steps > 0]
    if not len(steps):
        return
    sizes, counts = np.unique(steps, return_counts=True)
    found = int(sizes[np.argmax(counts)])
    if found == interval_delta(spec.interval).astype(np.int64):
        return
    name = next((name for name in INTERVAL_NAMES if interval_delta(name).astype(np.int64) == found), "")
    remedy = f"set --source.interval {name}" if name else f"known intervals are {', '.join(INTERVAL_NAMES)}"
    raise SpecError(
        f"{source}: expected bars of {spec.interval}, found {name or pd.Timedelta(found, 'us')} between "
        f"{counts.max()} of {len(opened_at)} bars; {remedy}"
    )
