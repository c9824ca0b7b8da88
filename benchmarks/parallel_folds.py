"""Eight folds in two threads vs. one; the threads share one traced network."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from synthetic_series import walk_windows
from timed_comparison import Line, versus

from model.networks import NetworkSpec
from model.training import Fitted, Trainer, TrainingSpec

COUNT, FOLDS, EPOCHS = 4_000, 8, 6


def lines(rounds: int) -> list[Line]:
    """Compare; the weights of every fold must be equal bit for bit."""
    windows = walk_windows(COUNT)
    trainer = Trainer(NetworkSpec(), TrainingSpec(), windows.lookback_bars, 4)

    def fit(fold: int) -> Fitted:
        return trainer.fit(windows, np.arange(COUNT - 400 + 50 * fold), epochs=EPOCHS)

    with ThreadPoolExecutor(2) as pool:
        for one, two in zip(map(fit, range(FOLDS)), pool.map(fit, range(FOLDS)), strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one.weights, two.weights, strict=True))
        return [
            versus(
                "eight folds: two threads vs. one",
                lambda: list(pool.map(fit, range(FOLDS))), lambda: list(map(fit, range(FOLDS))), rounds, 1.7,
            )
        ]  # fmt: skip
