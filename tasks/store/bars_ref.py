"""References to stored bars: small, hashable, and the same whenever the bars are the same. No table is read."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from model.bars import PANEL, Series
from model.errors import RiseOrFallError
from model.panel import PanelSpec
from model.times import to_timedelta


class BarsChanged(RiseOrFallError):
    """The bars of a reference are not those that it was made from."""


@dataclass(frozen=True, slots=True)
class BarsRef:
    """A reference to the bars of one series: small, hashable, the same whenever the bars are the same.

    Attributes:
        uri: the table of bars.
        symbol: of the series.
        interval: of the series.
        version: version of the table.
        sha256: hash of times and values, whatever files they lie in.
        rows: number of bars.
        first: open time of the oldest bar, UTC-aware.
        last: open time of the newest bar, UTC-aware; later bars of this version do not belong to the reference.
    """

    uri: str
    symbol: str
    interval: str
    version: int
    sha256: str
    rows: int
    first: datetime
    last: datetime

    @property
    def series(self) -> Series:
        """The series that the bars belong to."""
        return Series(self.symbol, self.interval)

    @property
    def closed_at(self) -> datetime:
        """Close of the newest bar, UTC-aware."""
        return self.last + to_timedelta(self.series.delta)

    def to_dict(self) -> dict[str, str | int]:
        """Return the fields with times in ISO 8601, ready for JSON."""
        return {**asdict(self), "first": self.first.isoformat(), "last": self.last.isoformat()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "BarsRef":
        """Read back what `to_dict` wrote."""
        times = {name: datetime.fromisoformat(fields[name]) for name in ("first", "last")}
        return cls(**{**fields, **times})


@dataclass(frozen=True, slots=True)
class PanelBarsRef:
    """A reference to the bars of several series at one version of the table, and how they form a panel.

    It has the attributes of a `BarsRef`, over all series: a task that only names or logs its bars takes both.

    Attributes:
        refs: by symbol, alphabetically; all of one table, version and interval.
        panel: label and inputs.
        held_out: of the held-out series, likewise. They count for `sha256`, not for rows, first, last, closed_at or
            the version.
    """

    refs: tuple[BarsRef, ...]
    panel: PanelSpec
    held_out: tuple[BarsRef, ...] = ()

    @property
    def uri(self) -> str:
        """The table of bars."""
        return self.refs[0].uri

    @property
    def version(self) -> int:
        """Version of the table."""
        return self.refs[0].version

    @property
    def series(self) -> Series:
        """The series under which the panel is registered."""
        return Series(PANEL, self.refs[0].interval)

    @property
    def sha256(self) -> str:
        """Hash of the symbols and of the hashes of their bars."""
        lines = [f"{each.symbol} {each.sha256}" for each in self.refs]
        lines += [f"held out {each.symbol} {each.sha256}" for each in self.held_out]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def rows(self) -> int:
        """Number of bars of all series."""
        return sum(each.rows for each in self.refs)

    @property
    def first(self) -> datetime:
        """Open time of the oldest bar, UTC-aware."""
        return min(each.first for each in self.refs)

    @property
    def last(self) -> datetime:
        """Open time of the newest bar, UTC-aware."""
        return max(each.last for each in self.refs)

    @property
    def closed_at(self) -> datetime:
        """Close of the newest bar, UTC-aware."""
        return max(each.closed_at for each in self.refs)


AnyBarsRef = BarsRef | PanelBarsRef
