"""Random walks of six coins, and records of a panel, for tests of panels, with folds that fit them."""

import numpy as np
from synthetic_bars import random_walk

from model.bars import Bars
from model.folds import FoldSpec
from model.record import Record

DAY = np.timedelta64(1, "D")
SYMBOLS = tuple("ABCDEF")
FOLDS = FoldSpec(test_bars=40, count=2)


def panel_bars(count: int = 200, **listed_later: int) -> dict[str, Bars]:
    """Return random walks of six coins; a coin given by name starts that many bars later."""
    bars = {symbol: random_walk(count, seed=number) for number, symbol in enumerate(SYMBOLS)}
    for symbol, first in listed_later.items():
        bars[symbol] = Bars(bars[symbol].interval, bars[symbol].opened_at[first:], bars[symbol].ohlcv[first:])
    return bars


def panel_record(closes: int, coins: int, seed: int = 1) -> Record:
    """Return a record of a panel with independent labels and probabilities."""
    rng = np.random.default_rng(seed)
    decided_at = np.repeat(np.datetime64("2024-01-01", "us") + np.arange(closes) * DAY, coins)
    return Record(
        decided_at,
        decided_at + DAY,
        rng.integers(0, 2, closes * coins).astype(np.int8),
        rng.uniform(0.3, 0.7, closes * coins),
        np.zeros(closes * coins, np.int64),
        np.tile(np.array([f"C{k}" for k in range(coins)]), closes),
    )
