"""A retrain with further outputs: record, scores, policies, report, registered model and forecast have them."""

import io
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from flows.cli import run
from flows.retrain import retrain
from model.bars import Series
from model.folds import FoldSpec
from model.metrics import CLASS_COLUMNS
from model.network_files import network_from_bytes
from model.networks import NetworkSpec
from model.training import TrainingSpec
from model.windows import WindowSpec, cut_windows
from tasks.champion.version_audit import audit_version
from tasks.registry.run_artifacts import POLICIES, read_evaluation, read_validation
from tasks.results import Retrain
from tasks.serving.rest_server import Champion, application
from tasks.settings import Settings
from tasks.workspace import Workspace

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the test client speaks of its successor
    from fastapi.testclient import TestClient

pytestmark = pytest.mark.e2e  # a second home, for an option that is off by default
Sized = tuple[Retrain, Workspace]


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sized]:
    """A retrain in a home of its own, and its workspace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RISEORFALL_HOME", str(tmp_path_factory.mktemp("magnitude")))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        done = retrain(
            folds=FoldSpec(test_bars=120, count=2),
            network=NetworkSpec(magnitude=True, beyond_cost_bps=150),
            training=TrainingSpec(epochs=2, calibration="temperature", members=2),
        )
        yield done, Workspace(Settings(), Series("BTC-USD", "1d"))


def test_scores_are_those_of_the_record_and_the_closes(sized: Sized) -> None:
    result, workspace = sized
    record, _ = read_evaluation(workspace.runs, result.run_id)
    bars = workspace.bar_store.read_bars(result.stored.ref)
    close = pd.Series(bars.column("close"), bars.closed_at)
    moves = np.log(close[record.resolved_at].to_numpy() / close[record.decided_at].to_numpy())
    logged = workspace.runs.client.get_run(result.run_id).data.metrics
    score = (np.log(record.expected_moves) + np.abs(moves) / record.expected_moves).mean()
    assert logged["test/move_score"] == pytest.approx(score)
    details = json.loads(workspace.runs.read_file(result.run_id, "evaluation/details.json"))["moves"]
    assert details["vs_trailing_mean"] == pytest.approx(score - details["trailing_mean_score"])
    assert logged["test/move_vs_trailing_mean_low"] <= details["vs_trailing_mean"] <= details["vs_trailing_mean_high"]
    assert logged["test/move_ratio"] == pytest.approx(np.abs(moves).mean() / record.expected_moves.mean())
    assert logged["train/log_loss"] < 1  # less the score of the mean move, so near that of the direction
    assert all(len(each.expected_moves) == len(each) for each in read_validation(workspace.runs, result.run_id))


def test_classes_are_scored_on_the_closes_and_reported(sized: Sized) -> None:
    result, workspace = sized
    record, _ = read_evaluation(workspace.runs, result.run_id)
    bars = workspace.bar_store.read_bars(result.stored.ref)
    close = pd.Series(bars.column("close"), bars.closed_at)
    returns = close[record.resolved_at].to_numpy() / close[record.decided_at].to_numpy() - 1
    classes = np.where(returns > 0.015, 2, np.where(returns < -0.015, 0, 1))
    logged = workspace.runs.client.get_run(result.run_id).data.metrics
    own = record.class_probabilities[np.arange(len(record)), classes]
    assert logged["test/class_log_loss"] == pytest.approx(-np.log(own).mean())
    assert logged["test/class_share_neither"] == pytest.approx((classes == 1).mean())
    assert logged["test/class_accuracy"] == pytest.approx((record.class_probabilities.argmax(axis=1) == classes).mean())
    details = json.loads(workspace.runs.read_file(result.run_id, "evaluation/details.json"))["cost_classes"]
    assert details["cost_bps"] == 150
    assert details["vs_base_rates"] == pytest.approx(-np.log(own).mean() - details["base_rates_log_loss"])
    text = workspace.runs.read_file(result.run_id, "evaluation/cost_classes.txt").decode()
    assert "down beyond cost" in text
    page = Path(result.report).read_text(encoding="utf-8")
    section = page[page.index(">Beyond a cost</h2>") :]
    assert "lower by more than 150 bps" in section
    right = (record.class_probabilities.argmax(axis=1) == classes) & (classes == 2)
    assert f"<small>{int(right.sum()):,}</small>" in section


def test_policies_have_bands_of_expected_returns_in_run_and_report(sized: Sized) -> None:
    result, workspace = sized
    stored = json.loads(workspace.runs.read_file(result.run_id, POLICIES))["policies"]
    for policy in ("threshold", "no_trade_band"):
        assert all(band["of_returns"] for band in stored[policy]["bands"])
    page = Path(result.report).read_text(encoding="utf-8")
    section = page[page.index(">Expected move</h2>") :]
    assert "mean move of the window, rescaled" in section
    assert "Bands of the expected return by fold" in section


def test_registered_files_serve_the_size_of_the_trained_network(
    sized: Sized, capsys: pytest.CaptureFixture[str]
) -> None:
    result, workspace = sized
    assert result.promotion.action == "promote"  # its files repeat what was predicted after training
    probe = pd.read_parquet(io.BytesIO(workspace.runs.read_file(result.run_id, "network/probe.parquet")))
    bars = workspace.bar_store.read_bars(result.stored.ref)
    windows = cut_windows(bars, WindowSpec())
    loaded = workspace.registry.read_version(result.version.version)
    outputs = np.asarray(network_from_bytes(loaded.keras())(windows.values()), dtype=np.float64)
    expected, classes = outputs[:, 1], outputs[:, 2:]
    np.testing.assert_allclose(probe["output_2"], expected[-len(probe) :], atol=1e-5)
    workspace.runs.set_global_uri()
    served = mlflow.pyfunc.load_model(f"models:/{workspace.name}@champion").predict(bars.frame())
    np.testing.assert_allclose(served["expected_move"], expected, atol=1e-5)
    np.testing.assert_allclose(served[list(CLASS_COLUMNS)], classes, atol=1e-5)
    returns = (2 * served["probability"] - 1) * served["expected_move"]
    np.testing.assert_allclose(served["expected_return"], returns)
    assert audit_version(Series("BTC-USD", "1d"), Settings(), sample=4).audit.passed
    capsys.readouterr()
    assert run(["predict", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["expected_move"] == pytest.approx(expected[-1], abs=1e-5)
    assert answer["expected_return"] == pytest.approx((2 * answer["probability"] - 1) * answer["expected_move"])
    assert [answer[name] for name in CLASS_COLUMNS] == pytest.approx(classes[-1], abs=1e-5)
    assert run(["predict"]) == 0
    shown = capsys.readouterr().out
    assert f"expected move {answer['expected_move']:.2%} either way" in shown
    assert f"P(neither) {answer['p_neither']:.1%}" in shown
    client = TestClient(application(Champion(Series("BTC-USD", "1d"), Settings())))
    rows = bars.frame().tail(40).assign(timestamp=lambda frame: frame["timestamp"].map(str))
    (*_, newest) = client.post("/predict", json={"bars": rows.to_dict("records")}).json()["predictions"]
    assert newest["further"] == pytest.approx({name: answer[name] for name in newest["further"]}, abs=1e-6)
    assert set(newest["further"]) == {"expected_move", "expected_return", *CLASS_COLUMNS}
