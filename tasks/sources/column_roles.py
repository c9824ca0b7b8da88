"""Which column of a file is what: time, open, high, low, close, volume, symbol; by name, or by position without names.

Works on column names and on the first bars; it reads no file. A price column is taken only if each word of its name is
known: WBTC_close and next_close are not the close of BTC. What can be read in two ways is an error that names the
option which settles it. Columns are counted from 0 inside and from 1 in messages and options.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from model.bars import PRICES
from model.errors import AmbiguousFile, SpecError, UnreadableFile
from tasks.sources.symbol_names import COINS, CURRENCIES, base_and_quote, is_same_currency, spellings

ROLES = ("timestamp", *PRICES, "volume")
QUOTE_TOKENS = CURRENCIES | {"quote", "currency", "dollar", "dollars"}
NOT_A_PRICE = frozenset(
    {"adj", "adjusted", "cap", "marketcap", "vwap", "weighted", "trades", "trade", "count", "change", "chg", "taker"}
    | {"average", "avg", "ma", "sma", "ema", "return", "returns", "sno", "rank", "label", "target", "number"}
)
TIME_TOKENS = frozenset({"time", "date", "timestamp", "datetime", "unix", "ts", "t", "day", "epoch"})
END_TOKENS = frozenset({"close", "closed", "end", "last"})
OTHER_TIMES = frozenset({"next", "previous", "prev", "yesterday", "tomorrow", "lag", "expiry", "delivery", "listing"})
SYMBOL_TOKENS = frozenset({"symbol", "ticker", "pair", "coin", "asset", "currency", "instrument", "market", "product"})
SYMBOL_NAMES = frozenset({"base", "quote"})  # as the whole name
PRICE_TOKENS = {
    **dict.fromkeys(("open", "opening", "o"), "open"),
    **dict.fromkeys(("high", "highest", "max", "h"), "high"),
    **dict.fromkeys(("low", "lowest", "min", "l"), "low"),
    **dict.fromkeys(("close", "closing", "last", "c"), "close"),
}
VOLUME_TOKENS = frozenset({"volume", "vol", "v"})
MOST_DIGITS = 10  # of the number of a column; int() refuses several thousand
LEADING_NUMBER = re.compile(r"\d+[a-d]?")  # 1a. open (USD)
NEUTRAL = frozenset(  # of a price column: words that do not make it another quantity
    {"price", "prices", "value", "rate", "24h", "day", "daily", "hourly", "hour", "minute", "period", "session", "bar"}
    | {"candle", "kline", "ohlc", "ohlcv", "first", "spot", "market", "crypto", "coin", "stock", "exchange", "trade"}
    | {"the", "in", "of", "at", "for", "x", "y", "bid", "ask", "mid", "raw", "unadjusted", "binance", "coinbase"}
    | {
        "kraken",
        "bitstamp",
        "bitfinex",
        "gemini",
        "bybit",
        "okx",
        "cryptocurrency",
        "perp",
        "perpetual",
        "futures",
        "swap",
        "okex",
        "huobi",
        "kucoin",
        "bittrex",
        "poloniex",
    }
)
NAMELESS = re.compile(r"|index|unnamed[:_ ]*\d*|__index_level_\d+__")
HEADERLESS_WIDTHS = {6: "time, open, high, low, close, volume", 7: "Kraken's, with trades", 12: "Binance's"}
HEADERLESS_BOUNDED = 0.9  # share of bars with high and low in the expected columns; allows for a few bad ticks
TIME_PREFERENCE = ("unix", "timestamp", "ts", "t", "epoch", "open", "datetime", "date", "time", "day")


@dataclass(frozen=True, slots=True)
class Columns:
    """The role of each column, by position from 0; -1 is absent.

    Attributes:
        timestamp: one column, or a date column and a time-of-day column.
        witnesses: further time columns, which must agree with the first.
        prices: open, high, low, close.
        volume_unit: base, quote or unknown.
        notes: choices to report.
    """

    timestamp: tuple[int, ...]
    witnesses: tuple[int, ...]
    prices: tuple[int, int, int, int]
    volume: int
    volume_unit: str
    symbols: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def used(self) -> tuple[int, ...]:
        """Every column that is read, each once."""
        wanted = (*self.timestamp, *self.witnesses, *self.prices, self.volume, *self.symbols)
        return tuple(sorted({column for column in wanted if column >= 0}))


def name_role(name: str) -> tuple[str, frozenset[str]]:
    """Return the role of a column name (`ROLES`, `end_time`, `price`, `symbol`, `nameless` or none) and its words."""
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
        role = "" if words & OTHER_TIMES else "end_time" if words & END_TOKENS else "timestamp"
    elif len(prices := {PRICE_TOKENS[word] for word in words if word in PRICE_TOKENS}) == 1:
        role = prices.pop()
    elif "price" in words:
        role = "price"
    elif words & SYMBOL_TOKENS or lowered in SYMBOL_NAMES:
        role = "symbol"
    return role, words


def choose_columns(names: Sequence[str], requested: str, symbol: str, source: str, clock: Sequence[bool]) -> Columns:
    """Assign roles to columns, by the spec where it names them and by the column names otherwise.

    Args:
        names: column names in the file's order.
        requested: the spec's `columns`.
        symbol: the series' symbol, which distinguishes base from quote volume.
        source: the file's name, for messages.
        clock: for each column, whether its values are a time of day without a date.

    Raises:
        SpecError: `requested` names a role or a column that does not exist, or the columns are those of another symbol
            or currency.
        UnreadableFile: a price column or the time is missing.
        AmbiguousFile: two columns could have the same role.
    """
    given = _requested_columns(names, requested, source)
    roles = [name_role(name) for name in names]
    found = {role: [at for at, (named, _) in enumerate(roles) if named == role] for role in (*ROLES, "price", "symbol")}
    wide = any(len(found[role]) > 1 for role in PRICES)  # else several volumes differ by their unit
    for role in (*PRICES, "price", *(("volume",) if wide else ())):
        if role in given:
            continue
        found[role] = _of_symbol(found[role], role, roles, names, symbol, source)
    strange = {role: [at for at in found[role] if _strange_words(names[at], symbol)] for role in (*PRICES, "price")}
    found |= {role: [at for at in found[role] if at not in places] for role, places in strange.items()}
    if not found["close"]:
        found["close"] = found["price"]
    notes: list[str] = []
    missing = [role for role in PRICES if role not in given and not found[role]]
    if missing:
        _refuse_without(missing, strange, names, symbol, source)
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
    for role, at in zip(PRICES, prices, strict=True):
        if role not in given:
            _require_currency(roles[at][1], symbol, names[at], source)
    if "volume" in given:
        volume = given["volume"]
        unit = _volume_unit(roles[volume][1] - shared, symbol)
    else:
        volume, unit = _volume_column(names, roles, found["volume"], shared, symbol, source, notes)
    symbols = tuple(at for at in found["symbol"] if at not in (*timestamp, *prices, volume))
    return Columns(timestamp, witnesses, prices, volume, unit, symbols, tuple(notes))


def _of_symbol(
    places: list[int],
    role: str,
    roles: Sequence[tuple[str, frozenset[str]]],
    names: Sequence[str],
    symbol: str,
    source: str,
) -> list[int]:
    """Return those of several columns of a role that are named after the symbol, if their names differ by a symbol.

    A wide file has a column for each coin, such as BTC:open and ETH:open. Another coin's column is never taken, nor
    suggested.

    Raises:
        SpecError: the columns are those of other symbols.
    """
    own, money = _symbol_words(symbol)
    named = [at for at in places if roles[at][1] & own]
    in_quote = [at for at in named if roles[at][1] & money]
    if named or role == "volume":
        return in_quote or named or places
    shared = frozenset.intersection(*(roles[at][1] for at in places)) if len(places) > 1 else frozenset()
    others = {roles[at][1] - shared - QUOTE_TOKENS for at in places}
    other_coins = (len(others) == len(places) > 1 and all(others)) or any(roles[at][1] & COINS.keys() for at in places)
    if other_coins:
        first = ", ".join(repr(names[at]) for at in places[:3])
        raise SpecError(
            f"{source}: expected columns of {symbol}, found {first}{', ...' if len(places) > 3 else ''}, of another "  # noqa: PLR2004
            "series; set --source.symbol to the one to read, or name the columns with --source.columns"
        )
    return places


def _refuse_without(
    missing: Sequence[str], strange: dict[str, list[int]], names: Sequence[str], symbol: str, source: str
) -> NoReturn:
    """Raise for missing price columns, or for one whose name says more than its role."""
    for role in missing:
        for at in (*strange[role], *(strange["price"] if role == "close" else ())):
            words = ", ".join(map(repr, _strange_words(names[at], symbol)))
            raise SpecError(
                f"{source}: expected a column of the {role} of {symbol}, found only {names[at]!r}: {words} may mean "
                f"another series or quantity; if it holds the {role}, set --source.columns "
                f"'{role}={option_name(names, at)}'"
            )
    raise UnreadableFile(
        f"{source}: expected columns open, high, low, close; missing {', '.join(missing)} among "
        f"{_listed(names)}; set them with --source.columns, such as '{missing[0]}=NAME'"
    )


def _strange_words(name: str, symbol: str) -> list[str]:
    """Return the words of a price column's name that say neither role nor symbol nor currency, such as next or diff."""
    words = re.findall(r"[^\W\d_]+|\d+[^\W_]*", re.sub(r"\.\d+$", "", name.lower()))  # pandas: close.1 is another close
    own, money = _symbol_words(symbol)
    known = own | money | QUOTE_TOKENS | NEUTRAL | PRICE_TOKENS.keys()
    strange = [
        word for at, word in enumerate(words) if word not in known and not (at == 0 and LEADING_NUMBER.fullmatch(word))
    ]
    if "last" in words and "close" in words[words.index("last") :]:  # the close before; Close/Last is this one
        strange.append("last")
    return strange


def _require_currency(words: frozenset[str], symbol: str, name: str, source: str) -> None:
    """Raise SpecError if the words of a price column name another currency than the symbol does."""
    base, quote = base_and_quote(symbol)
    named = [word.removeprefix(coin) for word in words for coin in spellings(base) if word != coin]
    stated = {word for word in named if word in CURRENCIES}
    if wrong := sorted(currency for currency in stated if not is_same_currency(currency, quote)):
        raise SpecError(
            f"{source}: expected prices of {symbol}, found {', '.join(wrong).upper()} in the names of the "
            f"columns, such as {name!r}; set --source.symbol, or name the columns with --source.columns"
        )


def _symbol_words(symbol: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the words that name a symbol in a column (btc, btcusd), and those of them that name its quote, too."""
    base, quote = base_and_quote(symbol)
    bases = spellings(base)
    moneys = QUOTE_TOKENS | {quote}
    pairs = {f"{coin}{money}" for coin in bases for money in moneys}
    return bases | pairs, frozenset({quote} | {f"{coin}{quote}" for coin in bases})


def _requested_columns(names: Sequence[str], requested: str, source: str) -> dict[str, int]:
    """Parse 'role=column,...' where a column is a name or a number from 1 on."""
    given: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in requested.split(","))):
        role, _, column = (piece.strip() for piece in part.partition("="))
        if role not in ROLES or not column:
            raise SpecError(
                f"--source.columns: expected 'ROLE=COLUMN' with a role of {', '.join(ROLES)}; found {part!r}"
            )
        places = [at for at, name in enumerate(names) if name == column]
        if not places and column.isdecimal() and len(column) < MOST_DIGITS and 1 <= int(column) <= len(names):
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
    """Return column names for a message; numbers where there are no names."""
    return ", ".join(name or f"(column {at})" for at, name in enumerate(names, 1))


def option_name(names: Sequence[str], at: int) -> str:
    """Return how --source.columns names a column: by its name, or by its number where that is not unique or empty."""
    return names[at] if names[at] and names.count(names[at]) == 1 and "," not in names[at] else str(at + 1)


def _only(places: list[int], role: str, names: Sequence[str], source: str) -> int:
    """Return the only column of a role."""
    if len(places) > 1:
        raise AmbiguousFile(
            f"{source}: {' and '.join(repr(names[at]) for at in places)} could each be the {role}; "
            f"choose with --source.columns '{role}={option_name(names, places[0])}' or "
            f"'{role}={option_name(names, places[1])}'"
        )
    return places[0]


def _time_columns(
    names: Sequence[str], roles: Sequence[tuple[str, frozenset[str]]], clock: Sequence[bool], source: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Choose the time column (or date and time of day), and the further ones that must agree with it."""
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
                f"{source}: the only time column, {ends[0]!r}, seems to hold closing times; confirm with "
                f"--source.columns 'timestamp={ends[0]}' --source.bar-stamp close"
            )
        raise UnreadableFile(
            f"{source}: expected a column of times, found {_listed(names)}; "
            "set it with --source.columns 'timestamp=NAME'"
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
    """Return the unit that the name of a volume column states."""
    base, quote = base_and_quote(symbol)
    if words & (spellings(base) | {"base"}):
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
    """Choose the volume column: of several, the one in base units."""
    if not places:
        return -1, "none: the file has no volume"
    units = {at: _volume_unit(roles[at][1] - shared, symbol) for at in places}
    if len(places) == 1:
        return places[0], units[places[0]]
    base = [at for at in places if units[at] == "base"] or [at for at in places if units[at] == "unknown"]
    chosen = _only(base or places, "volume", names, source)
    others = ", ".join(repr(names[at]) for at in places if at != chosen)
    notes.append(f"of several volumes {names[chosen]!r} was used, the one in base units; not used: {others}")
    return chosen, "base"


def columns_by_position(rows: Sequence[Sequence[str]], source: str) -> Columns:
    """Assign roles to the columns of a file without column names, from known layouts.

    Kraken writes time, open, high, low, close, volume, trades; Binance's twelve columns begin the same way. The order
    is accepted only if the bars confirm it: high and low bound the other prices and not the volume, and a bar opens
    near the last close.

    Args:
        rows: fields of the first bars, in the file's order.
        source: the file's name, for messages.

    Raises:
        AmbiguousFile: no known layout has this number of columns, or the bars contradict the order.
    """
    settle = (
        "set the columns by number with --source.columns, such as 'timestamp=1,open=2,high=3,low=4,close=5,volume=6'"
    )
    width = len(rows[0])
    if width not in HEADERLESS_WIDTHS:
        raise AmbiguousFile(
            f"{source}: it has no column names, and no known layout has {width} columns, as line 1 has; {settle}"
        )
    bars = [[float(field) for field in row[1:5]] for row in rows if all(_is_float(field) for field in row[1:5])]
    moving = [bar for bar in bars if max(bar) > min(bar)]
    bounded = sum(high == max(bar) and low == min(bar) for bar in moving for _, high, low, _ in [bar])
    if not moving or bounded < HEADERLESS_BOUNDED * len(moving):
        raise AmbiguousFile(
            f"{source}: it has no column names, and columns 3 and 4 are the highest and lowest price in only "
            f"{bounded} of {len(moving)} bars; {settle}"
        )
    numbers = [[float(field) for field in row[1:6]] for row in rows if all(_is_float(field) for field in row[1:6])]
    between = sum(low <= sixth <= high for _, high, low, _, sixth in numbers)
    if between > len(numbers) / 2:
        others = settle.replace(",volume=6", ",volume=7" if width > 6 else "")  # noqa: PLR2004 - columns
        raise AmbiguousFile(
            f"{source}: it has no column names, and column 6 lies between the lowest and the highest price in "
            f"{between} of {len(numbers)} bars, so it is no volume; {others}"
        )
    newest_first = rows[0][0] > rows[-1][0]
    in_time = bars[::-1] if newest_first else bars
    pairs = list(itertools.pairwise(in_time))
    forward = sum(abs(after[0] - before[3]) for before, after in pairs)
    swapped = sum(abs(after[3] - before[0]) for before, after in pairs)
    if forward > swapped:
        raise AmbiguousFile(f"{source}: it has no column names, and columns 2 and 5 look like close and open; {settle}")
    note = f"columns by position, by the known layout of {width} columns without names"
    return Columns((0,), (), (1, 2, 3, 4), 5, "unknown", (), (note,))


def _is_float(field: str) -> bool:
    """Whether a field is a plain number."""
    try:
        float(field)
    except ValueError:
        return False
    return True
