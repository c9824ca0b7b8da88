"""The ledger: each decision once, each prediction once, in order, from two processes as well."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from model.errors import SpecError
from tasks.store.decision_log import FILES, Action, Ledger, LedgerRow, Prediction

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROW = LedgerRow(
    decision_id="run-1",
    decided_at=AT,
    series_name="BTC-USD-1d",
    symbol="BTC/USD",
    interval="1d",
    action="promote",
    version="1",
    champion_before=None,
    champion_after="1",
    reasons=("There was no champion.", "It is sound; 'quoted', \"too\"."),
    numbers={"log_loss": 0.693, "p_value": 0.04},
    run_id="run-1",
    bars_version=3,
    bars_sha256="ab" * 32,
    rule="daily",
)
PREDICTION = Prediction("BTC-USD-1d", "BTC/USD", "1d", AT, AT + timedelta(days=1), "1", 0.53, AT + timedelta(seconds=5))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "tables"))


def test_an_empty_ledger_says_nothing(ledger: Ledger) -> None:
    assert ledger.rows() == ()
    assert ledger.champion_on("BTC-USD-1d", AT) is None
    assert ledger.predictions().empty
    assert ledger.find("BTC-USD-1d", AT, "1") is None
    assert ledger.store_all([]) == 0


def test_a_decision_comes_back_as_it_was_written(ledger: Ledger) -> None:
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
    assert ledger.append(ROW)
    assert ledger.append(forced)
    assert ledger.rows("BTC-USD-1d") == (
        replace(ROW, sequence=1),
        replace(forced, sequence=2, numbers={"p_value": None, "power": None, "n": 750}),
    )
    row = json.loads(json.dumps(ledger.rows()[0].to_dict()))
    assert (row["decided_at"], row["reasons"], row["champion_before"]) == (AT.isoformat(), list(ROW.reasons), None)


def test_a_decision_is_written_once(ledger: Ledger, tmp_path: Path) -> None:
    assert ledger.append(ROW)
    assert not ledger.append(replace(ROW, action="reject", champion_after=None))
    assert [row.action for row in ledger.rows()] == ["promote"]
    assert DeltaTable(str(tmp_path / "tables" / "ledger")).version() == 1


def test_rows_come_by_series_in_the_order_of_writing(ledger: Ledger) -> None:
    for number in range(1, 6):
        name = "BTC-USD-1d" if number % 2 else "it's-1h"
        earlier = AT - timedelta(days=number)
        ledger.append(replace(ROW, decision_id=str(number), series_name=name, decided_at=earlier))
    assert [row.decision_id for row in ledger.rows()] == ["1", "2", "3", "4", "5"]
    assert [row.decision_id for row in ledger.rows("it's-1h")] == ["2", "4"]
    assert [row.decision_id for row in ledger.rows("BTC-USD-1d", last=2)] == ["3", "5"]
    assert [row.decision_id for row in ledger.rows(last=9)] == ["1", "2", "3", "4", "5"]
    assert ledger.rows(last=0) == ()


def test_the_ledger_knows_the_champion_of_any_day(ledger: Ledger) -> None:
    def decide(day: int, action: Action, after: str | None, name: str = "BTC-USD-1d", hour: int = 12) -> None:
        at = datetime(2026, 11, day, hour, tzinfo=UTC)
        row = replace(ROW, decision_id=f"{name} {at} {action}", decided_at=at, series_name=name)
        ledger.append(replace(row, action=action, champion_after=after))

    decide(3, "reject", None)
    decide(5, "promote", "2")
    decide(6, "hold", "2")
    decide(8, "promote", "4")
    decide(8, "rollback", "2")  # at the very same time, written later
    decide(7, "promote", "3", hour=1)  # written late, for an earlier day
    decide(1, "promote", "9", name="ETH-USD-1d")
    history = {day: ledger.champion_on("BTC-USD-1d", date(2026, 11, day)) for day in range(2, 10)}
    assert history == {2: None, 3: None, 4: None, 5: "2", 6: "2", 7: "3", 8: "2", 9: "2"}
    assert ledger.champion_on("BTC-USD-1d", datetime(2026, 11, 5, 11, 59, tzinfo=UTC)) is None
    assert ledger.champion_on("BTC-USD-1d", datetime(2026, 11, 5, 12)) == "2"  # noqa: DTZ001  a naive time is UTC
    assert ledger.champion_on("ETH-USD-1d", AT) == "9"


def test_a_prediction_is_never_overwritten(ledger: Ledger, tmp_path: Path) -> None:
    assert ledger.store(PREDICTION)
    assert not ledger.store(replace(PREDICTION, probability=0.9, stored_at=AT + timedelta(days=9)))
    assert ledger.find("BTC-USD-1d", AT, "1") == PREDICTION
    assert ledger.find("BTC-USD-1d", AT, "2") is None
    assert DeltaTable(str(tmp_path / "tables" / "predictions")).version() == 1


def test_predictions_are_told_apart_by_series_time_and_version(ledger: Ledger) -> None:
    others = [
        replace(PREDICTION, version="2", probability=0.6),
        replace(PREDICTION, series_name="BTC-USD-1d-replay", probability=0.7),
        replace(PREDICTION, decided_at=AT - timedelta(days=1), probability=0.8),
    ]
    assert ledger.store_all([PREDICTION, *others, replace(PREDICTION, probability=0.1)]) == 4
    assert ledger.store_all([PREDICTION, replace(others[0], version="3")]) == 1
    frame = ledger.predictions("BTC-USD-1d")
    assert frame["probability"].tolist() == [0.8, 0.53, 0.6, 0.6]
    assert frame["version"].tolist() == ["1", "1", "2", "3"]
    assert ledger.predictions("BTC-USD-1d", version="2")["probability"].tolist() == [0.6]
    assert len(ledger.predictions()) == 5


def test_a_prediction_stored_after_its_outcome_is_late(ledger: Ledger) -> None:
    late = replace(PREDICTION, stored_at=PREDICTION.resolves_at)
    assert (PREDICTION.late, late.late) == (False, True)
    ledger.store(late)
    assert ledger.predictions()["late"].tolist() == [True]
    assert json.loads(json.dumps(late.to_dict()))["late"] is True


@pytest.mark.parametrize("probability", [-0.01, 1.01, math.nan])
def test_a_probability_must_be_one(ledger: Ledger, probability: float) -> None:
    with pytest.raises(SpecError, match="expected a probability from 0 to 1"):
        ledger.store(replace(PREDICTION, probability=probability))
    with pytest.raises(SpecError, match="expected an outcome after the decision"):
        ledger.store(replace(PREDICTION, resolves_at=AT))
    assert ledger.predictions().empty


def test_many_small_files_are_gathered(ledger: Ledger, tmp_path: Path) -> None:
    for number in range(FILES + 2):
        ledger.store(replace(PREDICTION, decided_at=AT - timedelta(days=number)))
    assert len(DeltaTable(str(tmp_path / "tables" / "predictions")).file_uris()) == 2
    assert len(ledger.predictions()) == FILES + 2


WRITER = """
import sys
from dataclasses import replace
from datetime import datetime, timedelta, UTC
from tasks.store.decision_log import Ledger, LedgerRow, Prediction

ledger, start, offset = Ledger(sys.argv[1]), datetime(2026, 1, 1, tzinfo=UTC), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(offset, offset + 12):
    at = start + timedelta(days=number)
    ledger.append(LedgerRow(str(number), at, "BTC-USD-1d", "BTC/USD", "1d", "hold", "2", "1", "1"))
    ledger.store(Prediction("BTC-USD-1d", "BTC/USD", "1d", at, at + timedelta(days=1), "1", offset / 100, at))
"""


def test_two_processes_write_each_row_once(ledger: Ledger) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, ledger.root, offset],
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
    rows = ledger.rows()
    assert sorted(int(row.decision_id) for row in rows) == list(range(18))
    assert [row.sequence for row in rows] == list(range(1, 19))
    assert len(ledger.predictions()) == 18
