"""Ingest, check, store as tasks against a real exchange on loopback: in each of its moods, alone, in two processes."""

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from loopback_exchange import Fault, LoopbackExchange, Rows
from misbehaviours import CHANGES, FAULTS
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_API_URL
from running_up import PATIENCE_SECONDS
from synthetic_bars import random_walk

from data_checks.check_spec import CheckSpec
from data_checks.great_expectations_run import Validation
from flows.cli import run
from flows.ingest import ingest as ingest_flow
from flows.retrain import retrain
from model.bars import Bars, Series
from model.errors import ChecksFailed, SourceUnavailable
from model.times import to_datetime
from tasks.ingestion import ingest, store
from tasks.results import Stored
from tasks.sources.exchange_client import RetryRule
from tasks.sources.source_spec import SourceSpec, require_readable
from tasks.store.bar_store import BarStore
from tasks.validation import check_landing

QUICK = RetryRule(attempts=4, first_delay_seconds=0.02, longest_delay_seconds=2, timeout_seconds=0.7)
DAYS, STORED = 700, 500
AT = datetime.fromisoformat("2020-01-01T00:00:00+00:00")
NAME = "binance"


@flow(name="ingest-without-waiting")
def ingest_bars(source: SourceSpec, as_of: datetime | None = None, run_id: str = "test") -> Stored:
    landing = ingest(source, as_of, run_id)
    return store(landing, check_landing(landing, source, CheckSpec()).accepted)


@pytest.fixture(scope="module")
def day_bars() -> Bars:
    return random_walk(DAYS, seed=5)


@pytest.fixture
def exchange(day_bars: Bars) -> Iterator[LoopbackExchange]:
    """An exchange five hours into the last of its days."""
    with LoopbackExchange({"1d": day_bars}, day_bars.opened_at[-1] + np.timedelta64(5, "h")).running() as running:
        yield running


@pytest.fixture
def source(exchange: LoopbackExchange) -> SourceSpec:
    return SourceSpec(kind="exchange", exchange=NAME, base_url=exchange.base_url, backfill_from="2018-01-01")


@pytest.fixture
def bar_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BarStore:
    """An empty store, in a home of its own; an exchange is not asked for minutes."""
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.setattr("tasks.sources.exchange_source.RetryRule", lambda: QUICK)
    return BarStore(str(tmp_path / "data" / "tables"))


@pytest.fixture
def begun(bar_store: BarStore, source: SourceSpec, day_bars: Bars) -> BarStore:
    """A store that holds the first days already."""
    bar_store.merge(source.series, part(day_bars, STORED).frame(), {"source": "before"}, merged_at=AT)
    return bar_store


@pytest.fixture
def unconfirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Great Expectations, which confirms the results of the checks in half a second, does not run."""
    monkeypatch.setattr("data_checks.validate.validate_batch", lambda *_: Validation({}, "", ""))
    monkeypatch.setattr("data_checks.validate._disagreement", lambda *_: "")


def part(bars: Bars, stop: int) -> Bars:
    return Bars(bars.interval, bars.opened_at[:stop], bars.ohlcv[:stop])


def require_equal(bar_store: BarStore, source: SourceSpec, expected: Bars) -> None:
    pd.testing.assert_frame_equal(bar_store.read_frame(source.series), expected.frame())


@pytest.mark.e2e  # a second for each; the client alone is tested against each in tests/tasks/sources
@pytest.mark.usefixtures("unconfirmed")
@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_ends_with_every_bar_right(
    fault: str, exchange: LoopbackExchange, source: SourceSpec, begun: BarStore, day_bars: Bars
) -> None:
    exchange.faults[NAME] = deque([FAULTS[fault], FAULTS[fault]])
    stored = ingest_bars(source)
    assert (stored.merge.added, stored.merge.revised) == (DAYS - 1 - STORED, 0)
    require_equal(begun, source, part(day_bars, DAYS - 1))


@pytest.mark.e2e  # as above
@pytest.mark.usefixtures("unconfirmed")
@pytest.mark.parametrize("change", CHANGES)
def test_a_spoilt_page_ends_with_every_bar_right(
    change: str, exchange: LoopbackExchange, source: SourceSpec, bar_store: BarStore, day_bars: Bars
) -> None:
    exchange.faults[NAME] = deque([Fault(change=CHANGES[change])])
    ingest_bars(source)
    require_equal(bar_store, source, part(day_bars, DAYS - 1))


@pytest.mark.e2e  # a second for each; the client alone is tested against each in tests/tasks/sources
@pytest.mark.usefixtures("unconfirmed")
@pytest.mark.parametrize("fault", FAULTS)
def test_what_stays_is_a_clear_error_and_the_table_is_as_it_was(
    fault: str, exchange: LoopbackExchange, source: SourceSpec, begun: BarStore, day_bars: Bars
) -> None:
    before = begun.ref(source.series)
    exchange.faults[NAME] = deque([FAULTS[fault]] * 20)
    with pytest.raises(SourceUnavailable, match=r"binance: bars BTC/USD 1d from .*found none in 4 attempts; last: "):
        ingest_bars(source)
    assert begun.ref(source.series) == before
    exchange.faults[NAME].clear()
    ingest_bars(source)
    require_equal(begun, source, part(day_bars, DAYS - 1))


def spoilt(at: int, change: Callable[[list[float]], list[float]]) -> Callable[[Rows], Rows]:
    def spoil(rows: Rows) -> Rows:
        return [(row[0], *change(list(row[1:]))) if place == at else row for place, row in enumerate(rows)]  # type: ignore[misc]

    return spoil


@pytest.mark.e2e
def test_impossible_prices_are_a_clear_error_and_the_table_is_as_it_was(
    exchange: LoopbackExchange,
    source: SourceSpec,
    begun: BarStore,
    day_bars: Bars,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RISEORFALL_PUBLIC_URL", "http://pages:8000")
    before = begun.ref(source.series)
    exchange.always[NAME] = Fault(change=spoilt(100, lambda row: [row[0], row[2], row[1], *row[3:]]))
    with pytest.raises(ChecksFailed, match=r"contradicting_price: .*low <= open, close <= high") as raised:
        ingest_bars(source)
    assert "All rules, with the bars: http://pages:8000/docs/" in str(raised.value)
    assert begun.ref(source.series) == before
    assert set(begun.read_quarantine(source.series)["rule"]) == {"contradicting_price"}
    exchange.always.clear()
    ingest_bars(source)
    require_equal(begun, source, part(day_bars, DAYS - 1))


@pytest.mark.e2e
@pytest.mark.usefixtures("unconfirmed")
def test_a_stored_bar_that_a_stricter_limit_refuses_is_reported_as_used(
    source: SourceSpec, bar_store: BarStore, day_bars: Bars, caplog: pytest.LogCaptureFixture
) -> None:
    stored = part(day_bars, STORED).frame()
    stored.loc[100, "low"] = stored.loc[100, ["open", "close"]].min() / 2.5
    bar_store.merge(source.series, stored, {"source": "before"}, merged_at=AT)
    opened_at = stored["timestamp"][100]

    @flow(name="check-at-a-limit")
    def refused(factor: float) -> int:
        caplog.clear()
        landing = ingest(source, None, "test")
        return check_landing(landing, source, CheckSpec(absurd_tick_factor=factor)).refused

    assert refused(3) == 0
    assert "still used" not in caplog.text
    assert refused(2) == 1
    assert "still used by models: 1 of the refused bars" in caplog.text
    assert f"`riseorfall remove --at {opened_at.isoformat()} --reason TEXT`" in caplog.text
    bar_store.remove(source.series, [opened_at], "wrong", removed_at=AT)
    assert refused(2) == 0
    assert "still used" not in caplog.text


@pytest.mark.e2e
def test_a_bad_tick_goes_to_the_quarantine_and_comes_in_once_released(
    exchange: LoopbackExchange, source: SourceSpec, begun: BarStore
) -> None:
    exchange.always[NAME] = Fault(change=spoilt(100, lambda row: [row[0], row[1], 0.06, *row[3:]]))
    ingest_bars(source)
    (refused,) = begun.refusals(source.series)
    assert (refused["rule"], refused["value"]) == ("absurd_tick", "low 0.06")
    opened_at = datetime.fromisoformat(refused["opened_at"])
    assert pd.Timestamp(opened_at) not in set(begun.read_frame(source.series)["timestamp"])
    begun.release(source.series, [opened_at], "the exchange confirms it", released_at=AT)
    again = ingest_bars(source)
    assert (again.merge.added, again.merge.revised) == (0, 0)
    assert len(begun.read_frame(source.series)) == DAYS - 1
    assert [entry["released_at"] is not None for entry in begun.refusals(source.series)] == [True]


@pytest.mark.e2e  # as above
@pytest.mark.usefixtures("unconfirmed")
def test_a_first_ingest_reads_the_bars_before_its_as_of_time(
    source: SourceSpec, bar_store: BarStore, day_bars: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those before the clock would all be later."""
    for module in ("tasks.ingestion", "tasks.sources.exchange_source"):
        monkeypatch.setattr(f"{module}.BACKFILL_BARS", 250)
    as_of = to_datetime(day_bars.opened_at[400])
    ingest_bars(source.model_copy(update={"backfill_from": ""}), as_of)
    expected = Bars("1d", day_bars.opened_at[150:400], day_bars.ohlcv[150:400])
    require_equal(bar_store, source, expected)


@pytest.mark.e2e  # as above
@pytest.mark.usefixtures("unconfirmed")
def test_a_bar_that_a_person_removes_during_an_ingest_stays_removed(
    source: SourceSpec, begun: BarStore, day_bars: Bars
) -> None:
    removed = to_datetime(day_bars.opened_at[STORED - 5])

    @flow(name="ingest-with-a-removal")
    def interrupted() -> Stored:
        landing = ingest(source, None, "test")
        accepted = check_landing(landing, source, CheckSpec()).accepted
        begun.remove(source.series, [removed], "wrong", removed_at=AT)
        return store(landing, accepted)

    stored = interrupted()
    assert (stored.merge.added, stored.merge.revised, stored.merge.overtaken) == (DAYS - 1 - STORED, 0, 1)
    assert "1 bar of BTC-USD was changed or removed by another run" in stored.warning
    assert pd.Timestamp(removed) not in set(begun.read_frame(source.series)["timestamp"])


def test_an_unknown_symbol_is_refused_before_anything_runs(
    exchange: LoopbackExchange, source: SourceSpec, bar_store: BarStore, tmp_path: Path
) -> None:
    wrong = source.model_copy(update={"symbol": "BTC-USDD"})
    for flow_with_bars in (retrain, ingest_flow):
        state = flow_with_bars(wrong, return_state=True)
        assert state.is_failed()
        assert "binance does not trade BTC/USDD; similar: BTC/USD" in (state.message or "")
        with get_client(sync_client=True) as client:
            assert client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
            ) == []  # fmt: skip
    assert exchange.candles_asked() == 0
    assert bar_store.read_frame(source.series).empty
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("command", ["retrain", "ingest", "up"])
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"symbol": "BTC-USDD"}, "binance does not trade BTC/USDD; similar: BTC/USD"),
        ({"exchange": "binnance"}, "no exchange 'binnance'; similar: binance"),
        ({"kind": "sample", "symbol": "BTC-EUR"}, "expected BTC-USD at 1d, found BTC-EUR"),
        ({"kind": "csv", "path": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_a_shell_hears_of_an_unknown_symbol_at_once(
    command: str, wrong: dict[str, str], reason: str, source: SourceSpec, bar_store: BarStore,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    flags = {"kind": "exchange", "exchange": NAME, "base-url": source.base_url} | wrong
    assert run([command, *(word for name, value in flags.items() for word in (f"--source.{name}", value))]) == 2
    assert reason in capsys.readouterr().err
    assert not Path(bar_store.root).exists()


def test_an_exchange_that_does_not_answer_is_left_to_the_fetch(exchange: LoopbackExchange, source: SourceSpec) -> None:
    exchange.always[NAME] = Fault(closes=True)
    require_readable(source)
    assert len(exchange.asked) == 1


@pytest.mark.e2e
def test_twice_in_a_row_adds_nothing(source: SourceSpec, bar_store: BarStore, day_bars: Bars) -> None:
    first, second = ingest_flow(source), ingest_flow(source)
    assert first.merge.added == DAYS - 1
    assert (second.merge.added, second.merge.revised, second.merge.unchanged) == (0, 0, 51)
    assert second.ref == first.ref
    require_equal(bar_store, source, part(day_bars, DAYS - 1))


@pytest.mark.e2e
def test_a_run_as_of_an_earlier_day_needs_no_bar_that_is_not_stored(
    source: SourceSpec, bar_store: BarStore, day_bars: Bars
) -> None:
    """The day lies further back than the bars that are compared with the stored ones."""
    ingest_bars(source)
    as_of = to_datetime(day_bars.closed_at[-300])
    stored = ingest_bars(source, as_of)
    assert (stored.merge.added, stored.merge.revised, stored.merge.unchanged) == (0, 0, 50)
    assert bar_store.ref(source.series, as_of=as_of).last == to_datetime(day_bars.opened_at[-300])


@pytest.mark.e2e
def test_a_revised_past_bar_is_written_and_its_old_value_kept(
    exchange: LoopbackExchange, source: SourceSpec, bar_store: BarStore, day_bars: Bars
) -> None:
    ingest_bars(source)
    revised = Bars("1d", day_bars.opened_at, day_bars.ohlcv.copy())
    revised.ohlcv[-20, 3] *= 1.0001
    revised.ohlcv[-20, 1] = revised.ohlcv[-20, :4].max()
    exchange.series["1d"] = revised
    stored = ingest_bars(source)
    assert (stored.merge.added, stored.merge.revised) == (0, 1)
    require_equal(bar_store, source, part(revised, DAYS - 1))
    (row,) = bar_store.read_revisions(source.series).to_dict("records")
    assert (row["old_close"], row["new_close"]) == (day_bars.ohlcv[-20, 3], revised.ohlcv[-20, 3])
    assert row["source"] == NAME


@pytest.mark.e2e
def test_bars_of_another_exchange_under_the_same_symbol_are_warned_of(
    source: SourceSpec, bar_store: BarStore, day_bars: Bars
) -> None:
    frame = part(day_bars, DAYS - 1).frame()
    frame[["open", "high", "low", "close"]] *= 1.001
    bar_store.merge(source.series, frame, {"source": "another"}, merged_at=AT)
    stored = ingest_bars(source)
    assert stored.warning == (
        "51 of 51 bars of BTC-USD that were stored already have other values now. If they are from another exchange, "
        f"the series now mixes the bars of two; `riseorfall bars --table-version {stored.merge.version - 1}` still has "
        "the former ones"
    )
    merged = stored.merge
    for from_file in (False, True):
        assert replace(merged, revised=300, unchanged=300).warn_of_other_source("BTC", from_file=from_file) == ""
        assert replace(merged, revised=301, unchanged=300).warn_of_other_source("BTC", from_file=from_file) != ""
        assert replace(merged, revised=20, unchanged=0).warn_of_other_source("BTC", from_file=from_file) != ""
        assert replace(merged, revised=19, unchanged=0).warn_of_other_source("BTC", from_file=from_file) == ""


OF_ANOTHER_EXCHANGE = np.array([1.001] * 4 + [0.2])  # prices 0.1 % higher, a fifth of the volume


@pytest.fixture
def failing_over(exchange: LoopbackExchange, source: SourceSpec) -> SourceSpec:
    """A source whose first exchange is down and whose second one has other prices and volumes."""
    exchange.always["coinbase"] = Fault(status=503)
    exchange.always["kraken"] = Fault(
        change=lambda rows: [(at, *(np.array(row) * OF_ANOTHER_EXCHANGE).tolist()) for at, *row in rows]
    )
    return source.model_copy(update={"exchange": "coinbase,kraken"})


@pytest.mark.e2e  # three fetches, two of them with attempts at an exchange that is down
@pytest.mark.usefixtures("unconfirmed")
def test_a_fail_over_adds_bars_and_revises_none(
    exchange: LoopbackExchange, failing_over: SourceSpec, bar_store: BarStore, day_bars: Bars
) -> None:
    """The second exchange's bar stays until the first is back; ingesting it again changes nothing."""
    known = part(day_bars, DAYS - 2)
    bar_store.merge(failing_over.series, known.frame(), {"source": "coinbase"}, merged_at=AT)
    mixed = Bars("1d", day_bars.opened_at[: DAYS - 1], day_bars.ohlcv[: DAYS - 1].copy())
    mixed.ohlcv[-1] *= OF_ANOTHER_EXCHANGE
    for counts in ((1, 0, 0), (0, 0, 0)):
        merged = ingest_bars(failing_over).merge
        assert (merged.added, merged.revised, merged.unchanged) == counts
        require_equal(bar_store, failing_over, mixed)
    (note,) = bar_store.ingests(failing_over.series, last=1)
    assert note["source"] == "kraken"
    assert note["agreement"] == "labels agree on 100.0% of 50 bars in common, closes differ by 0.10% (median)"
    assert note["landed"] == f"bars that opened after {known.opened_at[-1].item():%Y-%m-%d %H:%M} only"
    exchange.always.clear()
    merged = ingest_bars(failing_over).merge
    assert (merged.added, merged.revised, merged.unchanged) == (0, 1, 50)
    require_equal(bar_store, failing_over, part(day_bars, DAYS - 1))


@pytest.mark.e2e  # as above
@pytest.mark.usefixtures("unconfirmed")
def test_a_first_fetch_that_fails_over_stores_every_bar(
    failing_over: SourceSpec, bar_store: BarStore, day_bars: Bars
) -> None:
    ingest_bars(failing_over)
    closed = part(day_bars, DAYS - 1)
    require_equal(bar_store, failing_over, replace(closed, ohlcv=closed.ohlcv * OF_ANOTHER_EXCHANGE))


@pytest.mark.e2e  # a home of its own for each
@pytest.mark.parametrize("error_seconds", [-7200, 40 * 86_400])
def test_a_clock_that_is_off_lets_no_unfinished_bar_in(
    error_seconds: int, exchange: LoopbackExchange, source: SourceSpec, begun: BarStore, day_bars: Bars
) -> None:
    exchange.clock_error_seconds = error_seconds
    ingest_bars(source)
    require_equal(begun, source, part(day_bars, DAYS - 1))


@pytest.mark.e2e
def test_a_bar_that_closes_while_pages_are_fetched_belongs_to_the_next_run(
    exchange: LoopbackExchange, source: SourceSpec, bar_store: BarStore, day_bars: Bars
) -> None:
    midnight = day_bars.opened_at[-1]
    exchange.now = midnight - np.timedelta64(1, "s")

    def past_midnight(rows: Rows) -> Rows:
        exchange.now = midnight + np.timedelta64(5, "s")
        return [row for row in exchange.rows("1d") if row[0] >= rows[0][0]]

    exchange.faults[NAME] = deque([Fault(change=past_midnight)])
    for days in (DAYS - 2, DAYS - 1):
        assert ingest_bars(source).merge.revised == 0
        require_equal(bar_store, source, part(day_bars, days))


INGEST = """
import sys
from datetime import datetime
from flows.ingest import ingest
from tasks.sources.source_spec import SourceSpec
import data_checks.expectations, ccxt

source = SourceSpec.model_validate_json(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    stored = ingest(source, as_of=datetime.fromisoformat(line.strip()))
    print(f"added {stored.merge.added}", flush=True)
"""


@pytest.mark.e2e
def test_two_ingests_at_once_lose_and_double_no_bar(
    exchange: LoopbackExchange, source: SourceSpec, bar_store: BarStore, day_bars: Bars, tmp_path: Path
) -> None:
    environment = os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value(), "RISEORFALL_HOME": str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", INGEST, source.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2  # type: ignore[union-attr]
        for days in (300, 420, 421, DAYS - 1):
            exchange.now = day_bars.opened_at[days] + np.timedelta64(5, "h")
            added = 0
            for process in processes:
                print(f"{exchange.now}+00:00", file=process.stdin, flush=True)
            for process in processes:
                told = process.stdout.readline()  # type: ignore[union-attr]
                assert told.startswith("added ")
                added += int(told.split()[1])
            require_equal(bar_store, source, part(day_bars, days))
            assert added == days - (0 if days == 300 else {420: 300, 421: 420, DAYS - 1: 421}[days])
    finally:
        for process in processes:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait(PATIENCE_SECONDS)
            process.stdout.close()  # type: ignore[union-attr]


@pytest.mark.e2e  # seven commands
def test_the_command_line_ingests_lists_and_releases(bar_store: BarStore, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["ingest"]) == 0
    assert "BTC-USD 1d: 1768 added, 0 revised, 0 unchanged" in capfd.readouterr().out
    assert run(["quarantine", "--json"]) == 0
    (refused,) = json.loads(capfd.readouterr().out)
    assert (refused["opened_at"], refused["value"]) == ("2017-04-15T00:00:00+00:00", "low 0.06 (line 906)")
    assert run(["release", "--at", "2017-04-15", "--reason", "a test"]) == 0
    assert "1 bar released" in capfd.readouterr().out
    assert run(["release", "--at", "2017-04-15", "--reason", "a test"]) == 2
    assert "found none at 2017-04-15" in capfd.readouterr().err
    assert run(["ingest"]) == 0
    assert "0 added, 0 revised, 1769 unchanged" in capfd.readouterr().out
    assert run(["bars", "--json"]) == 0
    (now,) = json.loads(capfd.readouterr().out)
    assert run(["bars", "--table-version", str(now["version"] - 1), "--json"]) == 0
    (then,) = json.loads(capfd.readouterr().out)
    assert (then["rows"], now["rows"], now["quarantined"]) == (1768, 1769, 0)
    assert len(bar_store.read_frame(Series("BTC-USD", "1d"))) == 1769


@pytest.mark.e2e  # seven commands
@pytest.mark.usefixtures("bar_store")
def test_a_removed_bar_does_not_come_back_silently(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["ingest"]) == 0
    capfd.readouterr()
    assert run(["remove", "--at", "2019-01-02", "--reason", "a test"]) == 0
    told = capfd.readouterr().out
    assert "BTC-USD-1d: 1 bar removed (2019-01-02T00:00:00+00:00)" in told
    assert "no registered version was trained on them" in told
    assert run(["ingest"]) == 0
    captured = capfd.readouterr()
    assert "0 added, 0 revised, 1767 unchanged" in captured.out
    assert "removed_bar: expected: no bar was removed by hand" in captured.err
    assert run(["release", "--at", "2019-01-02", "--reason", "it was right"]) == 0
    assert run(["ingest"]) == 0
    captured = capfd.readouterr()
    assert "0 added, 0 revised, 1768 unchanged" in captured.out
    assert "removed_bar" not in captured.err
    assert run(["remove", "--at", "2030-01-02", "--reason", "a test"]) == 2
    assert "found none at 2030-01-02" in capfd.readouterr().err


@pytest.mark.e2e
@pytest.mark.usefixtures("bar_store")
def test_bars_of_the_future_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    days = pd.date_range("2020-01-01", periods=300)
    frame = pd.DataFrame({"date": days, "open": 10.5, "high": 12.5, "low": 9.5, "close": 11.5, "volume": 1.0})
    frame.loc[299, "date"] = pd.Timestamp("2098-01-01")
    frame.to_csv(tmp_path / "bars.csv", index=False)
    words = ["ingest", "--source.kind", "csv", "--source.path", str(tmp_path / "bars.csv")]
    assert run(words) == 2
    assert "bars.csv line 301: expected bars that had opened by now" in capfd.readouterr().err
    assert run([*words, "--as-of", "2020-10-26"]) == 0
    assert "299 added" in capfd.readouterr().out


@pytest.mark.e2e
def test_an_as_of_time_after_the_clock_is_warned_of(
    bar_store: BarStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a file whose last bar is today's, as when local time is taken for UTC."""
    today = pd.Timestamp.now("UTC").floor("D")
    days = pd.date_range(end=today, periods=300)
    prices = {"open": 10.5, "high": 12.5, "low": 9.5, "close": 11.5, "volume": 1.0}
    pd.DataFrame({"date": days.strftime("%Y-%m-%d"), **prices}).to_csv(tmp_path / "bars.csv", index=False)
    source = SourceSpec(kind="csv", path=str(tmp_path / "bars.csv"))

    @flow(name="ingest-alone")
    def landed(as_of: datetime | None) -> int:
        caplog.clear()
        return ingest(source, as_of, "test").rows

    assert landed(None) == 299
    assert "lies after the clock" not in caplog.text
    assert landed((today + pd.Timedelta(days=1)).to_pydatetime()) == 300
    first = f"1 bar that may be unfinished counts as closed, the first opened at {today:%Y-%m-%d} 00:00"
    assert "lies after the clock" in caplog.text
    assert first in caplog.text
    assert bar_store.read_frame(source.series).empty
