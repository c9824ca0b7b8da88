"""Flags that most commands share: the series and the output format."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from model.bars import IntervalName, Series


@Parameter(name="*")  # flattened: --symbol, not --options.symbol
@dataclass(frozen=True, slots=True)
class SeriesOptions:
    """The series that a command works on.

    Attributes:
        symbol: Symbol of the series.
        interval: Length of its bars.
    """

    symbol: str = "BTC-USD"
    interval: IntervalName = "1d"

    @property
    def series(self) -> Series:
        """Return the series."""
        return Series(self.symbol, self.interval)


DEFAULT_SERIES = SeriesOptions()
JsonFlag = Annotated[bool, Parameter(help="Print JSON.")]
