"""The loopback exchange, importable and running."""

from collections.abc import Iterator

import numpy as np
import pytest
from loopback_exchange import LoopbackExchange
from synthetic_bars import random_walk

from model.bar_resampling import resample_bars
from model.bars import Bars

DAYS = 1000


@pytest.fixture(scope="session")
def day_bars() -> Bars:
    """Daily bars of the loopback exchange; the last is unfinished."""
    return random_walk(DAYS, seed=5)


@pytest.fixture
def exchange(day_bars: Bars) -> Iterator[LoopbackExchange]:
    """A running exchange, five hours into the last bar of each of its intervals, or less."""
    minutes = random_walk(5_000, seed=6, interval="1m")
    hours = random_walk(24 * 40, seed=7, interval="1h")
    series = {"1d": day_bars, "1m": minutes, "1h": hours, "2h": resample_bars(hours, "2h")}
    now = day_bars.opened_at[-1] + np.timedelta64(5, "h")
    with LoopbackExchange(series, now).running() as running:
        yield running
