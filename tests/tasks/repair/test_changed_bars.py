"""A value that changes in a file of bars, which stays readable, is found by the hash of the bars of a decision."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaged_home import log_file, output

from model.bars import Bars, Series
from tasks.repair.changed_bars import find_changed_bars
from tasks.settings import Settings
from tasks.store.bars_hash import count_prefixes, hash_bars
from tasks.workspace import Workspace

SERIES = Series("BTC-USD", "1d")


def exchange_closes(home: Path, year: int) -> None:
    """Exchange the first two closes of a year in its file; the log has the size of the file then."""
    (path,) = (home / "data" / "tables" / "bars").glob(f"symbol=*/interval=*/year={year}/*.parquet")
    size, stored = path.stat().st_size, pq.ParquetFile(path).read()
    closes = stored["close"].to_pylist()
    closes[:2] = reversed(closes[:2])
    pq.write_table(stored.set_column(stored.column_names.index("close"), "close", pa.array(closes)), path)
    log = log_file(home, "bars", 1)
    lines = log.read_text().splitlines(keepends=True)
    own = next(number for number, line in enumerate(lines) if path.name in line)
    lines[own] = lines[own].replace(f'"size":{size},', f'"size":{path.stat().st_size},')
    log.write_text("".join(lines))


def findings(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    code, out, _ = output(capsys, "doctor", "--json")
    found = [each for each in json.loads(out)["findings"] if each["state"] != "whole"]
    assert code == (4 if found else 0)
    return found


def test_two_exchanged_closes_are_found_until_they_are_read_again(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Workspace(Settings()).bar_store
    original = store.read_frame(SERIES)
    exchange_closes(home, 2016)
    changed = store.read_frame(SERIES)
    assert (original["close"] != changed["close"]).sum() == 2
    (found,) = findings(capsys)
    assert (found["part"], found["path"]) == ("bars BTC-USD 1d", str(home / "data" / "tables" / "bars"))
    assert found["problem"].startswith("expected in version 1 of the table the bars of the decision of ")
    assert found["problem"].endswith("UTC, found others: bars have changed on disk or are missing")
    assert "riseorfall remove" in found["remedy"]
    store.merge(SERIES, original, {}, merged_at=datetime.now(UTC))
    assert findings(capsys) == []


def test_an_earlier_decision_tells_since_when_bars_have_changed(home: Path) -> None:
    """Its bars ended with 2017. The newest decision is of a version that cannot be read; a replay does not count."""
    workspace = Workspace(Settings())
    (own,) = workspace.decision_log.rows()
    until = workspace.bar_store.ref(SERIES, as_of=datetime(2018, 1, 1, tzinfo=UTC))
    for changed in (
        replace(own, decision_id="earlier", bars_sha256=until.sha256),
        replace(own, decision_id="later"),
        replace(own, decision_id="gone", bars_version=7, bars_sha256="0" * 64),
        replace(own, decision_id="replay", series_name="BTC-USD-1d-replay", bars_sha256="0" * 64),
    ):
        workspace.decision_log.append(replace(changed, action="hold", champion_before="1"))
    rows = workspace.decision_log.rows()
    assert list(find_changed_bars(Settings(), rows)) == []
    exchange_closes(home, 2018)
    (found,) = find_changed_bars(Settings(), rows)
    assert found.problem.endswith("found others: bars from 2018-01-01 00:00 UTC on have changed on disk or are missing")


def test_prefixes_of_bars_are_counted_by_their_hash() -> None:
    times = np.datetime64("2020-01-01", "us") + np.arange(3) * np.timedelta64(1, "D")
    values = np.arange(15.0).reshape(3, 5)
    two, three = (hash_bars(Bars("1d", times[:count], values[:count])) for count in (2, 3))
    assert count_prefixes(Bars("1d", times, values), {two, three, "other"}) == {two: 2, three: 3}
