"""Thirty days of the sample replayed by the flow; interrupted twice and resumed, the result is the same."""

import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.ingest import ingest
from flows.replay import replay
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.champion.replay_summary import ReplaySummary
from tasks.registry.local_database import LocalDatabase
from tasks.registry.model_registry import ModelRegistry
from tasks.settings import Settings
from tasks.store.decision_log import DecisionLog, LoggedDecision
from tasks.workspace import Workspace

NAME = "BTC-USD-1d-replay"
SPAN = {"first": date(2019, 9, 1), "last": date(2019, 9, 30)}
pytestmark = pytest.mark.e2e  # ninety retrains; the same in small is tests/tasks/champion/test_daily_replay.py
CHEAP = {
    "window": WindowSpec(lookback_bars=5),
    "folds": FoldSpec(test_bars=110, count=2),
    "network": NetworkSpec(kind="cnn", filters=(2,), dense_units=4),
    "training": TrainingSpec(epochs=1, batch_size=512),
}


@dataclass(frozen=True)
class Stored:
    """What a replay has stored, without run ids, which are random."""

    rows: list[LoggedDecision]
    predictions: pd.DataFrame
    versions: int
    champion: str | None


def read_stored() -> Stored:
    settings = Settings()
    workspace = Workspace(settings)
    file = LocalDatabase(settings.mlflow_uri)
    known = 0
    while file.version(NAME, str(known + 1)) is not None:
        known += 1
    champion = file.alias(NAME, "champion")
    rows = [replace(row, run_id="", files={}) for row in workspace.decision_log.rows(NAME)]
    predictions = workspace.prediction_log.read(NAME).drop(columns="network")  # its bytes name layers by process
    return Stored(rows, predictions, known, champion[0] if champion else None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReplaySummary, Stored]:
    """The thirty days without an interruption."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RISEORFALL_HOME", str(tmp_path_factory.mktemp("whole")))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        ingest()
        return replay(**SPAN, **CHEAP), read_stored()


def test_every_day_is_decided_once(whole: tuple[ReplaySummary, Stored]) -> None:
    summary, found = whole
    assert [row.decided_at.date().isoformat() for row in found.rows] == [f"2019-09-{day:02d}" for day in range(1, 31)]
    assert [row.version for row in found.rows] == [str(number) for number in range(1, 31)]
    assert found.versions == 30
    assert found.champion == found.rows[-1].champion_after
    assert (summary.predictions, set(summary.scores)) == (
        30,
        {"replayed", "never promoting", "always promoting"},
    )
    assert summary.cost is not None
    assert summary.cost.mean == pytest.approx(
        summary.scores["never promoting"]["log_loss"] - summary.scores["replayed"]["log_loss"]
    )


def test_a_replay_killed_three_times_and_resumed_stores_the_same_bit_for_bit() -> None:
    """The short form of the year in benchmarks/replay_kills.py."""
    script = Path(__file__).parents[2] / "benchmarks" / "replay_kills.py"
    span = ["--first", "2019-09-01", "--last", "2019-09-06", "--kills", "3"]
    done = subprocess.run([sys.executable, script, *span], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 decisions of 6 days; killed 3 times" in done.stdout


class InjectedCrash(Exception):
    """Injected."""


def test_a_replay_interrupted_twice_and_resumed_gives_the_same_result(
    whole: tuple[ReplaySummary, Stored], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ingest()
    writes = (ModelRegistry, "add_version", 9), (DecisionLog, "append_if_current", 10)
    for owner, name, days in writes:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, _failing_after(days, getattr(owner, name)))
            with pytest.raises(InjectedCrash):
                replay(**SPAN, **CHEAP)
    assert len(read_stored().rows) == 19
    summary = replay(**SPAN, **CHEAP)
    (expected, before), found = whole, read_stored()
    assert found.rows == before.rows
    assert found.predictions.equals(before.predictions)
    assert (found.versions, found.champion) == (before.versions, before.champion)
    assert (summary.scores, summary.cost) == (expected.scores, expected.cost)


def _failing_after(times: int, true: Any) -> Any:
    calls = iter(range(times))

    def act(*given: Any, **named: Any) -> Any:
        if next(calls, None) is None:
            raise InjectedCrash
        return true(*given, **named)

    return act
