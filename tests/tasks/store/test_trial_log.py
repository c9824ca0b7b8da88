"""The trial log: each trial once, and looks counted where test bars overlap."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from model.correction_for_looks import Looks
from model.recipe import Recipe
from model.record import Record
from tasks.store import trial_log
from tasks.store.delta_table import MAX_FILES, read_rows
from tasks.store.trial_log import Trial, TrialForecasts, TrialLog, count_looks, overlapping_trials, trial_of

DAY = timedelta(days=1)
START = datetime(2019, 1, 1, tzinfo=UTC)
TRIAL = Trial(
    trial_id="run-1",
    recorded_at=START + 100 * DAY,
    kind="retrain",
    symbol="BTC-USD",
    interval="1d",
    horizon_bars=1,
    recipe="aaaa",
    test_first=START,
    test_last=START + 50 * DAY,
    windows=51,
    log_loss=0.69,
    base_rate_log_loss=0.692,
    run_id="run-1",
    p_value=0.04,
)
BEFORE_P_VALUES = [name for name in Trial.__slots__ if name not in {"p_value", "forecasts"}]


@pytest.fixture
def log(tmp_path: Path) -> TrialLog:
    return TrialLog(str(tmp_path))


def test_a_trial_is_read_back_as_it_was_written(log: TrialLog) -> None:
    assert log.trials("BTC-USD", "1d") == ()
    assert log.append([TRIAL]) == 1
    assert log.trials("BTC-USD", "1d") == (TRIAL,)
    assert log.trials("BTC-USD", "1h") == ()


def test_the_same_trial_is_written_once(log: TrialLog) -> None:
    assert log.append([TRIAL, replace(TRIAL, trial_id="run-2")]) == 2
    assert log.append([replace(TRIAL, log_loss=0.1)]) == 0
    assert [trial.log_loss for trial in log.trials("BTC-USD", "1d")] == [0.69, 0.69]


def earlier_table(log: TrialLog) -> None:
    """Write a table as the code did that knew no p-values."""
    row = {name: getattr(TRIAL, name) for name in BEFORE_P_VALUES} | {"trial_id": "earlier"}
    write_deltalake(f"{log.root}/trials", pa.Table.from_pylist([row]))


def test_a_table_without_the_newer_columns_is_read_and_continued(log: TrialLog) -> None:
    earlier_table(log)
    (found,) = log.trials("BTC-USD", "1d")
    assert (found.trial_id, found.log_loss, math.isnan(found.p_value)) == ("earlier", 0.69, True)
    assert log.append([TRIAL]) == 1
    assert [trial.p_value for trial in log.trials("BTC-USD", "1d")] == pytest.approx([math.nan, 0.04], nan_ok=True)


@pytest.mark.e2e  # a hundred commits
def test_many_commits_do_not_leave_as_many_files(log: TrialLog) -> None:
    earlier_table(log)
    count = MAX_FILES + 6
    for number in range(count):
        log.append([replace(TRIAL, trial_id=str(number))])
    assert len(log.trials("BTC-USD", "1d")) == count + 1
    assert len(DeltaTable(f"{log.root}/trials").file_uris()) < MAX_FILES


def test_trials_come_in_the_order_of_their_times(log: TrialLog) -> None:
    log.append([replace(TRIAL, trial_id="later", recorded_at=START + 200 * DAY), TRIAL])
    assert [trial.trial_id for trial in log.trials("BTC-USD", "1d")] == ["run-1", "later"]


def test_a_trial_names_the_span_and_the_losses_of_a_record() -> None:
    decided_at = np.array(["2019-01-01", "2019-01-02"], "datetime64[us]")
    record = Record(decided_at, decided_at + np.timedelta64(1, "D"), np.array([1, 0], np.int8), np.array([0.8, 0.5]),
                    np.zeros(2, np.int64))  # fmt: skip
    found = trial_of("tune", "t", Recipe(), record, np.array([0.5, 0.5]), recorded_at=START)
    assert (found.test_first, found.test_last, found.windows) == (START, START + DAY, 2)
    assert found.log_loss == pytest.approx(-(np.log(0.8) + np.log(0.5)) / 2)
    assert found.base_rate_log_loss == pytest.approx(np.log(2))
    assert (found.recipe, found.horizon_bars) == (Recipe().digest, 1)


def test_the_probabilities_of_a_trial_are_read_back_where_they_are_wanted(log: TrialLog) -> None:
    earlier_table(log)
    decided_at = np.array(["2019-01-01", "2019-01-02T03:04:05.678901"], "datetime64[us]")
    kept = TrialForecasts(decided_at, np.array([1, 0], np.int8), np.array([0.8, 0.1]), np.array([0.5, 0.625]))
    log.append([replace(TRIAL, forecasts=kept), replace(TRIAL, trial_id="without")])
    assert {trial.forecasts for trial in log.trials("BTC-USD", "1d")} == {None}
    found = {trial.trial_id: trial.forecasts for trial in log.trials("BTC-USD", "1d", forecasts=True)}
    assert (found["earlier"], found["without"]) == (None, None)
    read = found["run-1"]
    assert read is not None
    assert read.decided_at.dtype == decided_at.dtype
    assert (read.decided_at == decided_at).all()
    assert (read.labels.tolist(), read.labels.dtype) == ([1, 0], np.int8)
    assert read.probabilities == pytest.approx([0.8, 0.1], abs=1e-7)
    assert read.base_rates.tolist() == [0.5, 0.625]


def test_ten_years_of_trials_are_not_read_for_those_on_the_newest_bars(
    log: TrialLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = np.array(["2019-01-01"], "datetime64[us]")
    trials = [
        replace(
            TRIAL, trial_id=f"day {day}", recorded_at=START + day * DAY, test_first=START + day * DAY,
            test_last=START + (day + 3) * DAY,
            forecasts=TrialForecasts(times, np.array([1], np.int8), np.array([day / 10]), np.array([0.5])),
        )
        for day in range(10)
    ]  # fmt: skip
    log.append(trials)
    read: list[tuple[int, bool]] = []

    def count(table: Any, schema: Any, *more: Any) -> Any:
        found = read_rows(table, schema, *more)
        read.append((found.num_rows, "probabilities" in schema.names))
        return found

    monkeypatch.setattr("tasks.store.trial_log.read_rows", count)
    between = START + 7 * DAY, START + 8 * DAY
    found = log.trials("BTC-USD", "1d", between=between)
    assert [trial.trial_id for trial in found] == ["day 4", "day 5", "day 6", "day 7", "day 8"]  # both ends included
    assert found == tuple(overlapping_trials(log.trials("BTC-USD", "1d"), *between))
    read.clear()
    (with_probabilities,) = log.with_forecasts(found[1:2])
    assert with_probabilities.forecasts is not None
    assert with_probabilities.forecasts.probabilities == pytest.approx([0.5])
    assert read == [(1, True)]
    assert log.with_forecasts([]) == []


def test_looks_are_trials_whose_test_bars_overlap() -> None:
    trials = [
        TRIAL,
        replace(TRIAL, trial_id="same", recipe="aaaa"),
        replace(TRIAL, trial_id="edge", recipe="bbbb", test_first=START + 50 * DAY, test_last=START + 90 * DAY),
        replace(TRIAL, trial_id="after", recipe="cccc", test_first=START + 51 * DAY, test_last=START + 90 * DAY),
    ]
    found = count_looks(trials, START, START + 50 * DAY)
    assert (found.looks, found.recipes) == (3, 2)
    assert str(found) == "these test bars were scored 3 times, with 2 recipes"
    assert found.evidence(0.04).endswith("p = 0.08, corrected for all tests and recipes")
    assert found.evidence(math.nan) == str(found)
    assert str(count_looks(trials, START, START)) == "these test bars were scored 2 times, with 1 recipe"
    assert found.adjusted(0.04) == 0.08
    assert found.adjusted(0.9) == 1.0
    assert count_looks(trials, START - 9 * DAY, START - DAY).looks == 0


def test_the_looks_at_the_newest_retrain_are_counted_without_making_the_other_trials(
    log: TrialLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten years of daily retrains are 3,000 trials; `status` shows one line about them."""
    assert log.newest_retrain("BTC-USD", "1d") is None
    log.append([replace(TRIAL, trial_id="searched", kind="tune")])
    assert log.newest_retrain("BTC-USD", "1d") is None
    newest = replace(
        TRIAL, trial_id="newest", recipe="bbbb", recorded_at=START + 200 * DAY, test_first=START + 50 * DAY,
        test_last=START + 90 * DAY, p_value=math.nan,
    )  # fmt: skip
    later = replace(TRIAL, trial_id="later", kind="tune", recorded_at=START + 300 * DAY, recipe="cccc")
    before = replace(TRIAL, trial_id="before", recipe="dddd", test_last=START + 49 * DAY)
    inside = replace(
        TRIAL, trial_id="inside", kind="tune", recipe="eeee", test_first=START + 60 * DAY, test_last=START + 70 * DAY
    )
    after = replace(inside, trial_id="after", test_first=START + 91 * DAY, test_last=START + 99 * DAY)
    log.append([newest, TRIAL, later, before, inside, after])
    trials = log.trials("BTC-USD", "1d")
    made: list[str] = []
    true = trial_log._trial
    monkeypatch.setattr(trial_log, "_trial", lambda row, more: made.append(row["trial_id"]) or true(row, more))
    found = log.newest_retrain("BTC-USD", "1d")
    assert found is not None
    assert (found[0].trial_id, made) == ("newest", ["newest"])
    assert found[1] == count_looks(trials, newest.test_first, newest.test_last) == Looks(5, 4)
