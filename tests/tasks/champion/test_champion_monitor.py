"""Planted degradation, drift and absence raise their alarms once; an honest year raises none."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from synthetic_bars import random_walk
from tiny_home import SERIES, store_bars, tiny_home

from model.bars import Bars
from model.errors import SpecError
from model.monitor_alarms import Alarm, MonitorSpec, fresh_alarms
from model.recipe import Recipe
from model.times import to_datetime
from tasks.champion.champion_monitor import (
    MonitorResult,
    join,
    monitor_champion,
    promotion_ordinal,
    service_evidence,
)
from tasks.registry.model_registry import ModelRegistry
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision
from tasks.store.delta_table import read_rows
from tasks.store.monitor_log import MonitorEntry, MonitorLog, score_from
from tasks.store.prediction_log import Prediction
from tasks.workspace import Workspace

BARS = random_walk(1000, seed=11)
TRAINED = 750
SPEC = MonitorSpec(max_champion_age_days=400)
DAY = timedelta(days=1)


def scaled(prices: np.ndarray, since: int) -> Bars:
    """The same bars with prices multiplied from a bar on."""
    ohlcv = BARS.ohlcv.copy()
    ohlcv[since:, :4] *= prices
    return Bars(BARS.interval, BARS.opened_at, ohlcv)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home to copy: MLflow takes seconds to make its database."""
    home = tmp_path_factory.mktemp("template") / "home"
    tiny_home(home, BARS, TRAINED)
    return home


def predict(settings: Settings, probabilities: np.ndarray, since: int = TRAINED, version: str = "1") -> None:
    """Store predictions, one a day, each a minute after its bar closed."""
    stored = []
    for place, probability in enumerate(probabilities):
        at = to_datetime(BARS.closed_at[since + place])
        stored.append(
            Prediction(
                SERIES.name, "BTC-USD", "1d", at, at + DAY, version, float(probability), at + timedelta(minutes=1)
            )
        )  # fmt: skip
    Workspace(settings).prediction_log.store_all(stored)


def rises() -> np.ndarray:
    close = BARS.column("close")
    return (np.diff(close)[TRAINED:] > 0).astype(float)


def look(settings: Settings, as_of_bar: int = 999, spec: MonitorSpec = SPEC) -> MonitorResult:
    return monitor_champion(SERIES, settings, spec, to_datetime(BARS.closed_at[as_of_bar]))


@pytest.mark.e2e
def test_what_has_no_data_yet_is_left_out(settings: Settings) -> None:
    checks = {row["check"]: row["value"] for row in look(settings, TRAINED + 100).rows()}
    assert checks["live predictions with an outcome"] == "0"
    assert not {"accuracy", "log loss", "e-process of this version"} & checks.keys()
    assert "nan" not in " ".join(checks.values())
    predict(settings, np.full(100, 0.5))
    watched = look(settings, TRAINED + 100)
    shown = {row["check"]: row["range or limit"] for row in watched.rows()}
    _, low, high = watched.score.log_loss
    assert shown["log loss"] == f"{low:.4g} .. {high:.4g}"
    numbers = watched.entry.numbers
    assert (numbers["live_log_loss_low"], numbers["live_log_loss_high"]) == (low, high)
    assert {"accuracy", "e-process of this version", "e-process of the service, all versions"} <= shown.keys()


@pytest.mark.e2e
def test_few_predictions_have_no_interval_by_the_normal_approximation(settings: Settings) -> None:
    predict(settings, np.full(20, 0.5))
    many, few = look(settings, TRAINED + 20), look(settings, TRAINED + 19)
    assert (many.score.count, few.score.count) == (20, 19)
    shown = {row["check"]: row["range or limit"] for row in few.rows()}
    assert shown["log loss"] == shown["actual minus predicted rises"] == "from 20 predictions on"
    assert ".." in shown["accuracy"]  # Wilson's interval holds for few
    assert "live_log_loss_low" not in few.entry.numbers
    assert "live_log_loss_low" in many.entry.numbers


def test_an_honest_year_raises_nothing(settings: Settings) -> None:
    predict(settings, np.full(249, 0.5))
    watched = look(settings)
    assert watched.entry.alarms == ()
    assert watched.score.count == 249
    assert watched.score.accuracy[0] == pytest.approx(1 - rises()[:249].mean())
    assert watched.picture.stat().st_size > 10_000


def test_a_champion_that_predicts_the_opposite_is_degraded_once(settings: Settings) -> None:
    predict(settings, 0.5 - 0.3 * (2 * rises()[:249] - 1))
    watched = look(settings)
    assert [alarm.kind for alarm in watched.raised] == ["degraded"]
    again = look(settings)
    assert again.raised == ()
    assert again.score.count == 0  # after an alarm the evidence counts anew


def test_a_decision_without_an_outcome_is_open_and_not_scored(settings: Settings) -> None:
    predict(settings, np.full(250, 0.5))  # the last one resolves a day after the newest close
    live = join(Workspace(settings).prediction_log.read(SERIES.name), BARS, None)
    assert (len(live.labels), int(live.labels[-1])) == (250, -1)
    watched = look(settings)
    assert (watched.score.count, watched.service.count) == (249, 249)


@pytest.mark.e2e
def test_good_days_of_a_former_version_do_not_hide_a_bad_one(settings: Settings) -> None:
    """With pooled evidence, 800 good days of version 1 hid 99 bad ones of version 2."""
    good, bad = 0.5 + 0.3 * (2 * rises()[:190] - 1), 0.5 - 0.3 * (2 * rises()[190:249] - 1)
    predict(settings, good)
    tiny_home(settings.home, BARS, TRAINED)  # version 2
    predict(settings, bad, since=TRAINED + 190, version="2")
    watched = look(settings)
    assert watched.entry.version == "2"
    assert watched.score.count == 59
    assert watched.service.count == 249
    assert [alarm.kind for alarm in watched.raised] == ["degraded"]
    assert watched.score.degraded


def test_each_version_has_the_place_of_its_first_promotion(settings: Settings) -> None:
    """The k-th version to become champion has the share 1 / (k (k + 1)) of the false-alarm rate, for good."""
    workspace, before = Workspace(settings, SERIES), None
    for number, version in enumerate(("3", "5", "3", "9")):
        at = datetime(2026, 11, 1 + number, tzinfo=UTC)
        row = LoggedDecision(
            f"{number}", at, SERIES.name, SERIES.symbol, SERIES.interval, "promote", version, before, version
        )
        workspace.decision_log.append(row)
        before = version
    assert [promotion_ordinal(workspace, version) for version in ("3", "5", "9", "11")] == [1, 2, 3, 4]


def test_the_service_counts_overlaps_by_the_longest_horizon_of_its_versions(settings: Settings) -> None:
    predict(settings, 0.5 - 0.3 * (2 * rises()[:40] - 1))
    workspace = Workspace(settings, SERIES)
    live = join(workspace.prediction_log.read(SERIES.name), BARS, None)
    recipe_file = workspace.registry.read_version("1").folder / "recipe.json"
    values = {}
    for horizon_bars in (1, 5):
        recipe = Recipe.model_validate_json(recipe_file.read_text(encoding="utf-8"))
        window = recipe.window.model_copy(update={"horizon_bars": horizon_bars})
        recipe_file.write_text(recipe.model_copy(update={"window": window}).model_dump_json(), encoding="utf-8")
        values[horizon_bars] = service_evidence(workspace, live, SPEC)[0].e_value
    assert values[5] < values[1]


def test_drift_is_found_although_each_day_promotes_a_champion_trained_on_it(settings: Settings) -> None:
    moves = np.diff(np.log(BARS.column("close")))
    moves[880:] *= 3  # tripled volatility, and the champion below was trained on nearly all of it
    close = BARS.column("close")[0] * np.exp(np.concatenate([[0.0], np.cumsum(moves)]))
    spread = np.where(np.arange(len(BARS)) > 880, 3.0, 1.0) * 0.01
    ohlcv = BARS.ohlcv.copy()
    ohlcv[:, 3], ohlcv[:, 0] = close, np.concatenate([close[:1], close[:-1]])
    ohlcv[:, 1] = np.maximum(ohlcv[:, 0], close) * (1 + spread)
    ohlcv[:, 2] = np.minimum(ohlcv[:, 0], close) * (1 - spread)
    tiny_home(settings.home, Bars(BARS.interval, BARS.opened_at, ohlcv), 998)
    assert "drifted" in [alarm.kind for alarm in look(settings).raised]


@pytest.mark.e2e
def test_scaled_prices_are_drift_once_within_the_cool_down(settings: Settings) -> None:
    store_bars(settings, scaled(np.array(100.0), 900))
    predict(settings, np.full(249, 0.5))
    assert [alarm.kind for alarm in look(settings, 950).raised] == ["drifted"]
    assert look(settings, 953).raised == ()
    assert [alarm.kind for alarm in look(settings, 957).raised] == ["drifted"]  # a week later it still is


def test_late_predictions_are_no_evidence_and_count_as_missing(settings: Settings) -> None:
    predict(settings, np.full(200, 0.5))
    late = [
        replace(each, stored_at=each.resolves_at + DAY)
        for place in range(200, 249)
        for each in [
            Prediction(
                SERIES.name, "BTC-USD", "1d", to_datetime(BARS.closed_at[TRAINED + place]),
                to_datetime(BARS.closed_at[TRAINED + place]) + DAY, "1", 0.01,
                to_datetime(BARS.closed_at[TRAINED + place]),
            )
        ]
    ]  # fmt: skip
    Workspace(settings).prediction_log.store_all(late)
    watched = look(settings)
    assert watched.score.count == 200
    assert watched.entry.numbers["missing"] == 49
    assert watched.entry.numbers["late"] == 49
    rows = [(row["check"], row["value"], row["range or limit"]) for row in watched.rows()[-2:]]
    assert rows == [
        ("decisions without a prediction in time", "49", "of the last 119 decisions"),
        ("of these, predicted after their outcome", "49", ""),
    ]
    assert [alarm.kind for alarm in watched.raised] == ["missing"]


def test_an_old_champion_is_stale(settings: Settings) -> None:
    watched = look(settings, spec=MonitorSpec(max_champion_age_days=249))
    assert [alarm.kind for alarm in watched.raised] == ["stale"]
    assert watched.entry.numbers["champion_age_days"] == 250


def test_a_run_uses_only_bars_closed_by_its_as_of_time(settings: Settings) -> None:
    predict(settings, np.full(249, 0.5))
    assert look(settings, as_of_bar=800).score.count == 50


def test_a_run_before_the_first_bar_closed_is_refused(settings: Settings) -> None:
    with pytest.raises(
        SpecError, match=r"bars closed by 1970-01-02 .*found none: the first of 1000 closed at 2018-01-02"
    ):
        monitor_champion(SERIES, settings, SPEC, datetime(1970, 1, 2, tzinfo=UTC))
    assert Workspace(settings).monitor_log.last(SERIES.name) is None


@pytest.mark.e2e
def test_a_run_by_a_clock_that_was_ahead_neither_silences_an_alarm_nor_hides_predictions(settings: Settings) -> None:
    predict(settings, np.clip(1 - rises(), 0.1, 0.9))
    ahead = monitor_champion(SERIES, settings, SPEC, datetime(2100, 1, 1, tzinfo=UTC))
    assert {"degraded", "stale"} <= {alarm.kind for alarm in ahead.raised}
    watched = look(settings)
    assert watched.score.count == 249
    assert "degraded" in {alarm.kind for alarm in watched.raised}
    log = Workspace(settings).monitor_log
    assert log.last(SERIES.name, watched.entry.watched_at) == watched.entry
    assert log.last(SERIES.name) == ahead.entry


@pytest.mark.e2e
def test_a_run_that_goes_past_midnight_uses_one_as_of_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    predict(settings, np.full(249, 0.5))
    midnight = to_datetime(BARS.closed_at[-1])
    moments = iter([midnight - timedelta(seconds=1), *[midnight + timedelta(seconds=5)] * 9])
    monkeypatch.setattr("tasks.champion.as_of_time.datetime", SimpleNamespace(now=lambda _: next(moments)))
    monkeypatch.setattr(
        "tasks.registry.experiment_runs.ExperimentRuns.run_params", lambda *_: {"source.kind": "exchange"}
    )
    for seconds, count in ((-1, 248), (5, 249)):  # the last outcome is known from midnight on
        watched = monitor_champion(SERIES, settings, SPEC)
        assert watched.entry.watched_at == midnight + timedelta(seconds=seconds)
        assert watched.score.count == count


@pytest.mark.e2e
def test_a_version_that_served_is_read_once_and_the_evidence_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten years of daily promotions: 3,650 versions, of which the monitor opened every file every day."""
    predict(settings, 0.5 - 0.02 * (2 * rises()[:120] - 1))
    tiny_home(settings.home, BARS, TRAINED, gain=3.0)  # version 2
    predict(settings, np.full(100, 0.45), since=TRAINED + 120, version="2")
    read: list[str] = []
    true = ModelRegistry.read_version
    monkeypatch.setattr(ModelRegistry, "read_version", lambda own, version: read.append(version) or true(own, version))
    patient = SPEC.model_copy(update={"false_alarm_rate": 1e-12})  # an alarm would begin the evidence anew
    first = look(settings, TRAINED + 200, patient)
    assert sorted(read) == ["1", "2", "2"]
    assert sorted(first.entry.references) == ["1", "2"]
    read.clear()
    again = look(settings, TRAINED + 200, patient)
    assert read == ["2"]  # the champion, for its own score
    assert again.service == first.service
    assert again.service.count > 190
    assert again.entry.references == {}
    shutil.rmtree(Workspace(settings, SERIES).registry.read_version("1").folder)
    assert look(settings, TRAINED + 200, patient).notes == first.notes
    tolerant = look(settings, TRAINED + 200, patient.model_copy(update={"score_tolerance": 0.05}))
    assert 1 <= tolerant.service.e_value < first.service.e_value  # the tolerance is the run's, not the stored one's


def test_the_newest_entry_is_read_without_the_numbers_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, start = MonitorLog(str(tmp_path)), to_datetime(BARS.closed_at[0])
    for day in range(6):
        log.write(MonitorEntry("A-1d", start + day * DAY, str(day), {"evidence": float(day)}, (), ()))
    read: list[tuple[list[str], int]] = []

    def count(table: Any, schema: Any, *more: Any) -> Any:
        found = read_rows(table, schema, *more)
        read.append((schema.names, found.num_rows))
        return found

    monkeypatch.setattr("tasks.store.monitor_log.read_rows", count)
    last = log.last("A-1d")
    assert last is not None
    assert (last.version, last.numbers) == ("5", {"evidence": 5.0})
    assert [(rows, "numbers" in names) for names, rows in read] == [(6, False), (1, True)]
    until = log.last("A-1d", start + 2 * DAY)
    assert until is not None
    assert until.version == "2"
    assert log.last("A-1d", start - DAY) is None
    read.clear()
    assert (log.raised("A-1d"), log.references("A-1d")) == ([], {})
    assert [(rows, "numbers" in names) for names, rows in read] == [(0, False), (6, False)]


def test_the_monitor_log_keeps_every_entry_and_an_alarm_cools_down(tmp_path: Path) -> None:
    log, start = MonitorLog(str(tmp_path)), to_datetime(BARS.closed_at[0])
    alarm = Alarm("stale", "old")
    log.write(MonitorEntry("A-1d", start, "1", {"evidence": 1.0}, (alarm,), ("stale",)))
    log.write(MonitorEntry("A-1d", start + DAY, "1", {}, (alarm,), ("degraded",)))
    assert [each.alarms for each in log.entries("A-1d")] == [(alarm,), (alarm,)]
    raised = log.raised("A-1d")
    assert raised == [(start, ("stale",)), (start + DAY, ("degraded",))]
    assert score_from(raised) == start + DAY
    assert log.raised("A-1d", start) == raised[:1]  # a later run's clock was ahead
    assert fresh_alarms([alarm], raised, start + 6 * DAY, timedelta(days=7)) == ()
    assert fresh_alarms([alarm], raised, start + 7 * DAY, timedelta(days=7)) == (alarm,)
    assert log.last("B-1d") is None
