"""Flags that most commands share: the series and the output format.

Without `--symbol` or `--interval` a command works on the only stored series that fits what was given. Of several, a
command that only reads, predicts or monitors uses BTC-USD 1d by default and prints the series; a command that changes a
series requires the choice.
"""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from model.bars import PANEL, IntervalName, Series
from model.errors import SpecError
from tasks.workspace import open_workspace

MOST_OTHERS = 5  # own choice: series that a line names
FIRST_SERIES = Series("BTC-USD", "1d")  # of a home without bars, and of one with several series


@Parameter(name="*")  # flattened: --symbol, not --options.symbol
@dataclass(frozen=True, slots=True)
class SeriesOptions:
    """The series that a command works on.

    Attributes:
        symbol: Symbol of the series; default: that of the only stored series, or BTC-USD.
        interval: Length of its bars; default: that of the only stored series, or 1d.
    """

    symbol: str | None = None
    interval: IntervalName | None = None

    @property
    def is_panel(self) -> bool:
        """Whether the flags choose a panel."""
        return self.symbol == PANEL

    @property
    def series(self) -> Series:
        """Return the series to show; of several stored, BTC-USD 1d without flags.

        Raises:
            SpecError: no stored series, or more than one, fits the flags.
        """
        if self == DEFAULT_SERIES and FIRST_SERIES in open_workspace().bar_store.stored_series():
            return FIRST_SERIES
        return self.chosen

    @property
    def chosen(self) -> Series:
        """Return the series to change: the only one, or the one that the flags choose.

        Raises:
            SpecError: no stored series, or more than one, fits the flags.
        """
        if self.is_panel:
            raise SpecError(
                "PANEL: expected a series with bars of its own, found a panel. These commands know panels: "
                "retrain-panel, predict --panel, predictions, monitor, status, decisions, rollback, promote --force."
            )
        stored = open_workspace().bar_store.stored_series()
        fitting = self.choose(stored)
        if len(fitting) == 1:
            return fitting[0]
        if not stored:
            return Series(self.symbol or FIRST_SERIES.symbol, self.interval or FIRST_SERIES.interval)
        names = ", ".join(f"{each.symbol} {each.interval}" for each in fitting or stored)
        given = " ".join(filter(None, (self.symbol, self.interval)))
        found = f"more than one: {names}" if fitting else f"none; stored: {names}"
        expected = f"one stored series for {given}" if given else "a choice of the series"
        raise SpecError(f"expected {expected}, found {found}. Give --symbol and --interval.")

    @property
    def series_or_new(self) -> Series:
        """Return the series, which may have no stored bar: all of its bars may be in quarantine."""
        if self.symbol and not self.is_panel and not self.choose(open_workspace().bar_store.stored_series()):
            return Series(self.symbol, self.interval or FIRST_SERIES.interval)
        return self.series

    @property
    def chosen_or_new(self) -> Series:
        """Return the series to change, which may have no stored bar: all of its bars may be in quarantine."""
        return self.series_or_new if self.symbol else self.chosen

    @property
    def chosen_or_panel(self) -> Series:
        """Return the series to change, which may be a panel: `--symbol PANEL`."""
        return self.panel if self.is_panel else self.chosen

    @property
    def panel(self) -> Series:
        """Return the panel of the interval; without one, the only panel about which decisions were made.

        Raises:
            SpecError: there are several.
        """
        listed = open_workspace().listed_series()
        intervals = [each.interval for each in listed if each.is_panel]
        if self.interval is None and len(intervals) > 1:
            raise SpecError(f"expected one panel, found those of {', '.join(intervals)}. Give --interval.")
        return Series(PANEL, self.interval or (intervals or [FIRST_SERIES.interval])[0])

    @property
    def listed(self) -> tuple[Series, ...]:
        """Return every series and panel that fits the flags; the one to show where there is none.

        Raises:
            SpecError: the flags choose a panel about which no decision was made, or no stored series.
        """
        fitting = self.choose(open_workspace().listed_series())
        if not self.is_panel:
            return fitting or (self.series,)
        if not fitting:
            interval = self.interval or FIRST_SERIES.interval
            raise SpecError(
                f"{PANEL} {interval}: expected a panel about which a decision was made, found none. Run `riseorfall "
                f"retrain-panel --interval {interval}` first."
            )
        return fitting

    @property
    def others(self) -> list[str]:
        """Return a line that names the series and panels that are not shown, where no flag chose among several."""
        if self != DEFAULT_SERIES:
            return []
        names = [f"{each.symbol} {each.interval}" for each in open_workspace().listed_series() if each != self.series]
        more = f" and {len(names) - MOST_OTHERS} more" if len(names) > MOST_OTHERS else ""
        listed = f"{', '.join(names[:MOST_OTHERS])}{more}"
        return [f"(not shown: {listed}; choose with --symbol and --interval)"] if names else []

    def choose(self, stored: tuple[Series, ...]) -> tuple[Series, ...]:
        """Return the stored series that fit the flags."""
        return tuple(
            each for each in stored if self.symbol in {None, each.symbol} and self.interval in {None, each.interval}
        )


DEFAULT_SERIES = SeriesOptions()
JsonFlag = Annotated[bool, Parameter(help="Print JSON.")]
LastFlag = Annotated[int, Parameter(validator=Number(gte=0))]
