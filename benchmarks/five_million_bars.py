"""Seconds and peak memory of ingestion, check and windowing of five million 1-minute bars; and the article's loop.

Each step runs in a process of its own, so that its peak memory is its own (with imports). The bars are a random walk of
a fixed seed without gaps. The article's loop and ours are compared in processor seconds, which depend less on other
work on the machine. Caution: our lazy view is not standardised and the article's output is, so the comparison is with
cutting AND standardising every window. Run: `python benchmarks/five_million_bars.py [BARS]`.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from model.bars import Bars, Series
from model.windows import Windows, WindowSpec, cut_windows
from tasks.store.bar_store import BarStore
from tasks.store.bars_ref import BarsRef

if TYPE_CHECKING:
    import pandas as pd

Result = TypeVar("Result")
BARS = 5_000_000
PEAK_GIB = 2.5
LOOP_BARS = 100_000  # of the comparison with the article's loop, which takes a millisecond for a few windows
LEAST_RATIO = 100
BATCH_WINDOWS = 65_536  # windows standardised at a time: 60 MB
REPEATS = 5  # of our side of the comparison, which takes milliseconds; the fastest is used
SERIES = Series("SYNTHETIC", "1m")
START = np.datetime64("2016-01-01", "us")
AT = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = WindowSpec()


def synthetic_frame(count: int) -> "pd.DataFrame":
    """Return bars of a geometric random walk, oldest first."""
    import pandas as pd  # imported here: windowing does not need it

    rng = np.random.default_rng(7)
    close = 20_000 * np.exp(np.cumsum(rng.normal(0, 2e-4, count)))
    opens = np.concatenate((close[:1], close[:-1]))
    reach = 1 + rng.uniform(0, 1e-4, count)
    return pd.DataFrame(
        {
            "timestamp": pd.DatetimeIndex(START + np.arange(count) * SERIES.delta).tz_localize("UTC"),
            "open": opens,
            "high": np.maximum(opens, close) * reach,
            "low": np.minimum(opens, close) / reach,
            "close": close,
            "volume": rng.uniform(1, 100, count),
        },
        copy=False,
    )


def timed(name: str, action: Callable[[], Result]) -> Result:
    """Run an action; print its seconds, processor seconds and the peak memory of the process as JSON."""
    started, worked = time.perf_counter(), time.process_time()
    result = action()
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    print(json.dumps({"step": name, "seconds": seconds, "cpu": cpu, "peak_gib": peak}), flush=True)
    return result


def ingest(store: BarStore, count: int, kept: Path) -> None:
    """Merge all bars but one into an empty table, then that one, then all again; make a reference."""
    frame = synthetic_frame(count)
    first = timed("ingest: merge into an empty table", lambda: store.merge(SERIES, frame.iloc[:-1], {}, merged_at=AT))
    one = timed("ingest: merge one more bar", lambda: store.merge(SERIES, frame.iloc[-1:], {}, merged_at=AT))
    again = timed("ingest: merge them all again", lambda: store.merge(SERIES, frame, {}, merged_at=AT))
    assert (first.added, one.added, again.unchanged, again.version) == (count - 1, 1, count, one.version)
    ref = timed("ingest: make a reference (sha256)", lambda: store.ref(SERIES))
    kept.write_text(json.dumps(ref.to_dict()))


def check(store: BarStore, kept: Path) -> None:
    """Check the stored bars, with Data Docs."""
    from data_checks.check_spec import CheckSpec  # imported here: Great Expectations takes 5 s to import
    from data_checks.validate import check_bars

    ref = BarsRef.from_dict(json.loads(kept.read_text()))
    frame = timed("check: read the bars", lambda: store.read_frame(SERIES, ref.version))
    as_of = datetime.fromtimestamp(ref.last.timestamp() + 60, UTC)
    report = timed(
        "check: run the suite, write the Data Docs",
        lambda: check_bars(frame, SERIES, CheckSpec(), as_of, kept.with_name("docs")),
    )
    assert len(report.accepted) == ref.rows


def window(store: BarStore, kept: Path) -> None:
    """Read the bars by their reference and cut all windows."""
    ref = BarsRef.from_dict(json.loads(kept.read_text()))
    bars = timed("window: read and verify the bars", lambda: store.read_bars(ref))
    windows = timed("window: cut all windows", lambda: cut_windows(bars, SPEC))
    assert len(windows) == ref.rows - SPEC.lookback_bars + 1
    timed("window: standardise all, in batches", lambda: [part.standardised().sum() for part in batches(windows)])


def batches(windows: Windows) -> "map[Windows]":
    """Yield all windows, in batches."""
    starts = range(0, len(windows), BATCH_WINDOWS)
    return map(lambda start: windows.take(np.arange(start, min(start + BATCH_WINDOWS, len(windows)))), starts)  # noqa: C417


def article_loop(bars: Bars) -> tuple[np.ndarray, np.ndarray]:
    """Cut windows as the article does: one at a time, z-scores by channel, converted to arrays at the end.

    Source: A. Honchar, "Neural networks for algorithmic trading. Multivariate time series" (2017).
    """
    opens, highs, lows, closes = (bars.column(name).tolist() for name in SPEC.features)
    lookback, forecast = SPEC.lookback_bars, SPEC.horizon_bars - 1
    windows, labels = [], []
    for start in range(0, len(closes), SPEC.stride_bars):
        outcome = start + lookback + forecast
        if outcome >= len(closes):
            break
        channels = []
        for prices in (opens, highs, lows, closes):
            channel = prices[start : start + lookback]
            channels.append((np.array(channel) - np.mean(channel)) / np.std(channel))
        windows.append(np.column_stack(channels))
        labels.append(1 if closes[start + lookback - 1] < closes[outcome] else 0)
    return np.array(windows), np.array(labels)


def compare(store: BarStore, kept: Path) -> None:
    """Time the article's loop and ours on the same bars, and require equal output."""
    ref = BarsRef.from_dict(json.loads(kept.read_text()))
    everything = store.read_bars(ref)
    bars = Bars(SERIES.interval, everything.opened_at[:LOOP_BARS], everything.ohlcv[:LOOP_BARS])
    values, labels = timed("compare: the article's loop", lambda: article_loop(bars))
    windows = timed("compare: cut windows (lazy)", lambda: cut_windows(bars, SPEC).resolved())
    for _ in range(REPEATS):
        ours = timed("compare: cut and standardise all", lambda: cut_windows(bars, SPEC).resolved().standardised())
    assert np.array_equal(windows.labels, labels)
    np.testing.assert_allclose(ours, values, rtol=0, atol=1e-6)


def main(count: int) -> None:
    """Run each step in its own process and print the table; raise if a number misses its target."""
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for step in ("ingest", "check", "window", "compare"):
            command = [sys.executable, __file__, str(count), step, folder]
            ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows += [json.loads(line) for line in ended.stdout.splitlines() if line.startswith('{"step"')]
    print(f"{count:,} bars of one minute\n\n{'step':45} {'seconds':>8} {'cpu':>8} {'peak GiB':>9}")
    for row in rows:
        print(f"{row['step']:45} {row['seconds']:8.3f} {row['cpu']:8.3f} {row['peak_gib']:9.2f}")
    spent = {name: min(row["cpu"] for row in rows if row["step"] == name) for name in (row["step"] for row in rows)}
    loop = spent["compare: the article's loop"]
    lazy, full = loop / spent["compare: cut windows (lazy)"], loop / spent["compare: cut and standardise all"]
    print(f"\nOn {min(count, LOOP_BARS):,} bars, with equal output and on one thread, the article's loop takes")
    print(f"{lazy:,.0f} times the processor seconds of cutting the windows, and {full:,.0f} times those of cutting and")
    print("standardising every one.")
    peak = max(row["peak_gib"] for row in rows)
    assert peak < PEAK_GIB, f"expected a peak under {PEAK_GIB} GiB, found {peak:.2f}"
    assert full >= LEAST_RATIO, f"expected a ratio of at least {LEAST_RATIO}, found {full:.0f}"


if __name__ == "__main__":
    if len(sys.argv) <= 2:
        main(int(sys.argv[1]) if len(sys.argv) == 2 else BARS)
    else:
        bars_count, chosen, home = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
        place = BarStore(str(home / "tables")), home / "ref.json"
        if chosen == "ingest":
            ingest(place[0], bars_count, place[1])
        else:
            {"check": check, "window": window, "compare": compare}[chosen](*place)
