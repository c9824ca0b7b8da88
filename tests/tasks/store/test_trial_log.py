"""The trial log: each trial once, and looks counted where test bars overlap."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from model.metrics import Record
from model.recipe import Recipe
from tasks.store.trial_log import Trial, TrialLog, count_looks, trial_of

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
)


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


def test_looks_are_trials_whose_test_bars_overlap() -> None:
    trials = [
        TRIAL,
        replace(TRIAL, trial_id="same", recipe="aaaa"),
        replace(TRIAL, trial_id="edge", recipe="bbbb", test_first=START + 50 * DAY, test_last=START + 90 * DAY),
        replace(TRIAL, trial_id="after", recipe="cccc", test_first=START + 51 * DAY, test_last=START + 90 * DAY),
    ]
    found = count_looks(trials, START, START + 50 * DAY)
    assert (found.looks, found.recipes) == (3, 2)
    assert str(found) == "look 3 at these bars, 2 recipes"
    assert str(count_looks(trials, START, START)) == "look 2 at these bars, 1 recipe"
    assert found.adjusted(0.04) == 0.08
    assert found.adjusted(0.9) == 1.0
    assert count_looks(trials, START - 9 * DAY, START - DAY).looks == 0
