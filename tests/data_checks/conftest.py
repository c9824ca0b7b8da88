"""Synthetic bars for the checks: a quiet series that violates no rule, to be corrupted row by row."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from model.bars import Series


@pytest.fixture
def series() -> Series:
    return Series("BTC-USD", "1d")


@pytest.fixture
def bars() -> pd.DataFrame:
    """300 daily bars from 2020-01-01 that violate no rule, naive UTC."""
    return quiet_bars(300)


@pytest.fixture
def quiet() -> Callable[[int], pd.DataFrame]:
    """Return a function that makes so many of these bars."""
    return quiet_bars


def quiet_bars(count: int, step: str = "D") -> pd.DataFrame:
    rng = np.random.default_rng(3)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, count)))
    opened = np.r_[100.0, close[:-1]]
    times = np.datetime64("2020-01-01", "us") + np.arange(count) * np.timedelta64(1, step)
    return pd.DataFrame(
        {
            "timestamp": times,
            "open": opened,
            "high": np.maximum(opened, close) * 1.005,
            "low": np.minimum(opened, close) * 0.995,
            "close": close,
            "volume": rng.uniform(80, 120, count),
        }
    )
