"""The formats of times in a file of bars, and their conversion to UTC.

Takes one column of a file (text, numbers, or times) and returns UTC times, with a record of the unit, format and zone
that were found. A column that can be read in two ways (03/04/2017) is an error. The unit of unix times follows from
their size: seconds, milliseconds, microseconds and nanoseconds of the years 1990 to 2100 do not overlap. Caution: a
time without a zone is taken as UTC unless the spec names another; nothing inside one file can show that it is not.
"""

import difflib
import re
from dataclasses import dataclass
from itertools import product
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64, Shaped

from model.errors import AmbiguousFile, SpecError, UnreadableFile
from model.times import column_times
from tasks.sources.given_time_format import UNIX_UNITS, states_utc

UNIX_YEARS = (631_152_000, 4_102_444_800)  # 1990-01-01 and 2100-01-01 in unix seconds
YEARS = (np.datetime64("1900-01-01", "us"), np.datetime64("2100-01-01", "us"))  # of any time
COMPACT_FORMATS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # by number of digits
DATE_FORMATS = (
    *("%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%Y", "%m.%d.%Y", "%Y.%m.%d"),
    *("%d/%m/%y", "%m/%d/%y", "%y/%m/%d", "%d-%m-%y", "%m-%d-%y", "%y-%m-%d", "%d.%m.%y", "%m.%d.%y", "%y.%m.%d"),
    *("%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y", "%b-%d-%Y", "%b-%d-%y"),
    *("%a %b %d %Y", "%a, %d %b %Y", "%Y%m%d", "%Y-%m-%d"),
)
CLOCK_FORMATS = (
    *("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %H%M%S", " %I-%p", " %I %p", " %I:%M %p", " %I:%M:%S %p"),
    *("T%H:%M", "T%H:%M:%S", " %H:%M:%S%z", "T%H:%M:%S%z"),
)
SECONDS_9999 = 253_402_300_800  # unix time of the year 10000
SWAPPED_DAYS = 20  # a date with day and month swapped lies further from its neighbours
SAMPLE_ROWS = 100  # enough to drop most formats before the whole column is read


@dataclass(frozen=True, slots=True)
class Times:
    """The times of one column.

    Attributes:
        moments: shape (row,), datetime64[us], UTC, in the file's order.
        unit: seconds, milliseconds, ... for unix times; `date and time` for the rest.
        format: of the text.
        zone: their time zone, and how it is known.
    """

    moments: Shaped[np.ndarray, " row"]
    unit: str
    format: str
    zone: str


@dataclass(frozen=True, slots=True)
class Place:
    """The position of a column's values in the file, for messages.

    Attributes:
        source: the file's name.
        word: `line` or `row`.
        numbers: shape (row,), the line or row of each value, from 1.
    """

    source: str
    word: str
    numbers: Int64[np.ndarray, " row"]

    def of(self, row: int) -> str:
        """Return the place of a row, such as `bars.csv line 7`."""
        return f"{self.source} {self.word} {self.numbers[row]}"


def read_times(column: pa.ChunkedArray, given_format: str, given_zone: str, place: Place) -> Times:
    """Read a column of times.

    Args:
        column: text, numbers, dates or times, in the file's order.
        given_format: a strptime format, a unix unit, or empty to infer.
        given_zone: zone of times without one; empty is UTC.
        place: of the column.

    Raises:
        UnreadableFile: a value is missing or no time; the message names its line.
        AmbiguousFile: the column can be read in two ways.
        SpecError: the zone does not exist, or contradicts that of the file.
    """
    zone = _known_zone(given_zone)
    if column.null_count:
        row = int(pc.index(column.is_null(), pa.scalar(value=True)).as_py())
        raise UnreadableFile(f"{place.of(row)}: expected a time, found an empty cell ({column.null_count} such)")
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        own = kind.tz if pa.types.is_timestamp(kind) else None
        return _in_zone(_microseconds(column), own, zone, "date and time", str(kind), place)
    if pa.types.is_integer(kind) and given_format not in ("", *UNIX_UNITS):  # digits that are a date: 20170905
        return _text_times(pc.cast(column, pa.string()), given_format, zone, place)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _numeric_times(column, given_format, zone, place)
    if not pa.types.is_string(kind):
        raise UnreadableFile(
            f"{place.source}: expected a column of times, found one of type {kind}; choose another one with "
            "--source.columns 'timestamp=NAME'"
        )
    return _text_times(pc.utf8_trim_whitespace(column), given_format, zone, place)


def _text_times(column: pa.ChunkedArray, given_format: str, zone: str, place: Place) -> Times:
    """Read times written as text: in the given format, as unix times, as ISO 8601, or in the one format that fits."""
    if given_format and given_format not in UNIX_UNITS:
        own = "UTC" if states_utc(given_format) else None
        return _in_zone(_formatted_times(column, given_format, place), own, zone, "date and time", given_format, place)
    number = _cast(column, pa.int64()) or _cast(column, pa.float64())
    if number is not None:
        return _numeric_times(number, given_format, zone, place)
    if given_format:
        _refuse_first(pd.to_numeric(column.to_pandas(), errors="coerce").isna().to_numpy(), column, given_format, place)
    plain = _cast(column, pa.timestamp("us")) or _cast(column, pa.timestamp("ns"))
    if plain is not None:
        return _in_zone(_microseconds(plain), None, zone, "date and time", "ISO 8601", place)
    zoned = pc.replace_substring_regex(column, r" ?UTC$", "Z")
    aware = _cast(zoned, pa.timestamp("us", "UTC")) or _cast(zoned, pa.timestamp("ns", "UTC"))
    if aware is not None:
        return _in_zone(_microseconds(aware), "UTC", zone, "date and time", "ISO 8601 with zone", place)
    numeric = pc.match_substring_regex(column, r"^\d+(\.\d+)?$").to_numpy()
    if numeric.mean() > 0.5:  # noqa: PLR2004 - most of them
        _refuse_first(~numeric, column, "unix time", place)
    at, written = _inferred_times(column, place)
    return _in_zone(at, "UTC" if "%z" in written else None, zone, "date and time", written, place)


def newest_first(moments: Shaped[np.ndarray, " row"]) -> bool:
    """Return whether most steps between times, in the file's order, run backwards."""
    steps = np.diff(moments).astype(np.int64)
    return bool((steps < 0).sum() > (steps > 0).sum())


def _known_zone(name: str) -> str:
    """Return the name of a zone, after checking that it exists."""
    try:
        ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones, such as Europe
        near = difflib.get_close_matches(name, sorted(available_timezones()), n=3)
        hint = f"; similar: {', '.join(near)}" if near else ", such as UTC or Asia/Seoul"
        raise SpecError(f"--source.timezone: there is no zone {name!r}{hint}") from None
    return name


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    """Cast all of a column, or return None where one value does not fit."""
    try:
        return pc.cast(column, kind)
    except pa.ArrowInvalid:
        return None


def _microseconds(column: pa.ChunkedArray) -> Shaped[np.ndarray, " row"]:
    """Return times of any unit and zone as datetime64[us], UTC where they have a zone.

    Times that microseconds cannot hold become the last one that they can.
    """
    kind = column.type
    zone = kind.tz if pa.types.is_timestamp(kind) else None
    finer = pa.types.is_timestamp(kind) and kind.unit == "ns"
    try:
        whole = pc.cast(pc.cast(column, pa.timestamp("us", zone), safe=not finer), pa.int64()).to_numpy()
    except pa.ArrowInvalid:  # a time beyond 290,000 years: whole seconds are enough to find it
        seconds = pc.cast(pc.cast(column, pa.timestamp("s", zone), safe=False), pa.int64()).to_numpy()
        held = (seconds > -SECONDS_9999) & (seconds < SECONDS_9999)
        whole = np.where(held, seconds * 10**6, np.iinfo(np.int64).max)
    moments: Shaped[np.ndarray, " row"] = whole.view("datetime64[us]")
    return moments


def _in_zone(
    at: Shaped[np.ndarray, " row"], own: str | None, zone: str, unit: str, written: str, place: Place
) -> Times:
    """Convert times without a zone to UTC; times with one are UTC already. A far-off time is an error."""
    far = np.flatnonzero(~((at >= YEARS[0]) & (at < YEARS[1])))
    if len(far):
        first = at[far[0]]
        found = str(first) if abs(int(first.astype(np.int64))) < SECONDS_9999 * 10**6 else "a time beyond 9999"
        raise UnreadableFile(
            f"{place.of(int(far[0]))}: expected a time of the years 1900 to 2099, found {found} ({len(far)} such); "
            "correct the line, or set another format with --source.timestamp-format"
        )
    if own is not None:
        if zone not in ("", own, "UTC"):
            raise SpecError(
                f"{place.source}: its times have their own zone ({own}), which --source.timezone {zone} contradicts; "
                "omit the option"
            )
        return Times(at, unit, written, f"{own}, from the file")
    if zone in ("", "UTC"):
        return Times(
            at, unit, written, "UTC, from --source.timezone" if zone else "UTC, assumed: the file names no zone"
        )
    order = -1 if newest_first(at) else 1
    try:  # in time order: of two equal local times, the earlier one is summer time
        utc = pd.DatetimeIndex(at[::order]).tz_localize(zone, ambiguous="infer")[::order]
    except ValueError as error:
        raise AmbiguousFile(
            f"{place.source}: not every time exists exactly once in --source.timezone {zone} ({error}); "
            "use a file with UTC times"
        ) from error
    return Times(column_times(utc), unit, written, f"{zone}, from --source.timezone")


def _numeric_times(column: pa.ChunkedArray, given_unit: str, zone: str, place: Place) -> Times:
    """Read unix times, the unit of each by its size; digits that form a date (20170905) are read as a date."""
    values = pc.cast(column, pa.float64(), safe=False).to_numpy()
    exact = column.to_numpy() if pa.types.is_integer(column.type) else values
    low, high = UNIX_YEARS
    scales = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
    fits = {unit: (values >= low * scale) & (values < high * scale) for unit, scale in scales.items()}
    compact = None if given_unit else _compact_times(column, values)
    if compact is not None:
        at, written = compact
        if fits["s"].all():
            raise AmbiguousFile(
                f"{place.of(0)}: {exact[0]} could be unix seconds or a date written as digits; choose with "
                f"--source.timestamp-format s or --source.timestamp-format '{written}'"
            )
        return _in_zone(at, None, zone, "date and time", written, place)
    if given_unit not in ("", *UNIX_UNITS):
        raise SpecError(
            f"--source.timestamp-format {given_unit!r}: expected a unit of unix times (s, ms, us, ns), as the times of "
            f"{place.source} are numbers"
        )
    if given_unit:
        fits = {given_unit: np.abs(values) < high * scales[given_unit]}
    unknown = ~np.logical_or.reduce(list(fits.values()))
    if unknown.any():
        row = int(np.flatnonzero(unknown)[0])
        raise UnreadableFile(
            f"{place.of(row)}: expected a time, found {exact[row]}, which is no unix time of 1990 to 2100 "
            f"({int(unknown.sum())} such); if this is the time column, set its unit with "
            "--source.timestamp-format s|ms|us|ns, else set the column with --source.columns 'timestamp=NAME'"
        )
    at = np.zeros(len(values), dtype=np.int64)
    for unit, mask in fits.items():
        if mask.any():
            factor = UNIX_UNITS[unit][1]
            part = exact[mask]
            at[mask] = np.rint(part * factor if factor else part / 1000).astype(np.int64)
    present = {unit: mask for unit, mask in fits.items() if mask.any()}
    units = ", ".join(
        UNIX_UNITS[unit][0] + (f" ({int(mask.sum())} rows)" if len(present) > 1 else "")
        for unit, mask in present.items()
    )
    moments = at.view("datetime64[us]")
    if len(present) > 1:
        _require_one_clock(moments, present, place)
    if zone not in ("", "UTC"):
        raise SpecError(f"{place.source}: unix times are UTC; leave out --source.timezone {zone}")
    read = _in_zone(moments, "UTC", zone, f"unix {units}", "number", place)
    return Times(read.moments, read.unit, read.format, "UTC, as unix times are")


def _compact_times(
    column: pa.ChunkedArray, values: Shaped[np.ndarray, " row"]
) -> tuple[Shaped[np.ndarray, " row"], str] | None:
    """Read digits that form a date, such as 20170905; None unless every value does."""
    if not pa.types.is_integer(column.type):
        return None
    digits = {len(str(int(value))) for value in (values.min(), values.max())}
    written = COMPACT_FORMATS.get(digits.pop()) if len(digits) == 1 else None
    if written is None:
        return None
    few = _by_format(pc.cast(column[:SAMPLE_ROWS], pa.string()).to_pandas(), written)
    if few is None or np.isnat(few).any():
        return None  # a few rows show that these are unix times
    at = _by_format(pc.cast(column, pa.string()).to_pandas(), written)
    return None if at is None or np.isnat(at).any() else (at, written)


def _require_one_clock(
    moments: Shaped[np.ndarray, " row"], present: dict[str, Shaped[np.ndarray, " row"]], place: Place
) -> None:
    """Raise if the unit changes where the times do not continue in order."""
    which = np.zeros(len(moments), dtype=np.int8)
    for number, mask in enumerate(present.values()):
        which[mask] = number
    steps = np.diff(moments).astype(np.int64)
    forward = np.median(np.sign(steps)) >= 0
    wrong = np.flatnonzero((np.diff(which) != 0) & ((steps < 0) if forward else (steps > 0)))
    if len(wrong):
        row = int(wrong[0]) + 1
        raise UnreadableFile(
            f"{place.of(row)}: the unit of the unix times changes here and time runs "
            f"{'backwards' if forward else 'forwards'} ({moments[row - 1]} to {moments[row]}); choose another time "
            "column with --source.columns 'timestamp=NAME'"
        )


def _formatted_times(column: pa.ChunkedArray, written: str, place: Place) -> Shaped[np.ndarray, " row"]:
    """Read times in the format of the spec."""
    at = _by_format(column.to_pandas(), written)
    if at is None:
        raise SpecError(f"--source.timestamp-format {written!r}: expected a strptime format such as '%d/%m/%Y'")
    _refuse_first(np.isnat(at), column, written, place)
    _refuse_swapped_days(at, column.to_pandas(), written, place, given=True)
    return at


def _refuse_swapped_days(
    at: Shaped[np.ndarray, " row"], texts: pd.Series, written: str, place: Place, *, given: bool
) -> None:
    """Raise if the dates jump out of order where day and month can be swapped, as they are after a table program.

    A program that expects months first reads 04/09/2017 as a date and writes it the other way round, and leaves
    13/09/2017. Dates in a given format are refused only if they would be in order with day and month swapped.
    """
    swapped = re.sub("^%([dm])([-/.])%([dm])", r"%\3\2%\1", written)
    steps = np.diff(at).astype("timedelta64[D]").astype(np.int64) * (-1 if newest_first(at) else 1)
    jumps = np.flatnonzero(steps < -SWAPPED_DAYS)
    if swapped == written or not len(jumps):
        return
    other = _by_format(texts, swapped)
    if other is None:
        return
    doubtful = ~np.isnat(other) & (other != at)
    jumps = jumps[doubtful[jumps] | doubtful[jumps + 1]]
    repaired = np.diff(np.where(doubtful, other, at)).astype(np.int64)
    if not len(jumps) or (given and (repaired < 0).any() and (repaired > 0).any()):
        return
    row = int(jumps[0]) + 1
    lines = ", ".join(str(place.numbers[jump + 1]) for jump in jumps[:5]) + (", ..." if len(jumps) > 5 else "")  # noqa: PLR2004 - listed
    raise UnreadableFile(
        f"{place.of(row)}: expected dates in order, found {texts.iloc[row]!r} ({_day(at[row])}) after "
        f"{texts.iloc[row - 1]!r} ({_day(at[row - 1])}); {len(jumps)} such, {place.word} {lines}: day and month may be "
        "swapped in a part of the lines. Correct the dates"
        + ("" if given else f"; if they are right, confirm them with --source.timestamp-format '{written}'")
    )


def _refuse_first(bad: Shaped[np.ndarray, " row"], column: pa.ChunkedArray, written: str, place: Place) -> None:
    """Raise UnreadableFile at the first bad row, if there is one."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise UnreadableFile(
            f"{place.of(row)}: expected a time written as {written!r}, found {column[row].as_py()!r} "
            f"({int(bad.sum())} such); correct the line, or set another format with --source.timestamp-format"
        )


def _by_format(texts: pd.Series, written: str) -> Shaped[np.ndarray, " row"] | None:
    """Read texts in one format; NaT where a text does not fit, None if the format is invalid."""
    try:
        read = pd.to_datetime(texts, format=written, errors="coerce", utc="%z" in written.lower())
    except (ValueError, re.error, KeyError, IndexError, TypeError, OverflowError):  # whatever a format makes of pandas
        return None
    return column_times(read)


def _inferred_times(column: pa.ChunkedArray, place: Place) -> tuple[Shaped[np.ndarray, " row"], str]:
    """Find the one format that reads every value."""
    texts = column.to_pandas()
    spread = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), SAMPLE_ROWS)).astype(int))
    sample = texts.iloc[spread]
    marks = {_marks(str(text)) for text in sample}
    shares: dict[str, float] = {}
    for written, needed in FORMATS.items():
        at = _by_format(sample, written) if any(_may_fit(needed, each) for each in marks) else None
        if at is not None and not np.isnat(at).all():
            shares[written] = float((~np.isnat(at)).mean())
    if not shares:
        _refuse_first(np.ones(len(texts), dtype=bool), column, "2017-09-05, unix seconds or the like", place)
    readings: dict[str, Shaped[np.ndarray, " row"]] = {}
    for written in shares:
        at = _by_format(texts, written)
        if at is not None:
            readings[written] = at
    whole = {written: at for written, at in readings.items() if not np.isnat(at).any()}
    if not whole:
        best = min(readings, key=lambda written: int(np.isnat(readings[written]).sum()))
        _refuse_first(np.isnat(readings[best]), column, best, place)
    (first, at), *others = whole.items()
    for other, different in others:
        rows = np.flatnonzero(at != different)
        if len(rows):
            row = int(rows[0])
            raise AmbiguousFile(
                f"{place.of(row)}: {texts.iloc[row]!r} could be {_day(at[row])} ({first}) or "
                f"{_day(different[row])} ({other}), and no line settles it; choose with "
                f"--source.timestamp-format '{first}' or '{other}'"
            )
    _refuse_swapped_days(at, texts, first, place, given=False)
    return at, first


def _marks(text: str) -> frozenset[str]:
    """Return the characters of a text, in upper case; any white space counts as a blank, as in strptime."""
    return frozenset(" " if each.isspace() else each for each in text.upper())


def _may_fit(needed: frozenset[str], marks: frozenset[str]) -> bool:
    """Return whether a text with these characters can have a format that needs those."""
    return needed <= marks and marks & {"/", ","} <= needed  # no directive reads a slash or a comma


# Every date with every clock, and the characters that a text of the format must contain: to try a format takes a
# millisecond, and most of the 390 need a character that the column does not have.
FORMATS = {
    written: _marks(re.sub("%.", "", written))
    for written in (date + clock for date, clock in product(DATE_FORMATS, CLOCK_FORMATS))
}


def _day(moment: np.datetime64) -> str:
    """Return the date of a time."""
    return str(moment)[:10]
