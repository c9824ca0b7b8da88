"""Splits a text file of bars into its columns, without converting them, and numbers the lines they come from.

Text is split by the CSV reader of pyarrow; `arrow_tables.py` reads Parquet and Feather into the same `FileTable`. A
line with too few or too many fields is an error that names it. Caution: the CSV reader skips blank lines, so they are
counted to number the rest.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv
from jaxtyping import Int64

from model.errors import UnreadableFile
from tasks.sources.archives import HEAD_BYTES, OpenedFile, require_text
from tasks.sources.column_roles import Columns, choose_columns, columns_by_position
from tasks.sources.source_spec import SourceSpec
from tasks.sources.text_layout import CLOCK, DELIMITERS, EMPTY_CELLS, TextLayout, decimal_proof, infer_text_layout
from tasks.sources.time_formats import Place
from tasks.sources.unpacked_size_limits import MAX_LINE_BYTES, SizeLimits

BLOCK_BYTES = 1 << 23
LONE_RETURN = re.compile(r"\r(?!\r*(?:\n|\Z))")
PIECE_BYTES = 1 << 19  # lines are counted in pieces: a piece of newlines needs 20 times its size
NEWLINE, RETURN = 10, 13
PLAIN_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|NaN|Inf)")


@dataclass(frozen=True, slots=True)
class FileTable:
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


def read_text_table(opened: OpenedFile, spec: SourceSpec, limits: SizeLimits) -> FileTable:
    """Read the columns of a text file that hold bars, as text or, where every cell is a plain number, as numbers.

    Raises:
        UnreadableFile: the file is no table of bars, has a line of another width, or is larger than the limits.
        AmbiguousFile: its columns can be read in more than one way.
        SpecError: the spec names a column that does not exist.
    """
    stream, name = opened.stream, opened.name
    head = stream.read(HEAD_BYTES)
    require_text(head, name)
    text = head.decode("utf-8-sig", errors="replace")
    if "\r" in text and "\n" not in text:
        raise UnreadableFile(f"{name}: expected lines that end in a newline, found carriage returns only")
    if lone := LONE_RETURN.search(text):
        at = text.count("\n", 0, lone.start()) + 1
        raise UnreadableFile(
            f"{name} line {at}: expected lines that end in a newline, found a carriage return inside a line"
        )
    lines = list(io.StringIO(text, newline="\n"))  # as the reader counts them, also where lines end in \r\r\n
    if len(head) == HEAD_BYTES and len(lines) > 1:
        lines.pop()
    for number, line in enumerate(lines, 1):
        if len(line.rstrip("\r\n")) > MAX_LINE_BYTES:
            _refuse_long_line(name, number)
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
    source = _LineCountingText(stream, name, found.first_line, limits)
    raw = _parse_text(source, found, columns, name, spec.decimal)
    numbers = _line_numbers(raw.num_rows, found.first_line, source.blank_lines())
    layout = {
        "kind": opened.kind,
        "header": f"line {found.header_line}" if found.header_line else "none",
        "first bar": f"line {found.first_line}",
        "delimiter": DELIMITERS[found.delimiter],
    }
    fields = {int(column): raw[column] for column in raw.column_names}
    return FileTable(fields, columns, found.names, Place(name, "line", numbers), layout)


def _refuse_long_line(name: str, line: int) -> NoReturn:
    raise UnreadableFile(
        f"{name} line {line}: expected a line of bars, found one of more than {MAX_LINE_BYTES:,} characters"
    )


class _LineCountingText(io.RawIOBase):
    """A text from a given line on that records its blank lines, which the CSV reader skips, and bounds its lines."""

    def __init__(self, stream: BinaryIO, name: str, first_line: int, limits: SizeLimits) -> None:
        self._stream = stream
        self._name = name
        self._first_line = first_line
        self._limits = limits
        self.rewind()

    def rewind(self) -> None:
        """Go back to the first line."""
        self._stream.seek(0)
        for _ in range(self._first_line - 1):
            self._stream.readline()
        self._line = self._first_line
        self._carry = b""
        self._blank_lines: list[Int64[np.ndarray, " line"]] = []

    def readable(self) -> bool:
        """Return that the stream is readable: the CSV reader requires it."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, and record the blank lines in them."""
        chunk = self._stream.read(size)
        for start in range(0, len(chunk), PIECE_BYTES):
            self._record_lines(chunk[start : start + PIECE_BYTES])
        return chunk

    def blank_lines(self) -> Int64[np.ndarray, " line"]:
        """Return the numbers of the blank lines read so far, ascending."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self._blank_lines])

    def texts(self) -> Iterator[str]:
        """Yield the lines as text."""
        for line in iter(partial(self._stream.readline, MAX_LINE_BYTES), b""):
            yield line.decode("utf-8", errors="replace")

    def _record_lines(self, chunk: bytes) -> None:
        """Find blank and long lines; the last line of a chunk continues in the next chunk."""
        text = self._carry + chunk
        characters = np.frombuffer(text, dtype=np.uint8)
        ends = np.flatnonzero(characters == NEWLINE)
        starts = np.r_[0, ends + 1]
        lengths = np.diff(np.r_[starts, len(text)]) - 1  # without the newline; of the unfinished line one less
        self._limits.require_rows(self._line + len(ends), self._name)
        if len(long := np.flatnonzero(lengths > MAX_LINE_BYTES)):
            _refuse_long_line(self._name, self._line + int(long[0]))
        whole = lengths[:-1]
        blank = whole == 0
        if len(returned := np.flatnonzero(characters[starts[:-1]] == RETURN)):
            returns = np.r_[0, np.cumsum(characters == RETURN, dtype=np.int32)]
            blank[returned] = (returns[ends] - returns[starts[:-1]] == whole)[returned]
        self._blank_lines.append(self._line + np.flatnonzero(blank))
        self._line += len(ends)
        self._carry = text[int(starts[-1]) :]


def _parse_text(source: _LineCountingText, found: TextLayout, columns: Columns, name: str, decimal: str) -> pa.Table:
    """Split the text into columns named by position: as numbers if all cells are plain numbers, else as text.

    A point is read as decimal mark only if the spec or one of the first bars settles it: `number_formats.py` decides
    about 8.000, which may be 8 or 8,000. Whole numbers are read as such, until a cell has a mark.
    """
    prices = {str(at) for at in (*columns.prices, columns.volume) if at >= 0}
    cells = [row[int(at)].strip() for row in found.rows for at in prices]
    settled = decimal == "." or (not decimal and any(re.search(decimal_proof("."), cell) for cell in cells))
    plain = all(map(_is_plain, cells)) and (settled or not any("." in cell for cell in cells))
    number = pa.float64() if settled else pa.int64()
    for numeric in (True, False) if plain else (False,):
        kinds = {str(at): number if numeric and str(at) in prices else pa.string() for at in columns.used}
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
    return cell in EMPTY_CELLS or PLAIN_NUMBER.fullmatch(cell) is not None


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


def _line_numbers(rows: int, first_line: int, blank_lines: Int64[np.ndarray, " line"]) -> Int64[np.ndarray, " bar"]:
    """Return the line number of each bar, given the blank lines between them."""
    if not len(blank_lines):
        return np.arange(first_line, first_line + rows, dtype=np.int64)
    lines = np.arange(first_line, first_line + rows + len(blank_lines), dtype=np.int64)
    return np.delete(lines, blank_lines - first_line)[:rows]
