"""Ingests killed at each step of each write: the bars are those before it or those after it, never between."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from model.bars import Series
from tasks.store.bar_store import BarStore

pytestmark = pytest.mark.e2e

SERIES = Series("BTC/USD", "1m")
AT = datetime(2026, 1, 1, tzinfo=UTC)
NEW_BARS = 20_000
REVISED_BARS = 40

# The writes of each ingest: the first makes the table of bars, the second that of revisions.
LATER = ("write bars", "write revisions")
WRITES = (
    ("create bars", "write bars"),
    ("write bars", "create revisions", "write revisions"),
    *[LATER] * 4,
)
STEPS = ("before", "at 100 bytes of", "at 500 bytes of", "after")
CASES = [(number, f"{step} {write}") for number, writes in enumerate(WRITES) for write in writes for step in STEPS]

# One process that has imported everything forks a child for each ingest, and reports how the child ended. The child
# kills itself before or after a write; in the middle of one, the kernel kills it at a size limit of files.
INGESTS = """
import os, resource, signal, sys
import pyarrow.compute, pandas as pd
from datetime import UTC, datetime
from model.bars import Series
from tasks.store import delta_table
from tasks.store.bar_store import BarStore

def stopping(true, verb, step):
    def write(table, *given, **named):
        name = f"{verb} {os.path.basename(str(getattr(table, 'table_uri', table)).rstrip('/'))}"
        moment, _, write_to_stop = step.partition(":")
        if name == write_to_stop and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == write_to_stop and moment.isdigit():
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(moment), int(moment)))
        found = true(table, *given, **named)
        if name == write_to_stop and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    return write

print("ready", flush=True)
for line in sys.stdin:
    root, path, step = line.rstrip().split("|")
    frame = pd.read_pickle(path)
    child = os.fork()
    if child == 0:
        delta_table.DeltaTable.create = stopping(delta_table.DeltaTable.create, "create", step)
        delta_table.write_deltalake = stopping(delta_table.write_deltalake, "write", step)
        at = datetime(2026, 1, 1, tzinfo=UTC)
        BarStore(root).merge(Series("BTC/USD", "1m"), frame, {"source": "crash"}, merged_at=at)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Ingests:
    """The process that forks ingests; the frame of each, and the store as it was before each."""

    process: "subprocess.Popen[str]"
    frames: list[Path]
    stores: list[Path]

    def run(self, store: BarStore, number: int, step: str = "") -> int:
        """Run an ingest until a step (`moment:write`), to its end without one, and return its exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(store.root, self.frames[number], step, sep="|", file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def ingests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingests]:
    place = tmp_path_factory.mktemp("ingests")
    frames = [place / f"{number}.pickle" for number in range(len(WRITES))]
    stores = [place / f"before{number}" for number in range(len(WRITES) + 1)]
    for number, path in enumerate(frames):
        ingest_frame(number).to_pickle(path)
    with subprocess.Popen(
        [sys.executable, "-c", INGESTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        found = Ingests(process, frames, stores)
        stores[0].mkdir()
        for number in range(len(WRITES)):
            shutil.copytree(stores[number], stores[number + 1])
            assert found.run(BarStore(str(stores[number + 1])), number) == 0
        yield found
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


@pytest.mark.parametrize(("number", "step"), CASES, ids=[f"ingest {number} {step}" for number, step in CASES])
def test_a_killed_ingest_leaves_a_readable_table_that_the_next_ingest_completes(
    number: int, step: str, ingests: Ingests, tmp_path: Path
) -> None:
    before = BarStore(str(ingests.stores[number])).read_frame(SERIES)
    frame = pd.read_pickle(ingests.frames[number])
    after = merged(before, frame)
    store = BarStore(str(shutil.copytree(ingests.stores[number], tmp_path / "store")))

    write = " ".join(step.split()[-2:])
    moment = step.removesuffix(write).strip()
    size = moment.split()[1] if moment.startswith("at ") else ""
    code = ingests.run(store, number, f"{size or moment}:{write}")
    assert code == (-signal.SIGXFSZ if size else -signal.SIGKILL)

    committed = step == "after write bars" or write.endswith("revisions")
    pd.testing.assert_frame_equal(store.read_frame(SERIES), after if committed else before, check_dtype=False)
    result = store.merge(SERIES, frame, {"source": "next"}, merged_at=AT)
    assert (result.added > 0) == (not committed)
    pd.testing.assert_frame_equal(store.read_frame(SERIES), after)
    revisions = store.read_revisions(SERIES)
    assert len(revisions) == number * REVISED_BARS
    assert revisions["timestamp"].is_unique
