"""Bars made of shorter bars."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_bars import random_walk

from model.bar_resampling import resample_bars
from model.bars import Bars
from model.errors import SpecError


def test_by_hand() -> None:
    opened_at = np.datetime64("2020-01-01T22:00", "us") + np.array([0, 60, 90]) * np.timedelta64(1, "m")
    ohlcv = np.array([[1.0, 5, 1, 2, 10], [2, 3, 0.5, 1, 20], [9, 9, 8, 8, 5]])
    hours = resample_bars(Bars("30m", opened_at, ohlcv), "2h")
    assert hours.opened_at.tolist() == [np.datetime64("2020-01-01T22:00", "us").item()]
    assert hours.ohlcv.tolist() == [[1, 9, 0.5, 8, 35]]


@given(
    absent=st.sets(st.integers(0, 599), max_size=300),
    middle=st.sampled_from(["5m", "15m", "30m"]),
    seed=st.integers(0, 9),
)
def test_it_nests_and_conserves_volume(absent: set[int], middle: str, seed: int) -> None:
    minutes = random_walk(600, seed=seed, interval="1m", absent=absent)
    direct = resample_bars(minutes, "1h")
    nested = resample_bars(resample_bars(minutes, middle), "1h")
    np.testing.assert_array_equal(direct.opened_at, nested.opened_at)
    np.testing.assert_array_equal(direct.ohlcv[:, :4], nested.ohlcv[:, :4])
    np.testing.assert_allclose(direct.ohlcv[:, 4], nested.ohlcv[:, 4])
    assert direct.ohlcv[:, 4].sum() == pytest.approx(minutes.ohlcv[:, 4].sum())
    assert (direct.opened_at.astype("datetime64[h]") == direct.opened_at).all()


def test_the_same_interval_and_no_bars_come_back() -> None:
    bars = random_walk(10, interval="1h")
    assert resample_bars(bars, "1h") is not None
    np.testing.assert_array_equal(resample_bars(bars, "1h").ohlcv, bars.ohlcv)
    assert len(resample_bars(Bars("1h", bars.opened_at[:0], bars.ohlcv[:0]), "1d")) == 0


@pytest.mark.parametrize("interval", ["1m", "5m", "30m"])
def test_a_shorter_interval_is_refused(interval: str) -> None:
    with pytest.raises(SpecError, match=f"whole multiple of 1h, found {interval}"):
        resample_bars(random_walk(10, interval="1h"), interval)
