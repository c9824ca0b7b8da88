"""A panel of three series, end to end: retrained, compared, predicted, shown; what it cannot do is refused."""

import base64
import gzip
import json
import re
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from copied_home import copy_home
from panel_home import RANKS, RECIPE, SYMBOLS, coins, store_coins
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from synthetic_bars import random_walk

from flows.cli import run
from flows.monitor import monitor
from flows.predict import predict
from flows.retrain_panel import retrain_panel
from model.abstention import STEP, rank_record, share_bounds
from model.bars import PANEL, Bars, Series
from model.calibration_error import perfectly_calibrated_error
from model.cross_section import PLAIN_RANKS
from model.errors import SpecError, UntrustedModel
from model.final_fit import FinalNetwork, fit_final_network
from model.folds import split_folds
from model.forecaster_names import POLICY_NAMES
from model.panel import PanelSpec, cut_panel
from model.panel_promotion import PanelPromotion
from model.panel_recipe import panel_frame, panel_recipe_for
from model.record import Record
from model.times import to_datetime
from model.walk_forward import trainer_for, walk_forward
from tasks.pages.dashboard_content import DashboardReader
from tasks.pages.dashboard_page import dashboard_page
from tasks.registry.run_artifacts import (
    DETAILS,
    LIVE_PREDICTIONS,
    POLICIES,
    RECORD,
    read_evaluation,
    validation_records,
)
from tasks.results import PanelRetrain, PanelUnchanged
from tasks.serving.panel_forecast import PanelForecast, forecast_panel
from tasks.serving.service_metrics import StateCollector
from tasks.settings import Settings
from tasks.store.prediction_log import Prediction
from tasks.workspace import Workspace

pytestmark = pytest.mark.e2e  # three retrains of a panel; tests/model and tests/tasks have its parts
SERIES, COINS, DAY = Series(PANEL, "1d"), coins(), timedelta(days=1)
EARLIER = datetime(2018, 8, 19, tzinfo=UTC)  # ten bars before the newest close
GENEROUS = PanelPromotion(base_rate_tolerance=1, base_rate_margin=1, champion_tolerance=1, champion_margin=1)
FLAGS = (  # of the second retrain
    "--window.lookback-bars=5", "--folds.test-bars=60", "--folds.count=2", "--network.filters=2", "--network.units=2",
    "--network.dense-units=4", "--training.epochs=2", "--training.batch-size=64", "--training.members=1",
    "--promotion.base-rate-tolerance=1", "--promotion.base-rate-margin=1", "--promotion.champion-tolerance=1",
    "--promotion.champion-margin=1",
)  # fmt: skip


@dataclass(frozen=True)
class Retrained:
    """A home and the retrains in it: without its ten newest bars, with them, and of ranks from the cross-section."""

    home: Path
    first: PanelRetrain
    second: PanelRetrain
    ranks: PanelRetrain


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Retrained:
    place = tmp_path_factory.mktemp("panel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RISEORFALL_HOME", str(place))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store_coins(Settings(), COINS)
        first = retrain_panel(as_of=EARLIER, promotion=GENEROUS, **RECIPE)
        second = retrain_panel(promotion=GENEROUS, **RECIPE)
        return Retrained(place, first, second, retrain_panel(panel=RANKS, promotion=GENEROUS, **RECIPE))


@pytest.fixture
def workspace(done: Retrained, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The workspace of the panel; the environment names its home."""
    monkeypatch.setenv("RISEORFALL_HOME", str(done.home))
    return Workspace(Settings(), SERIES)


@pytest.fixture
def copied(home: Path, done: Retrained) -> Workspace:
    """A copy of the home, which a test may change."""
    copy_home(done.home, home)
    return Workspace(Settings(), SERIES)


def losses(record: Record) -> np.ndarray:
    return -np.log(np.where(record.labels == 1, record.probabilities, 1 - record.probabilities))


def test_the_record_is_that_of_a_walk_forward_over_the_whole_panel(done: Retrained, workspace: Workspace) -> None:
    record, base_rate = read_evaluation(workspace.runs, done.second.run_id)
    recipe = panel_recipe_for("1d", PanelSpec(symbols=SYMBOLS), **RECIPE)
    windows = cut_panel(COINS, recipe.window, recipe.panel).resolved().windows
    expected = walk_forward(trainer_for(recipe), windows, split_folds(windows, recipe.folds), recipe.training.seed)
    np.testing.assert_array_equal(record.probabilities, expected.record.probabilities)
    np.testing.assert_array_equal(record.symbols, expected.record.symbols)
    np.testing.assert_array_equal(base_rate, expected.base_rate)
    assert set(record.symbols) == set(SYMBOLS)
    assert len(np.unique(record.decided_at)) == done.second.evaluation.closes == 60
    assert done.second.evaluation.pooled.windows == len(record) == 180


def test_mlflow_has_one_experiment_with_folds_and_a_table_by_series(done: Retrained, workspace: Workspace) -> None:
    found = workspace.runs.client.get_run(done.second.run_id).data
    assert workspace.name == "PANEL-1d"
    assert found.tags["mlflow.source.name"] == "flows/retrain_panel.py"
    assert found.tags["audit"].startswith("passed")
    assert found.params["panel.symbols"] == str(SYMBOLS)
    assert (found.params["panel.label"], found.params["panel.inputs"]) == ("rise", "own")  # columns of the table
    names = [workspace.runs.client.get_run(each.run_id).info.run_name for each in (done.second, done.ranks)]
    closed = f"{COINS['BTC-USD'].closed_at[-1].astype('datetime64[D]')}"
    assert names == [f"{closed} v2 rise promoted", f"{closed} v3 rank held"]
    children = workspace.runs.client.search_runs(
        [workspace.runs.experiment_id()], f"tags.`mlflow.parentRunId` = '{done.second.run_id}'"
    )
    assert {run.data.tags["fold"] for run in children} == {"1", "2"}
    record, _ = read_evaluation(workspace.runs, done.second.run_id)
    assert found.metrics["test/log_loss"] == pytest.approx(log_loss(record.labels, record.probabilities))
    content = json.loads(workspace.runs.read_file(done.second.run_id, "evaluation/series.json"))
    table = pd.DataFrame(content["data"], columns=content["columns"]).set_index("symbol")
    assert list(table.index) == list(SYMBOLS)
    for symbol in SYMBOLS:
        own = record.take(record.symbols == symbol)
        assert table.loc[symbol, "log_loss"] == pytest.approx(log_loss(own.labels, own.probabilities), abs=1e-5)
        assert table.loc[symbol, "accuracy"] == pytest.approx(
            accuracy_score(own.labels, own.probabilities > 0.5), abs=1e-5
        )


def test_opinions_are_held_by_close_and_logged_with_their_bounds(done: Retrained, workspace: Workspace) -> None:
    """The level starts at a tenth and moves once a close; three series decide at each of 60 closes."""
    for each in (done.second, done.ranks):
        record, _ = read_evaluation(workspace.runs, each.run_id)
        children = workspace.runs.client.search_runs(
            [workspace.runs.experiment_id()], f"tags.`mlflow.parentRunId` = '{each.run_id}'"
        )
        folds = sorted(children, key=lambda run: int(run.data.tags["fold"]))
        validation = validation_records(workspace.runs, [run.info.run_id for run in folds])
        ranks, level, shares, right = rank_record(record, validation), 0.1, [], []
        for close in np.unique(record.decided_at):
            own = record.decided_at == close
            held = ranks[own] <= level
            level += STEP * (0.1 - held.mean())
            shares.append(held.mean())
            right += ((record.probabilities[own] > 0.5) == (record.labels[own] == 1))[held].tolist()
        found, data = each.evaluation.pooled.abstention["share"], workspace.runs.client.get_run(each.run_id).data
        assert (found.opinions, found.share) == (len(right), pytest.approx(np.mean(shares)))
        assert found.guaranteed == share_bounds(0.1, 60)
        assert data.params["abstention.opinion_share"] == "0.1"
        assert data.metrics["test/opinion_share"] == pytest.approx(np.mean(shares))
        assert data.metrics["test/opinion_accuracy"] == pytest.approx(np.mean(right))
        stored = json.loads(workspace.runs.read_file(each.run_id, DETAILS))["abstention"]
        assert set(stored) == {"all", "share", "coverage"}
        assert stored["share"]["guaranteed_high"] == share_bounds(0.1, 60)[1]
        assert stored["coverage"]["coverage"] >= stored["coverage"]["guaranteed_low"]
        page = Path(each.report).read_text(encoding="utf-8")
        assert "Share and coverage are taken within each close and averaged over closes" in page
        assert f"{found.opinions:,} ({found.share:.1%})" in page


def test_the_champion_is_compared_on_the_same_closes_and_series(done: Retrained, workspace: Workspace) -> None:
    """By its own record before the end of its training, and by what its network predicts after it."""
    first, second, third = workspace.decision_log.rows("PANEL-1d")
    assert [row.action for row in (first, second)] == ["promote", "promote"]
    assert (second.champion_before, second.champion_after) == ("1", "2")
    ours, _ = read_evaluation(workspace.runs, done.second.run_id)
    own, _ = read_evaluation(workspace.runs, done.first.run_id)
    workspace.runs.set_global_uri()
    model = mlflow.pyfunc.load_model("models:/PANEL-1d/1")
    answer = model.predict(panel_frame(COINS, 240))
    times = pd.to_datetime(answer["decided_at"]).dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    theirs = dict(zip(zip(answer["symbol"], times, strict=True), answer["probability"], strict=True))
    theirs |= dict(zip(zip(own.symbols, own.decided_at, strict=True), own.probabilities, strict=True))
    champion = np.array([theirs[key] for key in zip(ours.symbols, ours.decided_at, strict=True)])
    assert second.numbers["champion.n"] == len(ours) == 180
    assert (ours.decided_at > own.decided_at[-1]).sum() == 30  # ten closes of three series
    expected = losses(ours).mean() - np.where(ours.labels == 1, -np.log(champion), -np.log(1 - champion)).mean()
    assert second.numbers["champion.difference"] == pytest.approx(expected, abs=1e-6)
    for row in (first, second, third):
        assert 0 < row.numbers["final_network.disagreement"] <= row.numbers["final_network.limit"]
    assert any(
        reason.startswith("the final network agrees with the fold networks (mean divergence ")
        for reason in second.reasons
    )
    assert third.action == "hold"
    assert third.reasons[0].startswith(
        "the challenger predicts label rank, 1 bar ahead, among 3 series at closes of at least 3; "
        "the champion label rise, 1 bar ahead: they are not compared"
    )


def test_ranks_are_scored_within_each_close(done: Retrained, workspace: Workspace) -> None:
    record, _ = read_evaluation(workspace.runs, done.ranks.run_id)
    areas = [
        roc_auc_score(record.labels[at], record.probabilities[at])
        for at in (record.decided_at == close for close in np.unique(record.decided_at))
    ]
    found = done.ranks.evaluation.ranks
    assert found is not None
    assert found.auc["network"].value == pytest.approx(np.mean(areas))
    metrics = workspace.runs.client.get_run(done.ranks.run_id).data.metrics
    assert metrics["test/auc_within_close"] == pytest.approx(np.mean(areas))
    reversal = [
        roc_auc_score(
            record.labels[at], [-last_move(*key) for key in zip(record.symbols[at], record.decided_at[at], strict=True)]
        )
        for at in (record.decided_at == close for close in np.unique(record.decided_at))
    ]
    assert found.auc["reversal_1_bar"].value == pytest.approx(np.mean(reversal))
    assert metrics["baseline/reversal_1_bar_auc_within_close"] == pytest.approx(np.mean(reversal))
    above = record.labels.reshape(-1, 3).sum(axis=1)
    assert set(above) == {1, 2}  # of three: the best, and the middle one where it is nearer to the best


def last_move(symbol: str, at: np.datetime64) -> float:
    """Return the log move of the bar of a series that closed at a time."""
    closes = COINS[symbol].column("close")
    newest = np.searchsorted(COINS[symbol].closed_at, at)
    return float(np.log(closes[newest] / closes[newest - 1]))


def test_portfolios_of_ranks_and_plain_ranks_are_in_mlflow_and_the_report(
    done: Retrained, workspace: Workspace
) -> None:
    record, _ = read_evaluation(workspace.runs, done.ranks.run_id)
    metrics = workspace.runs.client.get_run(done.ranks.run_id).data.metrics
    stored = json.loads(workspace.runs.read_file(done.ranks.run_id, POLICIES))
    baselines = ("gradient_boosting", "logistic_regression", "linear_factor_model", *PLAIN_RANKS)
    names = ["market_neutral", *(f"market_neutral_by_{name}" for name in baselines)]
    assert list(stored["policies"]) == names
    assert stored["tried"] == done.ranks.evaluation.pooled.looks.recipes
    keys = list(zip(record.symbols, record.resolved_at, strict=True))
    returns = np.expm1([last_move(*key) for key in keys]).reshape(-1, 3)
    moves = [last_move(*key) for key in zip(record.symbols, record.decided_at, strict=True)]
    logged = pd.read_parquet(BytesIO(workspace.runs.read_file(done.ranks.run_id, RECORD)))
    for name, scores in (
        ("market_neutral", record.probabilities),
        ("market_neutral_by_gradient_boosting", logged["gradient_boosting"].to_numpy()),
        ("market_neutral_by_reversal_1_bar", -np.array(moves)),
    ):
        order = np.argsort(scores.reshape(-1, 3), axis=1)  # a fifth of three series is one
        earned = np.take_along_axis(returns, order, axis=1)
        figures = stored["policies"][name]["figures"]
        assert figures["gross_bps"] == pytest.approx(1e4 * (earned[:, 2] - earned[:, 0]).mean())
        assert figures["exposure_return"] + figures["timing_return"] == pytest.approx(
            (earned[:, 2] - earned[:, 0]).sum()
        )
        assert stored["policies"][name]["net_by_cost"][15] == pytest.approx(figures["net_return"])
        assert metrics[f"trading/{name}_break_even_bps"] == pytest.approx(figures["break_even_bps"])
    for figure in ("turnover", "net_return", "timing_return", "deflated_sharpe"):
        assert metrics[f"trading/market_neutral_{figure}"] == stored["policies"]["market_neutral"]["figures"][figure]
    text = " ".join(re.sub("<[^>]*>", " ", Path(done.ranks.report).read_text(encoding="utf-8")).split())
    for words in (
        "network minus it",
        "reversal 1 bar",
        "reversal 20 bars",
        "low volatility",
        "linear factor model",
        "ranked by",
        "deflated Sharpe",
    ):
        assert words in text
    assert len(metrics) <= 80


def test_boosting_factors_and_reversal_are_traded_by_the_same_policies(done: Retrained, workspace: Workspace) -> None:
    record, _ = read_evaluation(workspace.runs, done.second.run_id)
    stored = json.loads(workspace.runs.read_file(done.second.run_id, POLICIES))
    baselines = ("gradient_boosting", "linear_factor_model", "reversal_1_bar")
    names = [f"{policy}_by_{name}" for name in baselines for policy in POLICY_NAMES]
    assert list(stored["policies"]) == [*POLICY_NAMES, *names]
    earned = [
        -np.sign(last_move(symbol, decided)) * np.expm1(last_move(symbol, resolved))
        for symbol, decided, resolved in zip(record.symbols, record.decided_at, record.resolved_at, strict=True)
    ]
    gross = stored["policies"]["sign_by_reversal_1_bar"]["figures"]["gross_bps"]
    assert gross == pytest.approx(1e4 * np.mean(earned))  # three series at each close, in equal parts
    metrics = workspace.runs.client.get_run(done.second.run_id).data.metrics
    for name in names:
        assert metrics[f"trading/{name}_break_even_bps"] == stored["policies"][name]["figures"]["break_even_bps"]
    logged = pd.read_parquet(BytesIO(workspace.runs.read_file(done.second.run_id, RECORD)))
    by_boosting = np.where(logged["gradient_boosting"] > 0.5, 1, -1) * np.expm1(
        [last_move(*key) for key in zip(record.symbols, record.resolved_at, strict=True)]
    )
    figures = stored["policies"]["sign_by_gradient_boosting"]["figures"]
    assert figures["gross_bps"] == pytest.approx(1e4 * by_boosting.mean())
    assert metrics["baseline/linear_factor_model_log_loss"] == pytest.approx(
        log_loss(record.labels, logged["linear_factor_model"])
    )
    text = Path(done.second.report).read_text(encoding="utf-8")
    for words in ("linear factor model", "reversal 1 bar", "sign, gradient boosting"):
        assert words in text
    assert len(metrics) < 90


def test_the_report_shows_decision_baselines_series_and_ranks(done: Retrained) -> None:
    text = Path(done.ranks.report).read_text(encoding="utf-8")
    assert "Panel of 3 series 1d, version 3" in text
    for words in (
        "Held: the champion stayed",
        "gradient boosting",
        "AUC within a close",
        "Top fifth against bottom fifth",
        *SYMBOLS,
    ):
        assert words in text
    assert "bottom fifth" not in Path(done.second.report).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("which", "share", "probability", "classes", "foreign"),
    [
        ("ranks", "share above the median", "P(above the median)", "below the median, above the median", r"rises?"),
        ("second", "share of rises", "P(rise)", "fall, rise", "median"),
    ],
)
def test_charts_tables_and_files_name_the_label(
    which: str, share: str, probability: str, classes: str, foreign: str, done: Retrained, workspace: Workspace
) -> None:
    found: PanelRetrain = getattr(done, which)
    text = Path(found.report).read_text(encoding="utf-8")
    packed = re.findall(r'-json">(.*?)</script>', text, flags=re.DOTALL)
    charts = " ".join(gzip.decompress(base64.b64decode(each)).decode() for each in packed)
    report = workspace.runs.read_file(found.run_id, "evaluation/classification_report.txt").decode()
    assert f"observed {share}" in charts
    assert f"predicted {probability}" in charts
    assert f"rows: actual {classes}" in report
    assert share in json.loads(workspace.runs.read_file(found.run_id, "evaluation/series.json"))["columns"]
    assert len(re.findall(rf"<th[^>]*>{share}", text)) == 2  # by fold and year, and by series
    assert not re.search(rf"\b{foreign}\b", charts + report)
    assert "label 1" not in text


def test_the_report_explains_gross_and_break_even_and_compares_with_a_calibrated_forecaster(
    done: Retrained, workspace: Workspace
) -> None:
    text = " ".join(re.sub("<[^>]*>", " ", Path(done.ranks.report).read_text(encoding="utf-8")).split())
    assert "A fifth is 1 series at each close. Gross and net return are compounded; below them" in text
    assert "volatility lowers it, so it can be negative where the mean is positive." in text
    record, _ = read_evaluation(workspace.runs, done.ranks.run_id)
    noise = perfectly_calibrated_error(record, RECIPE["training"].seed)
    error = done.ranks.evaluation.pooled.calibration_error
    assert (
        f"Expected calibration error {error:.3f} (ten bins). A perfectly calibrated forecaster would show {noise:.3f} "
        "on 180 windows, from sampling noise alone. That value and the whiskers allow for correlated labels of one "
        "close."
    ) in text
    assert "About 1 in 20 intervals excludes 0 by chance; not corrected." in text
    first = record.take(record.fold == 0)
    assert re.search(rf"fold 1 .{{10,40}} {len(first)} {first.labels.mean():.1%} {losses(first).mean():.4f}", text)


def test_series_without_windows_and_without_test_windows_are_named(
    copied: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    """In a warning before the training, in the result and in the report."""
    store_coins(copied.settings, {"NEW-USD": random_walk(4, seed=7), "OLD-USD": random_walk(120, seed=8)})
    symbols = (*SYMBOLS, "NEW-USD", "OLD-USD")
    found = retrain_panel(panel=PanelSpec(symbols=symbols), promotion=GENEROUS, **RECIPE)
    assert [each.symbol for each in found.evaluation.series] == list(SYMBOLS)
    assert set(found.evaluation.left_out) == {"NEW-USD", "OLD-USD"}
    text = " ".join(re.sub("<[^>]*>", "", Path(found.report).read_text(encoding="utf-8")).split())
    warned = [each.message for each in caplog.records if each.levelname == "WARNING"]
    for sentence in (
        "NEW-USD is neither trained on nor tested: it has fewer than 6 bars in a row without a gap",
        "OLD-USD is trained on, but not tested: it has no window in the test period",
    ):
        assert sentence in text
        assert sentence in warned
    assert "predicts, for each of 3 series" in text


def test_every_stored_series_is_predicted_and_stored(copied: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Also one that the network was not trained on; a series that ended long ago is left out with the reason."""
    new, old = random_walk(240, seed=7), COINS["ADA-USD"]
    ended = Bars("1d", old.opened_at[:200], old.ohlcv[:200])
    store_coins(copied.settings, {"NEW-USD": new, "OLD-USD": ended})
    assert run(["predict", "--panel", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["series"], found["version"]) == ("PANEL-1d", "2")
    rows = {each["symbol"]: each for each in found["predictions"]}
    assert set(rows) == {*SYMBOLS, "NEW-USD"}
    assert "window that closed at most 2 bars before" in found["left_out"]["OLD-USD"]
    predictor = copied.registry.read_version("2").predictor()
    for symbol, bars in (COINS | {"NEW-USD": new}).items():
        decided_at, probability = predictor.predict_last(bars)
        assert rows[symbol]["probability"] == pytest.approx(probability)
        assert rows[symbol]["decided_at"] == f"{decided_at.astype('datetime64[s]')}+00:00"
        assert rows[symbol]["trained_on"] == (symbol != "NEW-USD")
    stored = copied.prediction_log.read("PANEL-1d").set_index("symbol")
    assert stored["probability"].to_dict() == {symbol: row["probability"] for symbol, row in rows.items()}
    assert set(stored["label"]) == {"rise"}
    assert stored["late"].all()  # the bars ended years ago
    assert run(["predict", "--panel", "--symbol", "NEW-USD"]) == 0
    shown = capsys.readouterr().out
    assert "not trained on" in shown
    assert "BTC-USD" not in shown


def test_the_flows_predict_and_monitor_take_a_panel(copied: Workspace) -> None:
    found = predict(symbol="PANEL")
    assert isinstance(found, PanelForecast)
    stored = copied.prediction_log.read("PANEL-1d")
    assert stored["symbol"].tolist() == list(SYMBOLS) == [each.symbol for each in found.predictions]
    shadows = copied.shadow_log.read("PANEL-1d")
    assert list(zip(shadows["version"], shadows["symbol"], shadows["label"], strict=True)) == [
        (version, symbol, label) for version, label in (("1", "rise"), ("3", "rank")) for symbol in SYMBOLS
    ]
    assert [each.probability for each in found.shadows] == shadows["probability"].tolist()
    watched = monitor(symbol="PANEL")
    assert (watched.version, watched.numbers["live_predictions"], watched.raised) == ("2", 0, ())  # all were late


def test_a_cross_section_is_predicted_from_the_stored_bars_of_its_panel(copied: Workspace) -> None:
    run(["promote", "--symbol", "PANEL", "--version", "3", "--force", "--reason", "test"])
    loaded = copied.registry.read_version("3")
    windows = cut_panel(COINS, RECIPE["window"], RANKS).windows
    newest = windows.take(np.arange(len(windows) - 3, len(windows)))
    found = forecast_panel(SERIES, copied.settings)
    assert [each.symbol for each in found.predictions] == list(newest.symbols)
    expected = loaded.predictor().predict_windows(newest)
    assert [each.probability for each in found.predictions] == pytest.approx(expected)
    one = forecast_panel(SERIES, copied.settings, "ETH-USD").predictions
    assert [each.probability for each in one] == pytest.approx(expected[2:])
    store_coins(copied.settings, {"NEW-USD": random_walk(240, seed=7)})
    with pytest.raises(SpecError, match=r"a series of the panel \(ADA-USD, BTC-USD, ETH-USD\), found NEW-USD"):
        forecast_panel(SERIES, copied.settings, "NEW-USD")


def test_a_replaced_file_is_refused(copied: Workspace) -> None:
    path = copied.registry.read_version("2").folder / "network.onnx"
    path.write_bytes((copied.registry.read_version("1").folder / "network.onnx").read_bytes())
    with pytest.raises(UntrustedModel, match=r"network\.onnx"):
        forecast_panel(SERIES, Settings())


def test_a_panel_is_rolled_back_and_held(copied: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rollback", "--symbol", "PANEL", "--reason", "test"]) == 0
    assert "refuses" not in capsys.readouterr().out  # a warning about `predict` of one series
    assert copied.decision_log.rows("PANEL-1d")[-1].champion_after == "1"
    assert forecast_panel(SERIES, copied.settings).version == "1"
    held = retrain_panel(promotion=GENEROUS, **RECIPE)
    assert (held.promotion.action, held.promotion.champion_after) == ("hold", "1")
    assert "is on hold since the rollback" in held.promotion.reasons[0]


@pytest.mark.usefixtures("copied")
def test_a_panel_whose_final_network_is_wrong_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last layer is inverted and enlarged; the record is that of sound folds, the files are those of training."""

    def fit_wrong(trainer: Any, *given: Any, **chosen: Any) -> FinalNetwork:
        def fit(*windows: Any, **start: Any) -> Any:
            fitted = trainer.fit(*windows, **start)
            return replace(fitted, weights=(*fitted.weights[:-2], *(-50 * each for each in fitted.weights[-2:])))

        wrong = copy(trainer)
        wrong.fit = fit
        return fit_final_network(wrong, *given, **chosen)

    monkeypatch.setattr("tasks.training.fit_final_network", fit_wrong)
    found = retrain_panel(promotion=GENEROUS, force=True, **RECIPE).promotion
    assert (found.action, found.champion_after) == ("hold", "2")
    assert found.reasons[0].startswith("the final network disagrees with the fold networks (mean divergence ")
    assert found.numbers["final_network.disagreement"] > found.numbers["final_network.limit"]


def test_report_and_mlflow_show_champion_and_shadows_on_the_same_live_closes(copied: Workspace) -> None:
    """Version 1 is a shadow on the five closes before the newest, version 2 served; by hand, by close."""
    chances, newest = {"1": 0.7, "2": 0.4}, COINS["BTC-USD"].closed_at[-6:]
    for log, version in ((copied.prediction_log, "2"), (copied.shadow_log, "1")):
        log.store_all(
            [
                Prediction("PANEL-1d", symbol, "1d", at, at + DAY, version, chances[version], at + DAY / 2)
                for at in map(to_datetime, newest) for symbol in SYMBOLS
            ]
        )  # fmt: skip
    found = retrain_panel(promotion=GENEROUS, force=True, **RECIPE)
    rises = np.array([np.diff(COINS[symbol].column("close")[-6:]) > 0 for symbol in SYMBOLS])
    served, shadow = (-np.log(np.where(rises, each, 1 - each)).mean() for each in (0.4, 0.7))
    text = " ".join(re.sub("<[^>]*>", " ", Path(found.report).read_text(encoding="utf-8")).split())
    assert f"2 (champion) 5 15 {served:.4f} {served:.4f} +0.0000" in text
    assert f"1 (shadow) 5 15 {shadow:.4f} {served:.4f} {shadow - served:+.4f}" in text
    assert copied.runs.client.get_run(found.run_id).data.metrics["live/champion_log_loss"] == pytest.approx(served)
    logged = json.loads(copied.runs.read_file(found.run_id, LIVE_PREDICTIONS))
    assert [(each["version"], each["decisions"], each["predictions"]) for each in logged] == [
        ("2", 5, 15),
        ("1", 5, 15),
    ]


class Reached(Exception):
    """The retrain went on to the windows."""


@pytest.fixture
def stops_at_the_windows(copied: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    def reach(*_: object) -> None:
        raise Reached

    monkeypatch.setattr("flows.retrain_panel.cut_panel_windows", reach)
    return copied


@pytest.mark.parametrize(
    ("panel", "version", "done_with", "label"),
    [(PanelSpec(), "2", "promoted", "rise"), (PanelSpec(symbols=SYMBOLS), "2", "promoted", "rise"),
     (RANKS, "3", "held", "rank")],
    ids=["all stored series", "the same by name", "ranks, held"],
)  # fmt: skip
def test_the_same_retrain_again_trains_nothing_and_says_so(
    panel: PanelSpec, version: str, done_with: str, label: str, stops_at_the_windows: Workspace
) -> None:
    workspace = stops_at_the_windows
    again = retrain_panel(panel=panel, promotion=GENEROUS, **RECIPE)
    assert isinstance(again, PanelUnchanged)
    *_, row = workspace.decision_log.rows("PANEL-1d")
    assert (row.action, row.version, row.champion_before, row.champion_after) == ("unchanged", version, "2", "2")
    assert row.decision_id == again.run_id
    assert row.reasons[0].startswith(f"nothing to do: version {version} was trained on the same bars")
    assert f"was {done_with} on" in row.reasons[0]
    assert workspace.registry.newest_versions(9) == ("3", "2", "1")
    mlflow_run = workspace.runs.client.get_run(again.run_id)
    assert (mlflow_run.info.status, mlflow_run.data.tags["decision"]) == ("FINISHED", "unchanged")
    assert "add `--force` to the command" in mlflow_run.data.tags["reasons"]
    assert mlflow_run.info.run_name == f"2018-08-29 v{version} {label} unchanged"


def test_the_shell_says_nothing_to_do_and_exits_with_0(
    stops_at_the_windows: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stops_at_the_windows.name == "PANEL-1d"
    assert run(["retrain-panel", *FLAGS]) == 0
    printed = " ".join(capsys.readouterr().out.split())  # lines are wrapped
    bars = sum(map(len, COINS.values()))
    for part in (f"{bars} of 3 series, until 2018-08-29", "unchanged; champion: 2", "nothing to do: version 2",
                 "add `--force` to the command"):  # fmt: skip
        assert part in printed
    assert run(["retrain-panel", *FLAGS, "--force"]) != 0  # it reaches the windows


@pytest.mark.usefixtures("stops_at_the_windows")
@pytest.mark.parametrize(
    "changed",
    [
        {"force": True},
        {"training": RECIPE["training"].model_copy(update={"seed": 8})},
        {"promotion": PanelPromotion()},
        {"panel": PanelSpec(symbols=SYMBOLS[:2])},
        {"panel": RANKS.model_copy(update={"least_series": 2})},
        {"as_of": datetime(2018, 8, 28, tzinfo=UTC)},
    ],
    ids=["force", "seed", "rule", "series", "label", "time"],
)
def test_a_forced_retrain_or_other_evidence_trains(changed: dict[str, Any]) -> None:
    with pytest.raises(Reached):
        retrain_panel(**{"promotion": GENEROUS, **RECIPE, **changed})


@pytest.mark.parametrize("bars", ["one more", "one revised", "another series"])
def test_a_new_or_a_revised_bar_of_any_series_trains(bars: str, stops_at_the_windows: Workspace) -> None:
    symbol, longer = "ETH-USD", random_walk(241, seed=2)
    changed = {symbol: Bars("1d", longer.opened_at[60:], longer.ohlcv[60:])}
    if bars == "one revised":
        values = COINS[symbol].ohlcv.copy()
        values[90, -1] += 1  # its volume
        changed = {symbol: Bars("1d", COINS[symbol].opened_at, values)}
    elif bars == "another series":
        changed = {"NEW-USD": random_walk(240, seed=7)}
    store_coins(stops_at_the_windows.settings, changed)
    with pytest.raises(Reached):
        retrain_panel(promotion=GENEROUS, **RECIPE)


def test_lists_pages_and_repair_cope_with_a_panel(copied: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["series"] for each in listed] == [*(f"{symbol}-1d" for symbol in SYMBOLS), "PANEL-1d"]
    assert listed[-1]["champion"]["version"] == "2"
    assert listed[-1]["health"]["alarms"] == []
    for words in (["status", "--symbol", "PANEL"], ["status"], ["decisions", "--symbol", "PANEL"], ["doctor"]):
        assert run(words) == 0, words
    assert run(["housekeeping", "--dry-run"]) == 0
    shown = " ".join(capsys.readouterr().out.split())  # lines are wrapped
    assert "no monitor run yet" in shown
    content = DashboardReader(copied.settings).read()
    assert [each.problem for each in content] == [""] * 4
    page = dashboard_page(content, {}, [], datetime.now(UTC), {})
    assert "PANEL 1d" in page
    assert "riseorfall predict --panel" in page
    samples = [each for family in StateCollector(copied.settings).collect() for each in family.samples]
    assert {each.labels["series"]: each.value for each in samples if each.name == "riseorfall_state_readable"} == {
        each["series"]: 1 for each in listed
    }


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "--symbol", "PANEL"],
        ["explain", "--symbol", "PANEL"],
        ["audit", "--symbol", "PANEL"],
        ["quarantine", "--symbol", "PANEL"],
        ["promote", "--symbol", "PANEL", "--version", "1"],
        ["ingest", "--source.symbol", "PANEL"],
        ["retrain", "--source.symbol", "panel"],
    ],
    ids=lambda words: words[0],
)
def test_what_a_panel_cannot_do_is_refused(
    words: list[str], copied: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    before = copied.decision_log.rows()
    assert run(words) == 2
    error = capsys.readouterr().err
    assert "panel" in error
    assert "unexpected" not in error
    assert copied.decision_log.rows() == before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"panel": PanelSpec(symbols=("BTC-USD", "DOGE-USD"))}, "missing DOGE-USD; stored: ADA-USD, BTC-USD, ETH-USD"),
        ({"panel": PanelSpec(symbols=("BTC-USD",))}, "at least 2 series, found 1"),
        ({"interval": "1h"}, "found 0; stored 1h series: none"),
    ],
)
def test_a_retrain_that_cannot_be_is_refused(options: dict[str, object], reason: str, copied: Workspace) -> None:
    with pytest.raises(SpecError, match=reason):
        retrain_panel(**{**RECIPE, **options})
    assert len(copied.decision_log.rows()) == 3
