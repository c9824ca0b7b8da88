"""Which moment a panel is predicted at, and what is refused with a sentence that says what to do."""

import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from panel_home import RECIPE, add_panel_version, coins, panel_recipe, store_coins, tiny_record
from synthetic_bars import random_walk

from flows.cli import run
from model.bars import PANEL, Bars, Series
from model.errors import RiseOrFallError, SpecError, StaleChampion
from model.freshness import ForecastSpec
from model.panel_recipe import panel_recipe_for
from model.windows import WindowSpec
from tasks.champion.as_of_time import panel_as_of
from tasks.champion.commit_decision import ChampionState, sync_champion_alias
from tasks.champion.panel_of_series import predicted_series
from tasks.champion.series_alarms import series_health
from tasks.repair.registry_damage import examine_versions
from tasks.serving.panel_forecast import forecast_panel
from tasks.settings import Settings
from tasks.workspace import Workspace

SERIES, COINS = Series(PANEL, "1d"), coins()
NEWEST = COINS["BTC-USD"].closed_at[-1].astype("datetime64[s]").item().replace(tzinfo=UTC)
THREE_AHEAD = WindowSpec(lookback_bars=5, horizon_bars=3)
EXCHANGE = {"source": "binance", "kind": "exchange"}


@pytest.fixture(scope="module")
def template(template_home: Path) -> Path:
    """A home whose panel has a champion, trained until the newest close; OLD-USD ended 40 bars before."""
    settings = Settings(home=template_home, tracking_uri="", store="")
    store_coins(settings, COINS | {"OLD-USD": random_walk(200, seed=7)})
    workspace, recipe = Workspace(settings, SERIES), panel_recipe()
    add_panel_version(workspace, recipe, COINS, tiny_record(recipe, COINS, 1.0), 1.0, COINS["BTC-USD"].closed_at[-1])
    workspace.decision_log.tables[0].create()  # as long as it has no row, the alias counts
    workspace.registry.set_alias("champion", "1")
    return template_home


def fetch(settings: Settings, symbol: str, bars: Bars) -> None:
    """Let bars join the store as bars of an exchange."""
    store = Workspace(settings).bar_store
    store.merge(Series(symbol, bars.interval), bars.frame(), EXCHANGE, merged_at=datetime.now(UTC))


def test_bars_of_files_are_predicted_as_of_the_newest_close_of_all_series(settings: Settings) -> None:
    """Also where one series alone is predicted: OLD-USD is as old then as in the list of all."""
    found = forecast_panel(SERIES, settings)
    assert {each.symbol for each in found.predictions} == set(COINS)
    assert {each.decided_at for each in found.predictions} == {NEWEST}
    assert "(40.0 bars)" in found.left_out["OLD-USD"]
    with pytest.raises(StaleChampion, match=r"found the newest at 2018-07-20 00:00 \(40\.0 bars\)"):
        forecast_panel(SERIES, settings, "OLD-USD")


def test_each_series_has_its_own_probability_and_an_outcome_at_the_horizon(settings: Settings) -> None:
    """By hand: the tiny network's P is the logistic function of the return over its five bars, times its gain."""
    workspace = Workspace(settings, SERIES)
    recipe = panel_recipe_for("1d", panel_recipe().panel, **(RECIPE | {"window": THREE_AHEAD}))
    add_panel_version(workspace, recipe, COINS, tiny_record(recipe, COINS, 9.0), 9.0, COINS["BTC-USD"].closed_at[-1])
    workspace.registry.set_alias("champion", "2")
    found = forecast_panel(SERIES, settings)
    assert (found.version, len(found.predictions)) == ("2", 3)
    for each in found.predictions:
        close = COINS[each.symbol].column("close")
        assert each.probability == pytest.approx(1 / (1 + np.exp(-9 * (close[-1] / close[-5] - 1))), abs=1e-6)
        assert each.resolves_at == NEWEST + timedelta(days=3)


def test_a_series_whose_newest_close_lies_in_the_training_of_the_champion_is_left_out(settings: Settings) -> None:
    """Its outcome is ahead, but the network was trained on what the other coins did in the bar after its close."""
    workspace = Workspace(settings, SERIES)
    recipe = panel_recipe_for("1d", panel_recipe().panel, **(RECIPE | {"window": THREE_AHEAD}))
    add_panel_version(workspace, recipe, COINS, tiny_record(recipe, COINS, 9.0), 9.0, COINS["BTC-USD"].closed_at[-1])
    workspace.registry.set_alias("champion", "2")
    workspace.bar_store.remove(Series("ADA-USD", "1d"), [NEWEST - timedelta(days=1)], "test", removed_at=NEWEST)
    found = forecast_panel(SERIES, settings, now=NEWEST + timedelta(hours=1))
    assert [(each.symbol, each.late) for each in found.predictions] == [("BTC-USD", False), ("ETH-USD", False)]
    expected = r"trained until 2018-08-29 00:00 .* the newest closed at 2018-08-28 00:00"
    assert re.search(expected, found.left_out["ADA-USD"])
    with pytest.raises(StaleChampion, match=expected):
        forecast_panel(SERIES, settings, "ADA-USD")
    fetched = {"ADA-USD": random_walk(241, seed=0), "BTC-USD": random_walk(241, seed=1)}
    store_coins(settings, fetched)
    found = forecast_panel(SERIES, settings)
    assert {each.symbol for each in found.predictions} == {*COINS}  # ETH-USD at the close that the training ended with


def test_with_bars_of_an_exchange_in_any_series_the_clock_counts(settings: Settings) -> None:
    """The third series alone came from an exchange, years ago: nothing is fresh any more."""
    fetch(settings, "ETH-USD", random_walk(241, seed=2))
    with pytest.raises(StaleChampion, match="days"):
        forecast_panel(SERIES, settings)
    with pytest.raises(StaleChampion, match=f"bars before {datetime.now(UTC):%Y-%m-%d}"):
        forecast_panel(SERIES, settings, "BTC-USD", ForecastSpec(max_age_days=99_999))
    assert forecast_panel(SERIES, settings, "BTC-USD", as_of=NEWEST).predictions[0].decided_at == NEWEST


def test_the_clock_of_an_exchange_of_another_interval_does_not_count(settings: Settings) -> None:
    hours = random_walk(30, seed=1, interval="1h")
    fetch(settings, "BTC-USD", hours)
    assert {each.decided_at for each in forecast_panel(SERIES, settings).predictions} == {NEWEST}


@pytest.mark.parametrize("inputs", ["own", "cross_section"])
def test_health_and_forecast_of_a_panel_look_at_the_same_series(inputs: str, settings: Settings) -> None:
    """Of a cross-section these are the series of the panel: newer bars of another one, of an exchange, do not count."""
    workspace = Workspace(settings, SERIES)
    recipe = panel_recipe_for("1d", panel_recipe().panel.model_copy(update={"inputs": inputs}), **RECIPE)
    record, until = tiny_record(recipe, COINS, 1.0), COINS["BTC-USD"].closed_at[-1]
    add_panel_version(workspace, recipe, COINS, record, 1.0, until)
    workspace.registry.set_alias("champion", "2")
    fetch(settings, "SOL-USD", random_walk(250, seed=2))
    found = series_health(SERIES, settings)
    assert found["live_source"] == (inputs == "own")
    assert datetime.fromisoformat(found["bars_closed_at"]) == NEWEST + timedelta(days=10 if inputs == "own" else 0)
    others = {"OLD-USD", "SOL-USD"} if inputs == "own" else set()
    assert {each.symbol for each in predicted_series(workspace)} == {*COINS} | others


def test_a_cross_section_without_the_newest_bars_of_a_series_is_warned_of(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """ADA-USD and ETH-USD are a bar behind: the ranks of BTC-USD at its newest close are those of one series."""
    workspace = Workspace(settings, SERIES)
    recipe = panel_recipe(inputs="cross_section")
    add_panel_version(workspace, recipe, COINS, tiny_record(recipe, COINS, 1.0), 1.0, COINS["BTC-USD"].closed_at[-1])
    for version, warns in (("2", True), ("1", False)):  # version 1 has inputs `own`
        workspace.registry.set_alias("champion", version)
        caplog.clear()
        forecast_panel(SERIES, settings)
        assert "without" not in caplog.text
        store_coins(settings, {"BTC-USD": random_walk(241, seed=1)})
        forecast_panel(SERIES, settings)
        message = "inputs of BTC-USD at 2018-08-30T00:00 describe the panel without ADA-USD, ETH-USD"
        assert (message in caplog.text) == warns


def test_the_moment_of_a_panel(settings: Settings) -> None:
    store, days = Workspace(settings).bar_store, [Series(each, "1d") for each in (*COINS, "OLD-USD")]
    asked = datetime(2018, 8, 1, tzinfo=UTC)
    assert panel_as_of(store, days, asked) == asked
    assert panel_as_of(store, days, None) == NEWEST
    assert panel_as_of(store, days[-1:], None) == NEWEST - timedelta(days=40)
    fetch(settings, "ETH-USD", random_walk(241, seed=2))
    assert abs(panel_as_of(store, days, None) - datetime.now(UTC)) < timedelta(minutes=1)
    assert panel_as_of(store, days[:1], None) == NEWEST


def test_a_panel_without_stored_bars_is_refused(settings: Settings) -> None:
    hours = Workspace(settings, Series(PANEL, "1h"))
    bars = {symbol: random_walk(240, seed=seed, interval="1h") for seed, symbol in enumerate(COINS)}
    recipe = panel_recipe_for("1h", panel_recipe().panel, **RECIPE)
    add_panel_version(hours, recipe, bars, tiny_record(recipe, bars, 1.0), 1.0, np.datetime64("2018-01-05", "us"))
    hours.registry.set_alias("champion", "1")
    for as_of in (None, NEWEST):
        with pytest.raises(SpecError, match="PANEL-1h: expected stored 1h bars, found none") as error:
            forecast_panel(Series(PANEL, "1h"), settings, as_of=as_of)
        assert "Ingest" in str(error.value)


def test_remedies_for_a_panel_name_its_own_command(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`riseorfall retrain` would train another model, and panels have no replay."""
    workspace = Workspace(settings, SERIES)
    empty = Workspace(Settings(home=tmp_path / "empty"), SERIES)
    late = NEWEST + timedelta(days=100)
    store_coins(settings, {"NEW-USD": random_walk(340, seed=8)})
    run(["decisions", "--name", "none"])
    found = {
        "no champion": _message(lambda: sync_champion_alias(empty).require(empty)),
        "lost champion": _message(lambda: ChampionState("9", None, "lost").require(workspace)),
        "too old": _message(lambda: forecast_panel(SERIES, settings, as_of=late)),
        "in the past": _message(lambda: forecast_panel(SERIES, settings, as_of=NEWEST - timedelta(days=9))),
        "no decisions": " ".join(capsys.readouterr().out.split()),  # lines are wrapped
    }
    advice = {"in the past": "Use a later as_of."}
    for case, message in found.items():
        assert advice.get(case, "`riseorfall retrain-panel`") in message, case
        assert case == "no decisions" or not re.search("`riseorfall (retrain|replay)`", message), case


def test_damage_of_a_panel_is_repaired_by_its_own_command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.champion.commit_decision.load_as_served", lambda *_: None)  # it has no input example
    workspace = Workspace(settings, SERIES)
    workspace.registry.drop_alias("champion")
    assert run(["promote", "--symbol", "PANEL", "--version", "1", "--force", "--reason", "test"]) == 0
    folder = workspace.registry.read_version("1").folder
    (folder / "network.onnx").unlink()
    shutil.rmtree(settings.root / "mlruns" / "artifacts" / "PANEL-1d" / workspace.registry.version("1").run_id)
    found = [each for each in examine_versions(settings, workspace.decision_log.rows()) if each.state != "whole"]
    assert found
    assert all("`riseorfall retrain-panel`" in each.remedy for each in found)


def _message(act: Callable[[], object]) -> str:
    with pytest.raises(RiseOrFallError) as error:
        act()
    return str(error.value)


def test_status_of_a_panel_that_does_not_exist_is_a_sentence(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """No decision was made about a panel of this home yet; or about that of another interval."""
    assert settings
    for flags in ([], ["--interval", "1d"], ["--json"]):
        assert run(["status", "--symbol", "PANEL", *flags]) == 2
        error = capsys.readouterr().err
        assert "PANEL 1d: expected a panel about which a decision was made, found none" in error
        assert "riseorfall retrain-panel" in error
