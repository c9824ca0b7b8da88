"""The format of a column of times is found among many without trying those that cannot fit."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tasks.sources import time_formats
from tasks.sources.time_formats import FORMATS, Place, read_times

TIMES = (datetime(2017, 10, 9, 8, 7, 6, 5, UTC), datetime(2026, 5, 23, 0, 30, tzinfo=UTC))
VARIANTS = (str, str.lower, lambda text: text.replace(" ", "\u00a0"), lambda text: text.replace(" ", "\t  "))
TEXTS = [VARIANTS[at % 4](TIMES[at % 3 % 2].strftime(written)) for at, written in enumerate(FORMATS) if at % 5 == 0]


def test_no_format_that_reads_a_text_is_ruled_out_by_the_characters_of_the_text() -> None:
    texts = pd.Series(TEXTS)
    marks = [time_formats._marks(text) for text in TEXTS]
    read = tried = 0
    for written, needed in FORMATS.items():
        at = time_formats._by_format(texts, written)
        fits = np.zeros(len(texts), dtype=bool) if at is None else ~np.isnat(at)
        possible = np.array([time_formats._may_fit(needed, each) for each in marks])
        assert not (fits & ~possible).any(), written
        read, tried = read + int(fits.sum()), tried + int(possible.sum())
    assert read > len(TEXTS)  # each by its own format, some by two
    assert tried < len(FORMATS) * len(TEXTS) / 5


@pytest.mark.parametrize(
    ("days", "most"),
    [
        (["Oct 09, 2017", "Oct 10, 2017"], 45),
        (["09/10/2017 08:07", "13/10/2017 08:07"], 48),
        (["9.10.17", "13.10.17"], 15),
    ],
)
def test_few_of_390_formats_are_tried(days: list[str], most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried, by_format = [], time_formats._by_format

    def count(texts: pd.Series, written: str) -> object:
        tried.append(written)
        return by_format(texts, written)

    monkeypatch.setattr(time_formats, "_by_format", count)
    column = pa.chunked_array([days])
    times = read_times(column, "", "", Place("bars.csv", "line", np.arange(1, 3)))
    assert times.moments[0].astype("datetime64[D]") == np.datetime64("2017-10-09")
    assert len(set(tried)) <= most


@pytest.mark.parametrize("order", [1, -1], ids=["oldest first", "newest first"])
@pytest.mark.parametrize("interval", ["1h", "30min", "15min"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
def test_local_times_keep_their_order_where_the_clocks_change(zone: str, interval: str, order: int) -> None:
    """Both changes of 2024: 10 and 31 March, 27 October and 3 November."""
    true = pd.date_range("2024-03-01", "2024-11-30", freq=interval, tz="UTC")[::order]
    written = true.tz_convert(zone).strftime("%Y-%m-%d %H:%M")
    times = read_times(pa.chunked_array([list(written)]), "", zone, Place("bars.csv", "line", np.arange(len(true))))
    np.testing.assert_array_equal(times.moments, true.tz_localize(None).to_numpy())


def test_bars_of_the_repeated_hour_are_told_apart_in_a_file_that_is_not_quite_newest_first() -> None:
    """One day is out of order, as in the hourly file of Coinbase in docs/data.md."""
    true = pd.date_range("2024-10-20", "2024-10-29", freq="h", tz="UTC")[::-1]
    true = true[24:72].append(true[:24]).append(true[72:])
    written = true.tz_convert("Europe/Berlin").strftime("%Y-%m-%d %H:%M")
    place = Place("bars.csv", "line", np.arange(len(true)))
    times = read_times(pa.chunked_array([list(written)]), "", "Europe/Berlin", place)
    np.testing.assert_array_equal(times.moments, true.tz_localize(None).to_numpy())
