"""Replay of past days: decided with the bars of the time; interrupted and resumed, the decision log is the same."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from synthetic_bars import random_walk

from model.bars import Bars, Series
from model.errors import BarsTooShort, SpecError
from model.folds import FoldSpec
from model.metrics import score
from model.networks import NetworkSpec
from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from model.times import column_times
from model.training import TrainingSpec
from model.windows import WindowSpec, cut_windows
from tasks.champion.daily_replay import Replay
from tasks.pages.replay_page import replay_headline, replay_page
from tasks.registry.model_registry import ModelRegistry
from tasks.settings import Settings
from tasks.store.decision_log import DecisionLog, LoggedDecision
from tasks.store.prediction_log import PredictionLog
from tasks.store.trial_log import count_looks
from tasks.workspace import Workspace

pytestmark = pytest.mark.e2e  # trains a week of versions
RECIPE = Recipe(
    window=WindowSpec(lookback_bars=5),
    folds=FoldSpec(test_bars=110, count=2),
    network=NetworkSpec(kind="cnn", filters=(2,), dense_units=4),
    training=TrainingSpec(epochs=2),
)
RULE = PromotionRule()
BARS = random_walk(260, seed=5)  # 2018-01-01 .. 2018-09-17
FIRST, LAST = date(2018, 8, 20), date(2018, 8, 23)


def home(place: Path, bars: Bars = BARS) -> Settings:
    settings = Settings(home=place, tracking_uri="", store="")
    store = Workspace(settings).bar_store
    store.merge(Series(RECIPE.symbol, RECIPE.interval), bars.frame(), {}, merged_at=datetime(2018, 9, 18, tzinfo=UTC))
    return settings


def replay(settings: Settings, first: date = FIRST, last: date = LAST, rule: PromotionRule = RULE) -> Replay:
    return Replay(RECIPE, rule, first, last, settings)


def run_all(opened: Replay) -> None:
    for day in opened.days:
        opened.run_day(day)


def decisions(opened: Replay) -> list[LoggedDecision]:
    """Return the decision log without run ids, which are random."""
    return [replace(row, run_id="", files={}) for row in opened.workspace.decision_log.rows(opened.name)]


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """Four days, not interrupted."""
    opened = replay(home(tmp_path_factory.mktemp("whole")))
    run_all(opened)
    return opened


def test_each_day_is_decided_with_the_bars_closed_by_then(whole: Replay) -> None:
    rows = whole.workspace.decision_log.rows(whole.name)
    assert [row.decided_at.date() for row in rows] == list(whole.days)
    assert [row.version for row in rows] == ["1", "2", "3", "4"]
    assert (rows[0].champion_before, rows[0].champion_after) == (None, "1")
    for row in rows:
        version = whole.workspace.registry.version(row.version)
        assert version.trained_until == row.decided_at
        newest = whole.workspace.registry.read_version(row.version).record().resolved_at.max()
        assert newest == np.datetime64(row.decided_at.replace(tzinfo=None))
    assert whole.workspace.registry.alias_number("champion") == rows[-1].champion_after


def test_each_day_is_a_look_at_its_test_bars(whole: Replay) -> None:
    trials = whole.workspace.trial_log.trials(whole.series.symbol, whole.series.interval)
    assert [trial.trial_id for trial in trials] == [whole.decision_id(day) for day in whole.days]
    assert {trial.recipe for trial in trials} == {whole.recipe.digest}
    newest = count_looks(trials, trials[-1].test_first, trials[-1].test_last)
    assert (newest.looks, newest.recipes) == (len(whole.days), 1)


def test_a_replay_does_not_touch_the_real_champion(whole: Replay) -> None:
    real = Workspace(whole.settings, whole.series).registry
    assert real.alias_number("champion") is None
    assert whole.workspace.decision_log.rows(whole.series.name) == ()
    assert whole.workspace.prediction_log.read(whole.series.name).empty


def test_a_past_day_does_not_depend_on_later_bars(whole: Replay, tmp_path: Path) -> None:
    ohlcv = BARS.ohlcv.copy()
    later = BARS.opened_at >= np.datetime64(LAST)
    ohlcv[later] *= 3.0
    other = replay(home(tmp_path, Bars(BARS.interval, BARS.opened_at, ohlcv)))
    run_all(other)
    assert decisions(other) == decisions(whole)


class Crash(BaseException):
    """Injected."""


@pytest.mark.parametrize("place", ["version", "predictions", "row", "alias"])
def test_a_replay_interrupted_at_any_write_and_resumed_gives_the_same_decisions(
    place: str, whole: Replay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home(tmp_path)
    interrupted = replay(settings)
    interrupted.run_day(FIRST)
    owner, name = {
        "version": (ModelRegistry, "add_version"),
        "predictions": (PredictionLog, "store_all"),
        "row": (DecisionLog, "append_if_current"),
        "alias": (ModelRegistry, "set_alias"),
    }[place]

    def crash(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, crash)
        with pytest.raises(Crash):
            interrupted.run_day(FIRST + timedelta(days=1))
    resumed = replay(settings)
    run_all(resumed)
    assert decisions(resumed) == decisions(whole)
    for log in ("prediction_log", "shadow_log"):
        # The bytes of a network name its layers, which Keras numbers through a process.
        frame, expected = (
            getattr(each.workspace, log).read(each.name).drop(columns="network") for each in (resumed, whole)
        )
        assert len(frame)
        assert frame.equals(expected)
    assert resumed.workspace.registry.alias_number("champion") == whole.workspace.registry.alias_number("champion")


def test_a_day_trained_again_after_a_crash_is_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last, strict = FIRST + timedelta(days=1), PromotionRule(kind="strict")
    whole = replay(home(tmp_path / "whole"), last=last, rule=strict)
    run_all(whole)

    def crash(*_: object, **__: object) -> None:
        raise Crash

    settings = home(tmp_path / "interrupted")
    with monkeypatch.context() as patch:
        patch.setattr(ModelRegistry, "add_version", crash)
        with pytest.raises(Crash):
            run_all(replay(settings, last=last, rule=strict))
    resumed = replay(settings, last=last, rule=strict)
    run_all(resumed)
    assert [row.numbers["recipes_tried.looks"] for row in decisions(whole)] == [1, 2]
    assert decisions(resumed) == decisions(whole)


def test_a_decided_day_is_not_decided_again(whole: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise Crash

    monkeypatch.setattr(ModelRegistry, "add_version", crash)
    again = replay(whole.settings)
    assert again.pending() == ()
    before = decisions(again)
    run_all(again)
    assert decisions(again) == before


def test_the_page_lists_the_days_newest_first_with_their_deciding_reasons(whole: Replay) -> None:
    summary = whole.summary()
    actions = [row.action for row in summary.decisions]
    assert replay_headline(summary) == f"4 days: {actions.count('promote')} promoted, {actions.count('hold')} held"
    page = replay_page(summary, "http://mlflow/run")
    assert "[MLflow run of the summary](http://mlflow/run)" in page
    table = [line.split(" | ") for line in page.splitlines() if line.startswith("| 2018-")]
    assert [row[0] for row in table] == ["| 2018-08-23", "| 2018-08-22", "| 2018-08-21", "| 2018-08-20"]
    assert [row[1:3] for row in table] == [[row.action, row.version] for row in summary.decisions[::-1]]
    assert all(shown[3] == f"{row.reasons[0]} |" for shown, row in zip(table, summary.decisions[::-1], strict=True))


def test_a_replay_is_named_by_its_days_and_outcome_and_warns_of_few_decisions(whole: Replay) -> None:
    summary = whole.summary()
    promoted = [row.action for row in summary.decisions].count("promote")
    run = whole.workspace.runs.client.get_run(whole.show(summary))
    assert run.info.run_name == f"replay 2018-08-20 to 2018-08-23: 4 decisions, {promoted} promoted"
    caveat = "4 scored decisions: too few to compare, differences between these scores may be chance"
    assert caveat in run.data.tags["mlflow.note.content"]
    assert caveat in replay_page(summary, "")
    assert not replace(summary, predictions=20).caveat
    days = whole.workspace.runs.client.search_runs([run.info.experiment_id], "tags.as_of = '2018-08-20'")
    assert days[0].info.end_time - days[0].info.start_time > 100  # with its training, not the logging alone


def test_the_page_of_a_long_replay_lists_the_newest_thirty_days(whole: Replay) -> None:
    summary = whole.summary()
    row = summary.decisions[0]
    days = [replace(row, decided_at=row.decided_at + timedelta(days=n), action="reject") for n in range(40)]
    many = replace(summary, decisions=tuple(days))
    page = replay_page(many, "")
    table = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| 2018-")]
    assert (len(table), table[0], table[-1]) == (30, "| 2018-09-28", "| 2018-08-30")
    assert "Newest 30 of 40 days:" in page
    assert replay_headline(many) == "40 days: 0 promoted, 0 held, 40 rejected"


def test_the_summary_scores_the_champion_of_each_day_vs_never_promoting(whole: Replay) -> None:
    summary = whole.summary()
    windows = cut_windows(BARS, RECIPE.window).resolved()
    # A bar is predicted before the retrain at its close: a day's version predicts the next day's close.
    days = [np.datetime64(day + timedelta(days=1), "us") for day in whole.days]
    labels = windows.labels[np.isin(windows.decided_at, days)]
    rows = whole.workspace.decision_log.rows(whole.name)

    def predicted(versions: list[str]) -> np.ndarray:
        found = []
        for day, version in zip(days, versions, strict=True):
            decided_at, probabilities = whole.workspace.registry.read_version(version).predictor().predict(BARS)
            found.append(probabilities[decided_at == day][0])
        return np.array(found)

    assert summary.predictions == len(labels) == 4
    champions = [str(row.champion_after) for row in rows]
    assert summary.scores["replayed"] == pytest.approx(score(labels, predicted(champions)), abs=1e-6, nan_ok=True)
    assert summary.scores["never promoting"] == pytest.approx(
        score(labels, predicted(["1"] * 4)), abs=1e-6, nan_ok=True
    )
    assert summary.scores["always promoting"] == pytest.approx(
        score(labels, predicted([r.version for r in rows])), abs=1e-6, nan_ok=True
    )
    assert summary.cost is None  # four decisions say nothing
    assert "never promoting: log loss" in summary.lines()[3]
    assert summary.lines()[-1] == f"all reasons: `riseorfall decisions --name {summary.name} --last 0`"
    run_id = whole.show(summary)
    assert whole.workspace.runs.read_file(run_id, "pictures/champion_history.png")[:4] == b"\x89PNG"


def test_the_rows_are_those_of_the_schedule_which_predicts_before_it_retrains(whole: Replay) -> None:
    workspace, rows = whole.workspace, whole.workspace.decision_log.rows(whole.name)
    served, shadows = (log.read(whole.name) for log in (workspace.prediction_log, workspace.shadow_log))
    expected: dict[bool, dict[tuple[str, str], float]] = {True: {}, False: {}}
    for known, row in enumerate(rows, 1):
        moment = np.datetime64(row.decided_at.date() + timedelta(days=1), "us")
        for version in map(str, range(1, known + 1)):  # all that were registered by then; none is rejected
            decided_at, p = workspace.registry.read_version(version).predictor().predict(BARS.closed_by(moment))
            assert decided_at[-1] == moment
            expected[version == row.champion_after][str(moment), version] = p[-1]
    assert [len(expected[each]) for each in (True, False)] == [4, 6]
    for frame, is_served in ((served, True), (shadows, False)):
        decided = column_times(frame["decided_at"]).astype("datetime64[us]").astype(str)
        found = dict(zip(zip(decided, frame["version"], strict=True), frame["probability"], strict=True))
        assert found == expected[is_served]
        assert (frame["stored_at"] == frame["decided_at"]).all()
        assert not frame["late"].any()


def test_a_replay_of_another_recipe_or_an_earlier_day_is_refused(whole: Replay) -> None:
    with pytest.raises(SpecError, match="found 2018-08-19: an earlier day"):
        replay(whole.settings, FIRST - timedelta(days=1))
    with pytest.raises(SpecError, match="another recipe or rule"):
        Replay(RECIPE, PromotionRule(kind="strict"), FIRST, LAST, whole.settings)
    with pytest.raises(SpecError, match="expected --to at or after --from"):
        replay(whole.settings, LAST, FIRST)
    with pytest.raises(SpecError, match="a name of its own"):
        Replay(RECIPE, RULE, FIRST, LAST, whole.settings, whole.series.name)
    with pytest.raises(BarsTooShort, match=r"BTC-USD 1d: 59 bars had closed by 2018-03-01, .* needs at least 152 "):
        Replay(RECIPE, RULE, date(2018, 3, 1), date(2018, 3, 1), whole.settings, "early").run_day(date(2018, 3, 1))


def test_a_day_without_a_new_bar_repeats_the_decision_and_one_without_a_new_window_promotes_nothing(
    tmp_path: Path,
) -> None:
    missing = (date(2018, 8, 20) - date(2018, 1, 1)).days  # would have closed on the second day, at 00:00
    opened = replay(home(tmp_path, random_walk(260, seed=5, absent=(missing,))))
    run_all(opened)
    rows = opened.workspace.decision_log.rows(opened.name)
    assert [(row.action, row.version) for row in rows] == [
        ("promote", "1"), ("unchanged", "1"), ("hold", "2"), ("hold", "3"),
    ]  # fmt: skip
    assert {row.champion_after for row in rows} == {"1"}
    assert "version 1 was trained on the same bars" in rows[1].reasons[0]
    # Four bars on, the first window of five whole ones is not there yet: versions 2 and 3 are version 1 again.
    assert [row.numbers["champion.difference"] for row in rows[2:]] == [0.0, 0.0]
    resumed = replay(opened.settings)
    run_all(resumed)
    assert resumed.workspace.decision_log.rows(opened.name) == rows
