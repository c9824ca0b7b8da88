"""Where bars come from: one spec, one protocol, one value.

A source hands over bars as its file or exchange holds them: UTC open times, oldest first, bad and doubled bars
included, with a record of how they were read. It does not judge bars (`data_checks/` does) and stores nothing.
Prices are in the quote currency; the layout names the volume's unit where it can be known. The trap: the last bar may
be unfinished - whoever uses the bars drops it by `as_of`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from jaxtyping import Int64
from pydantic import BaseModel, ConfigDict, Field

from model.bars import IntervalName, Series
from model.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd

OnPage = Callable[[datetime, datetime, datetime], None]
QUICK_BYTES = 8_000_000  # a file up to this size is read within a second
SourceKind = Literal["sample", "csv", "exchange"]


class SourceSpec(BaseModel):
    """Which bars are read, and what the file cannot say about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: SourceKind = Field(
        default="sample",
        description="sample: the Coinbase BTC-USD daily bars that come along; csv: a file (CSV, CSV.gz, zip, Parquet, "
        "Feather); exchange: an exchange's public bars",
    )
    path: str = Field(default="", description="The file, for kind csv")
    symbol: str = Field(default="BTC-USD", min_length=1, description="Base and quote of the series, such as BTC-USD")
    interval: IntervalName = Field(default="1d", description="Length of a bar")
    columns: str = Field(
        default="",
        description="Which columns to read, such as 'timestamp=unix,volume=Volume BTC': names, or numbers from 1 on; "
        "empty: inferred from the header",
    )
    timezone: str = Field(
        default="",
        description="Zone of times that carry none, such as Asia/Seoul; empty: the file's own zone, else UTC",
    )
    timestamp_format: str = Field(
        default="",
        description="How times are written, such as '%d/%m/%Y', or the unit of unix times (s, ms, us, ns); "
        "empty: inferred",
    )
    decimal: Literal["", ".", ","] = Field(default="", description="Decimal mark of numbers; empty: inferred")
    bar_stamp: Literal["open", "close"] = Field(
        default="open", description="Whether a bar's time is the moment it opens or the moment it closes"
    )
    cross_check: str = Field(
        default="",
        description="A second source of the same series, against which dates and prices are checked: a file, or "
        "exchange:NAME; empty: none",
    )
    exchange: str = Field(
        default="coinbase",
        description="For kind exchange: ccxt's name of the exchange; several by commas, in order of preference, such "
        "as coinbase,kraken",
    )
    backfill_from: str = Field(
        default="",
        description="For kind exchange: date of the first bar fetched while none is stored, such as 2017-01-01; "
        "empty: 3,000 bars back",
    )
    base_url: str = Field(
        default="",
        description="For kind exchange: scheme and host to use instead of the exchange's own, such as a mirror's; "
        "{exchange} in it stands for the exchange's name",
    )

    @property
    def series(self) -> Series:
        """The series that these bars make."""
        return Series(self.symbol, self.interval)


@dataclass(frozen=True, slots=True)
class SourceBars:
    """Bars as a source holds them, and how they were read.

    Attributes:
        frame: columns of `COLUMNS`, one row a bar, oldest first; `timestamp` is the open time, UTC-aware. Bad and
            doubled bars are in it; of doubled bars the one that the source wrote earlier in time order comes first.
            A price or volume that the source leaves empty is NaN.
        layout: what was inferred or told about the source, by name.
        line_numbers: shape (bar,), int64: where each bar stands in the file, counted from 1; for Parquet and Feather
            the row, for an exchange the bar's place in the answer.
    """

    frame: "pd.DataFrame"
    layout: dict[str, str]
    line_numbers: Int64[np.ndarray, " bar"]

    def __len__(self) -> int:
        """Count the bars."""
        return len(self.line_numbers)


class Source(Protocol):
    """Something that holds bars of one series."""

    def fetch(self, since: datetime | None = None) -> SourceBars:
        """Return the bars that opened at `since` or later; all of them without it."""
        ...

    def default_as_of(self) -> datetime:
        """Return the moment that counts as now where nobody names one, UTC-aware."""
        ...


def open_source(spec: SourceSpec, on_page: OnPage | None = None, known: "pd.DataFrame | None" = None) -> Source:
    """Open the source that `spec` describes; nothing is read before `fetch`.

    Args:
        spec: which bars.
        on_page: for an exchange, called after each page with the start, the moment reached, and the end of the fetch.
        known: for an exchange, stored bars (columns of `COLUMNS`) that a fail-over to another one is compared with.

    Raises:
        SpecError: fields of the spec contradict each other.
    """
    if spec.kind == "csv":
        from tasks.sources.files import FileSource  # here: pandas and pyarrow take a second to import

        if not spec.path:
            raise SpecError("source csv: expected a file, found no path; name it with --source.path FILE")
        return FileSource(spec)
    if spec.path:
        raise SpecError(
            f"source {spec.kind}: expected no file, found --source.path {spec.path}; add --source.kind csv to read it"
        )
    if spec.kind == "exchange":
        from tasks.sources.exchange import ExchangeSource  # here: files need none of it

        return ExchangeSource(spec, on_page=on_page, known=known)
    from tasks.sources.bundled_sample import SampleSource  # here: pandas and pyarrow take a second to import

    return SampleSource(spec)


def require_readable(spec: SourceSpec) -> None:
    """Raise at once what reading the source would raise, where that is quick to know.

    A file is read unless it is large. Of an exchange only the names are looked up; one that does not answer is passed
    over, as whoever fetches has more patience.

    Raises:
        UnreadableFile: the file is not there or cannot be read as bars.
        SpecError: fields of the spec contradict each other, or the source has no such symbol; near ones are named.
    """
    if spec.kind == "exchange":
        from tasks.sources.exchange import ExchangeSource  # here: files need none of it

        ExchangeSource(spec).require_traded()
        return
    opened, path = open_source(spec), Path(spec.path)
    if spec.kind == "csv" and (not path.is_file() or path.stat().st_size <= QUICK_BYTES):
        opened.fetch()


def open_cross_check(spec: SourceSpec) -> Source | None:
    """Open the second source that `spec.cross_check` names, or return None where it names none.

    A second file is read by its own layout: what the spec says about the first file's columns, zone and times does
    not hold for it.
    """
    if not spec.cross_check:
        return None
    kind, _, name = spec.cross_check.partition(":")
    if kind == "exchange":
        second = spec.model_copy(update={"kind": "exchange", "exchange": name, "path": "", "cross_check": ""})
        return open_source(second)
    return open_source(SourceSpec(kind="csv", path=spec.cross_check, symbol=spec.symbol, interval=spec.interval))
