"""Times convert between datetime64 and UTC-aware datetimes without losing a microsecond."""

import re
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import SpecError
from model.times import (
    as_utc,
    column_times,
    from_milliseconds,
    iso_text,
    to_datetime,
    to_datetime64,
    to_datetimes,
    to_milliseconds,
    to_timedelta,
)

MOMENT = datetime(2026, 11, 26, 12, 14, 27, 681323, UTC)


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001  naive is UTC
def test_there_and_back_is_the_same_moment(naive: datetime) -> None:
    assert to_datetime(to_datetime64(naive)) == naive.replace(tzinfo=UTC)


def test_other_zones_are_converted_and_a_missing_zone_is_utc() -> None:
    tokyo = MOMENT.astimezone(timezone(timedelta(hours=9)))
    assert to_datetime64(tokyo) == to_datetime64(MOMENT.replace(tzinfo=None)) == to_datetime64(MOMENT)
    assert as_utc(tokyo).utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_utc_cannot_express_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=f"years 1 to 9999 in UTC, found {re.escape(text)}"):
        as_utc(datetime.fromisoformat(text))


def test_text_has_an_offset_and_microseconds_only_if_there_are_any() -> None:
    assert iso_text(np.datetime64("2026-11-26T00:00:00")) == "2026-11-26T00:00:00+00:00"
    assert iso_text(to_datetime64(MOMENT)) == "2026-11-26T12:14:27.681323+00:00"


def test_lengths_and_columns() -> None:
    assert to_timedelta(np.timedelta64(1, "h")) == timedelta(hours=1)
    column = pd.Series(pd.DatetimeIndex([MOMENT]).tz_convert("Asia/Tokyo"))
    assert column_times(column).tolist() == [MOMENT.replace(tzinfo=None)]
    assert to_datetimes(column_times(column)) == [MOMENT]


def test_columns_of_texts_and_missing_times() -> None:
    column = pd.Series(["2026-11-26T14:14:27.681323+02:00", None], dtype=object)
    assert column_times(column).tolist() == [MOMENT.replace(tzinfo=None), None]
    assert column_times(column).dtype == np.dtype("datetime64[us]")


def test_milliseconds_are_rounded_down() -> None:
    assert to_milliseconds(MOMENT) == 1_795_695_267_681  # `date -d 2026-11-26T12:14:27Z +%s` is 1795695267
    assert from_milliseconds(1_795_695_267_681) == MOMENT.replace(microsecond=681_000)
    assert to_milliseconds(datetime(1969, 12, 31, 23, 59, 59, 999_500, UTC)) == -1
