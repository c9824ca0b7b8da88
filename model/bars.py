"""Define bars: OHLCV records of one interval, stamped by their open time in UTC.

`Bars` is the value that the rest of `model/` works on: plain float64 and datetime64 arrays, oldest first. It does not
know where bars come from or whether they are good (`data_checks/` does). Prices are in the quote currency of the
series, volumes in the unit of the source. Caution: a bar may be used only after it has closed, so times compared with a
decision are `closed_at`, never `opened_at`.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float64, Shaped

from model.errors import GapError, SpecError
from model.times import column_times, utc_index

if TYPE_CHECKING:
    import pandas as pd

IntervalName = Literal["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d"]
INTERVAL_NAMES: tuple[str, ...] = get_args(IntervalName)
PANEL: Final = "PANEL"  # symbol of the series under which a panel of several series is registered; reserved
PRICES = ("open", "high", "low", "close")
COLUMNS = ("timestamp", *PRICES, "volume")
LARGEST = 1e100  # own choice: its square is finite, so that windows can be standardised
UNIT_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}


def interval_delta(interval: str) -> np.timedelta64:
    """Return the length of an interval, such as `1h`, as timedelta64[us].

    Raises:
        SpecError: the interval is none of `INTERVAL_NAMES`.

    Examples:
        >>> str(interval_delta("1h").astype("timedelta64[m]"))
        '60 minutes'
    """
    if interval not in INTERVAL_NAMES:
        raise SpecError(f"interval: expected one of {', '.join(INTERVAL_NAMES)}, found {interval!r}")
    return np.timedelta64(int(interval[:-1]) * UNIT_SECONDS[interval[-1]] * 1_000_000, "us")


@dataclass(frozen=True, slots=True)
class Series:
    """One symbol at one interval: the unit that is stored, trained and promoted by itself."""

    symbol: str
    interval: str

    @property
    def name(self) -> str:
        """Name of the series without a slash, such as `BTC-USD-1d`."""
        return f"{re.sub(r'[^A-Za-z0-9._]+', '-', self.symbol)}-{self.interval}"

    @property
    def delta(self) -> np.timedelta64:
        """Length of one bar, timedelta64[us]."""
        return interval_delta(self.interval)

    @property
    def is_panel(self) -> bool:
        """Whether a panel of several series is registered under it; it has no bars of its own."""
        return self.symbol == PANEL


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of one series, oldest first, strictly increasing in time; a missing bar is a gap.

    Attributes:
        interval: name of the interval, such as `1d`.
        opened_at: shape (bar,), datetime64[us], UTC.
        ohlcv: shape (bar, 5), float64: open, high, low, close, volume.
    """

    interval: str
    opened_at: Shaped[np.ndarray, " bar"]
    ohlcv: Float64[np.ndarray, "bar 5"]

    def __len__(self) -> int:
        """Count the bars."""
        return len(self.opened_at)

    @property
    def delta(self) -> np.timedelta64:
        """Length of one bar, timedelta64[us]."""
        return interval_delta(self.interval)

    @property
    def closed_at(self) -> Shaped[np.ndarray, " bar"]:
        """Close times, shape (bar,), datetime64[us]: from then on a bar may be used."""
        return self.opened_at + self.delta

    def column(self, name: str) -> Float64[np.ndarray, " bar"]:
        """Return one column, shape (bar,), without copying it."""
        return self.ohlcv[:, COLUMNS.index(name) - 1]

    def closed_by(self, as_of: np.datetime64) -> "Bars":
        """Return the bars that had closed at `as_of`, without an unfinished one.

        Time: entry t depends on bar t alone.
        """
        keep = int(is_closed(self.opened_at, self.delta, as_of).sum())
        return Bars(self.interval, self.opened_at[:keep], self.ohlcv[:keep])

    def frame(self) -> "pd.DataFrame":
        """Return a frame with the columns of `COLUMNS`, oldest first, timestamps UTC-aware."""
        import pandas as pd  # imported here: pandas takes a second

        frame = pd.DataFrame(self.ohlcv, columns=list(COLUMNS[1:]))
        frame.insert(0, "timestamp", utc_index(self.opened_at))
        return frame


def is_closed(
    opened_at: Shaped[np.ndarray, " bar"], length: np.timedelta64, as_of: np.datetime64
) -> Bool[np.ndarray, " bar"]:
    """Return which bars had closed at `as_of`; an unfinished bar had not.

    Args:
        opened_at: shape (bar,), datetime64[us], UTC: open times, in any order; NaT is not closed.
        length: of a bar.
        as_of: UTC.

    Time: entry t depends on bar t alone.
    """
    closed: np.ndarray = np.less_equal(opened_at + length, as_of)
    return closed


def bars_from_frame(frame: "pd.DataFrame", interval: str) -> Bars:
    """Return `Bars` from a frame with the columns of `COLUMNS`; further columns are ignored.

    Args:
        frame: one row per bar, oldest first; `timestamp` is the open time, UTC-aware or naive UTC. A missing
            `volume` column is NaN.
        interval: length of a bar.

    Raises:
        SpecError: a price column or the timestamp is missing.
        GapError: times do not strictly increase, or a step is no multiple of the interval.

    Examples:
        >>> import pandas as pd
        >>> days = pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-04"])
        >>> bars = bars_from_frame(pd.DataFrame({"timestamp": days, "open": 1, "high": 4, "low": 1, "close": 3}), "1d")
        >>> gap_sizes(bars).tolist()
        [0, 1]
    """
    missing = [name for name in COLUMNS[:-1] if name not in frame.columns]
    if missing:
        raise SpecError(f"bars: expected columns {', '.join(COLUMNS)}; missing {', '.join(missing)}")
    opened_at = column_times(frame["timestamp"])
    ohlcv = frame.reindex(columns=list(COLUMNS[1:])).to_numpy(dtype=np.float64)
    bars = Bars(interval, opened_at, np.ascontiguousarray(ohlcv))
    _require_clock(bars)
    return bars


def _require_clock(bars: Bars) -> None:
    """Raise GapError unless times increase by whole intervals."""
    steps = np.diff(bars.opened_at)
    bad = np.flatnonzero((steps <= np.timedelta64(0)) | (steps % bars.delta != np.timedelta64(0)))
    if len(bad):
        first = int(bad[0])
        raise GapError(
            f"bars {bars.interval}: expected open times that increase by whole intervals, oldest first; found "
            f"{bars.opened_at[first + 1]} after {bars.opened_at[first]} (bar {first + 1}; {len(bad)} such steps). "
            "Run the data checks: they put such bars into the quarantine."
        )


def require_possible(bars: Bars) -> None:
    """Raise SpecError where the numbers of a bar are impossible, as in bars sent to the server.

    Args:
        bars: shape (bar,). Prices must be positive, low <= open, close <= high; a volume must be non-negative or NaN;
            none may exceed `LARGEST`.

    Time: entry t depends on bar t alone.
    """
    prices, volume = bars.ohlcv[:, :4], bars.column("volume")
    low, high = bars.column("low")[:, None], bars.column("high")[:, None]
    possible = ((prices > 0) & (prices <= LARGEST) & (low <= prices) & (prices <= high)).all(axis=1)
    possible &= np.isnan(volume) | ((volume >= 0) & (volume <= LARGEST))
    bad = np.flatnonzero(~possible)
    if len(bad):
        first = int(bad[0])
        found = ", ".join(f"{name} {value:g}" for name, value in zip(COLUMNS[1:], bars.ohlcv[first], strict=True))
        raise SpecError(
            f"bars {bars.interval}: expected prices above 0 with low <= open, close <= high, no negative volume, "
            f"and no number above {LARGEST:g}; found {found} at {bars.opened_at[first]} "
            f"(bar {first}; {len(bad)} such bars)"
        )


def gap_sizes(bars: Bars) -> Shaped[np.ndarray, " step"]:
    """Count the missing bars between each bar and the next, shape (bar - 1,), int64."""
    return (np.diff(bars.opened_at) // bars.delta).astype(np.int64) - 1
