"""The monitor of a panel: closes are the evidence, planted degradation is found once, and the rest is left out."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from panel_home import SYMBOLS, add_panel_version, coins, home_of_panel, panel_recipe, store_coins, tiny_record
from synthetic_bars import random_walk

from flows.cli import run
from model.abstention import share_bounds
from model.bars import PANEL, Bars, Series
from model.e_process import alarm_threshold
from model.metrics import log_losses
from model.monitor_alarms import MonitorSpec
from model.times import to_datetime
from tasks.champion.champion_monitor import MonitorResult
from tasks.champion.panel_monitor import monitor_panel
from tasks.champion.series_alarms import series_health
from tasks.champion.stated_share import OPINION_SHARE
from tasks.pages.dashboard_content import DashboardReader
from tasks.pages.dashboard_page import dashboard_page
from tasks.store.prediction_log import Prediction
from tasks.workspace import Workspace

SERIES, TRAINED, DAYS = Series(PANEL, "1d"), 240, 60
BARS = coins(TRAINED + DAYS)
CLOSES = BARS["BTC-USD"].closed_at
SPEC = MonitorSpec(max_champion_age_days=400)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def template(template_home: Path) -> Path:
    """A home whose panel was trained until 60 bars before the newest."""
    settings = home_of_panel(template_home)
    store_coins(settings, BARS)
    return settings.root


def rose(symbol: str) -> np.ndarray:
    """Whether the close after each of the closes since the training was higher."""
    return np.diff(BARS[symbol].column("close")[-DAYS - 1 :]) > 0


def store(workspace: Workspace, symbol: str, probabilities: np.ndarray, **changed: object) -> None:
    """Store the predictions of a series, one a close since the training, each a minute after it."""
    found = []
    for close, probability in zip(CLOSES[TRAINED - 1 :], probabilities, strict=False):
        at = to_datetime(close)
        one = Prediction("PANEL-1d", symbol, "1d", at, at + DAY, "1", float(probability), at + timedelta(minutes=1))
        found.append(replace(one, **changed))
    workspace.prediction_log.store_all(found)


def watch(workspace: Workspace, close: int = -1) -> MonitorResult:
    return monitor_panel(SERIES, workspace.settings, SPEC, to_datetime(CLOSES[close]))


def test_an_inverted_panel_is_found_once(workspace: Workspace) -> None:
    for symbol in SYMBOLS:
        store(workspace, symbol, np.where(rose(symbol), 0.1, 0.9))
    found = watch(workspace, TRAINED - 1 + 20)
    assert (found.score.count, found.score.predictions, found.service.count) == (20, 60, 20)
    assert found.score.log_loss[0] == pytest.approx(-np.log(0.1))
    assert found.score.threshold == alarm_threshold(0.05, 1) == 80
    assert found.entry.raised == ("degraded",)
    assert found.entry.alarms[0].message.startswith("log loss 2.3026 over 60 live predictions at 20 closes, +1.")
    assert watch(workspace, TRAINED - 1 + 21).entry.raised == ()  # the evidence starts anew
    assert found.picture.is_file()
    health = series_health(SERIES, workspace.settings, to_datetime(CLOSES[TRAINED + 19]))
    assert [each.split(":")[0] for each in health["alarms"]] == ["degraded"]


def test_a_perfect_panel_raises_nothing(workspace: Workspace) -> None:
    for symbol in SYMBOLS:
        store(workspace, symbol, np.where(rose(symbol), 0.9, 0.1))
    found = watch(workspace)
    assert (found.score.count, found.entry.alarms) == (DAYS, ())
    assert found.score.log_loss[0] == pytest.approx(-np.log(0.9))
    assert found.entry.numbers["missing"] == 0
    assert found.entry.numbers["decisions"] == 3 * DAYS


def test_the_score_is_the_mean_over_closes_and_the_base_rate_that_of_the_record(workspace: Workspace) -> None:
    """By hand, with one coin at each second close only: closes count alike, however many series they have."""
    rng = np.random.default_rng(1)
    chances = {symbol: rng.uniform(0.3, 0.7, DAYS) for symbol in SYMBOLS[:2]}
    store(workspace, SYMBOLS[0], chances[SYMBOLS[0]])
    at = [to_datetime(each) for each in CLOSES[TRAINED - 1 : -1 : 2]]
    workspace.prediction_log.store_all(
        [Prediction("PANEL-1d", SYMBOLS[1], "1d", each, each + DAY, "1", float(chance), each)
         for each, chance in zip(at, chances[SYMBOLS[1]][::2], strict=True)]
    )  # fmt: skip
    first, second = (log_losses(rose(each).astype(np.int8), chances[each]) for each in SYMBOLS[:2])
    means = np.where(np.arange(DAYS) % 2 == 0, (first + second) / 2, first)
    found = watch(workspace).score
    assert found.predictions == DAYS + DAYS / 2
    assert found.log_loss[0] == pytest.approx(means.mean())
    record = workspace.registry.read_version("1").record()
    share = np.mean([record.labels[record.decided_at == each].mean() for each in np.unique(record.decided_at)])
    ups = np.array([rose(each) for each in SYMBOLS[:2]])
    losses = -np.where(ups, np.log(share), np.log(1 - share))
    base = np.where(np.arange(DAYS) % 2 == 0, losses.mean(axis=0), losses[0])
    assert found.base_rate_loss == pytest.approx(base.mean())


def test_what_is_no_evidence_is_left_out(workspace: Workspace) -> None:
    """Late predictions, series that the version was not trained on, and closes at which a series waits for its bar."""
    store_coins(workspace.settings, {"NEW-USD": random_walk(TRAINED + DAYS, seed=7)})
    wrong = {symbol: np.where(rose(symbol), 0.1, 0.9) for symbol in SYMBOLS}
    store(workspace, "NEW-USD", np.full(DAYS, 0.9))
    store(workspace, "ADA-USD", wrong["ADA-USD"], stored_at=to_datetime(CLOSES[-1]) + 9 * DAY)
    found = watch(workspace)
    assert (found.score.count, found.service.count) == (0, 0)
    assert found.entry.numbers["late"] == DAYS
    assert found.entry.numbers["missing"] == found.entry.numbers["decisions"] == 3 * DAYS
    assert found.entry.raised == ("missing",)
    store(workspace, "BTC-USD", np.full(DAYS, 0.5))
    assert watch(workspace).score.count == DAYS


def test_a_close_counts_when_all_of_its_series_have_their_bar(workspace: Workspace) -> None:
    opened = to_datetime(BARS["ETH-USD"].opened_at[-1])
    workspace.bar_store.remove(Series("ETH-USD", "1d"), [opened], "test", removed_at=opened + DAY)
    for symbol in SYMBOLS:
        store(workspace, symbol, np.full(DAYS, 0.5))
    found = watch(workspace)
    assert (found.score.count, found.score.predictions) == (DAYS - 1, 3 * (DAYS - 1))


@pytest.mark.e2e
def test_ranks_are_compared_with_a_half_and_versions_by_their_own_question(workspace: Workspace) -> None:
    """Version 2 predicts ranks; what version 1 served before stays in the evidence of the service only."""
    recipe, bars = panel_recipe(label="rank", least_series=3), coins()
    add_panel_version(workspace, recipe, bars, tiny_record(recipe, bars, 1.0), 1.0, CLOSES[TRAINED - 1])
    (first,) = workspace.decision_log.rows("PANEL-1d")
    files = {"2": workspace.registry.read_version("2").digests()}
    row = replace(first, decision_id="run-2", version="2", files=files, champion_before="1", champion_after="2")
    workspace.decision_log.append(row)
    for symbol in SYMBOLS:
        store(workspace, symbol, np.full(10, 0.6))
        store(workspace, symbol, np.full(DAYS, 0.6), version="2", label="rank")
    found = watch(workspace)
    assert (found.entry.version, found.score.count, found.service.count) == ("2", DAYS, DAYS)
    assert found.score.base_rate_loss == pytest.approx(np.log(2))
    returns = np.array([np.diff(np.log(BARS[each].column("close")[-DAYS - 1 :])) for each in SYMBOLS])
    simple = np.expm1(returns)
    above = simple > (simple.sum(axis=0) - simple) / 2  # the median of two is their mean
    assert found.score.log_loss[0] == pytest.approx(-np.where(above, np.log(0.6), np.log(0.4)).mean())
    assert found.score.threshold == 240
    text = str(found.rows())
    assert "share above the median" in text
    assert "rises" not in text


def test_drift_of_a_panel_is_found_and_shown(workspace: Workspace) -> None:
    """The moves of the newest 40 closes are five times as large."""
    spec, at = SPEC.model_copy(update={"recent_bars": 40}), to_datetime(CLOSES[-1])
    quiet = monitor_panel(SERIES, workspace.settings, spec, at - DAY)
    assert [(each.name, each.drifted) for each in quiet.drift] == [
        (name, False) for name in ("move", "move size", "range", "level")
    ]
    assert (quiet.raised, quiet.notes) == ((), ())
    store_coins(workspace.settings, {each: turbulent(BARS[each], 40) for each in SYMBOLS})
    found = monitor_panel(SERIES, workspace.settings, spec, at)
    assert found.entry.raised == ("drifted",)
    assert "recent bars differ from the training bars: move KS" in found.entry.alarms[0].message
    assert {"move size, KS", "range, PSI", "price level, factor"} <= {row["check"] for row in found.rows()}


def turbulent(bars: Bars, count: int) -> Bars:
    """Return bars with the newest moves five times as large, and with wide ranges."""
    moves = np.diff(np.log(bars.column("close")))
    moves[-count:] *= 5
    close = bars.column("close")[0] * np.exp(np.concatenate([[0.0], np.cumsum(moves)]))
    ohlcv = bars.ohlcv.copy()
    ohlcv[:, :4] *= (close / bars.column("close"))[:, None]
    opened = np.concatenate([ohlcv[:1, 0], close[:-1]])[-count:]
    ohlcv[-count:, 0] = opened
    ohlcv[-count:, 1] = np.maximum(opened, close[-count:]) * 1.05
    ohlcv[-count:, 2] = np.minimum(opened, close[-count:]) / 1.05
    return Bars(bars.interval, bars.opened_at, ohlcv)


def test_few_closes_have_no_interval_however_many_series_they_have(workspace: Workspace) -> None:
    for symbol in SYMBOLS:
        store(workspace, symbol, np.full(19, 0.5))
    watched = watch(workspace)
    shown = {row["check"]: row["range or limit"] for row in watched.rows()}
    assert (watched.score.count, watched.score.predictions) == (19, 57)
    assert shown["accuracy"] == shown["log loss"] == shown["actual minus predicted rises"] == "from 20 closes on"


def test_command_status_and_dashboard_show_the_live_score(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    for symbol in SYMBOLS:
        store(workspace, symbol, np.full(DAYS, 0.5))
    assert run(["monitor", "--symbol", "PANEL", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["live_log_loss"] == pytest.approx(np.log(2))
    assert run(["monitor", "--symbol", "PANEL"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "closes of these predictions" in shown
    assert "skipped: drift: expected 240 training closes and 120 newer ones" in shown
    assert run(["status", "--symbol", "PANEL"]) == 0
    text = "180 predictions at 60 closes"
    assert f"{text}, accuracy" in " ".join(capsys.readouterr().out.split())
    (content,) = DashboardReader(workspace.settings).read("PANEL-1d")
    page = dashboard_page([content], {}, [], to_datetime(CLOSES[-1]), {})
    assert "n = 180 at 60 closes" in page
    assert "Evidence of decay" in page


def test_opinions_are_scored_by_close_and_their_share_has_its_guarantee(workspace: Workspace) -> None:
    """BTC-USD is right with an opinion at each second close, ADA-USD wrong with one at each fourth."""
    workspace.runs.log_values(workspace.registry.version("1").run_id, params={OPINION_SHARE: "0.4"})
    found = list[Prediction]()
    for symbol, every, chance in ((SYMBOLS[1], 2, 0.9), (SYMBOLS[0], 4, 0.1)):
        for place in range(DAYS):
            at = to_datetime(CLOSES[TRAINED - 1 + place])
            probability = chance if rose(symbol)[place] else 1 - chance
            one = Prediction("PANEL-1d", symbol, "1d", at, at + DAY, "1", probability, at + timedelta(minutes=1))
            found.append(replace(one, has_opinion=place % every == 0, opinion_level=0.1))
    workspace.prediction_log.store_all(found)
    result = watch(workspace)
    numbers = result.entry.numbers
    assert (numbers["opinion_closes"], numbers["opinions"]) == (DAYS, 30 + 15)
    assert numbers["opinion_share"] == pytest.approx((15 * 1 + 15 * 0.5) / 60)
    assert (numbers["opinion_share_low"], numbers["opinion_share_high"]) == share_bounds(0.4, DAYS)
    assert numbers["opinion_accuracy"] == pytest.approx((15 * 0.5 + 15 * 1) / 30)
    assert numbers["opinion_accuracy_low"] < 0.75 < numbers["opinion_accuracy_high"]
    rows = {row["check"]: (row["value"], row["range or limit"]) for row in result.rows()}
    assert rows["share with an opinion, mean of 60 closes"] == ("0.375", "guaranteed 0 .. 0.7433")
    assert rows["accuracy of 45 opinions"][0] == "0.75"
    at = to_datetime(CLOSES[TRAINED + DAYS - 1])
    of_a_lost_version = Prediction("PANEL-1d", SYMBOLS[0], "1d", at, at + DAY, "7", 0.6, at, "", "rise", True, 0.1)
    workspace.prediction_log.store_all([of_a_lost_version])
    rows = {row["check"]: row["range or limit"] for row in watch(workspace).rows()}
    assert rows["share with an opinion, mean of 61 closes"].startswith("no guarantee: no single stated share")
