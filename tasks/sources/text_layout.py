"""How a text file of bars is laid out: delimiter, header line, and which column is what.

Works on the first lines of a file and on column names; it reads no file and converts no column. What can be read in
two ways is an error that names the option which settles it. Lines are counted from 1, columns from 0 inside and from 1
in messages.
"""

import csv
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from model.bars import PRICES
from model.errors import AmbiguousFile, SpecError, UnreadableFile

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
EMPTY_CELLS = ("", "-", "--", "NaN", "nan", "NA", "N/A", "n/a", "null", "NULL", "None")
ROLES = ("timestamp", *PRICES, "volume")
QUOTE_TOKENS = frozenset({"usd", "usdt", "usdc", "eur", "gbp", "jpy", "krw", "quote", "currency", "dollar", "dollars"})
NUMBER = re.compile(r"[-+$€£]?\s*(\d[\d.,'\u00a0 ]*|\.\d+)([eE][-+]?\d+)?\s*[%KMB]?")
STARTS_LIKE_TIME = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}[- ]?[A-Za-z]{3}|[A-Za-z]{3,9} \d{1,2},? ")
CLOCK = re.compile(r"\d{1,2}:\d\d")

NOT_A_PRICE = frozenset(
    {"adj", "adjusted", "cap", "marketcap", "vwap", "weighted", "trades", "trade", "count", "change", "chg", "taker"}
    | {"average", "avg", "ma", "sma", "ema", "return", "returns", "sno", "rank", "label", "target", "number"}
)
TIME_TOKENS = frozenset({"time", "date", "timestamp", "datetime", "unix", "ts", "t", "day", "epoch"})
END_TOKENS = frozenset({"close", "closed", "end", "last"})
SYMBOL_TOKENS = frozenset({"symbol", "ticker", "pair", "coin", "asset", "currency", "instrument", "market", "product"})
PRICE_TOKENS = {
    **dict.fromkeys(("open", "opening", "o"), "open"),
    **dict.fromkeys(("high", "highest", "max", "h"), "high"),
    **dict.fromkeys(("low", "lowest", "min", "l"), "low"),
    **dict.fromkeys(("close", "closing", "last", "c"), "close"),
}
VOLUME_TOKENS = frozenset({"volume", "vol", "v"})
NAMELESS = re.compile(r"|index|unnamed[:_ ]*\d*|__index_level_\d+__")
HEADERLESS_WIDTHS = {6: "time, open, high, low, close, volume", 7: "Kraken's, with trades", 12: "Binance's"}
HEADERLESS_BOUNDED = 0.9  # of the bars; a few bad ticks do not unmake an order
TIME_PREFERENCE = ("unix", "timestamp", "ts", "t", "epoch", "open", "datetime", "date", "time", "day")


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


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column is what, by position from 0; -1 is absent.

    Attributes:
        timestamp: one column, or a date and a clock column that belong together.
        witnesses: further time columns, which have to agree with the first.
        prices: open, high, low, close.
        volume_unit: base, quote or unknown.
        notes: choices worth saying.
    """

    timestamp: tuple[int, ...]
    witnesses: tuple[int, ...]
    prices: tuple[int, int, int, int]
    volume: int
    volume_unit: str
    symbol: int
    notes: tuple[str, ...]

    @property
    def used(self) -> tuple[int, ...]:
        """Every column that is read, each once."""
        wanted = (*self.timestamp, *self.witnesses, *self.prices, self.volume, self.symbol)
        return tuple(sorted({column for column in wanted if column >= 0}))


def infer_text_layout(lines: Sequence[str], source: str) -> TextLayout:
    """Find delimiter, header and first bar in the first lines of a file.

    Args:
        lines: the first lines, without a cut-off one.
        source: the file's name, for messages.

    Raises:
        UnreadableFile: the lines are no table of bars, or there is a header and nothing below it.
    """
    if not any(line.strip() for line in lines):
        raise UnreadableFile(f"{source}: expected bars, found an empty file")
    try:
        best = max(DELIMITERS, key=lambda delimiter: _delimiter_score(lines, delimiter))
    except csv.Error as error:
        raise UnreadableFile(
            f"{source}: expected a table of bars, found text that cannot be split ({error})"
        ) from error
    rows = _numbered_rows(lines, best)
    if not rows:
        raise UnreadableFile(f"{source}: expected bars, found lines of delimiters alone")
    width = _width(rows)
    first = next((at for at, (_, fields) in enumerate(rows) if len(fields) == width and _looks_like_bar(fields)), None)
    if first is None:
        _refuse_without_bars(rows, source)
    first_line, _ = rows[first]
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
    """Split lines into fields; blank lines are left out, line numbers are kept."""
    reader = csv.reader(lines, delimiter=delimiter)
    return [(reader.line_num, fields) for fields in reader if any(field.strip() for field in fields)]


def _width(rows: list[tuple[int, list[str]]]) -> int:
    """Return the commonest number of fields; of two as common, the larger."""
    counts = Counter(len(fields) for _, fields in rows)
    return max(counts, key=lambda width: (counts[width], width))


def _delimiter_score(lines: Sequence[str], delimiter: str) -> tuple[float, int]:
    """Rate a delimiter: number-like fields a line, counted in lines of the commonest width."""
    rows = _numbered_rows(lines, delimiter)
    if not rows:
        return (0.0, 0)
    width = _width(rows)
    even = [fields for _, fields in rows if len(fields) == width]
    numbers = sum(sum(_is_number(field) for field in fields) for fields in even) / len(rows)
    return (numbers if width > 1 else 0.0, width)


def _is_number(field: str) -> bool:
    """Tell whether a field looks like a number in any country's writing."""
    return NUMBER.fullmatch(field.strip()) is not None


def _looks_like_bar(fields: Sequence[str]) -> bool:
    """Tell whether the fields are values rather than column names."""
    values = [field.strip() for field in fields]
    telling = sum(_is_number(value) or STARTS_LIKE_TIME.match(value) is not None for value in values)
    empty = sum(value in EMPTY_CELLS for value in values)
    return telling >= min(2, len(values)) or (telling >= 1 and telling + empty == len(values))


def _refuse_without_bars(rows: list[tuple[int, list[str]]], source: str) -> NoReturn:
    """Raise what fits a file without a single bar: a header alone, or no table at all."""
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


def name_role(name: str) -> tuple[str, frozenset[str]]:
    """Say what a column name means: a role of `ROLES`, `end_time`, `symbol`, `nameless` or nothing; and its words."""
    lowered = name.strip().lower()
    words = frozenset(re.findall(r"[a-z]+|\d+[a-z]*", lowered))
    if len(words) > 1:
        words = frozenset(word for word in words if len(word) > 1)
    role = ""
    if NAMELESS.fullmatch(lowered):
        role = "nameless"
    elif words & NOT_A_PRICE:
        pass
    elif words & VOLUME_TOKENS:
        role = "volume"
    elif words & TIME_TOKENS:
        role = "end_time" if words & END_TOKENS else "timestamp"
    elif len(prices := {PRICE_TOKENS[word] for word in words if word in PRICE_TOKENS}) == 1:
        role = prices.pop()
    elif "price" in words:
        role = "price"
    elif words & SYMBOL_TOKENS:
        role = "symbol"
    return role, words


def choose_columns(names: Sequence[str], told: str, symbol: str, source: str, clock: Sequence[bool]) -> Columns:
    """Decide by the column names, and by what was told, which column is what.

    Args:
        names: column names in the file's order.
        told: the spec's `columns`.
        symbol: the series' symbol, which tells base from quote volume.
        source: the file's name, for messages.
        clock: for each column whether its values are a time of day alone.

    Raises:
        SpecError: `told` names a role or a column that is not there.
        UnreadableFile: a price column or the time is missing.
        AmbiguousFile: two columns could be the same thing.
    """
    given = _told_columns(names, told, source)
    roles = [name_role(name) for name in names]
    found = {role: [at for at, (named, _) in enumerate(roles) if named == role] for role in (*ROLES, "price", "symbol")}
    if not found["close"]:
        found["close"] = found["price"]
    notes: list[str] = []
    missing = [role for role in PRICES if role not in given and not found[role]]
    if missing:
        raise UnreadableFile(
            f"{source}: expected columns open, high, low, close; missing {', '.join(missing)} among "
            f"{_listed(names)}; name them with --source.columns, such as '{missing[0]}=NAME'"
        )
    first, high, low, close = (
        given[role] if role in given else _only(found[role], role, names, source) for role in PRICES
    )
    prices = (first, high, low, close)
    timestamp: tuple[int, ...]
    witnesses: tuple[int, ...]
    if "timestamp" in given:
        timestamp, witnesses = (given["timestamp"],), ()
    else:
        timestamp, witnesses = _time_columns(names, roles, clock, source)
    shared = frozenset.intersection(*(roles[at][1] for at in prices))  # BTC in BTC.open names the symbol, not a unit
    if "volume" in given:
        volume = given["volume"]
        unit = _volume_unit(roles[volume][1] - shared, symbol)
    else:
        volume, unit = _volume_column(names, roles, found["volume"], shared, symbol, source, notes)
    symbols = [at for at in found["symbol"] if at not in (*timestamp, *prices, volume)]
    return Columns(timestamp, witnesses, prices, volume, unit, symbols[0] if symbols else -1, tuple(notes))


def _told_columns(names: Sequence[str], told: str, source: str) -> dict[str, int]:
    """Read 'role=column,...' where a column is a name or a number from 1 on."""
    given: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in told.split(","))):
        role, _, column = (piece.strip() for piece in part.partition("="))
        if role not in ROLES or not column:
            raise SpecError(
                f"--source.columns: expected 'ROLE=COLUMN' with a role of {', '.join(ROLES)}; found {part!r}"
            )
        places = [at for at, name in enumerate(names) if name == column]
        if not places and column.isdecimal() and 1 <= int(column) <= len(names):
            places = [int(column) - 1]
        if not places:
            raise SpecError(f"--source.columns: {source} has no column {column!r}; it has {_listed(names)}")
        if len(places) > 1:
            numbers = " and ".join(str(at + 1) for at in places)
            raise AmbiguousFile(
                f"{source}: columns {numbers} are both named {column!r}; use the number in --source.columns"
            )
        given[role] = places[0]
    return given


def _listed(names: Sequence[str]) -> str:
    """Column names for a message; numbers where there are no names."""
    return ", ".join(name or f"(column {at})" for at, name in enumerate(names, 1))


def _only(places: list[int], role: str, names: Sequence[str], source: str) -> int:
    """Return the one place of a role."""
    if len(places) > 1:
        raise AmbiguousFile(
            f"{source}: {' and '.join(repr(names[at]) for at in places)} could each be the {role}; "
            f"choose with --source.columns '{role}={names[places[0]]}' (or a column number)"
        )
    return places[0]


def _time_columns(
    names: Sequence[str], roles: Sequence[tuple[str, frozenset[str]]], clock: Sequence[bool], source: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Choose the time column (or date and clock), and the further ones that have to agree with it."""
    places = [at for at, (role, _) in enumerate(roles) if role == "timestamp"]
    days = [at for at in places if not clock[at]]
    clocks = [at for at in places if clock[at]]
    if not days and not clocks:
        nameless = [at for at, (role, _) in enumerate(roles) if role == "nameless"]
        if len(nameless) == 1:
            return (nameless[0],), ()
    if not days:
        ends = [names[at] for at, (role, _) in enumerate(roles) if role == "end_time"]
        if ends:
            raise AmbiguousFile(
                f"{source}: the only time column, {ends[0]!r}, seems to hold closes; say so with "
                f"--source.columns 'timestamp={ends[0]}' --source.bar-stamp close"
            )
        raise UnreadableFile(
            f"{source}: expected a column of times, found {_listed(names)}; "
            "name it with --source.columns 'timestamp=NAME'"
        )

    def preference(at: int) -> tuple[int, int]:
        words = roles[at][1]
        return (min(rank for rank, word in enumerate((*TIME_PREFERENCE, "")) if word in words or not word), at)

    days.sort(key=preference)
    plain = [at for at in days if not roles[at][1] & {"open", "opened", "start"}] or days
    first = next((at for at in days if at in plain), days[0])
    if len(days) == 1 and len(clocks) == 1:
        return (first, clocks[0]), ()
    return (first,), tuple(at for at in plain if at != first)


def _volume_unit(words: frozenset[str], symbol: str) -> str:
    """Tell the unit that a volume column's name gives away."""
    base, _, quote = symbol.lower().replace("/", "-").partition("-")
    bases = {base, "base"} | ({"xbt", "btc"} if base in {"btc", "xbt"} else set())
    if words & bases:
        return "base"
    return "quote" if words & (QUOTE_TOKENS | {quote}) else "unknown"


def _volume_column(
    names: Sequence[str],
    roles: Sequence[tuple[str, frozenset[str]]],
    places: list[int],
    shared: frozenset[str],
    symbol: str,
    source: str,
    notes: list[str],
) -> tuple[int, str]:
    """Choose the volume column: the one in base units where the names tell two apart."""
    if not places:
        return -1, "none: the file has no volume"
    units = {at: _volume_unit(roles[at][1] - shared, symbol) for at in places}
    if len(places) == 1:
        return places[0], units[places[0]]
    base = [at for at in places if units[at] == "base"] or [at for at in places if units[at] == "unknown"]
    chosen = _only(base or places, "volume", names, source)
    others = ", ".join(repr(names[at]) for at in places if at != chosen)
    notes.append(f"of two volumes {names[chosen]!r} was taken, as the one in base units, and {others} left")
    return chosen, "base"


def columns_by_position(rows: Sequence[Sequence[str]], source: str) -> Columns:
    """Decide what the columns of a file without names are, from the known ways of writing one.

    Kraken writes time, open, high, low, close, volume, trades; Binance's twelve columns begin the same way. The order
    is believed only where the bars bear it out: high and low bound the rest, and a bar opens near the last close.

    Args:
        rows: fields of the first bars, in the file's order.
        source: the file's name, for messages.

    Raises:
        AmbiguousFile: the columns are not known by their number, or the bars speak against the order.
    """
    settle = (
        "name the columns by number with --source.columns, such as 'timestamp=1,open=2,high=3,low=4,close=5,volume=6'"
    )
    width = len(rows[0])
    if width not in HEADERLESS_WIDTHS:
        raise AmbiguousFile(
            f"{source}: it has no column names, and {width} columns as line 1 has them are no known layout; {settle}"
        )
    bars = [[float(field) for field in row[1:5]] for row in rows if all(_is_float(field) for field in row[1:5])]
    moving = [bar for bar in bars if max(bar) > min(bar)]
    bounded = sum(high == max(bar) and low == min(bar) for bar in moving for _, high, low, _ in [bar])
    if not moving or bounded < HEADERLESS_BOUNDED * len(moving):
        raise AmbiguousFile(
            f"{source}: it has no column names, and columns 3 and 4 are the highest and lowest price in {bounded} of "
            f"{len(moving)} bars only; {settle}"
        )
    newest_first = rows[0][0] > rows[-1][0]
    in_time = bars[::-1] if newest_first else bars
    pairs = list(itertools.pairwise(in_time))
    forward = sum(abs(after[0] - before[3]) for before, after in pairs)
    swapped = sum(abs(after[3] - before[0]) for before, after in pairs)
    if forward > swapped:
        raise AmbiguousFile(f"{source}: it has no column names, and columns 2 and 5 look like close and open; {settle}")
    note = f"columns by position, as files of {width} columns without names are written"
    return Columns((0,), (), (1, 2, 3, 4), 5, "unknown", -1, (note,))


def _is_float(field: str) -> bool:
    """Tell whether a field is a number as machines write it."""
    try:
        float(field)
    except ValueError:
        return False
    return True
