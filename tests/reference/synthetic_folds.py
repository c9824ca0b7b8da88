"""Two test folds on a random walk, each with validation windows before it, of a forecaster with a stated skill."""

import numpy as np
from synthetic_bars import random_walk

from model.bars import Bars
from model.record import Record

BARS = random_walk(500, seed=4)


def decisions(bars: Bars, first: int, last: int, fold: int, seed: int = 1, skill: float = 0.6) -> Record:
    """Return a decision at each close from `first` to before `last`, right on a share of `skill` of them."""
    close, rng = bars.column("close"), np.random.default_rng(seed + fold)
    index = np.arange(first, last)
    rises = close[index + 1] > close[index]
    right = rng.random(len(index)) < skill
    return Record(
        bars.closed_at[index],
        bars.closed_at[index + 1],
        rises.astype(np.int8),
        0.5 + np.where(rises == right, 1, -1) * rng.uniform(0.0, 0.1, len(index)),
        np.full(len(index), fold, dtype=np.int64),
    )


def two_folds(bars: Bars = BARS) -> tuple[Record, tuple[Record, Record]]:
    """Return the record of two test folds, and the validation windows before each."""
    tests = [decisions(bars, 200, 300, 0), decisions(bars, 300, 400, 1)]
    joined = {
        name: np.concatenate([getattr(each, name) for each in tests])
        for name in ("decided_at", "resolved_at", "labels", "probabilities", "fold")
    }
    return Record(**joined), (decisions(bars, 100, 199, 0, seed=7), decisions(bars, 150, 299, 1, seed=7))
