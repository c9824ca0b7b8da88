"""Synthetic bars for the benchmarks: random walks, optionally with a planted signal."""

import numpy as np

from model.bars import Bars
from model.windows import Windows, WindowSpec, cut_windows

START = np.datetime64("1800-01-01", "us")
PERSISTENCE = 0.45  # autocorrelation of moves: enough that log loss falls visibly below that of the base rate


def walk(count: int, *, planted: bool = False, seed: int = 0) -> Bars:
    """Return daily bars of a random walk, shape (bar,); with `planted`, each move depends on the previous one."""
    moves = np.random.default_rng(seed).normal(0, 0.02, count)
    if planted:
        for bar in range(1, count):
            moves[bar] += PERSISTENCE * moves[bar - 1]
    close = 20_000 * np.exp(np.cumsum(moves))
    opens = np.concatenate((close[:1], close[:-1]))
    ohlcv = np.column_stack((opens, np.maximum(opens, close) * 1.005, np.minimum(opens, close) * 0.995, close, close))
    return Bars("1d", START + np.arange(count) * np.timedelta64(1, "D"), ohlcv)


def walk_windows(count: int, *, lookback_bars: int = 30, planted: bool = False, seed: int = 0) -> Windows:
    """Return `count` resolved windows of daily bars of a random walk."""
    bars = walk(count + lookback_bars, planted=planted, seed=seed)
    return cut_windows(bars, WindowSpec(lookback_bars=lookback_bars)).resolved()
