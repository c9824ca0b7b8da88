"""Synthetic bars for tests: a random walk, with gaps where asked."""

from collections.abc import Iterable

import numpy as np

from model.bars import Bars, interval_delta


def random_walk(count: int, *, seed: int = 0, interval: str = "1d", absent: Iterable[int] = ()) -> Bars:
    """Return `count` bars of a geometric random walk from 20,000, less those at the `absent` indices."""
    rng = np.random.default_rng(seed)
    close = 20_000 * np.exp(np.cumsum(rng.normal(0, 0.02, count)))
    return bars_of_closes(close, seed=seed, interval=interval, absent=absent)


def bars_of_closes(close: Iterable[float], *, seed: int = 0, interval: str = "1d", absent: Iterable[int] = ()) -> Bars:
    """Return bars with these closes; each opens at the former close, and its high and low enclose both."""
    closes = np.asarray(list(close), dtype=np.float64)
    rng = np.random.default_rng(seed + 1)
    opens = np.concatenate((closes[:1] * 0.99, closes[:-1]))
    high = np.maximum(opens, closes) * (1 + rng.uniform(0, 0.01, len(closes)))
    low = np.minimum(opens, closes) * (1 - rng.uniform(0, 0.01, len(closes)))
    volume = rng.uniform(1, 1_000, len(closes))
    opened_at = np.datetime64("2018-01-01", "us") + np.arange(len(closes)) * interval_delta(interval)
    present = np.setdiff1d(np.arange(len(closes)), np.asarray(list(absent), dtype=np.int64))
    ohlcv = np.column_stack((opens, high, low, closes, volume))
    return Bars(interval, opened_at[present], np.ascontiguousarray(ohlcv[present]))


def scrambled(bars: Bars, start: int, *, seed: int = 99) -> Bars:
    """Return the bars with every number from index `start` on replaced by something else."""
    ohlcv = bars.ohlcv.copy()
    ohlcv[start:] = np.random.default_rng(seed).uniform(1, 1e6, ohlcv[start:].shape)
    return Bars(bars.interval, bars.opened_at, ohlcv)


def garch_bars(count: int, rng: np.random.Generator, *, scale: np.ndarray | float = 1.0) -> Bars:
    """Return daily bars whose volatility clusters: GARCH(1,1), Student t of 5 degrees of freedom, persistence 0.98."""
    draws = rng.standard_t(5, count) / np.sqrt(5 / 3)
    moves, variance = np.empty(count), 1.0
    for t in range(count):
        moves[t] = np.sqrt(variance) * draws[t]
        variance = 0.02 + 0.1 * moves[t] ** 2 + 0.88 * variance
    close = 100 * np.exp(np.cumsum(0.02 * moves * scale))
    opened = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(opened, close) * np.exp(0.005 * rng.random(count) * scale)
    low = np.minimum(opened, close) * np.exp(-0.005 * rng.random(count) * scale)
    times = np.datetime64("2020-01-01", "us") + np.arange(count) * np.timedelta64(1, "D")
    return Bars("1d", times, np.stack([opened, high, low, close, np.ones(count)], axis=1))
