"""The decision log: each decision once, in order, from two processes as well."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tasks.store import decision_log, version_history
from tasks.store.decision_log import (
    Action,
    ChampionChanged,
    DecisionLog,
    LoggedDecision,
    challenger_of,
    former_champions,
    standing_champions,
)
from tasks.store.delta_table import EVERYTHING, Change, read_as_stored, read_rows
from tasks.store.prediction_log import Prediction, PredictionLog
from tasks.store.version_history import RecordedVersion, VersionHistory

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROW = LoggedDecision(
    decision_id="run-1",
    decided_at=AT,
    series_name="BTC-USD-1d",
    symbol="BTC/USD",
    interval="1d",
    action="promote",
    version="1",
    champion_before=None,
    champion_after="1",
    reasons=("There was no champion.", "It passes; 'quoted', \"too\"."),
    numbers={"log_loss": 0.693, "p_value": 0.04},
    run_id="run-1",
    bars_version=3,
    bars_sha256="ab" * 32,
    rule="daily",
)


@pytest.fixture
def decisions(tmp_path: Path) -> DecisionLog:
    return DecisionLog(str(tmp_path / "tables"))


def test_marks_are_stored_and_belong_to_the_last_reasons(decisions: DecisionLog) -> None:
    assert decisions.append(replace(ROW, marks=("failed", "passed")))
    assert decisions.append(
        replace(ROW, decision_id="run-2", reasons=("by hand", *ROW.reasons), marks=("failed", "passed"))
    )
    first, second = decisions.rows()
    assert first.marked_reasons() == (("failed", ROW.reasons[0]), ("passed", ROW.reasons[1]))
    assert second.marked_reasons() == (("", "by hand"), *first.marked_reasons())
    assert second.to_dict()["marks"] == ["failed", "passed"]


def decided(action: Action, version: str, before: str | None, after: str | None) -> LoggedDecision:
    return replace(ROW, action=action, version=version, champion_before=before, champion_after=after)


PROMOTED = decided("promote", "1", None, "1")


@pytest.mark.parametrize(
    ("later", "challenger"),
    [
        ((), None),  # the newest version is the champion
        ((decided("hold", "2", "1", "1"),), "2"),
        ((decided("hold", "2", "1", "1"), decided("reject", "3", "1", "1")), "2"),
        ((decided("hold", "2", "1", "1"), decided("promote", "3", "1", "3")), None),  # older than the champion
        ((decided("hold", "2", "1", "1"), decided("promote", "2", "1", "2")), None),  # promoted by hand
        ((decided("promote", "2", "1", "2"), decided("rollback", "1", "2", "1")), None),
        (
            (decided("promote", "2", "1", "2"), decided("hold", "3", "2", "2"), decided("rollback", "1", "2", "1")),
            "3",
        ),
        ((decided("hold", "2", "1", "1"), decided("unchanged", "2", "1", "1")), "2"),
    ],
)
def test_the_challenger_is_the_newest_version_that_may_still_be_promoted(
    later: tuple[LoggedDecision, ...], challenger: str | None
) -> None:
    assert challenger_of((PROMOTED, *later)) == challenger
    assert challenger_of(()) is None


def test_an_empty_log_has_no_rows_and_no_champion(decisions: DecisionLog) -> None:
    assert decisions.rows() == ()
    assert decisions.champion_on("BTC-USD-1d", AT) is None


def test_a_decision_comes_back_as_it_was_written(decisions: DecisionLog) -> None:
    forced = replace(
        ROW,
        decision_id="run-2",
        action="hold",
        version="2",
        champion_before="1",
        reasons=(),
        forced=True,
        forced_reason="because",
        numbers={"p_value": math.nan, "power": math.inf, "n": 750},
    )
    assert decisions.append(ROW)
    assert decisions.append(forced)
    assert decisions.rows("BTC-USD-1d") == (
        replace(ROW, sequence=1),
        replace(forced, sequence=2, numbers={"p_value": None, "power": None, "n": 750}),
    )
    row = json.loads(json.dumps(decisions.rows()[0].to_dict()))
    assert (row["decided_at"], row["reasons"], row["champion_before"]) == (AT.isoformat(), list(ROW.reasons), None)


def test_a_decision_is_written_once(decisions: DecisionLog, tmp_path: Path) -> None:
    assert decisions.append(ROW)
    assert not decisions.append(replace(ROW, action="reject", champion_after=None))
    assert [row.action for row in decisions.rows()] == ["promote"]
    assert DeltaTable(str(tmp_path / "tables" / "ledger")).version() == 1


def test_a_repeated_decision_is_no_conflict_whoever_is_champion_since(decisions: DecisionLog) -> None:
    """A retry of a task whose answer was lost; another series has a champion of its own."""
    second = replace(ROW, decision_id="run-2", version="2", champion_before="1", champion_after="2")
    other = replace(ROW, decision_id="run-3", series_name="ETH-USD-1d", version="7", champion_after="7")
    assert [decisions.append_if_current(row) for row in (ROW, second, other)] == [True, True, True]
    assert [decisions.append_if_current(row) for row in (ROW, second, other)] == [False, False, False]
    with pytest.raises(ChampionChanged, match="found version 2"):
        decisions.append_if_current(replace(second, decision_id="run-4"))
    assert [row.decision_id for row in decisions.rows()] == ["run-1", "run-2", "run-3"]


def test_rows_come_by_series_in_the_order_of_writing(decisions: DecisionLog) -> None:
    for number in range(1, 6):
        name = "BTC-USD-1d" if number % 2 else "it's-1h"
        earlier = AT - timedelta(days=number)
        decisions.append(replace(ROW, decision_id=str(number), series_name=name, decided_at=earlier))
    assert [row.decision_id for row in decisions.rows()] == ["1", "2", "3", "4", "5"]
    assert [row.decision_id for row in decisions.rows("it's-1h")] == ["2", "4"]
    assert [row.decision_id for row in decisions.rows("BTC-USD-1d", last=2)] == ["3", "5"]
    assert [row.decision_id for row in decisions.rows(last=9)] == ["1", "2", "3", "4", "5"]
    assert decisions.rows(last=0) == ()


def test_the_log_gives_the_champion_of_any_day(decisions: DecisionLog) -> None:
    def decide(day: int, action: Action, after: str | None, name: str = "BTC-USD-1d", hour: int = 12) -> None:
        at = datetime(2026, 11, day, hour, tzinfo=UTC)
        row = replace(ROW, decision_id=f"{name} {at} {action}", decided_at=at, series_name=name)
        decisions.append(replace(row, action=action, champion_after=after))

    decide(3, "reject", None)
    decide(5, "promote", "2")
    decide(6, "hold", "2")
    decide(8, "promote", "4")
    decide(8, "rollback", "2")  # at the very same time, written later
    decide(7, "promote", "3", hour=1)  # written late, for an earlier day
    decide(1, "promote", "9", name="ETH-USD-1d")
    history = {day: decisions.champion_on("BTC-USD-1d", date(2026, 11, day)) for day in range(2, 10)}
    assert history == {2: None, 3: None, 4: None, 5: "2", 6: "2", 7: "3", 8: "2", 9: "2"}
    assert decisions.champion_on("BTC-USD-1d", datetime(2026, 11, 5, 11, 59, tzinfo=UTC)) is None
    assert decisions.champion_on("BTC-USD-1d", datetime(2026, 11, 5, 12)) == "2"  # noqa: DTZ001  a naive time is UTC
    assert decisions.champion_on("ETH-USD-1d", AT) == "9"


WRITER = """
import sys
from dataclasses import fields, replace
from datetime import datetime, timedelta, UTC
from tasks.store.decision_log import DecisionLog, LoggedDecision
from tasks.store.prediction_log import Prediction, PredictionLog

decisions, predictions = DecisionLog(sys.argv[1]), PredictionLog(sys.argv[1])
start, offset = datetime(2026, 1, 1, tzinfo=UTC), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(offset, offset + 12):
    at = start + timedelta(days=number)
    decisions.append(LoggedDecision(str(number), at, "BTC-USD-1d", "BTC/USD", "1d", "hold", "2", "1", "1"))
    predictions.store(Prediction("BTC-USD-1d", "BTC/USD", "1d", at, at + timedelta(days=1), "1", offset / 100, at))
"""


@pytest.mark.e2e  # two processes
def test_two_processes_write_each_row_once(decisions: DecisionLog) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, decisions.root, offset],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for offset in ("0", "6")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n", timeout=120)
        assert writer.returncode == 0
    rows = decisions.rows()
    assert sorted(int(row.decision_id) for row in rows) == list(range(18))
    assert [row.sequence for row in rows] == list(range(1, 19))
    assert len(PredictionLog(decisions.root).read()) == 18


def test_the_last_decision_reads_one_row_and_of_the_others_their_numbers(
    decisions: DecisionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):
        name = "ETH-USD-1d" if number == 5 else ROW.series_name
        decisions.append(replace(ROW, decision_id=f"run-{number}", series_name=name))
    read: list[tuple[int, int]] = []

    def counted(true: Callable[..., pa.Table]) -> Callable[..., pa.Table]:
        def count(*others: Any) -> pa.Table:
            found = true(*others)
            read.append((found.num_columns, found.num_rows))
            return found

        return count

    for true in (read_rows, read_as_stored):
        monkeypatch.setattr(decision_log, true.__name__, counted(true))
    last = decisions.last(ROW.series_name)
    assert last is not None
    assert (last.decision_id, last.reasons) == ("run-4", ROW.reasons)
    assert read == [(1, 4), (len(fields(LoggedDecision)), 1)]
    assert [row.decision_id for row in decisions.rows(last=2)] == ["run-4", "run-5"]
    assert [row.decision_id for row in decisions.rows(ROW.series_name, last=9)] == [f"run-{n}" for n in range(1, 5)]
    assert decisions.rows(ROW.series_name, last=0) == ()
    assert decisions.last("SOL-USD-1d") is None


def test_of_the_decisions_only_those_that_are_read_are_parsed(
    decisions: DecisionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers and files of a decision are most of its 3 kB; predict and status read those of the newest."""
    files = {"1": {"network.onnx": "ab"}}
    for number in range(1, 6):
        decisions.append(replace(ROW, decision_id=f"run-{number}", files=files))
    rows, parsed, true = decisions.rows(), list[str](), json.loads
    monkeypatch.setattr("tasks.store.decision_log.json.loads", lambda text: parsed.append(text) or true(text))
    assert challenger_of(rows) is None
    assert (rows[-1].numbers, rows[-1].numbers["log_loss"], len(rows[-1].numbers)) == (ROW.numbers, 0.693, 2)
    assert (rows[-1].files, str(rows[-1].files)) == (files, str(files))
    assert len(parsed) == 2
    assert json.loads(json.dumps(rows[-1].to_dict()))["numbers"] == ROW.numbers
    assert decisions.append(replace(rows[-1], decision_id="again"))
    assert (decisions.rows()[-1].numbers, decisions.rows()[-1].files) == (ROW.numbers, files)


def test_of_the_recorded_files_only_those_of_the_version_are_parsed(
    decisions: DecisionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A champion of version 0.1 is recorded with the first decision that it survived; later records do not count."""
    held = replace(ROW, action="hold", champion_before="1")
    recorded = ({}, {"2": {"a": "of 2"}, "1": {"a": "of 1"}}, {"3": {"a": "of 3"}}, {"4": {"a": "of 4"}})
    for number, files in enumerate(recorded, 1):
        row = ROW if number == 1 else replace(held, version=str(number))
        decisions.append(replace(row, decision_id=f"run-{number}", run_id=f"run-{number}", files=files))
    decisions.append(replace(held, decision_id="again", version="4", run_id="run-4", files={"4": {"a": "another"}}))
    parsed, true = list[str](), json.loads
    monkeypatch.setattr("tasks.store.decision_log.json.loads", lambda text: parsed.append(text) or true(text))
    history = VersionHistory(ROW.series_name, decisions, ())
    assert history.recorded("4") == RecordedVersion({"a": "of 4"}, frozenset({"run-4"}))
    assert parsed == [json.dumps(recorded[3])]
    assert [history.recorded(each).files for each in ("1", "2", "5")] == [{"a": "of 1"}, {"a": "of 2"}, {}]
    assert history.highest_number() == 4


def test_the_end_of_the_training_that_was_recorded_first_counts(decisions: DecisionLog) -> None:
    held, first = replace(ROW, action="hold", champion_before="1"), "2026-11-23T00:00:00+00:00"
    for number, ended in enumerate(({}, {"1": first}, {"1": "2020-01-01T00:00:00+00:00"})):
        row = replace(held, decision_id=str(number), files={"1": {"a": "of 1"}} if number == 0 else {})
        decisions.append(replace(row, trained_until=ended))
    history = VersionHistory(ROW.series_name, decisions, ())
    assert history.recorded("1").trained_until == datetime(2026, 11, 23, tzinfo=UTC)
    assert [row.to_dict()["trained_until"] for row in decisions.rows()][:2] == [{}, {"1": first}]
    assert history.recorded("2").trained_until is None


def test_the_champion_before_the_first_decision_is_a_former_champion() -> None:
    rows = [
        replace(ROW, version="2", champion_before="1", champion_after="2"),
        replace(ROW, version="3", champion_before="2", champion_after="2", action="hold"),
        replace(ROW, version="4", champion_before="2", champion_after="4"),
        replace(ROW, version="2", champion_before="4", champion_after="2", action="rollback"),
    ]
    assert former_champions(rows) == ("1", "2", "4")
    assert former_champions([ROW]) == ("1",)
    assert standing_champions(rows) == ("2",)
    again = [replace(ROW, version=number, champion_after=number) for number in ("1", "2", "3", "2")]
    assert standing_champions(again) == ("1", "3", "2")
    back = replace(ROW, version="3", champion_before="2", champion_after="3", action="rollback")
    assert standing_champions([*again, back]) == ("1", "3")


def test_a_command_parses_the_decisions_once_however_often_it_asks(
    decisions: DecisionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ten years a row has 3 kB: more than is kept of a table as it was read, and predict asks three times."""
    monkeypatch.setattr("tasks.store.table_cache.LARGEST_READ_BYTES", 0)
    for number in range(1, 6):
        name = "ETH-USD-1d" if number == 5 else ROW.series_name
        decisions.append(replace(ROW, decision_id=f"run-{number}", series_name=name))
    parsed: list[str] = []
    true = decision_log._decisions
    monkeypatch.setattr(
        decision_log, "_decisions", lambda found: parsed.extend(found["decision_id"].to_pylist()) or true(found)
    )
    asked = [DecisionLog(decisions.root).rows(ROW.series_name) for _ in range(3)]
    assert parsed == []  # until they are read
    assert [[row.decision_id for row in rows] for rows in asked] == [["run-1", "run-2", "run-3", "run-4"]] * 3
    assert sorted(parsed) == ["run-1", "run-2", "run-3", "run-4"]
    decisions.append(replace(ROW, decision_id="run-6"))  # a commit
    assert [row.decision_id for row in decisions.rows(ROW.series_name)][-1] == "run-6"
    assert [row.decision_id for row in decisions.rows("ETH-USD-1d")] == ["run-5"]  # takes the place of the other
    assert len(parsed) == 4 + 5 + 1
    assert len(tuple(decisions.rows(ROW.series_name))) == 5
    assert len(parsed) == 4 + 5 + 1 + 5


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [2, 0, 1, 4, 3], [4, 3, 2, 1, 0], [0, 2, 4, 1, 3]])
def test_decisions_are_a_sequence_of_which_the_blocks_that_are_read_are_parsed(
    decisions: DecisionLog, monkeypatch: pytest.MonkeyPatch, order: list[int]
) -> None:
    """A scan returns the files of a table in any order."""
    monkeypatch.setattr(decision_log, "BLOCK", 2)
    rows = [replace(ROW, decision_id=str(number), version=str(number), sequence=number) for number in range(1, 6)]
    for row in rows:
        decisions.append(row)
    stored = decisions.rows(ROW.series_name)
    assert isinstance(stored, decision_log.Decisions)
    table = stored._table.cast(decisions.tables[0].schema).sort_by("sequence").take(order)
    found = decision_log.Decisions(table)
    parsed: list[int] = []
    true = decision_log._decisions
    monkeypatch.setattr(decision_log, "_decisions", lambda part: parsed.append(part.num_rows) or true(part))
    assert (len(found), found[-1], found[1:3]) == (5, rows[4], tuple(rows[1:3]))
    assert parsed == [1, 2, 2]
    assert (found[-5], found[4]) == (rows[0], rows[4])
    assert list(reversed(found)) == rows[::-1]
    assert found == tuple(rows)
    assert tuple(rows) == found
    assert found != tuple(rows[1:])
    assert decision_log.column(found, "version") == decision_log.column(rows, "version") == list("12345")
    assert decision_log.with_values(found, version="2", action=ROW.action) == [rows[1]]
    assert decision_log.with_values(rows, version="2", action="lift") == []
    assert parsed == [1, 2, 2]  # once
    with pytest.raises(IndexError):
        found[5]


def test_an_append_reads_no_reasons_and_numbers_of_earlier_decisions(
    decisions: DecisionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    decisions.append(ROW)
    read: list[list[str]] = []
    monkeypatch.setattr(
        "tasks.store.decision_log.read_rows",
        lambda table, schema, *more: read.append(schema.names) or read_rows(table, schema, *more),
    )
    assert decisions.append_if_current(replace(ROW, decision_id="run-2", champion_before="1"))
    assert not decisions.append_if_current(replace(ROW, decision_id="run-2", champion_before="1"))
    with pytest.raises(ChampionChanged):
        decisions.append_if_current(replace(ROW, decision_id="run-3", champion_before="7"))
    assert read == [["decision_id", "series_name", "sequence", "champion_after"]] * 3


def test_what_is_known_about_versions_is_read_with_the_decisions(
    decisions: DecisionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predict verifies the files of 31 versions; the log of ten years is read once for it and for the decisions."""
    for number in ("1", "2"):
        files = {number: {"network.onnx": f"sha of {number}"}}
        decisions.append(replace(ROW, decision_id=number, run_id=f"run-{number}", version=number, files=files))
    monkeypatch.setattr("tasks.store.table_cache.LARGEST_READ_BYTES", 0)  # as after ten years
    read: list[list[str]] = []
    monkeypatch.setattr(
        decision_log, "read_as_stored", lambda *given: read.append(given[1].names) or read_as_stored(*given)
    )
    history = VersionHistory(ROW.series_name, decisions, ())
    found = [history.recorded(number) for number in ("1", "2", "3")]
    assert [each.files for each in found] == [{"network.onnx": "sha of 1"}, {"network.onnx": "sha of 2"}, {}]
    assert [each.run_ids for each in found] == [{"run-1"}, {"run-2"}, set()]
    assert (history.highest_number(), len(decisions.rows(ROW.series_name)), len(read)) == (2, 2, 1)


def test_a_decision_written_after_a_question_about_its_version_is_found(decisions: DecisionLog) -> None:
    decisions.append(ROW)
    history = VersionHistory(ROW.series_name, decisions, ())
    assert not history.recorded("2").run_ids
    decisions.append(replace(ROW, decision_id="run-2", run_id="run-2", version="2", files={"2": {"a": "of 2"}}))
    assert history.recorded("2") == RecordedVersion({"a": "of 2"}, frozenset({"run-2"}))
    ended = datetime(2026, 11, 23, tzinfo=UTC)
    held = replace(ROW, decision_id="run-3", version="3", champion_after="2", trained_until={"2": ended.isoformat()})
    decisions.append(held)
    assert history.recorded("2") == RecordedVersion({"a": "of 2"}, frozenset({"run-2"}), ended)


def test_a_number_that_a_decision_or_a_prediction_names_is_in_use(decisions: DecisionLog, tmp_path: Path) -> None:
    predictions = PredictionLog(str(tmp_path / "tables"))
    history = VersionHistory(ROW.series_name, decisions, (predictions,))
    assert history.highest_number() == 0
    decisions.append(replace(ROW, action="hold", version="2", champion_before="5", champion_after="5"))
    assert history.highest_number() == 5
    own = Prediction(ROW.series_name, "BTC/USD", "1d", AT, AT + timedelta(days=1), "7", 0.5, AT)
    predictions.store_all([own, replace(own, series_name="PANEL-1d", version="9")])
    assert history.highest_number() == 7


def test_a_decision_follows_that_of_the_highest_number_in_whatever_order_a_repair_left_them(
    decisions: DecisionLog,
) -> None:
    for number in "1234":
        decisions.append(replace(ROW, decision_id=number, version=number, champion_after=number))
    (table,) = decisions.tables
    opened = table.open()
    assert opened is not None
    rows = {each["sequence"]: each for each in read_rows(opened, table.schema).to_pylist()}
    left = pa.Table.from_pylist([rows[1], rows[4], rows[2]], schema=table.schema)
    table.change(lambda _: Change(left, replaces=EVERYTHING))
    fifth = replace(ROW, decision_id="5", version="5", champion_before="4", champion_after="5")
    assert decisions.append_if_current(fifth)
    assert [(row.version, row.sequence) for row in decisions.rows()] == [("1", 1), ("2", 2), ("4", 4), ("5", 5)]


def test_a_second_thread_finds_what_is_recorded_while_the_decisions_are_indexed(
    decisions: DecisionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The threads of the REST server share one history; a version without recorded files would be served unverified."""
    recorded = RecordedVersion({"a": "of 1"}, frozenset({"run-1"}))
    decisions.append(replace(ROW, files={"1": recorded.files}))
    history, true = VersionHistory(ROW.series_name, decisions, ()), version_history.column
    found: list[RecordedVersion] = []

    def interrupted(*given: Any) -> list[Any]:
        monkeypatch.setattr(version_history, "column", true)
        second = Thread(target=lambda: found.append(history.recorded("1")))
        second.start()
        second.join()
        return true(*given)

    monkeypatch.setattr(version_history, "column", interrupted)
    assert history.recorded("1") == recorded
    assert found == [recorded]
