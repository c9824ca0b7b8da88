"""Opinions of a panel are stored before the outcome, and their share over served closes is guaranteed."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from copied_home import copy_home
from panel_home import SYMBOLS, add_panel_version, coins, home_of_panel, panel_recipe, store_coins, tiny_record

from flows.cli import run
from model.abstention import STEP, share_bounds
from model.bars import PANEL, Series
from model.times import to_datetime
from tasks.champion.stated_share import OPINION_SHARE
from tasks.registry.model_registry import Version
from tasks.serving import panel_forecast, panel_opinions
from tasks.serving.panel_forecast import PanelForecast, forecast_panel
from tasks.serving.panel_opinions import with_opinions
from tasks.settings import Settings
from tasks.store.prediction_log import Prediction, new_prediction
from tasks.workspace import Workspace

SERIES, DAY = Series(PANEL, "1d"), timedelta(days=1)
LONGER = coins(246)
CLOSES = LONGER["BTC-USD"].closed_at
NEWEST = to_datetime(CLOSES[239])


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose champion's retrain stated a share of 30 %."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        home = tmp_path_factory.mktemp("template") / "home"
        workspace = Workspace(home_of_panel(home), SERIES)
        state(workspace, "1", 0.3)
        yield home


@pytest.fixture
def workspace(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RISEORFALL_HOME", str(copy_home(template, tmp_path / "home")))
    return Workspace(Settings(), SERIES)


def state(workspace: Workspace, number: str, share: float) -> Version:
    version = workspace.registry.version(number)
    workspace.runs.log_values(version.run_id, params={OPINION_SHARE: str(share)})
    return version


def close_by_hand(workspace: Workspace, close: int, level: float, before: list[np.ndarray]) -> dict[str, bool]:
    """The rank of each confidence among those of the record and of the closes before, by counting."""
    record = workspace.registry.read_version("1").record()
    rows = workspace.prediction_log.read("PANEL-1d")
    own = rows[rows["decided_at"] == to_datetime(CLOSES[close])]
    earlier = np.abs(np.concatenate([record.probabilities, *before]) - 0.5)
    ranks = [(1 + (earlier >= abs(each - 0.5)).sum()) / (1 + len(earlier)) for each in own["probability"]]
    before.append(own["probability"].to_numpy())
    return {symbol: bool(rank <= level) for symbol, rank in zip(own["symbol"], ranks, strict=True)}


def predict(workspace: Workspace, symbol: str = "") -> PanelForecast:
    """Predict an hour after the newest close."""
    newest = workspace.bar_store.newest(Series("BTC-USD", "1d"))
    assert newest is not None
    return forecast_panel(SERIES, workspace.settings, symbol, now=newest + DAY + timedelta(hours=1))


@pytest.mark.e2e
def test_opinions_are_stored_with_the_predictions_by_the_level_of_their_close(workspace: Workspace) -> None:
    level, before = 0.3, list[np.ndarray]()
    for close in range(239, 242):
        store_coins(workspace.settings, {each: LONGER[each].closed_by(CLOSES[close]) for each in SYMBOLS})
        found = predict(workspace)
        rows = workspace.prediction_log.read("PANEL-1d")
        rows = rows[rows["decided_at"] == to_datetime(CLOSES[close])]
        expected = close_by_hand(workspace, close, level, before)
        assert dict(zip(rows["symbol"], rows["has_opinion"], strict=True)) == expected
        assert rows["opinion_level"].tolist() == pytest.approx([level] * 3)
        assert not rows["late"].any()  # before the outcome
        assert {each.symbol: each.has_opinion for each in found.predictions} == expected
        again = predict(workspace)
        assert again.predictions == found.predictions
        level += STEP * (0.3 - np.mean([*expected.values()]))
    assert 0 < workspace.prediction_log.read("PANEL-1d")["has_opinion"].sum() < 9


def test_series_predicted_one_by_one_share_the_level_of_their_close(workspace: Workspace) -> None:
    levels = [predict(workspace, symbol).predictions[0].opinion_level for symbol in SYMBOLS]
    assert levels == [0.3] * 3
    store_coins(workspace.settings, {each: LONGER[each].closed_by(CLOSES[240]) for each in SYMBOLS})
    rows = workspace.prediction_log.read("PANEL-1d")
    [level] = {each.opinion_level for each in predict(workspace).predictions}
    assert level == pytest.approx(0.3 + STEP * (0.3 - rows["has_opinion"].astype(float).mean()))


def test_missed_closes_have_no_opinion_and_do_not_count(workspace: Workspace) -> None:
    predict(workspace)
    store_coins(workspace.settings, {each: LONGER[each].closed_by(CLOSES[242]) for each in SYMBOLS})
    rows = workspace.prediction_log.read("PANEL-1d")
    found = predict(workspace)
    assert len(found.backfilled) == 6
    assert all(each.has_opinion is None for each in found.backfilled)
    [level] = {each.opinion_level for each in found.predictions}
    assert level == pytest.approx(0.3 + STEP * (0.3 - rows["has_opinion"].astype(float).mean()))


def test_a_close_before_the_newest_served_one_has_no_opinion(workspace: Workspace) -> None:
    version = workspace.registry.version("1")
    predict(workspace)
    earlier = predictions_of([0.6], NEWEST - DAY)
    assert [each.has_opinion for each in with_opinions(workspace, version, earlier)] == [None]


def test_a_version_without_a_stated_share_has_no_opinions(workspace: Workspace) -> None:
    recipe, bars = panel_recipe(), coins()
    own, until = tiny_record(recipe, bars, 9.0), bars["BTC-USD"].closed_at[-1]
    version = add_panel_version(workspace, recipe, bars, own, 9.0, until)
    made = predictions_of([0.6], NEWEST)
    assert with_opinions(workspace, version, made) == made
    assert with_opinions(workspace, version, []) == []


def test_predictions_are_served_where_opinions_fail(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise panel_forecast.SpecError("no store")

    monkeypatch.setattr(panel_forecast, "with_opinions", fail)
    assert [each.has_opinion for each in predict(workspace).predictions] == [None] * 3
    assert "no opinions: no store" in caplog.text


def predictions_of(probabilities: list[float], decided_at: datetime, version: str = "1") -> list[Prediction]:
    moment = np.datetime64(decided_at.replace(tzinfo=None), "us")
    return [
        new_prediction("PANEL-1d", Series(f"C{place}", "1d"), 1, moment, version, each, decided_at + timedelta(hours=1))
        for place, each in enumerate(probabilities)
    ]


def test_a_series_that_lags_is_ranked_among_earlier_probabilities_only(workspace: Workspace) -> None:
    """The record knows closes after that of a series whose bars are late."""
    version = workspace.registry.version("1")
    record = workspace.registry.read_version("1").record()
    close = to_datetime(record.decided_at[-40])
    opinions = with_opinions(workspace, version, predictions_of([0.9], close))
    earlier = np.abs(record.probabilities[record.decided_at < record.decided_at[-40]] - 0.5)
    rank = (1 + (earlier >= 0.4).sum()) / (1 + len(earlier))
    assert [each.has_opinion for each in opinions] == [bool(rank <= 0.3)]
    numbers = panel_opinions._reference(workspace, version, close)[1]
    assert len(numbers) == len(earlier) < len(record)


@pytest.mark.e2e
def test_the_share_over_served_closes_is_within_its_bounds_across_versions(workspace: Workspace) -> None:
    """Versions alternate, the number of series changes, and confidence grows at each close: always more confident."""
    recipe, bars = panel_recipe(), coins()
    own, until = tiny_record(recipe, bars, 9.0), bars["BTC-USD"].closed_at[-1]
    add_panel_version(workspace, recipe, bars, own, 9.0, until)
    versions = [workspace.registry.version("1"), state(workspace, "2", 0.3)]
    shares, closes = [], 40
    for close in range(closes):
        made = predictions_of([0.501 + 0.012 * close] * (1 + close % 5), NEWEST + close * DAY, str(1 + close % 2))
        found = with_opinions(workspace, versions[close % 2], made)
        workspace.prediction_log.store_all(found)
        shares.append(np.mean([bool(each.has_opinion) for each in found]))
    low, high = share_bounds(0.3, closes)
    assert low <= np.mean(shares) <= high
    assert np.mean(shares) > 0.3 + 0.2  # the confident sequence uses most of what the bound allows: 0.3 + 15.7 / 40
    rows = workspace.prediction_log.read("PANEL-1d")
    assert rows.groupby("decided_at")["has_opinion"].mean().tolist() == pytest.approx(shares)


def test_a_stored_opinion_never_changes(workspace: Workspace) -> None:
    made = predictions_of([0.9], NEWEST)
    stored = replace(made[0], has_opinion=True, opinion_level=0.3)
    assert workspace.prediction_log.store(stored)
    assert not workspace.prediction_log.store(replace(stored, has_opinion=False))
    assert workspace.prediction_log.decided_at("PANEL-1d", NEWEST) == (stored,)


def test_opinions_are_shown_and_in_the_json(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    store_coins(workspace.settings, {each: LONGER[each].closed_by(CLOSES[242]) for each in SYMBOLS})
    found = {each.symbol: each.has_opinion for each in predict(workspace).predictions}
    assert len(set(found.values())) == 2
    assert run(["predict", "--panel", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["predictions"]
    named = {row["symbol"]: "rise" if row["probability"] > 0.5 else "fall" for row in rows}
    assert {row["symbol"]: row["opinion"] for row in rows} == {
        symbol: named[symbol] if held else "none" for symbol, held in found.items()
    }
    assert run(["predictions", "--symbol", "PANEL", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {row["symbol"]: row["opinion"] != "none" for row in listed} == found
    assert run(["predict", "--panel", "--symbol", "PANEL"]) == 0  # as for the other commands: all series
    count = sum(bool(each) for each in found.values())
    assert f"opinion: {count} of 3 series" in capsys.readouterr().out
    assert run(["predictions", "--symbol", "PANEL"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "-USD" in line]
    assert {line[1]: "yes" in line for line in lines} == found
