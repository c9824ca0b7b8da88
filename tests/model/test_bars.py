"""Bars and frames convert into each other; impossible bars and times are refused."""

import numpy as np
import pandas as pd
import pytest
from synthetic_bars import random_walk

from model.bars import (
    INTERVAL_NAMES,
    Bars,
    Series,
    bars_from_frame,
    gap_sizes,
    interval_delta,
    is_closed,
    require_possible,
)
from model.errors import GapError, SpecError


def frame_of(times: list[str]) -> pd.DataFrame:
    prices = {name: [float(i + 1) for i in range(len(times))] for name in ("open", "high", "low", "close", "volume")}
    return pd.DataFrame({"timestamp": pd.to_datetime(times, format="ISO8601"), **prices})


def test_interval_lengths() -> None:
    minutes = {name: int(interval_delta(name) / np.timedelta64(1, "m")) for name in INTERVAL_NAMES}
    assert minutes == {
        "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "8h": 480,
        "12h": 720, "1d": 1440,
    }  # fmt: skip
    with pytest.raises(SpecError, match="'7m'"):
        interval_delta("7m")


def test_series_name_has_no_slash() -> None:
    assert Series("BTC/USDT", "1h").name == "BTC-USDT-1h"
    assert Series("BTC-USD", "1d").name == "BTC-USD-1d"


def test_bars_and_frame_are_the_same_values(gappy_bars: Bars) -> None:
    again = bars_from_frame(gappy_bars.frame(), "1d")
    np.testing.assert_array_equal(again.opened_at, gappy_bars.opened_at)
    np.testing.assert_array_equal(again.ohlcv, gappy_bars.ohlcv)
    assert again.opened_at.dtype == np.dtype("datetime64[us]")


def test_times_of_another_zone_become_utc() -> None:
    frame = frame_of(["2020-01-01 09:00", "2020-01-01 10:00"])
    frame["timestamp"] = frame["timestamp"].dt.tz_localize("Asia/Tokyo")
    assert bars_from_frame(frame, "1h").opened_at[0] == np.datetime64("2020-01-01T00:00")


def test_a_column_is_no_copy_and_carries_its_name(walk_bars: Bars) -> None:
    assert np.shares_memory(walk_bars.column("close"), walk_bars.ohlcv)
    np.testing.assert_array_equal(walk_bars.column("volume"), walk_bars.frame()["volume"])


def test_missing_volume_reads_as_nan_and_a_missing_price_is_refused() -> None:
    frame = frame_of(["2020-01-01", "2020-01-02"])
    assert np.isnan(bars_from_frame(frame.drop(columns="volume"), "1d").column("volume")).all()
    with pytest.raises(SpecError, match="missing close"):
        bars_from_frame(frame.drop(columns="close"), "1d")


@pytest.mark.parametrize(
    ("column", "value"),
    [(0, -1.0), (1, 1.0), (2, np.inf), (3, 0.0), (3, np.nan), (4, -1.0), (2, 1e9), (1, 1e200), (4, np.inf)],
    ids=[
        "negative open",
        "high below low",
        "infinite low",
        "close 0",
        "no close",
        "negative volume",
        "low above high",
        "square beyond float64",
        "infinite volume",
    ],
)
def test_impossible_bars_are_refused(walk_bars: Bars, column: int, value: float) -> None:
    require_possible(walk_bars)
    ohlcv = walk_bars.ohlcv.copy()
    ohlcv[:, 4] = np.nan  # a volume may be unknown
    require_possible(Bars("1d", walk_bars.opened_at, ohlcv))
    ohlcv[7, column] = value
    with pytest.raises(SpecError, match=r"found open .* at 2018-01-08.*\(bar 7; 1 such bars\)"):
        require_possible(Bars("1d", walk_bars.opened_at, ohlcv))


@pytest.mark.parametrize(
    "times",
    [
        ["2020-01-02", "2020-01-01"],
        ["2020-01-01", "2020-01-01"],
        ["2020-01-01", "2020-01-02 12:00"],
    ],
    ids=["newest first", "doubled", "off the grid"],
)
def test_irregular_times_are_refused(times: list[str]) -> None:
    with pytest.raises(GapError, match="bar 1; 1 such steps"):
        bars_from_frame(frame_of(times), "1d")


def test_gaps_are_counted_in_missing_bars() -> None:
    bars = random_walk(10, absent=(3, 6, 7))
    assert gap_sizes(bars).tolist() == [0, 0, 1, 0, 2, 0]
    assert gap_sizes(random_walk(1)).tolist() == []


def test_an_unfinished_bar_is_not_closed() -> None:
    bars = random_walk(3)  # opens 2018-01-01, 02, 03
    assert len(bars.closed_by(np.datetime64("2018-01-03T00:00"))) == 2
    assert len(bars.closed_by(np.datetime64("2018-01-02T23:59:59"))) == 1
    assert len(bars.closed_by(np.datetime64("2017-01-01"))) == 0


def test_shapes_are_checked_while_tests_run() -> None:
    with pytest.raises(Exception, match="ohlcv"):
        Bars("1d", np.zeros(3, "datetime64[us]"), np.zeros((2, 5)))


def test_only_closed_bars_are_kept_and_a_missing_time_is_not_closed() -> None:
    opened_at = np.array(["2026-11-24", "2026-11-25", "NaT", "2026-11-23"], dtype="datetime64[us]")
    found = is_closed(opened_at, np.timedelta64(1, "D"), np.datetime64("2026-11-25T23:59:59.999999", "us"))
    assert found.tolist() == [True, False, False, True]
