"""Files of bars: CSV (plain or compressed), zip, Parquet and Feather, read as they are and never written or unpacked.

Knows kinds of files and cells; column names and times are `layout.py` and `times.py`. Bad bars are handed on - a
negative price is the data checks' business - but a cell that is no number at all, or a line with too few fields, is
an error that names its line. The trap: what the file does not say (zone, open or close stamp) is assumed and recorded
in the layout, not known.
"""

import bz2
import csv
import gzip
import io
import logging
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
from jaxtyping import Float64, Int64, Shaped

from model.bars import COLUMNS, INTERVAL_NAMES, interval_delta
from model.errors import AmbiguousFile, SpecError, UnreadableFile
from tasks.sources.source_spec import SourceBars, SourceSpec
from tasks.sources.text_layout import (
    CLOCK,
    DELIMITERS,
    EMPTY_CELLS,
    Columns,
    TextLayout,
    choose_columns,
    columns_by_position,
    infer_text_layout,
)
from tasks.sources.time_formats import Place, Times, read_times

log = logging.getLogger(__name__)

HEAD_BYTES = 1 << 17  # enough for any banner, and for a few hundred bars
BLOCK_BYTES = 1 << 23
LAST_SECOND = 1_000_000  # microseconds
LISTED = 5  # names in a message
MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"PK\x03\x04": "zip",
    b"PAR1": "parquet",
    b"ARROW1": "feather",
    b"FEA1": "feather",
}
REFUSED_MAGIC = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"%PDF": "a PDF",
    b"PK\x05\x06": "a zip archive without members",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
    b"\x89HDF": "an HDF5 file; save the table as Parquet or CSV",
    b"SQLite format 3": "a SQLite database; export the table as CSV",
    b"\xfd7zXZ": "an xz archive; unpack it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"\x28\xb5\x2f\xfd": "a zstd archive; unpack it",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}
PLAIN_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|NaN|Inf)")
DECIMAL_MARKS = {".": "point", ",": "comma"}
SUFFIXES = {"K": 1e3, "M": 1e6, "B": 1e9}


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a file that matter, unconverted.

    Attributes:
        fields: the used columns, by their position in the file.
        columns: which column is what.
        names: all column names.
        place: line or row of each bar.
        layout: what was inferred so far.
    """

    fields: dict[int, pa.ChunkedArray]
    columns: Columns
    names: tuple[str, ...]
    place: Place
    layout: dict[str, str]


class FileSource:
    """A file as a source. It is read once; later fetches answer from memory."""

    def __init__(self, spec: SourceSpec) -> None:
        """Take the spec; the file is opened at the first fetch."""
        self._spec = spec
        self._bars: SourceBars | None = None

    def fetch(self, since: datetime | None = None) -> SourceBars:
        """Return the file's bars that opened at `since` or later.

        Raises:
            UnreadableFile: the file is missing, empty, or not bars.
            AmbiguousFile: the file can be read in more than one way.
            SpecError: the spec asks for another interval or symbol than the file holds.
        """
        bars = self._bars = self._bars or read_file(self._spec)
        if since is None:
            return bars
        start = pd.Timestamp(since if since.tzinfo else since.replace(tzinfo=UTC))
        keep = (bars.frame["timestamp"] >= start).to_numpy()
        return SourceBars(bars.frame[keep].reset_index(drop=True), bars.layout, bars.line_numbers[keep])

    def default_as_of(self) -> datetime:
        """Return the close of the file's last bar."""
        last = self.fetch().frame["timestamp"].iloc[-1].tz_localize(None).to_numpy()
        return cast("datetime", (last + interval_delta(self._spec.interval)).astype("datetime64[us]").item()).replace(
            tzinfo=UTC
        )


def read_file(spec: SourceSpec) -> SourceBars:
    """Read all bars of a file; see `FileSource.fetch`."""
    path = Path(spec.path).expanduser()
    name = path.name
    if path.is_dir():
        raise UnreadableFile(f"{spec.path}: expected a file of bars, found a folder; name one file of it")
    if not path.is_file():
        raise UnreadableFile(f"{spec.path}: expected a file of bars, found nothing there; check --source.path")
    try:
        with path.open("rb") as stream:
            table = _read_stream(stream, name, spec)
    except PermissionError as error:
        raise UnreadableFile(f"{spec.path}: expected a readable file, found no permission to read it") from error
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise UnreadableFile(f"{name}: expected a whole compressed file, found a damaged one ({error})") from error
    if not len(table.place.numbers):
        raise UnreadableFile(f"{name}: expected bars, found column names and no row")
    return _assemble(table, spec)


def _read_stream(stream: BinaryIO, name: str, spec: SourceSpec) -> Table:
    """Look at a file's first bytes and read it by its kind, whatever its name ends in."""
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "text")
    if kind == "zip":
        with _zip_member(stream, name) as (member, inner):
            return _read_stream(inner, f"{name}/{member}", spec)
    if kind == "gzip":
        with gzip.open(stream) as inner:
            return _read_text(cast("BinaryIO", inner), name, "gzipped text", spec)
    if kind == "bz2":
        with bz2.open(stream) as inner:
            return _read_text(cast("BinaryIO", inner), name, "bzip2 text", spec)
    if kind in {"parquet", "feather"}:
        return _read_arrow(stream, name, kind, spec)
    return _read_text(stream, name, "text", spec)


@contextmanager
def _zip_member(stream: BinaryIO, name: str) -> Iterator[tuple[str, BinaryIO]]:
    """Open the only file of a zip archive, in memory."""
    with zipfile.ZipFile(stream) as archive:
        members = [
            entry for entry in archive.infolist() if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")
        ]
        if any(entry.filename == "[Content_Types].xml" for entry in members):
            raise UnreadableFile(f"{name}: expected bars, found an Excel workbook; save the sheet as CSV")
        if not members:
            raise UnreadableFile(f"{name}: expected one file in the archive, found none")
        if len(members) > 1:
            listed = _some([entry.filename for entry in members])
            raise AmbiguousFile(
                f"{name}: expected one file in the archive, found {len(members)} ({listed}); "
                "unpack it and name one of them with --source.path"
            )
        (entry,) = members
        parts = re.split(r"[/\\]", entry.filename)
        if ".." in parts or not parts[0] or ":" in parts[0]:
            raise UnreadableFile(
                f"{name}: expected a file inside the archive, found the path {entry.filename!r} that leaves it"
            )
        try:
            with archive.open(entry) as inner:
                yield parts[-1], cast("BinaryIO", inner)
        except RuntimeError as error:
            raise UnreadableFile(f"{name}: expected an open archive, found a locked one ({error})") from error


def _some(names: list[str]) -> str:
    """List the first few names."""
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")


class _WatchedText(io.RawIOBase):
    """The lines of a text from a given one on, noting which of them are blank: the CSV reader skips those unseen."""

    def __init__(self, stream: BinaryIO, first_line: int) -> None:
        self._stream = stream
        self._first_line = first_line
        self.rewind()

    def rewind(self) -> None:
        """Go back to the first line of interest."""
        self._stream.seek(0)
        for _ in range(self._first_line - 1):
            self._stream.readline()
        self._line = self._first_line
        self._carry = b""
        self.blank_lines: list[int] = []

    def readable(self) -> bool:
        """Say that it can be read, as the CSV reader asks."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, and note the blank lines among them."""
        chunk = self._stream.read(size)
        self._note_blanks(chunk)
        return chunk

    def texts(self) -> Iterator[str]:
        """Yield the lines as text."""
        for line in iter(self._stream.readline, b""):
            yield line.decode("utf-8", errors="replace")

    def _note_blanks(self, chunk: bytes) -> None:
        """Find line ends that follow a line end; a chunk's last line goes on in the next chunk."""
        text = self._carry + chunk
        end = text.rfind(b"\n") + 1
        whole, self._carry = text[:end], text[end:]
        if not whole:
            return
        if whole.startswith((b"\n", b"\r\n")) or b"\n\n" in whole or b"\n\r\n" in whole:
            lines = whole.split(b"\n")[:-1]
            self.blank_lines += [self._line + at for at, line in enumerate(lines) if line in (b"", b"\r")]
        self._line += whole.count(b"\n")


def _read_text(stream: BinaryIO, name: str, kind: str, spec: SourceSpec) -> Table:
    """Read the used columns of a text table, without converting them."""
    head = stream.read(HEAD_BYTES)
    refused = next((text for magic, text in REFUSED_MAGIC.items() if head.startswith(magic)), None)
    if refused or b"\0" in head:
        raise UnreadableFile(f"{name}: expected bars, found {refused or 'a binary file'}")
    text = head.decode("utf-8-sig", errors="replace")
    if "\r" in text and "\n" not in text:
        raise UnreadableFile(f"{name}: expected lines that end as on any system of today, found lone carriage returns")
    lines = list(io.StringIO(text, newline=""))
    if len(head) == HEAD_BYTES and len(lines) > 1:
        lines.pop()
    found = infer_text_layout(lines, name)
    told = spec.columns
    if found.header_line or told:
        clock = [
            any(CLOCK.match(row[at].strip()) for row in found.rows[:5])
            and all(len(row[at]) <= 15 for row in found.rows[:5])  # noqa: PLR2004 - HH:MM:SS.ffffff
            for at in range(len(found.names))
        ]
        columns = choose_columns(found.names, told, spec.symbol, name, clock)
    else:
        columns = columns_by_position(found.rows, name)
    watched = _WatchedText(stream, found.first_line)
    raw = _parse_text(watched, found, columns, name)
    numbers = _line_numbers(raw.num_rows, found.first_line, watched.blank_lines)
    layout = {
        "kind": kind,
        "header": f"line {found.header_line}" if found.header_line else "none",
        "first bar": f"line {found.first_line}",
        "delimiter": DELIMITERS[found.delimiter],
    }
    fields = {int(column): raw[column] for column in raw.column_names}
    return Table(fields, columns, found.names, Place(name, "line", numbers), layout)


def _parse_text(watched: _WatchedText, found: TextLayout, columns: Columns, name: str) -> pa.Table:
    """Split the text into columns named by position: numbers where all cells are plain ones, texts otherwise."""
    prices = {str(at) for at in (*columns.prices, columns.volume) if at >= 0}
    plain = all(_is_plain(row[int(at)]) for row in found.rows for at in prices)
    for numeric in (True, False) if plain else (False,):
        kinds = {str(at): pa.float64() if numeric and str(at) in prices else pa.string() for at in columns.used}
        try:
            return pyarrow.csv.read_csv(
                pa.PythonFile(watched, mode="r"),
                read_options=pyarrow.csv.ReadOptions(
                    column_names=[str(at) for at in range(len(found.names))], block_size=BLOCK_BYTES
                ),
                parse_options=pyarrow.csv.ParseOptions(delimiter=found.delimiter),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=[str(at) for at in columns.used],
                    column_types=kinds,
                    null_values=list(EMPTY_CELLS),
                    strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid as error:
            watched.rewind()
            if numeric and "conversion error" in str(error):
                continue  # some cell is no plain number: read texts, and say below which
            _refuse_uneven_line(watched, found, name, str(error))
    raise AssertionError  # the last turn returns or raises


def _is_plain(cell: str) -> bool:
    """Tell whether a cell is a number as machines write it, or empty."""
    return cell.strip() in EMPTY_CELLS or PLAIN_NUMBER.fullmatch(cell.strip()) is not None


def _refuse_uneven_line(watched: _WatchedText, found: TextLayout, name: str, reason: str) -> NoReturn:
    """Name the first line that has not as many fields as the first bar."""
    width = len(found.names)
    reader = csv.reader(watched.texts(), delimiter=found.delimiter)
    try:
        fields = next(fields for fields in reader if fields and len(fields) != width)
    except StopIteration:
        where = name
    except csv.Error as error:
        where, reason = f"{name} line {found.first_line + reader.line_num - 1}", str(error)
    else:
        raise UnreadableFile(
            f"{name} line {found.first_line + reader.line_num - 1}: expected {width} fields as on line "
            f"{found.first_line}, found {len(fields)} ({found.delimiter.join(fields)[:80]!r}); mend or remove the line "
            "- was the file cut off?"
        )
    raise UnreadableFile(f"{where}: expected a table of bars, found text that cannot be split ({reason})")


def _line_numbers(rows: int, first_line: int, blank_lines: list[int]) -> Int64[np.ndarray, " bar"]:
    """Number the lines of the bars, leaving out the blank ones."""
    if not blank_lines:
        return np.arange(first_line, first_line + rows, dtype=np.int64)
    lines = np.arange(first_line, first_line + rows + len(blank_lines), dtype=np.int64)
    return np.delete(lines, np.asarray(blank_lines) - first_line)[:rows]


def _read_arrow(stream: BinaryIO, name: str, kind: str, spec: SourceSpec) -> Table:
    """Read the used columns of a Parquet or Feather file."""
    held = stream if stream.seekable() else io.BytesIO(stream.read())
    try:
        if kind == "parquet":
            file = pyarrow.parquet.ParquetFile(held)
            names = tuple(file.schema_arrow.names)
            columns = choose_columns(names, spec.columns, spec.symbol, name, [False] * len(names))
            raw = file.read(columns=[names[at] for at in columns.used])
        else:
            raw = pyarrow.feather.read_table(held)
            names = tuple(raw.column_names)
            columns = choose_columns(names, spec.columns, spec.symbol, name, [False] * len(names))
    except (pa.ArrowInvalid, OSError) as error:
        raise UnreadableFile(f"{name}: expected a whole {kind} file, found a damaged one ({error})") from error
    fields = {at: raw[names[at]] for at in columns.used}
    numbers = np.arange(1, raw.num_rows + 1, dtype=np.int64)
    return Table(fields, columns, names, Place(name, "row", numbers), {"kind": kind})


def _assemble(table: Table, spec: SourceSpec) -> SourceBars:
    """Turn the columns of a file into bars, oldest first."""
    columns, place = table.columns, table.place
    _require_symbol(table, spec)
    times = _times(table, spec)
    numbers, written = _numbers(table, spec.decimal)
    opened_at = _opened_at(times.moments, spec, place.source)
    opened_at, numbers, lines, order = _oldest_first(opened_at, numbers, place.numbers)
    _require_interval(opened_at, spec, place.source)
    frame = pd.DataFrame(dict(zip(COLUMNS[1:], numbers, strict=True)), copy=False)
    frame.insert(0, "timestamp", pd.DatetimeIndex(opened_at).tz_localize("UTC"))
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
        "bar stamp": f"{spec.bar_stamp} time" + ("" if spec.bar_stamp == "close" else ", assumed unless told"),
        "numbers": written,
        "volume unit": columns.volume_unit,
    }
    if columns.notes:
        layout["notes"] = "; ".join(columns.notes)
    log.info("%s: %d bars; %s", place.source, len(lines), "; ".join(f"{key}: {value}" for key, value in layout.items()))
    return SourceBars(frame, layout, lines)


def _require_symbol(table: Table, spec: SourceSpec) -> None:
    """Refuse a file of several symbols, or of another one than the spec names."""
    if table.columns.symbol < 0:
        return
    values = [str(value) for value in pc.unique(table.fields[table.columns.symbol]).to_pylist() if value is not None]
    column = table.names[table.columns.symbol]
    if len(values) > 1:
        raise AmbiguousFile(
            f"{table.place.source}: expected bars of one symbol, found {len(values)} in column {column!r} "
            f"({_some(values)}); write the one that is meant to a file of its own"
        )
    wanted = re.split(r"[^A-Z0-9]", spec.symbol.upper())[0]
    for value in values:
        held = re.sub(r"[^A-Z0-9]", "", value.upper()).replace("XBT", "BTC")
        if held.isalnum() and value == value.upper() and not held.startswith(wanted.replace("XBT", "BTC")):
            raise SpecError(
                f"{table.place.source}: expected bars of {spec.symbol}, found {value!r} in column {column!r}; "
                "name it with --source.symbol"
            )


def _times(table: Table, spec: SourceSpec) -> Times:
    """Read the time column, and hold further time columns against it."""
    columns, place = table.columns, table.place
    column = table.fields[columns.timestamp[0]]
    if len(columns.timestamp) > 1:
        clock = table.fields[columns.timestamp[1]]
        column = pc.binary_join_element_wise(pc.utf8_trim_whitespace(column), pc.utf8_trim_whitespace(clock), " ")
    times = read_times(column, spec.timestamp_format, spec.timezone, place)
    for witness in columns.witnesses:
        try:
            other = read_times(table.fields[witness], "", spec.timezone if "unix" not in times.unit else "", place)
        except (UnreadableFile, SpecError):
            continue  # not a time after all, so it has nothing to say
        rows = np.flatnonzero(
            (other.moments != times.moments) & (other.moments != times.moments.astype("datetime64[D]"))
        )
        if len(rows):
            row = int(rows[0])
            first, second = table.names[columns.timestamp[0]], table.names[witness]
            raise AmbiguousFile(
                f"{place.of(row)}: {first!r} says {times.moments[row]}, {second!r} says {other.moments[row]} "
                f"({len(rows)} rows differ); choose with --source.columns 'timestamp={first}' or 'timestamp={second}'"
            )
    return times


def _opened_at(moments: Shaped[np.ndarray, " bar"], spec: SourceSpec, source: str) -> Shaped[np.ndarray, " bar"]:
    """Turn what the file stamps its bars with into open times; a close written 23:59:59 is the next midnight."""
    delta = interval_delta(spec.interval)
    short = -moments.astype(np.int64) % delta.astype(np.int64)  # microseconds up to the next whole interval
    almost = (short > 0) & (short <= LAST_SECOND)
    if spec.bar_stamp == "close":
        return np.where(almost, moments + short.astype("timedelta64[us]"), moments) - delta
    if almost.mean() > 0.5:  # noqa: PLR2004 - most of them
        raise AmbiguousFile(
            f"{source}: times such as {moments[int(np.flatnonzero(almost)[0])]} look like the close of a bar; "
            "say --source.bar-stamp close"
        )
    return moments


def _numbers(table: Table, told: str) -> tuple[list[Float64[np.ndarray, " bar"]], str]:
    """Convert prices and volume to float64, NaN where a cell is empty; and say how they were written."""
    places = (*table.columns.prices, table.columns.volume)
    texts = {at: _bare_numbers(field) for at, field in table.fields.items() if at in places and _is_text(field)}
    mark = told or _decimal_mark(texts, table)
    written = f"decimal {DECIMAL_MARKS[mark]}"
    thousands = "," if mark == "." else "."
    separated = [at for at, text in texts.items() if pc.any(pc.match_substring(text, thousands)).as_py()]
    if separated:
        names = ", ".join(table.names[at] or f"column {at + 1}" for at in separated)
        written += f", thousands {'comma' if thousands == ',' else 'point'} in {names}"
    numbers: list[Float64[np.ndarray, " bar"]] = []
    for at in places:
        if at < 0:
            numbers.append(np.full(len(table.place.numbers), np.nan))
        elif at in texts:
            numbers.append(_from_text(texts[at], mark, at, table))
        else:
            numbers.append(_float64(table.fields[at], at, table))
    return numbers, written


def _is_text(field: pa.ChunkedArray) -> bool:
    """Tell whether a column holds texts."""
    return bool(pa.types.is_string(field.type) or pa.types.is_large_string(field.type))


def _bare_numbers(field: pa.ChunkedArray) -> pa.ChunkedArray:
    """Take blanks, currency signs and apostrophes out of number texts; markers of an empty cell become null."""
    bare = pc.replace_substring_regex(pc.cast(field, pa.string()), "[\\s\u00a0\u202f'$€£]", "")
    return pc.if_else(pc.is_in(bare, pa.array(EMPTY_CELLS)), pa.scalar(None, pa.string()), bare)


def _decimal_mark(texts: dict[int, pa.ChunkedArray], table: Table) -> str:
    """Find the decimal mark that all number texts of a file agree with."""
    points = commas = False  # is the mark proven to be a point, a comma?
    open_question: tuple[int, int] | None = None
    for at, text in texts.items():
        if not pc.any(pc.match_substring(text, ",")).as_py():
            continue
        for mark, other in ((".", ","), (",", ".")):
            proof = (
                rf"^[^\{mark}]*\{other}\d{{3}}\{mark}|\{other}\d{{3}}\{other}|^[^\{other}]*\{mark}(\d{{1,2}}|\d{{4,}})$"
            )
            if pc.any(pc.match_substring_regex(text, proof)).as_py():
                points, commas = points or mark == ".", commas or mark == ","
        if open_question is None:
            row = int(pc.index(pc.match_substring(text, ","), pa.scalar(value=True)).as_py())
            open_question = (at, row)
    if open_question is not None and points == commas:
        at, row = open_question
        found = "both readings are proven by other cells" if points else "no other cell settles it"
        raise AmbiguousFile(
            f"{table.place.of(row)}: the comma in {texts[at][row].as_py()!r} could mark decimals or thousands, "
            f"and {found}; choose with --source.decimal . or --source.decimal ,"
        )
    return "," if commas else "."


def _from_text(text: pa.ChunkedArray, mark: str, at: int, table: Table) -> Float64[np.ndarray, " bar"]:
    """Convert number texts; a cell that is no number is an error."""
    thousands = "," if mark == "." else "."
    plain = pc.replace_substring(text, thousands, "")
    if mark == ",":
        plain = pc.replace_substring(plain, ",", ".")
    factor: Float64[np.ndarray, " bar"] | float = 1.0
    if at == table.columns.volume:
        suffix = pc.utf8_slice_codeunits(pc.utf8_upper(plain), -1).to_pandas()
        factor = suffix.map(SUFFIXES).fillna(1.0).to_numpy(dtype=np.float64)
        plain = pc.replace_substring_regex(plain, "[KkMmBb]$", "")
    try:
        return np.asarray(pc.cast(plain, pa.float64()).to_numpy() * factor)
    except pa.ArrowInvalid:
        bad = pc.and_(pc.is_valid(plain), pc.invert(pc.match_substring_regex(plain, f"^(?:{PLAIN_NUMBER.pattern})$")))
        row = int(pc.index(pc.fill_null(bad, fill_value=False), pa.scalar(value=True)).as_py())
        raise UnreadableFile(
            f"{table.place.of(row)}: expected a number in column {table.names[at] or at + 1!r}, found "
            f"{table.fields[at][row].as_py()!r}; mend the line, or leave the cell empty to have the bar refused alone"
        ) from None


def _float64(field: pa.ChunkedArray, at: int, table: Table) -> Float64[np.ndarray, " bar"]:
    """Convert a column of numbers."""
    try:
        return np.asarray(pc.cast(field, pa.float64(), safe=False).to_numpy())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UnreadableFile(
            f"{table.place.source}: expected numbers in column {table.names[at]!r}, found {field.type}; "
            "name another with --source.columns"
        ) from error


def _oldest_first(
    opened_at: Shaped[np.ndarray, " bar"], numbers: list[Float64[np.ndarray, " bar"]], lines: Int64[np.ndarray, " bar"]
) -> tuple[Shaped[np.ndarray, " bar"], list[Float64[np.ndarray, " bar"]], Int64[np.ndarray, " bar"], str]:
    """Sort bars by time; doubled ones keep the order in which time runs through the file."""
    steps = np.diff(opened_at).astype(np.int64)
    newest_first = bool((steps < 0).sum() > (steps > 0).sum())
    if newest_first:
        opened_at, lines, numbers = opened_at[::-1], lines[::-1], [column[::-1] for column in numbers]
    broken = int((np.diff(opened_at).astype(np.int64) < 0).sum())
    order = ("newest first" if newest_first else "oldest first") if len(lines) > 1 else "one bar"
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


def _require_interval(opened_at: Shaped[np.ndarray, " bar"], spec: SourceSpec, source: str) -> None:
    """Refuse a file whose commonest step is not the interval of the spec."""
    steps = np.diff(opened_at).astype(np.int64)
    steps = steps[steps > 0]
    if not len(steps):
        return
    sizes, counts = np.unique(steps, return_counts=True)
    found = int(sizes[np.argmax(counts)])
    if found == interval_delta(spec.interval).astype(np.int64):
        return
    name = next((name for name in INTERVAL_NAMES if interval_delta(name).astype(np.int64) == found), "")
    what_next = f"say --source.interval {name}" if name else f"known intervals are {', '.join(INTERVAL_NAMES)}"
    raise SpecError(
        f"{source}: expected bars of {spec.interval}, found {name or pd.Timedelta(found, 'us')} between "
        f"{counts.max()} of {len(opened_at)} bars; {what_next}"
    )
