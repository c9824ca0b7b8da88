"""Predictions of a panel are stored before their outcome, one for each series and close, and never changed."""

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from markupsafe import Markup
from panel_home import (
    SYMBOLS,
    add_panel_version,
    coins,
    home_of_panel,
    panel_recipe,
    store_coins,
    tiny_probability,
    tiny_record,
)

from flows.cli import run
from model.bars import PANEL, Bars, Series
from model.errors import UntrustedModel
from model.times import to_datetime
from tasks.champion.served_predictions import LivePredictions, served_predictions
from tasks.pages.dashboard_content import DashboardReader
from tasks.pages.dashboard_page import dashboard_page
from tasks.pages.dashboard_panel import panel_predictions
from tasks.serving.backfill import MAX_BACKFILL_BARS
from tasks.serving.panel_forecast import PanelForecast, forecast_panel
from tasks.store.prediction_log import new_prediction
from tasks.workspace import Workspace

SERIES = Series(PANEL, "1d")
LONGER = coins(246)  # six bars more than the champion was trained on
CLOSES = LONGER["BTC-USD"].closed_at
NEWEST = to_datetime(CLOSES[239])
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def template(template_home: Path) -> Path:
    return home_of_panel(template_home).root


def add_bars(workspace: Workspace, until: int, *symbols: str) -> None:
    """Let the bars until this place of BTC-USD join the store; of ETH-USD it is the same close."""
    found = {each: LONGER[each].closed_by(CLOSES[until]) for each in symbols or SYMBOLS}
    store_coins(workspace.settings, found)


def chance(symbol: str, close: int, gain: float = 1.0) -> float:
    return tiny_probability(LONGER[symbol], CLOSES[close], gain)


def predict(workspace: Workspace, hours: float = 1, symbol: str = "") -> PanelForecast:
    """Predict so many hours after the newest close."""
    newest = workspace.bar_store.newest(Series("BTC-USD", "1d"))
    assert newest is not None
    return forecast_panel(SERIES, workspace.settings, symbol, now=newest + DAY + timedelta(hours=hours))


def test_each_series_has_a_row_and_the_second_call_returns_it(workspace: Workspace) -> None:
    first = predict(workspace)
    rows = workspace.prediction_log.read("PANEL-1d")
    assert rows["symbol"].tolist() == list(SYMBOLS)
    assert rows["probability"].tolist() == pytest.approx([chance(symbol, 239) for symbol in SYMBOLS], abs=1e-6)
    assert set(rows["decided_at"]) == {NEWEST}
    assert set(rows["resolves_at"]) == {NEWEST + DAY}
    assert set(rows["stored_at"]) == {NEWEST + timedelta(hours=1)}
    assert set(rows["label"]) == {"rise"}
    assert set(rows["network"]) == {workspace.registry.read_version("1").network_sha256}
    assert not rows["late"].any()
    revised = {each: Bars("1d", bars.opened_at, bars.ohlcv * np.linspace(1, 1.1, len(bars))[:, None])
               for each, bars in coins().items()}  # fmt: skip
    store_coins(workspace.settings, revised)
    again = predict(workspace, hours=30)
    assert again.predictions == first.predictions
    assert workspace.prediction_log.read("PANEL-1d").equals(rows)


def test_one_series_is_stored_alone_and_a_late_one_is_marked(workspace: Workspace) -> None:
    found = predict(workspace, 24, "ETH-USD")
    assert [(each.symbol, each.late) for each in found.predictions] == [("ETH-USD", True)]
    assert [each.late for each in predict(workspace).predictions] == [False, False, True]
    assert len(workspace.prediction_log.read("PANEL-1d")) == 3


def test_missed_closes_are_backfilled_for_the_series_that_were_predicted_before(workspace: Workspace) -> None:
    """ADA-USD and BTC-USD miss two closes, of which the bars of one come later; ETH-USD was never predicted."""
    predict(workspace, 1, "ADA-USD")
    predict(workspace, 1, "BTC-USD")
    add_bars(workspace, 242)
    found = predict(workspace)
    made = [(each.symbol, int(np.searchsorted(CLOSES, np.datetime64(each.decided_at.replace(tzinfo=None)))))
            for each in found.backfilled]  # fmt: skip
    assert sorted(made) == [("ADA-USD", 240), ("ADA-USD", 241), ("BTC-USD", 240), ("BTC-USD", 241)]
    assert [each.late for each in found.backfilled] == [True] * 4
    expected = [chance(*each) for each in made]
    assert [each.probability for each in found.backfilled] == pytest.approx(expected, abs=1e-6)
    assert len(workspace.prediction_log.read("PANEL-1d")) == 2 + 4 + 3
    assert predict(workspace).backfilled == ()


@pytest.mark.parametrize(("newest", "backfilled"), [(242, [240, 241]), (243, [])])
def test_a_series_that_was_not_predicted_within_the_newest_closes_is_not_backfilled(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, newest: int, backfilled: list[int]
) -> None:
    """Of the 400 newest closes; here of three."""
    assert MAX_BACKFILL_BARS == 400
    monkeypatch.setattr("tasks.serving.panel_backfill.MAX_BACKFILL_BARS", 3)
    predict(workspace)  # close 239
    add_bars(workspace, newest)
    found = {each.decided_at for each in predict(workspace).backfilled}
    assert sorted(found) == [to_datetime(CLOSES[place]) for place in backfilled]


def test_a_missed_close_is_predicted_by_the_champion_of_its_time(workspace: Workspace) -> None:
    """Version 2 is champion since half a day after close 239; version 1 predicted that one."""
    forecast_panel(SERIES, workspace.settings, now=NEWEST + timedelta(hours=1))
    promote_another(workspace, 9.0)
    add_bars(workspace, 242)
    found = predict(workspace)
    made = sorted((each.decided_at, each.version, each.symbol, each.probability) for each in found.backfilled)
    assert [(at, version) for at, version, *_ in made] == [(NEWEST + DAY, "2")] * 3 + [(NEWEST + 2 * DAY, "2")] * 3
    expected = [chance(symbol, close, 9.0) for close in (240, 241) for symbol in SYMBOLS]
    assert [probability for *_, probability in made] == pytest.approx(expected, abs=1e-6)


def test_a_clock_that_runs_behind_stores_no_prediction_before_its_outcome(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close after the predicted one is stored already, so its outcome is known, whatever the clock says."""
    add_bars(workspace, 240)
    behind = NEWEST + timedelta(hours=3)
    monkeypatch.setattr("tasks.champion.as_of_time.datetime", SimpleNamespace(now=lambda _: behind))
    found = forecast_panel(SERIES, workspace.settings, as_of=NEWEST)
    assert {each.stored_at for each in found.predictions} == {NEWEST + DAY}
    assert all(each.late for each in found.predictions)


def test_the_table_exists_before_the_time_of_writing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    existed = []

    def written_at(_: Bars) -> datetime:
        existed.append(workspace.prediction_log.tables[0].open() is not None)
        return NEWEST + timedelta(hours=1)

    monkeypatch.setattr("tasks.serving.panel_forecast.time_of_writing", written_at)
    forecast_panel(SERIES, workspace.settings)
    assert set(existed) == {True}


def promote_another(workspace: Workspace, gain: float, **chosen: object) -> None:
    """Register version 2, and make it champion half a day after the newest close."""
    recipe, bars = panel_recipe(**chosen), coins()
    add_panel_version(workspace, recipe, bars, tiny_record(recipe, bars, gain), gain, CLOSES[239])
    workspace.registry.set_alias("champion", "2")
    files = {"2": workspace.registry.read_version("2").digests()}
    (first,) = workspace.decision_log.rows("PANEL-1d")
    row = replace(first, decision_id="run-2", decided_at=NEWEST + DAY / 2, version="2", files=files)
    workspace.decision_log.append(replace(row, champion_before="1", champion_after="2"))


@pytest.mark.e2e
def test_what_another_version_served_before_is_named_and_counts(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(workspace, 1, "BTC-USD")
    promote_another(workspace, 9.0)
    found = predict(workspace, 13)
    assert {symbol: each.version for symbol, each in found.served_before.items()} == {"BTC-USD": "1"}
    assert run(["predict", "--panel"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "not served: version 1 predicted 1 of these series for the same close before" in shown
    served = served_predictions(workspace)
    assert dict(zip(served.symbols, served.versions, strict=True)) == {"ADA-USD": "2", "BTC-USD": "1", "ETH-USD": "2"}


def test_the_prediction_of_another_network_with_this_number_is_refused(workspace: Workspace) -> None:
    at = CLOSES[239]
    btc = Series("BTC-USD", "1d")
    workspace.prediction_log.store(new_prediction("PANEL-1d", btc, 1, at, "1", 0.5, NEWEST, "0" * 64))
    with pytest.raises(UntrustedModel, match="retrain-panel"):
        predict(workspace)


def test_outcomes_of_a_rise_are_each_series_own_and_predictions_lists_them(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(workspace)
    assert served_predictions(workspace).labels.tolist() == [-1, -1, -1]
    add_bars(workspace, 240, "ADA-USD", "BTC-USD")
    closes = {each: LONGER[each].column("close")[-7:-5] for each in SYMBOLS}
    rises = [int(closes[each][1] > closes[each][0]) for each in ("ADA-USD", "BTC-USD")]
    assert served_predictions(workspace).labels.tolist() == [*rises, -1]
    assert run(["predictions", "--symbol", "PANEL", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    names = ["fall", "rise"]
    assert [(each["symbol"], each["outcome"]) for each in listed] == [
        ("ADA-USD", names[rises[0]]), ("BTC-USD", names[rises[1]]), ("ETH-USD", None)
    ]  # fmt: skip
    assert run(["predictions", "--symbol", "PANEL"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "PANEL 1d" in shown
    assert "P(rise)" in shown


def test_outcomes_of_ranks_need_the_other_series(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: above the median of the two others, which is their mean; not known until all three have the bar."""
    promote_another(workspace, 1.0, label="rank", least_series=3)
    found = forecast_panel(SERIES, workspace.settings, now=NEWEST + timedelta(hours=1))
    assert {each.label for each in found.predictions} == {"rank"}
    add_bars(workspace, 240, "ADA-USD", "BTC-USD")
    assert served_predictions(workspace).labels.tolist() == [-1, -1, -1]
    add_bars(workspace, 240)
    returns = [float(np.divide(*LONGER[each].column("close")[-6:-8:-1])) for each in SYMBOLS]
    above = [int(each > (sum(returns) - each) / 2) for each in returns]
    assert served_predictions(workspace).labels.tolist() == above
    assert run(["predictions", "--symbol", "PANEL"]) == 0
    assert "above the" in capsys.readouterr().out


def test_status_and_dashboard_show_the_newest_close(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    predict(workspace)
    add_bars(workspace, 240)
    chances = {symbol: chance(symbol, 239) for symbol in SYMBOLS}
    order = sorted(SYMBOLS, key=lambda symbol: -chances[symbol])
    rises = {each: LONGER[each].column("close")[-6] > LONGER[each].column("close")[-7] for each in SYMBOLS}
    right = sum((chances[each] > 0.5) == rises[each] for each in SYMBOLS)
    assert 0 < right < 3
    assert run(["status", "--symbol", "PANEL", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["symbol"] for each in found["prediction"]["predictions"]] == order
    assert found["last_outcome"] == {"decided_at": NEWEST.isoformat(), "resolves_at": (NEWEST + DAY).isoformat(),
                                     "outcomes": 3, "right": right, "late": 0}  # fmt: skip
    assert run(["status", "--symbol", "PANEL"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"(version 1): {order[0]} {chances[order[0]]:.4f}, {order[1]}" in shown
    assert f"last outcome close at 2018-08-30: {right} of 3 series right" in shown
    (content,) = DashboardReader(workspace.settings).read("PANEL-1d")
    page = dashboard_page([content], {}, [], NEWEST, {})
    assert page.index(f">{order[0]}<") < page.index(f">{order[1]}<") < page.index(f">{order[2]}<")
    assert "3 series" in page
    assert f"; {right} of 3 right at 2018-08-30 00:00 UTC" in page
    assert "highest" not in page


def test_of_many_series_the_dashboard_shows_the_highest_and_the_lowest() -> None:
    at = np.array([np.datetime64("2024-01-02", "us")] * 12)
    nothing = (np.full(12, -1, np.int8), ("1",) * 12, (False,) * 12, tuple("ABCDEFGHIJKL"), ("rank",) * 12)
    found = LivePredictions(at, at + np.timedelta64(1, "D"), np.linspace(0.6, 0.4, 12), *nothing)
    page = str(Markup("").join(panel_predictions(found)))
    assert re.findall(r">([A-L])<", page) == [*"ABCDE", *"HIJKL"]
    assert "The 5 highest and the 5 lowest of 12 series" in page
    assert page.count("above\u00a0the") + page.count("above the median") >= 5
