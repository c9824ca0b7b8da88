"""Splits a file of bars into its columns, without converting them, and numbers the lines they come from.

Text is split by the CSV reader of pyarrow, Parquet and Feather are read column by column. A line with too few or too
many fields is an error that names it. Caution: the CSV reader skips blank lines, so they are counted to number the
rest.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
from jaxtyping import Int64

from model.errors import UnreadableFile
from tasks.sources.archives import HEAD_BYTES, OpenedFile, require_text
from tasks.sources.column_roles import Columns, choose_columns, columns_by_position
from tasks.sources.source_spec import SourceSpec
from tasks.sources.text_layout import CLOCK, DELIMITERS, EMPTY_CELLS, TextLayout, infer_text_layout
from tasks.sources.time_formats import Place

BLOCK_BYTES = 1 << 23
PLAIN_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|NaN|Inf)")


@dataclass(frozen=True, slots=True)
class Table:
    """The used columns of a file, unconverted.

    Attributes:
        fields: the used columns, by their position in the file.
        columns: the role of each column.
        names: all column names.
        place: line or row of each bar.
        layout: what was inferred about the file.
    """

    fields: dict[int, pa.ChunkedArray]
    columns: Columns
    names: tuple[str, ...]
    place: Place
    layout: dict[str, str]


def read_table(opened: OpenedFile, spec: SourceSpec) -> Table:
    """Read the columns of a file that hold bars.

    Raises:
        UnreadableFile: the file is damaged, or no table of bars.
        AmbiguousFile: its columns can be read in more than one way.
        SpecError: the spec names a column that does not exist.
    """
    if opened.kind in {"parquet", "feather"}:
        return _read_arrow(opened.stream, opened.name, opened.kind, spec)
    return _read_text(opened.stream, opened.name, opened.kind, spec)


def _read_text(stream: BinaryIO, name: str, kind: str, spec: SourceSpec) -> Table:
    """Read the used columns of a text table, without converting them."""
    head = stream.read(HEAD_BYTES)
    require_text(head, name)
    text = head.decode("utf-8-sig", errors="replace")
    if "\r" in text and "\n" not in text:
        raise UnreadableFile(f"{name}: expected lines that end in a newline, found carriage returns only")
    lines = list(io.StringIO(text, newline=""))
    if len(head) == HEAD_BYTES and len(lines) > 1:
        lines.pop()
    found = infer_text_layout(lines, name)
    if found.header_line or spec.columns:
        clock = [
            any(CLOCK.match(row[at].strip()) for row in found.rows[:5])
            and all(len(row[at]) <= 15 for row in found.rows[:5])  # noqa: PLR2004 - HH:MM:SS.ffffff
            for at in range(len(found.names))
        ]
        columns = choose_columns(found.names, spec.columns, spec.symbol, name, clock)
    else:
        columns = columns_by_position(found.rows, name)
    source = _LineCountingText(stream, found.first_line)
    raw = _parse_text(source, found, columns, name)
    numbers = _line_numbers(raw.num_rows, found.first_line, source.blank_lines)
    layout = {
        "kind": kind,
        "header": f"line {found.header_line}" if found.header_line else "none",
        "first bar": f"line {found.first_line}",
        "delimiter": DELIMITERS[found.delimiter],
    }
    fields = {int(column): raw[column] for column in raw.column_names}
    return Table(fields, columns, found.names, Place(name, "line", numbers), layout)


class _LineCountingText(io.RawIOBase):
    """A text from a given line on that records its blank lines, which the CSV reader skips."""

    def __init__(self, stream: BinaryIO, first_line: int) -> None:
        self._stream = stream
        self._first_line = first_line
        self.rewind()

    def rewind(self) -> None:
        """Go back to the first line."""
        self._stream.seek(0)
        for _ in range(self._first_line - 1):
            self._stream.readline()
        self._line = self._first_line
        self._carry = b""
        self.blank_lines: list[int] = []

    def readable(self) -> bool:
        """Return that the stream is readable: the CSV reader requires it."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, and record the blank lines in them."""
        chunk = self._stream.read(size)
        self._record_blank_lines(chunk)
        return chunk

    def texts(self) -> Iterator[str]:
        """Yield the lines as text."""
        for line in iter(self._stream.readline, b""):
            yield line.decode("utf-8", errors="replace")

    def _record_blank_lines(self, chunk: bytes) -> None:
        """Find empty lines; the last line of a chunk continues in the next chunk."""
        text = self._carry + chunk
        end = text.rfind(b"\n") + 1
        whole, self._carry = text[:end], text[end:]
        if not whole:
            return
        if whole.startswith((b"\n", b"\r\n")) or b"\n\n" in whole or b"\n\r\n" in whole:
            lines = whole.split(b"\n")[:-1]
            self.blank_lines += [self._line + at for at, line in enumerate(lines) if line in (b"", b"\r")]
        self._line += whole.count(b"\n")


def _parse_text(source: _LineCountingText, found: TextLayout, columns: Columns, name: str) -> pa.Table:
    """Split the text into columns named by position: as numbers if all cells are plain numbers, else as text."""
    prices = {str(at) for at in (*columns.prices, columns.volume) if at >= 0}
    plain = all(_is_plain(row[int(at)]) for row in found.rows for at in prices)
    for numeric in (True, False) if plain else (False,):
        kinds = {str(at): pa.float64() if numeric and str(at) in prices else pa.string() for at in columns.used}
        try:
            return pyarrow.csv.read_csv(
                pa.PythonFile(source, mode="r"),
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
            source.rewind()
            if numeric and "conversion error" in str(error):
                continue  # a cell is no plain number: read text; `number_formats` reports the cell
            _refuse_uneven_line(source, found, name, str(error))
    raise AssertionError  # the last iteration returns or raises


def _is_plain(cell: str) -> bool:
    """Whether a cell is empty or a plain number, such as 1234.5 or 1e-3."""
    return cell.strip() in EMPTY_CELLS or PLAIN_NUMBER.fullmatch(cell.strip()) is not None


def _refuse_uneven_line(source: _LineCountingText, found: TextLayout, name: str, reason: str) -> NoReturn:
    """Raise, naming the first line whose number of fields differs from that of the first bar."""
    width = len(found.names)
    reader = csv.reader(source.texts(), delimiter=found.delimiter)
    try:
        fields = next(fields for fields in reader if fields and len(fields) != width)
    except StopIteration:
        where = name
    except csv.Error as error:
        where, reason = f"{name} line {found.first_line + reader.line_num - 1}", str(error)
    else:
        raise UnreadableFile(
            f"{name} line {found.first_line + reader.line_num - 1}: expected {width} fields as on line "
            f"{found.first_line}, found {len(fields)} ({found.delimiter.join(fields)[:80]!r}); correct or remove "
            "the line; the file may be truncated"
        )
    raise UnreadableFile(f"{where}: expected a table of bars, found text that cannot be split into columns ({reason})")


def _line_numbers(rows: int, first_line: int, blank_lines: list[int]) -> Int64[np.ndarray, " bar"]:
    """Return the line number of each bar, given the blank lines between them."""
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
