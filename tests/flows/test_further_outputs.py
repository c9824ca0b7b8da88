"""A retrain with further outputs: record, scores, policies, report, registered model and forecast have them.

First of one series, then of panels.
"""

import io
import json
import re
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from panel_home import RANKS, RECIPE, coins, store_coins

from flows.cli import run
from flows.predict import predict
from flows.retrain import retrain
from flows.retrain_panel import retrain_panel
from model.bars import PANEL, Series
from model.cost_classes import CLASS_COLUMNS
from model.folds import FoldSpec
from model.network_files import network_from_bytes
from model.networks import NetworkSpec
from model.panel import cut_panel
from model.panel_promotion import PanelPromotion
from model.panel_recipe import panel_frame
from model.record import Record
from model.training import TrainingSpec
from model.windows import WindowSpec, cut_windows
from tasks.champion.version_audit import audit_version
from tasks.registry.run_artifacts import POLICIES, read_evaluation, read_validation
from tasks.results import PanelRetrain, Retrain
from tasks.serving.rest_server import Champion, application
from tasks.settings import Settings
from tasks.workspace import Workspace

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the test client speaks of its successor
    from fastapi.testclient import TestClient

pytestmark = pytest.mark.e2e  # a second home, for an option that is off by default
Sized = tuple[Retrain, Workspace]


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Retrain, Path]:
    """A retrain in a home of its own, and that home."""
    home = tmp_path_factory.mktemp("magnitude")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RISEORFALL_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        done = retrain(
            folds=FoldSpec(test_bars=120, count=2),
            network=NetworkSpec(magnitude=True, beyond_cost_bps=150),
            training=TrainingSpec(epochs=2, calibration="temperature", members=2),
        )
    return done, home


@pytest.fixture
def sized(retrained: tuple[Retrain, Path], monkeypatch: pytest.MonkeyPatch) -> Sized:
    """The retrain and its workspace; the environment names its home."""
    done, home = retrained
    monkeypatch.setenv("RISEORFALL_HOME", str(home))
    return done, Workspace(Settings(), Series("BTC-USD", "1d"))


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
        assert stored[policy]["bands"]
        assert all(band["of_returns"] for band in stored[policy]["bands"])
    page = Path(result.report).read_text(encoding="utf-8")
    section = page[page.index(">Expected move</h2>") :]
    assert "mean move of the window, rescaled" in section
    assert "Bands of the expected return of the network by fold" in section


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


@dataclass(frozen=True)
class Panels:
    """A panel with both heads, retrained twice, and one of ranks with a size; a home of its own for each label."""

    first: PanelRetrain
    second: PanelRetrain
    home: Path
    ranks: PanelRetrain
    ranks_home: Path


@pytest.fixture(scope="module")
def panels(tmp_path_factory: pytest.TempPathFactory) -> Panels:
    both = NetworkSpec(**RECIPE["network"].model_dump(exclude_unset=True), magnitude=True, beyond_cost_bps=150)
    sized = both.model_copy(update={"beyond_cost_bps": 0.0})
    homes = tmp_path_factory.mktemp("panel"), tmp_path_factory.mktemp("ranks")
    generous = PanelPromotion(base_rate_tolerance=1, base_rate_margin=1, champion_tolerance=1, champion_margin=1)
    training = TrainingSpec(epochs=2, batch_size=64, members=2, calibration="temperature")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("RISEORFALL_HOME", str(homes[1]))
        store_coins(Settings(), coins())
        ranks = retrain_panel(panel=RANKS, promotion=generous, **RECIPE | {"network": sized, "training": training})
        patch.setenv("RISEORFALL_HOME", str(homes[0]))
        store_coins(Settings(), coins())
        options = RECIPE | {"network": both, "training": training, "promotion": generous}
        first = retrain_panel(as_of=datetime(2018, 8, 19, tzinfo=UTC), **options)
        return Panels(first, retrain_panel(**options), homes[0], ranks, homes[1])


@pytest.fixture
def panel(panels: Panels, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("RISEORFALL_HOME", str(panels.home))
    return Workspace(Settings(), Series(PANEL, "1d"))


@pytest.fixture
def ranks(panels: Panels, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("RISEORFALL_HOME", str(panels.ranks_home))
    return Workspace(Settings(), Series(PANEL, "1d"))


def returns_of(record: Record) -> np.ndarray:
    """Return the simple return of each window of a record of the three coins."""
    close = {symbol: pd.Series(bars.column("close"), bars.closed_at) for symbol, bars in coins().items()}
    times = zip(record.symbols, record.decided_at, record.resolved_at, strict=True)
    return np.array([close[symbol][later] / close[symbol][now] - 1 for symbol, now, later in times])


def test_a_panel_is_scored_on_the_closes_of_all_series(panels: Panels, panel: Workspace) -> None:
    record, _ = read_evaluation(panel.runs, panels.second.run_id)
    returns = returns_of(record)
    sizes = np.abs(np.log1p(returns))
    logged = panel.runs.client.get_run(panels.second.run_id).data.metrics
    assert logged["test/move_score"] == pytest.approx(
        (np.log(record.expected_moves) + sizes / record.expected_moves).mean()
    )
    assert logged["test/move_ratio"] == pytest.approx(sizes.mean() / record.expected_moves.mean())
    assert logged["test/move_vs_trailing_mean_low"] <= logged["test/move_vs_trailing_mean_high"]
    classes = np.where(returns > 0.015, 2, np.where(returns < -0.015, 0, 1))
    own = record.class_probabilities[np.arange(len(record)), classes]
    assert logged["test/class_log_loss"] == pytest.approx(-np.log(own).mean())
    assert panels.second.evaluation.pooled.moves is not None
    assert panels.second.evaluation.pooled.moves.differences["trailing_mean"].closes == 60


def test_a_panel_is_traded_by_expected_returns_with_bands_of_validation_windows(
    panels: Panels, panel: Workspace
) -> None:
    stored = json.loads(panel.runs.read_file(panels.second.run_id, POLICIES))
    bands = stored["policies"]["no_trade_band"]["bands"]
    assert len(bands) == 2
    assert all(band["of_returns"] for band in bands)
    assert stored["policies"]["sign"]["bands"] == []
    record, _ = read_evaluation(panel.runs, panels.second.run_id)
    held = np.where(record.probabilities > 0.5, 1, np.where(record.probabilities < 0.5, -1, 0))
    shares = held / np.bincount(record.bar_numbers())[record.bar_numbers()]
    gross = np.bincount(record.bar_numbers(), shares * returns_of(record))
    figures = stored["policies"]["sign"]["figures"]
    assert figures["gross_return"] == pytest.approx(np.prod(1 + gross) - 1)
    assert panel.runs.client.get_run(panels.second.run_id).data.metrics["trading/sign_gross_bps"] == pytest.approx(
        gross.mean() * 1e4
    )


def test_the_report_of_a_panel_has_the_sections_of_a_single_series(panels: Panels) -> None:
    texts = [
        " ".join(re.sub("<[^>]*>", " ", Path(each.report).read_text(encoding="utf-8")).split())
        for each in (panels.second, panels.ranks)
    ]
    for words in (
        "size of the move until the outcome: the expected absolute log return",
        "stationary block bootstrap over whole closes",
        "lower by more than 150 bps",
        "Policies, long or short, all series in equal parts",
        "Bands of the expected return of the network by fold",
    ):
        assert words in texts[0]
    assert "sign chosen" not in texts[0]
    assert "relative to the panel until the outcome" in texts[1]
    assert re.search(r"Top fifth against bottom fifth ranked by .* network [-+].* network, by return [-+]", texts[1])
    assert "Policies, long or short" not in texts[1]
    assert "mean move of the window, rescaled" in texts[1]


def test_the_champion_of_a_panel_with_further_outputs_is_compared(panels: Panels, panel: Workspace) -> None:
    """Its own record has sizes, what it predicts for later closes is compared by P alone."""
    first, second = panel.decision_log.rows("PANEL-1d")
    assert (first.action, second.action, second.champion_before) == ("promote", "promote", "1")
    assert second.numbers["champion.n"] == 180
    assert "passed" in panel.runs.client.get_run(panels.second.run_id).data.tags["audit"]


def test_registered_files_of_a_panel_serve_the_sizes_of_keras(panels: Panels, panel: Workspace) -> None:
    assert panels.second.promotion.action == "promote"
    loaded = panel.registry.read_version("2")
    windows = cut_panel(coins(), RECIPE["window"], loaded.panel_recipe().panel).windows
    keras = np.asarray(network_from_bytes(loaded.keras())(windows.values()), dtype=np.float64)
    outputs = loaded.predictor(calibrated=False).run(windows)
    np.testing.assert_allclose(outputs[:, 1:], keras[:, 1:], atol=1e-5)
    panel.runs.set_global_uri()
    served = mlflow.pyfunc.load_model("models:/PANEL-1d@champion").predict(panel_frame(coins(), 240))
    np.testing.assert_allclose(served["expected_move"], keras[:, 1], atol=1e-5)
    np.testing.assert_allclose(served[list(CLASS_COLUMNS)], keras[:, 2:], atol=1e-5)


@pytest.mark.parametrize("which", ["panel", "ranks"])
def test_a_panel_predicts_the_expected_move_of_each_series(
    which: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace: Workspace = request.getfixturevalue(which)
    capsys.readouterr()
    assert run(["predict", "--panel", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["predictions"]
    champion = "2" if which == "panel" else "1"
    loaded = workspace.registry.read_version(champion)
    recipe = loaded.panel_recipe()
    windows = cut_panel(coins(), recipe.window, recipe.panel).windows
    newest = windows.take(np.arange(len(windows) - 3, len(windows)))
    expected = loaded.predictor().predict_further(newest)
    assert [row["symbol"] for row in rows] == newest.symbols.tolist()
    for name, values in expected.items():
        assert [row[name] for row in rows] == pytest.approx(values.tolist()), name
    for row in rows:
        assert row["expected_return"] == pytest.approx((2 * row["probability"] - 1) * row["expected_move"])
        assert (CLASS_COLUMNS[1] in row) == (which == "panel")
    assert run(["predict", "--panel"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{row['expected_move']:.2%}" in shown for row in rows)
    assert all(f"{row['expected_return']:+.3%}" in shown for row in rows)
    assert ("median of the other series" in " ".join(shown.split())) == (which == "ranks")
    found = predict(symbol="PANEL")
    assert found.further[rows[0]["symbol"]]["expected_move"] == pytest.approx(rows[0]["expected_move"])
