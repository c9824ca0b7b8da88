"""Forecasts: nothing stale, nothing unchecked, missed days are backfilled and marked late."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from synthetic_bars import random_walk
from tiny_home import SERIES, store_bars, tiny_home

from model.bars import Bars
from model.errors import ChecksFailed, NoChampion, SpecError, StaleChampion, UnsoundModel
from model.freshness import ForecastSpec
from model.times import to_datetime
from model.windows import WindowSpec, cut_windows
from tasks.champion.as_of_time import time_of_writing
from tasks.registry.model_files import ModelFiles
from tasks.serving.forecast import RECENT_BARS, forecast, why_refused
from tasks.settings import Settings
from tasks.store.decision_log import Action, LoggedDecision
from tasks.store.prediction_log import new_prediction
from tasks.workspace import Workspace

BARS = random_walk(130, seed=4)
TRAINED = 100


def first(count: int) -> Bars:
    return Bars(BARS.interval, BARS.opened_at[:count], BARS.ohlcv[:count])


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home to copy: MLflow takes seconds to make its database."""
    home = tmp_path_factory.mktemp("template") / "home"
    tiny_home(home, first(120), TRAINED)
    return home


def test_missed_days_are_backfilled_once_and_are_late(settings: Settings) -> None:
    assert forecast(SERIES, settings).backfilled == ()
    store_bars(settings, BARS)
    found = forecast(SERIES, settings)
    assert [each.decided_at for each in found.backfilled] == [to_datetime(each) for each in BARS.closed_at[120:129]]
    assert all(each.late for each in found.backfilled)
    assert forecast(SERIES, settings).backfilled == ()
    stored = Workspace(settings).prediction_log.read(SERIES.name)
    assert stored["decided_at"].is_unique
    assert len(stored) == 11


def test_after_a_long_absence_the_newest_400_missed_bars_are_backfilled(settings: Settings) -> None:
    assert forecast(SERIES, settings).prediction.decided_at == to_datetime(BARS.closed_at[119])
    longer = random_walk(560, seed=4)
    store_bars(settings, longer)
    found = forecast(SERIES, settings, ForecastSpec(max_age_days=1_000))
    assert found.prediction.decided_at == to_datetime(longer.closed_at[559])
    assert [each.decided_at for each in found.backfilled] == [to_datetime(each) for each in longer.closed_at[159:559]]


def test_the_bars_that_are_read_suffice_for_the_longest_window_at_each_close_that_may_be_backfilled() -> None:
    longest = WindowSpec(lookback_bars=10_000)
    with pytest.raises(ValueError, match="less than or equal to 10000"):
        WindowSpec(lookback_bars=10_001)
    bars = random_walk(10_600, seed=5)
    recent = Bars(bars.interval, bars.opened_at[-RECENT_BARS:], bars.ohlcv[-RECENT_BARS:])
    assert cut_windows(recent, longest).decided_at.tolist() == bars.closed_at[-401:].tolist()  # 400, and the newest


def test_a_former_champion_whose_files_are_lost_does_not_stop_the_present_one(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """It broke at a close, `predict` failed, and a retrain replaced it: the missed close stayed between."""
    forecast(SERIES, settings)
    store_bars(settings, BARS)
    workspace = Workspace(settings, SERIES)
    workspace.registry.add_version(*shadow_of(workspace))
    for at, champion in ((BARS.closed_at[110], "1"), (BARS.closed_at[125], "2")):
        row = LoggedDecision(
            champion, to_datetime(at) + timedelta(minutes=10), SERIES.name, SERIES.symbol, SERIES.interval, "promote",
            champion, "1", champion,
        )  # fmt: skip
        workspace.decision_log.append(row)
    folder = workspace.registry.read_version("1").folder
    (folder / "network.onnx").unlink()
    found = forecast(SERIES, settings)
    assert found.prediction.version == "2"
    assert [each.decided_at for each in found.backfilled] == [to_datetime(each) for each in BARS.closed_at[126:129]]
    assert caplog.text.count("the closes missed while version 1 was champion are not backfilled") == 1


def test_a_champion_is_not_backfilled_on_bars_that_it_was_trained_on(settings: Settings) -> None:
    forecast(SERIES, settings)
    store_bars(settings, BARS)
    workspace = Workspace(settings, SERIES)
    loaded, run_id = workspace.registry.read_version("1"), workspace.runs.start_run("retrain", {})
    files = ModelFiles(loaded.keras(), loaded.onnx(), loaded.recipe(), loaded.record())
    trained_until = to_datetime(BARS.closed_at[125]).isoformat()
    version = workspace.registry.add_version(run_id, files, {"trained_until": trained_until}).version
    workspace.registry.set_alias("champion", version)  # no decision says who was champion before
    found = forecast(SERIES, settings)
    assert found.prediction.version == version
    assert [each.decided_at for each in found.backfilled] == [to_datetime(each) for each in BARS.closed_at[125:129]]


def test_a_gap_is_not_backfilled(settings: Settings) -> None:
    forecast(SERIES, settings)
    keep = np.r_[0:122, 124:130]
    store_bars(settings, Bars(BARS.interval, BARS.opened_at[keep], BARS.ohlcv[keep]))
    backfilled = forecast(SERIES, settings).backfilled
    whole = [to_datetime(BARS.closed_at[each]) for each in (120, 121, 128)]  # five bars without a gap end only there
    assert [each.decided_at for each in backfilled] == whole


def test_a_bar_that_closes_while_a_prediction_runs_belongs_to_the_next_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_midnight = to_datetime(BARS.closed_at[119]) - timedelta(
        seconds=2
    )  # bar 119 is stored, and closes at midnight
    moments = iter([before_midnight, *[before_midnight + timedelta(seconds=5)] * 9])
    monkeypatch.setattr("tasks.champion.as_of_time.datetime", SimpleNamespace(now=lambda _: next(moments)))
    monkeypatch.setattr(
        "tasks.registry.experiment_runs.ExperimentRuns.run_params", lambda *_: {"source.kind": "exchange"}
    )
    forecast(SERIES, settings)
    assert _decided(settings) == [to_datetime(BARS.closed_at[118])]
    forecast(SERIES, settings)
    assert _decided(settings) == [to_datetime(BARS.closed_at[118]), to_datetime(BARS.closed_at[119])]


def test_a_prediction_by_a_clock_that_runs_behind_is_late_if_its_outcome_is_stored(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = to_datetime(BARS.closed_at[118]) + timedelta(hours=3)  # bar 119, the outcome, is stored
    workspace = Workspace(settings, SERIES)
    workspace.registry.add_version(*shadow_of(workspace))
    monkeypatch.setattr("tasks.champion.as_of_time.datetime", SimpleNamespace(now=lambda _: behind))
    monkeypatch.setattr(
        "tasks.registry.experiment_runs.ExperimentRuns.run_params", lambda *_: {"source.kind": "exchange"}
    )
    found = forecast(SERIES, settings)
    assert found.prediction.decided_at == to_datetime(BARS.closed_at[118])
    assert [each.late for each in (found.prediction, *found.shadows)] == [True, True]
    assert found.prediction.stored_at == to_datetime(BARS.closed_at[119])


def shadow_of(workspace: Workspace) -> tuple[str, ModelFiles, dict[str, str]]:
    """Return run, files and tags of a second version like the first."""
    loaded = workspace.registry.read_version("1")
    files = ModelFiles(loaded.keras(), loaded.onnx(), loaded.recipe(), loaded.record())
    return workspace.runs.start_run("retrain", {}), files, {"trained_until": f"{BARS.closed_at[TRAINED - 1]}+00:00"}


def _decided(settings: Settings) -> list[datetime]:
    return [each.to_pydatetime() for each in Workspace(settings).prediction_log.read(SERIES.name)["decided_at"]]


def test_a_forecast_as_of_the_past_uses_neither_later_bars_nor_a_later_champion(settings: Settings) -> None:
    elsewhere = timezone(timedelta(hours=9))
    found = forecast(SERIES, settings, as_of=to_datetime(BARS.closed_at[110]).astimezone(elsewhere))
    assert found.prediction.decided_at == to_datetime(BARS.closed_at[110])
    with pytest.raises(SpecError, match="trained on bars before"):
        forecast(SERIES, settings, as_of=to_datetime(BARS.closed_at[TRAINED - 1]) - timedelta(seconds=1))


def test_what_another_version_served_for_the_bar_before_is_named(settings: Settings) -> None:
    log = Workspace(settings).prediction_log
    log.create()
    close = BARS.closed_at[119]
    log.store(new_prediction(SERIES.name, SERIES, 1, close, "7", 0.25, to_datetime(close)))
    found = forecast(SERIES, settings)
    assert found.served_before is not None
    assert (found.served_before.version, found.served_before.probability) == ("7", 0.25)
    store_bars(settings, BARS)
    assert forecast(SERIES, settings).served_before is None


def test_stale_bars_are_refused(settings: Settings) -> None:
    now = to_datetime(BARS.closed_at[119])
    forecast(SERIES, settings, as_of=now + timedelta(days=2))
    with pytest.raises(StaleChampion, match=r"at most 2 bars before .*\(2\.1 bars\)"):
        forecast(SERIES, settings, as_of=now + timedelta(days=2.1))


def test_a_stale_champion_is_refused(settings: Settings) -> None:
    with pytest.raises(StaleChampion, match="trained at most 5 days before"):
        forecast(SERIES, settings, ForecastSpec(max_age_days=5))


def test_the_time_of_writing_is_taken_after_the_table_was_created(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store took 32 hours to create it, and the prediction counted as stored before its outcome (simulation)."""
    existed = []

    def look(bars: Bars) -> datetime:
        existed.append(Workspace(settings).prediction_log.tables[0].open() is not None)
        return time_of_writing(bars)

    monkeypatch.setattr("tasks.serving.forecast.time_of_writing", look)
    forecast(SERIES, settings)
    assert existed
    assert all(existed)


def test_a_rollback_can_warn_of_a_champion_that_will_not_predict(settings: Settings) -> None:
    assert why_refused(SERIES, settings) == ""
    assert "trained at most 5 days before" in why_refused(SERIES, settings, ForecastSpec(max_age_days=5))


@pytest.mark.parametrize(
    ("action", "champion", "days_ago", "by_hand", "compared", "refused"),
    [
        ("hold", "1", 4, False, True, False),
        ("hold", "1", 6, False, True, True),
        ("reject", "1", 4, False, True, True),
        ("hold", "7", 4, False, True, True),
        ("hold", "1", 4, True, True, True),
        ("hold", "1", 4, False, False, True),
    ],
    ids=["held lately", "held long ago", "rejected", "against another champion", "by hand", "without a comparison"],
)
def test_a_champion_that_retrains_compare_and_keep_goes_on_predicting(
    action: Action, champion: str, days_ago: int, by_hand: bool, compared: bool, refused: bool, settings: Settings
) -> None:
    log_challenger(settings, "2", days_ago, action, champion, by_hand=by_hand, compared=compared)
    limits = ForecastSpec(max_age_days=5)
    with pytest.raises(StaleChampion, match="trained at most 5 days before") if refused else nullcontext():
        assert forecast(SERIES, settings, limits).prediction.version == "1"


def test_an_old_version_that_a_person_tries_to_promote_does_not_hide_the_newest_comparison(settings: Settings) -> None:
    log_challenger(settings, "2", days_ago=4)
    log_challenger(settings, "3", days_ago=60, by_hand=True)
    assert forecast(SERIES, settings, ForecastSpec(max_age_days=5)).prediction.version == "1"


def test_a_comparison_after_the_as_of_time_does_not_count(settings: Settings) -> None:
    log_challenger(settings, "2", days_ago=1)
    with pytest.raises(StaleChampion, match="trained at most 3 days before"):
        forecast(SERIES, settings, ForecastSpec(max_age_days=3), as_of=to_datetime(BARS.closed_at[105]))


def log_challenger(
    settings: Settings,
    version: str,
    days_ago: int,
    action: Action = "hold",
    champion: str = "1",
    *,
    by_hand: bool = False,
    compared: bool = True,
) -> None:
    """Register a version trained until some days before the newest close, and log a decision about it."""
    workspace = Workspace(settings, SERIES)
    loaded, run_id = workspace.registry.read_version("1"), workspace.runs.start_run("retrain", {})
    newest = workspace.bar_store.ref(SERIES).last + timedelta(days=1)
    until = (newest - timedelta(days=days_ago)).isoformat()
    files = ModelFiles(loaded.keras(), loaded.onnx(), loaded.recipe(), loaded.record())
    workspace.registry.add_version(run_id, files, {"trained_until": until})
    row = LoggedDecision(
        "by hand" if by_hand else run_id, datetime.now(UTC), SERIES.name, SERIES.symbol, SERIES.interval, action,
        version, champion, "1", run_id=run_id, numbers={"champion.difference": 0.1} if compared else {},
    )  # fmt: skip
    workspace.decision_log.append(row)


@pytest.mark.parametrize(
    ("number", "name", "value", "refused"),
    [
        ("1", "metric.log_loss", "n/a", ""),
        ("1", "trained_until", "2018-04-11T00:00:00", ""),  # without a zone it is UTC
        ("1", "trained_until", "yesterday", "expected the tag trained_until with a time .* found yesterday"),
        ("2", "trained_until", "yesterday", ""),
        ("2", "metric.log_loss", "n/a", ""),
    ],
)
def test_a_tag_that_a_person_edited_in_mlflow_is_named_or_left_out(
    settings: Settings, number: str, name: str, value: str, refused: str
) -> None:
    log_challenger(settings, "2", days_ago=4)
    workspace = Workspace(settings, SERIES)
    workspace.runs.client.set_model_version_tag(workspace.name, number, name, value)
    with pytest.raises(UnsoundModel, match=refused) if refused else nullcontext():
        assert forecast(SERIES, settings).prediction.version == "1"


def test_an_unchecked_bar_is_refused(settings: Settings) -> None:
    bad = first(120).ohlcv.copy()
    bad[118, 1] = bad[118, 3] / 2  # a high below the close
    store_bars(settings, Bars(BARS.interval, first(120).opened_at, bad))
    with pytest.raises(ChecksFailed, match="contradicting_price"):
        forecast(SERIES, settings)
    assert Workspace(settings).prediction_log.read(SERIES.name).empty


def test_without_a_champion_nothing_is_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = Settings(home=tmp_path, tracking_uri="", store="")
    store_bars(settings, BARS)
    with pytest.raises(NoChampion, match="expected a champion"):
        forecast(SERIES, settings)


def test_probabilities_are_those_of_the_network(settings: Settings) -> None:
    close = BARS.column("close")[115:120]
    expected = 1 / (1 + np.exp(-(close[-1] / close[0] - 1)))
    assert forecast(SERIES, settings).prediction.probability == pytest.approx(expected, abs=1e-6)
    assert pd.Timestamp(forecast(SERIES, settings).prediction.decided_at) == pd.Timestamp(BARS.closed_at[119], tz="UTC")
