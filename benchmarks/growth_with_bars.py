"""Seconds and peak memory of check, windowing and one epoch for 1k to 5M one-minute bars, each in its own process.

Lookback 60, batches of 1024; the epoch uses all windows. Two further runs on all bars compare lookbacks of 60 and 240,
in batches of 256 (activations of a batch grow with the lookback) and on every 32nd window, because peak memory does not
depend on the length of the epoch. Peak memory is that of the whole process, with imports. Draws
docs/pictures/growth.png. Run alone: `python benchmarks/growth_with_bars.py [LARGEST]`.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from five_million_bars import SERIES, synthetic_frame
from timed_comparison import Line

SIZES = (1_000, 10_000, 100_000, 1_000_000, 5_000_000)
LARGEST = SIZES[-1]
STEPS = ("check", "window", "epoch")
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "growth.png"
LIMIT_GIB = 2.0


def lines(largest: int = LARGEST) -> list[Line]:
    """Measure every size, draw the picture, and compare the memory of the largest with its limit."""
    sizes = [size for size in SIZES if size <= largest]
    found = {(size, step): measured(step, size, 60) for size in sizes for step in STEPS}
    draw(found, sizes)
    rows = [
        Line(f"{size:,} bars, {step}: seconds (ours), peak GiB (other)", numbers["seconds"], numbers["peak"], "", None)
        for (size, step), numbers in found.items()
    ]
    peak = found[sizes[-1], "epoch"]["peak"]
    short, long = measured("part", sizes[-1], 60)["peak"], measured("part", sizes[-1], 240)["peak"]
    return [
        *rows,
        Line(f"one epoch of {sizes[-1]:,} bars, lookback 60: peak GiB", peak, None, "GiB", None, "2 GiB", "",
             peak < LIMIT_GIB),
        Line(f"{sizes[-1]:,} bars, batches of 256: peak at lookback 240 (ours), at 60 (other)", long, short, "GiB",
             long / short, "within 10 %", "", abs(long / short - 1) < 0.1),
    ]  # fmt: skip


def measured(step: str, count: int, lookback_bars: int) -> dict[str, Any]:
    """Run a step in a process of its own."""
    command = [sys.executable, __file__, step, str(count), str(lookback_bars)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    numbers: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return numbers


def work(step: str, count: int, lookback_bars: int) -> float:
    """Run a step, and return its seconds."""
    from datetime import UTC, datetime

    from data_checks.check_spec import CheckSpec
    from model.bars import Bars
    from model.windows import WindowSpec, cut_windows

    if step == "check":
        from data_checks.validate import check_bars

        frame = synthetic_frame(count)
        as_of = datetime.fromtimestamp(frame["timestamp"].iloc[-1].timestamp() + 60, UTC)
        started = time.perf_counter()
        check_bars(frame, SERIES, CheckSpec(), as_of, None)
        return time.perf_counter() - started
    rng = np.random.default_rng(7)
    close = 20_000 * np.exp(np.cumsum(rng.normal(0, 2e-4, count)))
    ohlcv = np.repeat(close[:, None], 5, axis=1)
    del close
    bars = Bars("1m", np.datetime64("2016-01-01", "us") + np.arange(count) * SERIES.delta, ohlcv)
    started = time.perf_counter()
    windows = cut_windows(bars, WindowSpec(lookback_bars=lookback_bars)).resolved()
    if step == "window":
        return time.perf_counter() - started
    del bars, ohlcv
    from model.networks import NetworkSpec
    from model.training import Trainer, TrainingSpec

    trainer = Trainer(NetworkSpec(), TrainingSpec(batch_size=1024 if step == "epoch" else 256), lookback_bars, 4)
    chosen = np.arange(0, len(windows), 1 if step == "epoch" else 32)
    started = time.perf_counter()
    trainer.fit(windows, chosen, epochs=1)
    return time.perf_counter() - started


def draw(found: dict[tuple[int, str], dict[str, Any]], sizes: list[int]) -> None:
    """Draw seconds and peak memory against the number of bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for ax, what, label in zip(
        figure.subplots(1, 2), ("seconds", "peak"), ("seconds", "peak memory, GiB"), strict=True
    ):
        for step in STEPS:
            ax.plot(sizes, [found[size, step][what] for size in sizes], marker="o", label=step)
        ax.set(xscale="log", xlabel="bars", ylabel=label)
        ax.grid(visible=True, alpha=0.3)
    figure.axes[0].set_yscale("log")
    figure.axes[0].legend(frameon=False)
    figure.axes[1].set_ylim(bottom=0)
    figure.suptitle("Growth with the number of one-minute bars (lookback 60, one epoch at batch 1024)")
    figure.savefig(PICTURE, dpi=120)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        spent = work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        sys.stdout.write(json.dumps({"seconds": spent, "peak": peak}) + "\n")
    else:
        from timed_comparison import table

        print(table(lines(int(sys.argv[1]) if len(sys.argv) == 2 else LARGEST)))
