"""Shadow predictions of a panel: stored for each series and close before the outcome, and compared by close."""

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from panel_home import (
    RANKS,
    RECIPE,
    SYMBOLS,
    add_panel_version,
    coins,
    home_of_panel,
    panel_recipe,
    store_coins,
    tiny_probability,
    tiny_record,
)
from synthetic_bars import random_walk

from flows.cli import run
from model.bars import PANEL, Series
from model.bootstrap import mean_difference
from model.errors import StoreUnavailable
from model.panel import PanelSpec, cut_panel
from model.panel_recipe import panel_recipe_for
from model.times import to_datetime
from model.windows import WindowSpec
from tasks.champion.live_comparison import LiveComparison, compare_live_panel
from tasks.champion.series_status import series_status
from tasks.champion.shadow_spec import ShadowSpec
from tasks.pages.report_evidence import live_section
from tasks.serving.panel_forecast import PanelForecast, forecast_panel
from tasks.store.prediction_log import Prediction, PredictionLog
from tasks.workspace import Workspace

SERIES, DAYS = Series(PANEL, "1d"), 40
BARS = coins(240 + DAYS)
CLOSES = BARS["BTC-USD"].closed_at
NEWEST, DAY, HOUR = to_datetime(CLOSES[239]), timedelta(days=1), timedelta(hours=1)
GAINS = {"1": 1.0, "2": 4.0, "3": 9.0, "4": 2.0, "5": 6.0, "6": 3.0}
REJECTED, BROKEN, LATER, RANKED = "3", "4", "5", "6"  # version 5 knows a close after the decision


@pytest.fixture(scope="module")
def template(template_home: Path) -> Path:
    """Versions: the champion, a shadow, a rejected, a broken, one trained on later bars, and one of ranks."""
    bars, workspace = coins(), Workspace(home_of_panel(template_home), SERIES)
    for version in ("2", REJECTED, BROKEN, LATER, RANKED):
        recipe = panel_recipe(**(RANKS.model_dump(exclude={"symbols"}) if version == RANKED else {}))
        until = CLOSES[241 if version == LATER else 239]
        own = tiny_record(recipe, bars, GAINS[version])
        assert add_panel_version(workspace, recipe, bars, own, GAINS[version], until).version == version
    (first,) = workspace.decision_log.rows("PANEL-1d")
    row = replace(first, decision_id="run-3", action="reject", version=REJECTED, champion_before="1", files={})
    workspace.decision_log.append(replace(row, champion_after="1"))
    (workspace.registry.read_version(BROKEN).folder / "network.onnx").write_bytes(b"junk")
    return template_home


def predict(workspace: Workspace, close: int = 239, **named: object) -> PanelForecast:
    """Predict at a close, an hour after it."""
    if close > 239:
        store_coins(workspace.settings, {each: bars.closed_by(CLOSES[close]) for each, bars in BARS.items()})
    moment = to_datetime(CLOSES[close])
    return forecast_panel(SERIES, workspace.settings, as_of=moment, now=moment + HOUR, **named)  # type: ignore[arg-type]


def chance(symbol: str, version: str, close: int = 239) -> float:
    return tiny_probability(BARS[symbol], CLOSES[close], GAINS[version])


def test_every_version_that_may_predict_does_so_for_each_series_before_the_outcome(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = predict(workspace)
    assert set(workspace.prediction_log.read()["version"]) == {"1"}  # what was served is only the champion's
    rows = workspace.shadow_log.read("PANEL-1d")
    keys = [(version, symbol) for version in ("2", RANKED) for symbol in SYMBOLS]
    assert list(zip(rows["version"], rows["symbol"], strict=True)) == keys  # 3 rejected, 4 broken, 5 knows too much
    assert not rows["late"].any()
    assert set(rows["decided_at"]) == {NEWEST}
    assert rows["label"].tolist() == ["rise"] * 3 + ["rank"] * 3
    expected = [chance(symbol, "2") for symbol in SYMBOLS]
    assert rows["probability"].tolist()[:3] == pytest.approx(expected, abs=1e-6)
    windows = cut_panel(coins(), panel_recipe().window, RANKS).windows
    newest = windows.take(np.arange(len(windows) - 3, len(windows)))
    ranked = workspace.registry.read_version(RANKED).predictor().predict_windows(newest)
    assert rows["probability"].tolist()[3:] == pytest.approx(ranked)
    assert [(each.version, each.symbol) for each in found.shadows] == keys
    assert "no shadow predictions of version 4" in caplog.text
    assert predict(workspace).shadows == found.shadows
    assert len(workspace.shadow_log.read()) == 6
    assert {each.version for each in predict(workspace, 241).shadows} == {"2", LATER, RANKED}


def test_one_series_is_predicted_alone_and_the_others_by_the_next_call(workspace: Workspace) -> None:
    """Version 6 shows the whole panel in each window; of one series the champion reads no other bars."""
    found = predict(workspace, symbol="ETH-USD")
    assert [(each.version, each.symbol) for each in found.shadows] == [("2", "ETH-USD")]
    later = forecast_panel(SERIES, workspace.settings, as_of=NEWEST, now=NEWEST + 2 * HOUR).shadows
    assert [(each.version, each.symbol) for each in later] == [
        (version, symbol) for version in ("2", RANKED) for symbol in SYMBOLS
    ]
    assert [each.stored_at - NEWEST for each in later[:3]] == [2 * HOUR, 2 * HOUR, HOUR]  # a stored one stays


def test_a_series_outside_the_panel_is_predicted_by_those_that_can(workspace: Workspace) -> None:
    store_coins(workspace.settings, {"NEW-USD": random_walk(240, seed=7), "OLD-USD": random_walk(200, seed=8)})
    found = predict(workspace)
    assert set(found.left_out) == {"OLD-USD"}
    by_version = {number: [each.symbol for each in found.shadows if each.version == number] for number in ("2", RANKED)}
    assert by_version == {"2": sorted([*SYMBOLS, "NEW-USD"]), RANKED: list(SYMBOLS)}


def test_a_shadow_of_shorter_windows_predicts_no_series_that_the_champion_does_not(workspace: Workspace) -> None:
    """NEW-USD misses a bar in the champion's window of five bars, and none in one of three."""
    short = panel_recipe_for("1d", PanelSpec(symbols=SYMBOLS), **RECIPE | {"window": WindowSpec(lookback_bars=3)})
    number = add_panel_version(workspace, short, coins(), tiny_record(short, coins(), 2.0), 2.0, CLOSES[239]).version
    store_coins(workspace.settings, {"NEW-USD": random_walk(240, seed=7, absent={236})})
    found = predict(workspace)
    assert set(found.left_out) == {"NEW-USD"}
    assert [each.symbol for each in found.shadows if each.version == number] == list(SYMBOLS)


def test_the_number_of_shadows_is_a_setting_and_their_failure_is_not_that_of_the_champion(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert predict(workspace, shadows=ShadowSpec(versions=0)).shadows == ()
    assert {each.version for each in predict(workspace, shadows=ShadowSpec(versions=1)).shadows} == {RANKED}
    assert run(["predict", "--panel", "--shadows.versions", "5", "--json"]) == 0
    assert '"probability"' in capsys.readouterr().out
    assert set(workspace.shadow_log.read("PANEL-1d")["version"]) == {"2", RANKED}

    true = PredictionLog.decided_at

    def away(log: PredictionLog, name: str, moment: datetime) -> object:
        if log.name == "predictions":
            return true(log, name, moment)
        raise StoreUnavailable("expected the store to answer")

    monkeypatch.setattr(PredictionLog, "decided_at", away)
    found = predict(workspace)
    assert (len(found.predictions), found.shadows) == (3, ())
    assert "no shadow predictions: expected the store to answer" in caplog.text


def store_days(workspace: Workspace, version: str, days: range, *, served: bool = False, label: str = "rise") -> None:
    """Store what a version predicts in time on so many closes after the training."""
    log = workspace.prediction_log if served else workspace.shadow_log
    log.store_all(
        [
            Prediction("PANEL-1d", symbol, "1d", at, at + DAY, version, chance(symbol, version, 239 + day), at + HOUR,
                       label=label)  # type: ignore[arg-type]
            for day in days for at in [to_datetime(CLOSES[239 + day])] for symbol in SYMBOLS
        ]
    )  # fmt: skip


def losses(version: str, days: range) -> np.ndarray:
    """By hand: the mean log loss over the series of each close."""
    found = []
    for day in days:
        chances = np.array([chance(symbol, version, 239 + day) for symbol in SYMBOLS])
        prices = [BARS[symbol].column("close")[-DAYS - 1 + day :] for symbol in SYMBOLS]
        rose = np.array([each[1] > each[0] for each in prices])
        found.append(-np.log(np.where(rose, chances, 1 - chances)).mean())
    return np.array(found)


def test_champion_and_shadows_are_compared_on_the_same_closes_each_close_once(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    store_coins(workspace.settings, BARS)
    all_days, later = range(DAYS), range(DAYS - 10, DAYS)
    store_days(workspace, "1", all_days, served=True)
    store_days(workspace, "2", all_days)
    store_days(workspace, LATER, later)
    store_days(workspace, RANKED, all_days, label="rank")  # another outcome than what was served
    found = {each.version: each for each in compare_live_panel(workspace, "1")}
    assert list(found) == ["1", LATER, "2"]
    for version, days in (("1", all_days), ("2", all_days), (LATER, later)):
        own, served = losses(version, days), losses("1", days)
        each = found[version]
        assert (each.decisions, each.predictions) == (len(days), 3 * len(days))
        assert each.log_loss == pytest.approx(own.mean(), abs=1e-6)
        assert each.served_log_loss == pytest.approx(served.mean(), abs=1e-6)
        assert each.difference == pytest.approx(own.mean() - served.mean(), abs=1e-6)
    block = int(np.ceil(np.cbrt(DAYS)))
    expected = mean_difference(losses("2", all_days) - losses("1", all_days), 7, block)
    assert (found["2"].low, found["2"].high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert (found[LATER].low, found[LATER].high) == (None, None)  # ten closes, though 30 predictions
    listed = series_status(SERIES, workspace.settings)["live_comparison"]
    assert [each["version"] for each in listed] == ["1", LATER, "2"]
    assert listed[2]["text"].endswith("vs. served, on 40 live closes (120 predictions)")
    assert run(["status", "--symbol", "PANEL"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "version 5 (shadow): log loss" in shown
    assert "on 10 live closes (30 predictions)" in shown


def test_an_outcome_that_may_change_and_a_series_outside_the_panel_do_not_count(workspace: Workspace) -> None:
    """The newest close waits for the bar of ETH-USD; NEW-USD is none of the panel's series."""
    until = {each: bars.closed_by(CLOSES[243 if each == "ETH-USD" else 244]) for each, bars in BARS.items()}
    store_coins(workspace.settings, until | {"NEW-USD": random_walk(245, seed=7)})
    store_days(workspace, "1", range(5), served=True)
    store_days(workspace, "2", range(5))
    for log, version in ((workspace.prediction_log, "1"), (workspace.shadow_log, "2")):
        one = Prediction("PANEL-1d", "NEW-USD", "1d", NEWEST, NEWEST + DAY, version, 0.9, NEWEST + HOUR)
        log.store_all([one])
    assert [(each.version, each.decisions, each.predictions) for each in compare_live_panel(workspace, "1")] == [
        ("1", 4, 12), ("2", 4, 12),
    ]  # fmt: skip
    as_of = to_datetime(CLOSES[241])
    assert [each.decisions for each in compare_live_panel(workspace, "1", as_of)] == [2, 2]


def test_late_predictions_and_versions_that_cannot_be_read_do_not_count(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    store_coins(workspace.settings, BARS)
    store_days(workspace, "1", range(3), served=True)
    store_days(workspace, "2", range(1, 3))
    late = workspace.shadow_log.read("PANEL-1d").iloc[0]
    at = NEWEST
    workspace.shadow_log.store_all([Prediction("PANEL-1d", late["symbol"], "1d", at, at + DAY, "2", 0.5, at + DAY)])
    found = {each.version: each.decisions for each in compare_live_panel(workspace, "1")}
    assert found == {"1": 3, "2": 2}
    (workspace.registry.read_version("1").folder / "recipe.json").write_bytes(b"junk")
    with caplog.at_level(logging.INFO):
        assert compare_live_panel(workspace, "1") == ()
    assert "predictions of version 1 are not compared: " in caplog.text


def test_the_report_counts_closes_and_says_how_losses_are_averaged() -> None:
    live = (LiveComparison("7", True, 41, 0.69, 0.69, 0.0, -0.001, 0.001, 1722),)
    page = "".join(map(str, live_section(live)))
    for part in ("closes", "predictions", ">41<", ">1,722<", "averaged over the series of a close first"):
        assert part in page
    single = "".join(map(str, live_section([replace(live[0], predictions=0)])))
    assert "closes" not in single
    assert "from 20 decisions on" in single
