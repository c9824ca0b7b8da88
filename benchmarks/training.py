"""Training throughput: this Trainer against `keras.Model.fit` on the same network, windows and batch size.

Both train the default network (dropout on) on 4,000 windows of 30 bars; the two alternate within one run, after a
first fit each to trace and warm up. A last line sets two fits at once, in threads, against one after the other.
Windows a second are medians over the rounds, with the range; only the ratio means anything on another machine.
Run: python benchmarks/training.py [rounds]
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from model.bars import Bars
from model.networks import NetworkSpec, build_network
from model.training import Trainer, TrainingSpec
from model.windows import Windows, WindowSpec, cut_windows

COUNT = 4_000


def main(rounds: int) -> None:
    """Print one line a batch size."""
    windows = _windows()
    print(f"{'batch':>6} {'Trainer, windows/s':>26} {'keras fit, windows/s':>26} {'ratio':>6}")
    for batch_size in (50, 128, 256, 1024):
        ours, keras_ = _trainer_epoch(windows, batch_size), _keras_epoch(windows, batch_size)
        ours(), keras_()
        seconds = [(_timed(ours), _timed(keras_)) for _ in range(rounds)]
        rates = [[COUNT / second for second in column] for column in zip(*seconds, strict=True)]
        ratio = statistics.median(rates[0]) / statistics.median(rates[1])
        print(f"{batch_size:>6} {_spread(rates[0]):>26} {_spread(rates[1]):>26} {ratio:>6.2f}")
    _compare_threads(windows, rounds)


def _compare_threads(windows: Windows, rounds: int) -> None:
    """Print how much faster four fits are in two threads of one Trainer."""
    trainer = Trainer(NetworkSpec(), TrainingSpec(), windows.lookback_bars, 4)

    def fit(seed: int) -> object:
        return trainer.fit(windows, np.arange(COUNT), epochs=2, seed=seed)

    fit(0)
    with ThreadPoolExecutor(2) as pool:
        seconds = [
            (_timed(lambda: [fit(seed) for seed in range(4)]), _timed(lambda: list(pool.map(fit, range(4)))))
            for _ in range(rounds)
        ]
    one, two = (statistics.median(column) for column in zip(*seconds, strict=True))
    print(f"four fits: one thread {2 * one:.2f} s, two threads {2 * two:.2f} s, ratio {one / two:.2f}")


def _windows() -> Windows:
    rng = np.random.default_rng(0)
    close = 20_000 * np.exp(np.cumsum(rng.normal(0, 0.02, COUNT + 30)))
    ohlcv = np.column_stack((close, close * 1.01, close * 0.99, close, close))
    opened_at = np.datetime64("2010-01-01", "us") + np.arange(len(close)) * np.timedelta64(1, "D")
    return cut_windows(Bars("1d", opened_at, ohlcv), WindowSpec()).resolved()


def _trainer_epoch(windows: Windows, batch_size: int) -> Callable[[], object]:
    trainer = Trainer(NetworkSpec(), TrainingSpec(batch_size=batch_size), windows.lookback_bars, 4)
    return lambda: trainer.fit(windows, np.arange(COUNT), epochs=2)


def _keras_epoch(windows: Windows, batch_size: int) -> Callable[[], object]:
    network = build_network(NetworkSpec(), windows.lookback_bars, 4)
    network.compile(keras.optimizers.Nadam(1e-3), "binary_crossentropy", metrics=["accuracy"])
    values, labels = windows.values(), windows.labels.astype(np.float32)[:, None]
    return lambda: network.fit(values, labels, batch_size=batch_size, epochs=2, verbose=0)


def _timed(epoch: Callable[[], object]) -> float:
    """Seconds of one epoch, of the two that a call runs."""
    started = time.perf_counter()
    epoch()
    return (time.perf_counter() - started) / 2


def _spread(rates: list[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
