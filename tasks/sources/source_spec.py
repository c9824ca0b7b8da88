"""The spec of a source of bars, the protocol that sources implement, and the bars that they return.

A source returns bars as its file or exchange has them: UTC open times, oldest first, with bad and duplicated bars, and
a record of how they were read. It checks no bars (`data_checks/` does) and stores nothing. Prices are in the quote
currency; the layout states the unit of the volume if it is known. Caution: the last bar may be unfinished; callers drop
it by `as_of`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from jaxtyping import Int64
from pydantic import BaseModel, ConfigDict, Field, field_validator

from model.bars import PANEL, IntervalName, Series
from model.errors import SpecError, UnreadableFile
from model.times import as_utc
from tasks.sources.given_time_format import require_whole_times
from tasks.sources.printable_text import printable

if TYPE_CHECKING:
    import pandas as pd

OnPage = Callable[[datetime, datetime, datetime], None]
FAIL_OVER = "fail-over"  # in the layout of bars of an exchange that is not the first: why the others failed
SHOWN_LAYOUT = ("delimiter", "numbers", "time format", "timezone")
QUICK_BYTES = 8_000_000  # a file up to this size is read within a second
SourceKind = Literal["sample", "csv", "exchange"]


class SourceSpec(BaseModel):
    """The source of bars, and what its file or exchange does not state."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Source")

    kind: SourceKind = Field(
        default="sample",
        description="sample: the bundled Coinbase BTC-USD daily bars; csv: any file (CSV, CSV.gz, zip, Parquet, "
        "Feather); exchange: an exchange's public bars",
    )
    path: str = Field(default="", description="Path of the file, for kind csv")
    symbol: str = Field(
        default="BTC-USD",
        max_length=40,
        pattern=r"^\^?\w+([-._:/=]\w+)*=?$",
        description="Base and quote of the series, such as BTC-USD",
    )
    interval: IntervalName = Field(default="1d", description="Length of a bar")
    columns: str = Field(
        default="",
        description="Which columns to read, such as 'timestamp=unix,volume=Volume BTC': names, or numbers from 1 on; "
        "empty: inferred from the header",
    )
    timezone: str = Field(
        default="",
        description="Time zone of times without one, such as Asia/Seoul; empty: the zone in the file, else UTC",
    )
    timestamp_format: str = Field(
        default="",
        description="Format of times, such as '%d/%m/%Y', or the unit of unix times (s, ms, us, ns); empty: inferred",
    )
    decimal: Literal["", ".", ","] = Field(default="", description="Decimal mark of numbers; empty: inferred")
    bar_stamp: Literal["open", "close"] = Field(
        default="open", description="Whether the time of a bar is its open time or its close time"
    )
    cross_check: str = Field(
        default="",
        description="A second source of the same series to compare dates and prices with: a file, or "
        "exchange:NAME; empty: none",
    )
    exchange: str = Field(
        default="coinbase",
        description="For kind exchange: name of the exchange in ccxt; several separated by commas, in order of "
        "preference, such as coinbase,kraken",
    )
    backfill_from: str = Field(
        default="",
        description="For kind exchange: date of the first bar to fetch if none is stored, such as 2017-01-01; "
        "empty: 3,000 bars back",
    )
    base_url: str = Field(
        default="",
        description="For kind exchange: scheme and host that replace the exchange's own, such as those of a mirror; "
        "{exchange} is replaced by the name of the exchange",
    )

    @field_validator("kind", mode="before")
    @classmethod
    def _read_any_file(cls, kind: object) -> object:
        """Take the name of a file's format for `csv`, the kind of all files."""
        return "csv" if kind in ("file", "parquet", "feather") else kind

    @field_validator("symbol")
    @classmethod
    def _reserve_panel(cls, symbol: str) -> str:
        if symbol.upper() == PANEL:
            raise ValueError(f"expected the symbol of one series, found {symbol}: it is reserved for panels of series")
        return symbol

    @field_validator("timestamp_format")
    @classmethod
    def _require_whole_times(cls, timestamp_format: str) -> str:
        require_whole_times(timestamp_format)
        return timestamp_format

    @property
    def series(self) -> Series:
        """The series of these bars."""
        return Series(self.symbol, self.interval)


@dataclass(frozen=True, slots=True)
class SourceBars:
    """Bars as a source has them, and how they were read.

    Attributes:
        frame: columns of `COLUMNS`, one row per bar, oldest first; `timestamp` is the open time, UTC-aware. Bad and
            duplicated bars are included; duplicates keep the order of the source. An empty price or volume is NaN.
        layout: what was inferred or configured about the source, by name.
        line_numbers: shape (bar,), int64: line of each bar in the file, from 1; for Parquet and Feather the row, for an
            exchange the position in the answer.
    """

    frame: "pd.DataFrame"
    layout: dict[str, str]
    line_numbers: Int64[np.ndarray, " bar"]

    @property
    def layout_line(self) -> str:
        """What a person should compare with the file: delimiter, formats of numbers and times, zone."""
        return "layout: " + "; ".join(f"{name} {self.layout[name]}" for name in SHOWN_LAYOUT if name in self.layout)

    def __len__(self) -> int:
        """Count the bars."""
        return len(self.line_numbers)


class Source(Protocol):
    """A source of the bars of one series."""

    def fetch(self, since: datetime | None = None) -> SourceBars:
        """Return the bars that opened at `since` or later; all of them without it."""
        ...

    def default_as_of(self) -> datetime:
        """Return the default as-of time, UTC-aware."""
        ...


def open_source(spec: SourceSpec, on_page: OnPage | None = None, known: "pd.DataFrame | None" = None) -> Source:
    """Open the source that `spec` describes; nothing is read before `fetch`.

    Args:
        spec: which bars.
        on_page: for an exchange, called after each page with the start, the time reached, and the end of the fetch.
        known: for an exchange, stored bars (columns of `COLUMNS`) to compare with those of a fail-over exchange.

    Raises:
        SpecError: fields of the spec contradict each other.
    """
    if spec.kind == "csv":
        from tasks.sources.file_source import FileSource  # imported here: pandas and pyarrow take a second to import

        if not spec.path:
            raise SpecError("source csv: expected a file, found no path; set it with --source.path FILE")
        return FileSource(spec)
    if spec.path:
        raise SpecError(
            f"source {spec.kind}: expected no file, found --source.path {spec.path}; add --source.kind csv to read it"
        )
    if spec.kind == "exchange":
        from tasks.sources.exchange_source import ExchangeSource  # imported here: files need none of it

        return ExchangeSource(spec, on_page=on_page, known=known)
    from tasks.sources.bundled_sample import SampleSource  # imported here: pandas and pyarrow take a second to import

    sample = SampleSource(spec)
    if ignored := spec.model_dump(exclude_defaults=True, exclude={"kind", "symbol", "interval", "cross_check"}):
        flags = ", ".join(f"--source.{name.replace('_', '-')} {value}" for name, value in ignored.items())
        raise SpecError(
            f"source sample: expected no field of a file or an exchange, found {flags}; add --source.kind exchange, "
            "or --source.kind csv with --source.path FILE"
        )
    return sample


def latest_as_of(opened: Source, bars: SourceBars, spec: SourceSpec, now: datetime) -> datetime:
    """Return the source's own as-of time; a file's is not later than `now`.

    Raises:
        UnreadableFile: a bar of a file opens after `now`.
    """
    moment = as_utc(opened.default_as_of())
    if spec.kind != "csv" or moment <= now:
        return moment
    late = np.flatnonzero(bars.frame["timestamp"] > now)
    if len(late):
        first = bars.frame["timestamp"].iloc[late[0]]
        raise UnreadableFile(
            f"{printable(spec.path)} line {bars.line_numbers[late[0]]}: expected bars that had opened by now, "
            f"{now:%Y-%m-%d %H:%M} UTC; found one of {first:%Y-%m-%d %H:%M} ({len(late)} such). Correct the dates, or "
            "set --source.timestamp-format or --source.timezone; --as-of TIME leaves out bars that closed after it"
        )
    return now


def require_readable(spec: SourceSpec) -> None:
    """Raise now what reading the source would raise later, if that is quick to find out.

    A large file of text is read at its beginning only, another file whole. For an exchange only its name and the symbol
    are checked; one that does not answer is skipped, because a fetch retries for longer.

    Raises:
        UnreadableFile: the file does not exist or contains no bars.
        AmbiguousFile: it can be read in more than one way.
        SpecError: fields of the spec contradict each other, or the source has no such symbol; the message lists similar
            ones.
    """
    if spec.kind == "exchange":
        from tasks.sources.exchange_source import ExchangeSource  # imported here: files need none of it

        ExchangeSource(spec).require_traded()
        return
    opened = open_source(spec)
    if spec.kind == "csv" and _is_large(spec.path):
        from tasks.sources.file_source import preview_file  # imported here: pandas and pyarrow take a second to import

        preview_file(spec)
    elif spec.kind == "csv":
        opened.fetch()


def _is_large(path: str) -> bool:
    """Whether a file takes more than a second to read; a path without a file does not."""
    try:
        return Path(path).expanduser().stat().st_size > QUICK_BYTES
    except (OSError, ValueError, RuntimeError):
        return False


def open_cross_check(spec: SourceSpec) -> Source | None:
    """Open the second source that `spec.cross_check` names, or return None if it names none.

    A second file is read by its own layout: columns, zone and time format of the spec apply to the first file only.
    """
    if not spec.cross_check:
        return None
    kind, _, name = spec.cross_check.partition(":")
    if kind == "exchange":
        second = spec.model_copy(update={"kind": "exchange", "exchange": name, "path": "", "cross_check": ""})
        return open_source(second)
    return open_source(SourceSpec(kind="csv", path=spec.cross_check, symbol=spec.symbol, interval=spec.interval))
