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
