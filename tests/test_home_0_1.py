"""A home written by version 0.1 works: its tables, its MLflow database and its registered version."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from home_0_1 import (
    DECISION_ID,
    GATE_NUMBERS,
    KERAS_PROBABILITIES,
    PROBABILITIES,
    STORED_PREDICTION,
    drop_prediction_log,
    unpack_home,
)

from flows.cli import run
from model.bars import Bars, Series
from model.network_files import network_from_bytes
from model.promotion_rule import PromotionRule
from model.windows import cut_windows
from tasks.champion.challenger_vs_champion import compare_with_champion
from tasks.champion.commit_decision import sync_champion_alias
from tasks.registry.run_artifacts import read_evaluation, read_probe
from tasks.settings import Settings
from tasks.workspace import Workspace

SERIES = Series("BTC-USD", "1d")
OTHER_MACHINE = 1e-6  # single precision differs by this much between processors


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = unpack_home(tmp_path / "home")
    monkeypatch.setenv("RISEORFALL_HOME", str(place))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return place


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home, tracking_uri="", store="")


@pytest.fixture
def workspace(settings: Settings) -> Workspace:
    return Workspace(settings, SERIES)


@pytest.fixture
def bars(settings: Settings) -> Bars:
    store = Workspace(settings).bar_store
    return store.read_bars(store.ref(SERIES))


def printed(capsys: pytest.CaptureFixture[str], *command: str) -> Any:
    """Run a command that prints JSON, and return it."""
    assert run([*command, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def by_code_0_1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Return the champion's probabilities on this machine by the code of version 0.1, which is stored with it.

    MLflow uses that code in a process that has not imported `model` before.
    """
    tmp_path = tmp_path_factory.mktemp("by_code_0_1")
    settings = Settings(home=unpack_home(tmp_path / "home"), tracking_uri="", store="")
    store = Workspace(settings).bar_store
    bars = store.read_bars(store.ref(SERIES))
    bars.frame().to_parquet(tmp_path / "bars.parquet")
    code = (
        "import json, sys, mlflow, pandas as pd; mlflow.set_tracking_uri(sys.argv[1]); "
        "loaded = mlflow.pyfunc.load_model('models:/BTC-USD-1d@champion'); "
        "import model.predictor; assert 'artifacts/code' in model.predictor.__file__, model.predictor.__file__; "
        "found = loaded.predict(pd.read_parquet(sys.argv[2])); "
        "print(json.dumps(found.set_index('decided_at')['probability'].to_dict()))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, f"sqlite:///{settings.root}/mlruns/mlflow.db", str(tmp_path / "bars.parquet")],
        cwd=tmp_path, env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}, capture_output=True, check=True, text=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return found


def test_status_shows_champion_bars_and_decision(home: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    found = printed(capsys, "status")
    assert found["champion"]["version"] == "1"
    assert found["champion"]["trained_until"] == "2019-10-17T00:00:00+00:00"
    assert found["challenger"] is None  # its only version is the champion; the alias still names it
    assert (found["bars"]["rows"], found["bars"]["quarantined"]) == (1768, 1)
    assert [decision["decision_id"] for decision in found["decisions"]] == [DECISION_ID]


def test_the_decision_log_is_read(home: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    (decision,) = printed(capsys, "ledger")
    assert (decision["action"], decision["champion_before"], decision["champion_after"]) == ("promote", None, "1")
    assert decision["decided_at"] == "2026-11-26T12:14:27.681323+00:00"
    assert decision["numbers"]["base_rate.difference"] == GATE_NUMBERS["base_rate.difference"]


def test_predict_returns_the_stored_prediction(home: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    assert printed(capsys, "predict") == STORED_PREDICTION | {
        "late": True,
        "backfilled": 0,
        "opinion": None,
        "source": "sample",
    }


@pytest.mark.e2e  # another process loads MLflow
def test_a_probability_computed_again_is_the_same_to_the_last_bit(
    home: Path, by_code_0_1: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    drop_prediction_log(home)
    again = printed(capsys, "predict")
    assert again["probability"] == by_code_0_1["2019-10-17T00:00:00Z"]
    assert again | {"probability": None} == STORED_PREDICTION | {
        "probability": None,
        "late": True,
        "backfilled": 0,
        "opinion": None,
        "source": "sample",
    }
    assert again["probability"] == pytest.approx(STORED_PREDICTION["probability"], abs=OTHER_MACHINE)


@pytest.mark.e2e  # another process loads MLflow
def test_the_version_predicts_the_same_to_the_last_bit(
    workspace: Workspace, bars: Bars, by_code_0_1: dict[str, float]
) -> None:
    decided_at, probabilities = workspace.registry.read_version("1").predictor().predict(bars)
    found = dict(zip((f"{moment.astype('datetime64[s]')}Z" for moment in decided_at), probabilities, strict=True))
    assert found == by_code_0_1
    assert {moment: found[moment] for moment in PROBABILITIES} == pytest.approx(PROBABILITIES, abs=OTHER_MACHINE)


def test_mlflow_loads_the_version_into_a_process_that_runs_newer_code(workspace: Workspace, bars: Bars) -> None:
    import mlflow

    workspace.runs.set_global_uri()
    answer = mlflow.pyfunc.load_model("models:/BTC-USD-1d@champion").predict(bars.frame())
    _, probabilities = workspace.registry.read_version("1").predictor().predict(bars)
    assert answer["probability"].to_numpy() == pytest.approx(probabilities, abs=0.0)


@pytest.mark.e2e
def test_the_keras_file_loads_with_its_layers_of_the_old_module_path(workspace: Workspace, bars: Bars) -> None:
    loaded = workspace.registry.read_version("1")
    windows = cut_windows(bars, loaded.recipe().window)
    newest = windows.take(np.arange(len(windows) - len(KERAS_PROBABILITIES), len(windows)))
    network = network_from_bytes(loaded.keras())
    found = network.predict(newest.values(), verbose=0)[:, 0]
    assert found == pytest.approx(np.array(KERAS_PROBABILITIES), abs=OTHER_MACHINE)


def test_the_gate_scores_the_champion(workspace: Workspace, bars: Bars) -> None:
    state = sync_champion_alias(workspace)
    found = compare_with_champion(workspace, workspace.registry.version("1"), state, bars, PromotionRule(), 7)
    assert found.decision.action == "hold"  # it is its own champion
    numbers = {name: found.decision.numbers[name] for name in GATE_NUMBERS}
    spread = ("base_rate.low", "base_rate.high", "base_rate.p_value")  # intervals of paired differences became wider
    same = {name: value for name, value in GATE_NUMBERS.items() if name not in spread}
    assert {name: numbers[name] for name in same} == pytest.approx(same, abs=1e-9)
    width, former = (each["base_rate.high"] - each["base_rate.low"] for each in (numbers, GATE_NUMBERS))
    assert former < width < 1.05 * former


def test_what_the_report_reads_is_there(workspace: Workspace) -> None:
    record, base_rate = read_evaluation(workspace.runs, DECISION_ID)
    assert len(record) == len(base_rate) == 750
    assert len(read_probe(workspace.runs, DECISION_ID)) == 64
    (decision,) = workspace.decision_log.rows(SERIES.name)
    assert decision.decided_at == datetime(2026, 11, 26, 12, 14, 27, 681323, UTC)


def test_the_curves_of_its_folds_are_read_under_their_old_names(workspace: Workspace) -> None:
    experiment = workspace.runs.experiment_id()
    folds = workspace.runs.client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{DECISION_ID}'")
    assert len(folds) == 5
    for fold in folds:
        epochs = workspace.runs.read_curves(fold.info.run_id)
        assert [epoch.number for epoch in epochs] == list(range(1, len(epochs) + 1))
        assert min(epoch.validation_loss for epoch in epochs) < 0.75
        assert epochs[0].loss == pytest.approx(fold.data.metrics["loss"], abs=0.2)


def test_a_rollback_without_a_former_champion_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    assert run(["rollback"]) != 0
    assert "expected a champion before version 1" in capsys.readouterr().err
