"""The layout of a text file of bars: delimiter, header line, first bar.

Works on the first lines of a file; it reads no file and converts no column. Lines are counted from 1. Caution: lines
above the column names are a banner, and a file may have no column names at all.
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from model.bars import PRICES
from model.errors import UnreadableFile
from tasks.sources.column_roles import name_role

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
EMPTY_CELLS = ("", "-", "--", "NaN", "nan", "NA", "N/A", "n/a", "null", "NULL", "None")
NUMBER = re.compile(r"[-+$€£]?\s*(\d[\d.,'\u00a0 ]*|\.\d+\s*)([eE][-+]?\d+\s*)?[%KMB]?")
STARTS_LIKE_TIME = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}[- ]?[A-Za-z]{3}|[A-Za-z]{3,9} \d{1,2},? ")
CLOCK = re.compile(r"\d{1,2}:\d\d")


def decimal_proof(mark: str) -> str:
    """Return the pattern of numbers which show that `mark`, a point or a comma, is the decimal mark.

    The other mark groups digits before it or twice, or this one stands where no group of thousands can be: 1,234.5
    and 9,92,65,40,000 and 10.5 and 0.123 and 1234.567 prove a point, 8.000 proves nothing.
    """
    other = "," if mark == "." else "."
    mark, other = re.escape(mark), re.escape(other)
    return (
        rf"{other}\d{{3}}{mark}|{other}\d{{2,3}}{other}|^[^{other}{mark}]*{mark}(\d{{1,2}}|\d{{4,}})[KkMmBb%]?$"
        rf"|^[-+]?(0?|\d{{4,}}){mark}\d|{mark}\d*[eE]"
    )


@dataclass(frozen=True, slots=True)
class TextLayout:
    """Where the bars of a text file are.

    Attributes:
        delimiter: the character between fields.
        header_line: line of the column names; 0 where the file has none.
        first_line: line of the first bar.
        names: column names, empty strings where there are none.
        rows: fields of the first bars, for further inference.
    """

    delimiter: str
    header_line: int
    first_line: int
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def infer_text_layout(lines: Sequence[str], source: str) -> TextLayout:
    """Find delimiter, header and first bar in the first lines of a file.

    Args:
        lines: the first lines, each complete.
        source: the file's name, for messages.

    Raises:
        UnreadableFile: the lines are no table of bars, or no bar follows the header.
    """
    if not any(line.strip() for line in lines):
        raise UnreadableFile(f"{source}: expected bars, found an empty file")
    try:
        best = max(DELIMITERS, key=lambda delimiter: _delimiter_score(lines, delimiter))
    except csv.Error as error:
        raise UnreadableFile(
            f"{source}: expected a table of bars, found text that cannot be split into columns ({error})"
        ) from error
    rows = _numbered_rows(lines, best)
    if not rows:
        raise UnreadableFile(f"{source}: expected bars, found lines with delimiters only")
    width = _width(rows)
    first = next((at for at, (_, fields) in enumerate(rows) if len(fields) == width and _looks_like_bar(fields)), None)
    if first is None:
        _refuse_without_bars(rows, source)
    first_line, _ = rows[first]
    for line, _ in rows[:first]:
        _refuse_bar_above(lines[line - 1], line, first_line, source)
    header_line, names = 0, ("",) * width
    if first > 0:
        line, fields = rows[first - 1]
        shorter = len(fields) == width - 1
        if len(fields) == width or shorter:
            ragged_end = shorter and all(not fields[-1].strip() for _, fields in rows[first:] if len(fields) == width)
            padded = (*fields, "") if ragged_end else ("", *fields) if shorter else tuple(fields)
            header_line, names = line, tuple(name.strip().strip("<>").strip() for name in padded)
    data = tuple(tuple(fields) for _, fields in rows[first:] if len(fields) == width)
    return TextLayout(best, header_line, first_line, names, data)


def _numbered_rows(lines: Sequence[str], delimiter: str) -> list[tuple[int, list[str]]]:
    """Split lines into fields, each with its line number; blank lines are skipped."""
    reader = csv.reader(lines, delimiter=delimiter)
    return [(reader.line_num, fields) for fields in reader if any(field.strip() for field in fields)]


def _width(rows: list[tuple[int, list[str]]]) -> int:
    """Return the most common number of fields; the larger one of a tie."""
    counts = Counter(len(fields) for _, fields in rows)
    return max(counts, key=lambda width: (counts[width], width))


def _delimiter_score(lines: Sequence[str], delimiter: str) -> tuple[float, int]:
    """Rate a delimiter by the fields per line that look like numbers, in lines of the most common width."""
    rows = _numbered_rows(lines, delimiter)
    if not rows:
        return (0.0, 0)
    width = _width(rows)
    even = [fields for _, fields in rows if len(fields) == width]
    numbers = sum(sum(_is_number(field) for field in fields) for fields in even) / len(rows)
    return (numbers if width > 1 else 0.0, width)


def _is_number(field: str) -> bool:
    """Whether a field looks like a number in any common notation."""
    return NUMBER.fullmatch(field.strip()) is not None


def _looks_like_bar(fields: Sequence[str]) -> bool:
    """Whether the fields are values rather than column names."""
    values = [field.strip() for field in fields]
    recognised = sum(_is_number(value) or STARTS_LIKE_TIME.match(value) is not None for value in values)
    empty = sum(value in EMPTY_CELLS for value in values)
    return recognised >= min(2, len(values)) or (recognised >= 1 and recognised + empty == len(values))


def _refuse_bar_above(text: str, line: int, first_line: int, source: str) -> None:
    """Raise if a line above the first bar is a bar too, of another delimiter or width."""
    for delimiter in DELIMITERS:
        fields = [field.strip() for field in next(csv.reader([text], delimiter=delimiter), [])]
        numbers = sum(map(_is_number, fields))
        times = sum(STARTS_LIKE_TIME.match(field) is not None and not _is_number(field) for field in fields)
        if numbers >= len(PRICES) and numbers + times > len(PRICES):
            raise UnreadableFile(
                f"{source} line {line}: expected a banner or column names above the bars, which begin on line "
                f"{first_line}, found a bar ({text.strip()[:80]!r}) with another delimiter or number of fields; write "
                "all lines alike"
            )


def _refuse_without_bars(rows: list[tuple[int, list[str]]], source: str) -> NoReturn:
    """Raise for a file without a single bar: a header only, or no table."""
    for at, (line, fields) in enumerate(rows):
        if any(name_role(name)[0] in PRICES for name in fields):
            below = rows[at + 1 :]
            found = f"{','.join(below[0][1])[:80]!r} on line {below[0][0]}" if below else "none"
            raise UnreadableFile(f"{source}: expected bars below the column names of line {line}, found {found}")
    line, fields = rows[0]
    raise UnreadableFile(
        f"{source}: expected a table with a time and open, high, low, close; found no price columns "
        f"(line {line}: {','.join(fields)[:80]!r})"
    )
