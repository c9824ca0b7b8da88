"""Kill -9 in the middle of an ingest, fifty times: the bars are those before it or those after it, never between."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from model.bars import Series
from tasks.store.bar_store import BarStore

pytestmark = pytest.mark.e2e

SERIES = Series("BTC/USD", "1m")
AT = datetime(2026, 1, 1, tzinfo=UTC)
KILLS = 50
ROUNDS_OF_A_STORE = 10  # then a new one, so that the making of the tables is interrupted as well
NEW_BARS = 20_000
REVISED_BARS = 40

# One process that has imported everything forks a child for each ingest, kills it, and tells how it ended.
INGESTS = """
import os, signal, sys, time
import pyarrow.compute, pandas as pd
from datetime import UTC, datetime
from model.bars import Series
from tasks.store.bar_store import BarStore

print("ready", flush=True)
for line in sys.stdin:
    root, path, seconds = line.split()
    frame = pd.read_pickle(path)
    child = os.fork()
    if child == 0:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        BarStore(root).merge(Series("BTC/USD", "1m"), frame, {"source": "crash"}, merged_at=at)
        os._exit(0)
    if seconds != "never":
        time.sleep(float(seconds))
        os.kill(child, signal.SIGKILL)  # one that has ended already takes no notice
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def ingests() -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", INGESTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        assert process.stdin is not None
        process.stdin.close()


def ingest_frame(number: int) -> pd.DataFrame:
    """New bars of one ingest, and the first bars of the one before with another close."""
    first = number * NEW_BARS
    times = pd.date_range("2025-12-20", periods=first + NEW_BARS, freq="min", tz="UTC", unit="us")
    price = pd.Series(range(first, first + NEW_BARS), dtype="float64")
    columns = {"timestamp": times[first:], "open": price, "high": price + 1, "low": price - 1, "close": price}
    fresh = pd.DataFrame(columns | {"volume": 1.0})
    if number == 0:
        return fresh
    return pd.concat(
        [ingest_frame(number - 1).tail(NEW_BARS).head(REVISED_BARS).assign(close=-1.0), fresh], ignore_index=True
    )


def merged(before: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    both = pd.concat([before, frame]).drop_duplicates("timestamp", keep="last")
    return both.sort_values("timestamp", ignore_index=True)


def run(ingests: "subprocess.Popen[str]", store: BarStore, path: Path, seconds: float | None) -> int:
    """Start an ingest, kill it after some seconds (never if None), and return its exit code."""
    assert ingests.stdin is not None
    assert ingests.stdout is not None
    ingests.stdin.write(f"{store.root} {path} {'never' if seconds is None else seconds}\n")
    ingests.stdin.flush()
    return int(ingests.stdout.readline())


def test_killed_ingests_leave_a_readable_table_that_the_next_ingest_completes(
    ingests: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    moments = random.Random(20261124)
    paths = [tmp_path / f"{number}.pickle" for number in range(ROUNDS_OF_A_STORE)]
    for number, path in enumerate(paths):
        ingest_frame(number).to_pickle(path)
    started = time.monotonic()
    for path in paths[:3]:
        assert run(ingests, BarStore(str(tmp_path / "unharmed")), path, None) == 0
    whole = (time.monotonic() - started) / 3
    outcomes = {"killed": 0, "before": 0, "after": 0, "unrecorded": 0}
    for attempt in range(6 * KILLS):
        if outcomes["killed"] == KILLS:
            break
        number = attempt % ROUNDS_OF_A_STORE
        if number == 0:
            store, before = BarStore(str(tmp_path / f"store{attempt}")), ingest_frame(0).head(0)
        frame = pd.read_pickle(paths[number])
        after = merged(before, frame)
        outcomes["killed"] += run(ingests, store, paths[number], moments.uniform(0, 2 * whole)) == -signal.SIGKILL
        found = store.read_frame(SERIES)
        left_as_it_was = len(found) == len(before)
        pd.testing.assert_frame_equal(found, before if left_as_it_was else after, check_dtype=False)
        recorded = len(store.read_revisions(SERIES))
        outcomes["before" if left_as_it_was else "after"] += 1
        outcomes["unrecorded"] += not left_as_it_was and recorded < number * REVISED_BARS
        result = store.merge(SERIES, frame, {"source": "next"}, merged_at=AT)
        assert (result.added > 0) == left_as_it_was
        pd.testing.assert_frame_equal(store.read_frame(SERIES), after)
        revisions = store.read_revisions(SERIES)
        assert len(revisions) == number * REVISED_BARS
        assert revisions["timestamp"].is_unique
        before = after
    print(outcomes, f"{whole:.3f} s an ingest")  # noqa: T201  shown by pytest -rP
    assert outcomes["killed"] == KILLS
    assert outcomes["before"] > 0
