"""Convert between the two kinds of time: datetime64[us] without a zone in arrays, UTC-aware datetimes elsewhere.

Everything is UTC, and no conversion drops microseconds. A datetime without a zone is taken as UTC.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from model.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def as_utc(moment: datetime) -> datetime:
    """Return a datetime as UTC-aware.

    Raises:
        SpecError: in UTC it is outside the years 1 to 9999.
    """
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise SpecError(f"expected a time of the years 1 to 9999 in UTC, found {moment.isoformat()}") from None


def to_datetime64(moment: datetime) -> np.datetime64:
    """Return a datetime as datetime64[us], UTC."""
    return np.datetime64(as_utc(moment).replace(tzinfo=None), "us")


def to_datetime(moment: np.datetime64) -> datetime:
    """Return a datetime64, UTC, as a UTC-aware datetime."""
    naive: datetime = moment.astype("datetime64[us]").item()
    return naive.replace(tzinfo=UTC)


def to_datetimes(times: Shaped[np.ndarray, " row"]) -> list[datetime]:
    """Return datetime64, UTC, shape (row,), as UTC-aware datetimes."""
    return [naive.replace(tzinfo=UTC) for naive in times.astype("datetime64[us]").tolist()]


def to_milliseconds(moment: datetime) -> int:
    """Return a datetime in whole milliseconds since 1970, rounded down, as exchanges and MLflow count time."""
    return (as_utc(moment) - EPOCH) // timedelta(milliseconds=1)


def from_milliseconds(milliseconds: int) -> datetime:
    """Return milliseconds since 1970 as a UTC-aware datetime."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def to_timedelta(length: np.timedelta64) -> timedelta:
    """Return a timedelta64 as a timedelta."""
    converted: timedelta = length.astype("timedelta64[us]").item()
    return converted


def iso_text(moment: np.datetime64) -> str:
    """Return a datetime64, UTC, in ISO 8601 with its offset; microseconds only if there are any."""
    return to_datetime(moment).isoformat()


def format_time(written: str) -> str:
    """Shorten an ISO 8601 time (UTC) to `2019-10-17 08:00`; at midnight to the date."""
    return written[:16].replace("T", " ").removesuffix(" 00:00")


def column_times(column: "pd.Series | pd.DatetimeIndex") -> Shaped[np.ndarray, " row"]:
    """Return a column of times or of their texts, aware or naive UTC, as datetime64[us], shape (row,)."""
    import pandas as pd  # imported here: pandas takes a second

    index = pd.DatetimeIndex(pd.to_datetime(column, utc=True))
    return index.tz_localize(None).to_numpy().astype("datetime64[us]")


def utc_index(times: Shaped[np.ndarray, " row"]) -> "pd.DatetimeIndex":
    """Return times without a zone, UTC, as a UTC-aware index, for a column of a frame."""
    import pandas as pd  # imported here: as above

    return pd.DatetimeIndex(times).tz_localize("UTC")
