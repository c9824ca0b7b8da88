"""Artifacts of runs: their paths are a stored format, and what is logged is read back as it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.bars import Series
from model.calibration import Temperature
from model.final_fit import FinalNetwork
from model.record import Record
from model.training import Epoch
from model.walk_forward import FoldFit
from tasks.registry import run_artifacts
from tasks.settings import Settings
from tasks.workspace import Workspace

MOMENTS = np.datetime64("2020-01-01", "us") + np.arange(6) * np.timedelta64(1, "D")
EPOCH = Epoch(1, 0.7, 0.5, 0.69, 0.5, 1e-3, 0.1)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Workspace(Settings(home=tmp_path, tracking_uri="", store=""), Series("BTC-USD", "1d"))


def record(fold: int) -> Record:
    part = slice(3 * fold, 3 * fold + 3)
    return Record(
        MOMENTS[part],
        MOMENTS[part] + np.timedelta64(1, "D"),
        np.array([0, 1, 1], dtype=np.int8),
        np.array([0.4, 0.5, 0.6]) + fold / 100,
        np.full(3, fold, dtype=np.int64),
    )


def test_paths_are_those_that_older_homes_hold() -> None:
    assert run_artifacts.FOLD_RECORD == "record.parquet"
    assert run_artifacts.FOLD_VALIDATION == "validation.parquet"
    assert run_artifacts.FOLD_CALIBRATOR == "calibrator.json"
    assert run_artifacts.FOLD_SEEDS == "seeds.parquet"
    assert run_artifacts.FOLD_UNCALIBRATED == "uncalibrated.parquet"
    assert run_artifacts.RECORD == "evaluation/record.parquet"
    assert run_artifacts.FOLD_NETWORKS == "evaluation/fold_networks.parquet"
    assert run_artifacts.EQUITY == "evaluation/equity.parquet"
    assert run_artifacts.VALIDATION == "evaluation/validation.parquet"
    assert run_artifacts.POLICIES == "evaluation/policies.json"
    assert run_artifacts.NUMBERS == "evaluation/numbers.json"
    assert run_artifacts.CLASSIFICATION_REPORT == "evaluation/classification_report.txt"
    assert run_artifacts.KERAS == "network/network.keras"
    assert run_artifacts.ONNX == "network/network.onnx"
    assert run_artifacts.PROBE == "network/probe.parquet"
    assert run_artifacts.CALIBRATOR == "network/calibrator.json"
    assert run_artifacts.REPORT == "report.html"
    assert run_artifacts.MODEL_FOLDER == "model/artifacts"
    assert run_artifacts.picture_path("reliability") == "pictures/reliability.png"


def test_folds_are_pooled_in_the_order_of_their_runs(workspace: Workspace) -> None:
    runs, run_ids = workspace.runs, []
    for fold in range(2):
        run_ids.append(runs.start_run(f"fold {fold}", {}))
        seeds = {8: np.array([0.1, 0.2, 0.3]) + fold}
        known = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6][: 3 * (fold + 1)]) / (fold + 1)
        validation = replace(record(fold), probabilities=np.array([0.7, 0.8, 0.9]) + fold / 100)
        fit = FoldFit(record(fold), validation, 1, (EPOCH,), Temperature(2.0), "CPU", 0.5, seeds, known)
        run_artifacts.log_fold(runs, run_ids[-1], fit)
    pooled = run_artifacts.pooled_record(runs, run_ids)
    np.testing.assert_array_equal(pooled.probabilities, [*record(0).probabilities, *record(1).probabilities])
    np.testing.assert_array_equal(pooled.decided_at, MOMENTS)
    assert pooled.fold.tolist() == [0, 0, 0, 1, 1, 1]
    validation = run_artifacts.validation_records(runs, run_ids)
    assert [each.probabilities.tolist() for each in validation] == [[0.7, 0.8, 0.9], [0.71, 0.81, 0.91]]
    assert [each.fold.tolist() for each in validation] == [[0, 0, 0], [1, 1, 1]]
    np.testing.assert_array_equal(validation[1].resolved_at, record(1).resolved_at)
    assert run_artifacts.pooled_seeds(runs, run_ids)[8].tolist() == [0.1, 0.2, 0.3, 1.1, 1.2, 1.3]
    assert run_artifacts.read_calibrator(runs, run_ids[0]) == Temperature(2.0)
    networks = run_artifacts.pooled_fold_networks(runs, run_ids)
    np.testing.assert_array_equal(
        networks, [[0.1, 0.2, 0.3, *[np.nan] * 3], np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) / 2]
    )
    run_artifacts.log_fold_networks(runs, run_ids[0], networks)
    np.testing.assert_array_equal(run_artifacts.read_fold_networks(runs, run_ids[0]), networks)


def test_record_equity_and_probe_are_read_back_bit_for_bit(workspace: Workspace) -> None:
    runs = workspace.runs
    run_id = runs.start_run("retrain", {})
    run_artifacts.log_record(runs, run_id, record(0), {"base_rate": np.full(3, 0.55)})
    found, base_rate = run_artifacts.read_evaluation(runs, run_id)
    np.testing.assert_array_equal(found.probabilities, record(0).probabilities)
    assert base_rate.tolist() == [0.55] * 3
    run_artifacts.log_equity(runs, run_id, MOMENTS, {"long_flat": np.linspace(1.0, 1.1, 6)})
    equity = run_artifacts.read_equity(runs, run_id)
    assert list(equity.columns) == ["closed_at", "long_flat"]
    assert str(equity["closed_at"].dt.tz) == "UTC"
    run_artifacts.log_probe(runs, run_id, FinalNetwork(None, 3, MOMENTS[:2], np.array([0.1, 0.2]), np.empty((2, 0))))
    probe = run_artifacts.read_probe(runs, run_id)
    assert probe["probability"].tolist() == [0.1, 0.2]
    np.testing.assert_array_equal(probe["decided_at"].to_numpy().astype("datetime64[us]"), MOMENTS[:2])
