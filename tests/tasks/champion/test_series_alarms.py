"""Health of a series: what is an alarm depends on whether its bars go on, and on whether anybody looks after it."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from synthetic_bars import random_walk
from tiny_home import SERIES, tiny_home

from flows.cli import run
from model.bars import Series
from model.errors import StaleChampion
from model.evaluation import WAYS
from model.times import to_datetime
from tasks.champion.bar_removal import remove_bars
from tasks.champion.series_alarms import Pauses, Unhealthy, require_healthy, series_health
from tasks.champion.series_status import series_status
from tasks.console.status_tables import show_health
from tasks.pages.dashboard_content import DashboardReader
from tasks.registry.experiment_runs import ExperimentRuns
from tasks.registry.local_database import LocalDatabase
from tasks.serving.forecast import forecast
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision
from tasks.store.monitor_log import MonitorEntry
from tasks.workspace import Workspace

BARS = random_walk(120, seed=3)
CLOSE = to_datetime(BARS.closed_at[-1])
HOUR = timedelta(hours=1)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A champion trained until the last close, decided about then; its bars come from an exchange."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(ExperimentRuns, "run_params", lambda *_: {"source.kind": "exchange"})
    found = tiny_home(tmp_path, BARS, len(BARS))
    decide(found, CLOSE)
    return found


def decide(settings: Settings, at: datetime, action: str = "promote") -> None:
    run_id = Workspace(settings, SERIES).registry.version("1").run_id
    decided = {"decision_id": f"{at}", "action": action, "decided_at": at, "version": "1", "run_id": run_id}
    before = Workspace(settings).decision_log.last(SERIES.name)
    series = {"series_name": SERIES.name, "symbol": SERIES.symbol, "interval": SERIES.interval}
    champions = {"champion_before": before.champion_after if before else None, "champion_after": "1"}
    Workspace(settings).decision_log.append_if_current(LoggedDecision(**series, **decided, **champions))


def alarms(settings: Settings, at: datetime) -> list[str]:
    return [each.split(":")[0] for each in series_health(SERIES, settings, at)["alarms"]]


def test_a_day_after_the_retrain_all_is_well(settings: Settings) -> None:
    found = series_health(SERIES, settings, CLOSE + 20 * HOUR)
    assert found["alarms"] == []
    assert (found["champion_age_days"], found["bars_age_hours"]) == (20 / 24, 20.0)
    assert found["champion_trained_until"] == found["bars_closed_at"] == CLOSE.isoformat()
    require_healthy(found)


def test_what_a_person_decides_does_not_hide_that_no_retrain_ran(settings: Settings) -> None:
    for action in ("lift", "rollback"):
        decide(settings, CLOSE + 50 * HOUR, action)
    assert "quiet" in alarms(settings, CLOSE + 51 * HOUR)
    decide(settings, CLOSE + 52 * HOUR, "unchanged")
    assert "quiet" not in alarms(settings, CLOSE + 53 * HOUR)


@pytest.mark.e2e
@pytest.mark.parametrize(("every", "late"), [(timedelta(hours=1), 3), (timedelta(days=7), 170)])
def test_a_retrain_and_a_monitor_are_missing_after_their_own_schedule(
    settings: Settings, every: timedelta, late: int
) -> None:
    def found(at: datetime) -> list[str]:
        health = series_health(SERIES, settings, at, Pauses(retrain=every, monitor=every))
        return [each for each in health["alarms"] if each.startswith(("quiet", "monitor"))]

    assert found(CLOSE + late * HOUR) == []
    assert [each.partition(". Run")[0] for each in found(CLOSE + (late + 0.1) * HOUR)] == [
        f"quiet: the last retrain decided {late}.1 hours ago; limit {late}",
        f"monitor: it never ran; limit {late}",
    ]


def test_bars_that_predict_refuses_are_an_alarm(settings: Settings) -> None:
    for hours, refused in ((47, False), (49, True)):
        moment = CLOSE + hours * HOUR
        assert ("bars" in alarms(settings, moment)) is refused
        with pytest.raises(StaleChampion, match="2 bars before") if refused else nullcontext():
            forecast(SERIES, settings, as_of=moment)


@pytest.mark.parametrize("kind", ["exchange", "csv", "sample"])
def test_a_champion_without_bars_is_an_alarm(settings: Settings, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExperimentRuns, "run_params", lambda *_: {"source.kind": kind})
    assert "bars" not in alarms(settings, CLOSE + HOUR)
    remove_all_bars(settings)
    found = series_health(SERIES, settings, CLOSE + HOUR)
    assert found["alarms"] == ["bars: none of BTC-USD 1d are stored; `predict` needs them"]
    with pytest.raises(Unhealthy, match="none of BTC-USD 1d are stored"):
        require_healthy(found)


def test_a_champion_whose_bars_were_removed_is_listed_beside_other_series(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(settings.root))
    monkeypatch.setattr(ExperimentRuns, "run_params", lambda *_: {"source.kind": "sample"})
    assert run(["status", "--check"]) == 0
    store, other = Workspace(settings).bar_store, Series("ETH-USD", "1d")
    store.merge(other, store.read_frame(SERIES), {}, merged_at=CLOSE)
    remove_all_bars(settings)
    assert Workspace(settings).listed_series() == (SERIES, other)
    assert run(["status", "--check"]) == 4
    assert "none of BTC-USD 1d are stored" in capsys.readouterr().err
    (content, _) = DashboardReader(settings).read()
    assert content.health["alarms"] == ["bars: none of BTC-USD 1d are stored; `predict` needs them"]


def remove_all_bars(settings: Settings) -> None:
    remove_bars(SERIES, settings, "wrong", removed_at=CLOSE, first=datetime(2000, 1, 1, tzinfo=UTC), last=CLOSE)


def test_a_status_without_the_costs_of_a_run_has_no_numbers_after_costs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("break_even_bps", "break_even_bps_low", "break_even_bps_high")
    metrics = dict.fromkeys((f"trading/{WAYS[0]}_{name}" for name in names), 1.0)
    metrics |= dict.fromkeys(("headline/net_return", "headline/buy_and_hold_net_return"), 0.1)
    monkeypatch.setattr(LocalDatabase, "metrics", lambda *_: metrics)
    assert series_status(SERIES, settings)["after_costs"] is None
    stated = {"promotion.trading.cost_bps": "10", "promotion.trading.slippage_bps": "5"}
    monkeypatch.setattr(ExperimentRuns, "run_params", lambda *_: stated)
    assert series_status(SERIES, settings)["after_costs"]["costs_bps"] == 15


def test_a_monitor_that_never_ran_is_an_alarm(settings: Settings) -> None:
    decide(settings, CLOSE + 25 * HOUR)
    assert alarms(settings, CLOSE + 26 * HOUR) == []
    found = series_health(SERIES, settings, CLOSE + 27 * HOUR)
    assert found["alarms"] == [
        "monitor: it never ran; limit 26. Run `riseorfall monitor`, or `riseorfall up`",
    ]
    with pytest.raises(Unhealthy, match="it never ran"):
        require_healthy(found)


def test_a_monitor_that_ran_lately_is_none(settings: Settings) -> None:
    decide(settings, CLOSE + 25 * HOUR)
    Workspace(settings).monitor_log.write(MonitorEntry(SERIES.name, CLOSE + 24 * HOUR, "1", {}, (), ()))
    assert alarms(settings, CLOSE + 27 * HOUR) == []
    assert alarms(settings, CLOSE + 51 * HOUR) == ["bars", "monitor"]


def test_a_monitor_run_of_a_clock_that_was_ahead_silences_no_alarm(settings: Settings) -> None:
    ahead = datetime(2100, 1, 1, tzinfo=UTC)
    Workspace(settings).monitor_log.write(MonitorEntry(SERIES.name, ahead, "1", {}, (), ()))
    assert "monitor" in alarms(settings, CLOSE + 30 * HOUR)


def test_of_several_series_an_alarm_names_its_own_in_the_command(settings: Settings) -> None:
    store = Workspace(settings).bar_store
    store.merge(Series("ETH-USD", "1d"), store.read_frame(SERIES), {}, merged_at=CLOSE)
    found = series_health(SERIES, settings, CLOSE + 27 * HOUR)["alarms"]
    assert any("Run `riseorfall monitor --symbol BTC-USD --interval 1d`, or" in alarm for alarm in found)


def test_a_champion_of_427_days_is_an_alarm_although_no_monitor_reports_it(settings: Settings) -> None:
    then = CLOSE + timedelta(days=427)
    decide(settings, then)
    found = series_health(SERIES, settings, then)["alarms"]
    assert "stale: the champion's newest training bar is 427 days old; limit 30" in found


def test_an_alarm_is_wrapped_between_words(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alarm = "champion: version 1 cannot predict, it lacks network.onnx. " * 3
    monkeypatch.setenv("COLUMNS", "80")
    show_health(series_health(SERIES, settings, CLOSE) | {"alarms": [alarm], "up": {}, "next_runs": []}, "BTC-USD 1d")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert f"alarm {alarm.strip()}" in " ".join(" ".join(lines).split())


def test_historical_bars_have_no_clock(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    close = f"{CLOSE:%Y-%m-%d} UTC"
    for kind, scheduled, line in (
        (
            "sample",
            "BTC-USD 1d",
            f"the bundled sample: scheduled runs find no newer bars; the last one closed at {close}",
        ),
        (
            "csv",
            "BTC-USD 1d",
            "bars from a file; the next ingest reads it again, and adds bars if it has new ones; the newest closed at "
            + close,
        ),
        ("csv", "ETH-USD 1d", f"bars from a file; no known schedule reads it again; the newest closed at {close}"),
    ):
        monkeypatch.setattr(ExperimentRuns, "run_params", lambda *_, kind=kind: {"source.kind": kind})
        found = series_health(SERIES, settings, datetime(2026, 11, 26, tzinfo=UTC))
        assert found["alarms"] == []
        run = {"name": "ingest", "at": "2026-11-27T00:10:00+00:00", "series": scheduled}
        show_health(found | {"up": {}, "next_runs": [run]}, "BTC-USD 1d")
        shown = " ".join(capsys.readouterr().out.split())
        assert line in shown
        assert ("next: 2026-11-27 00:10 UTC ingest" in shown) == (scheduled == "BTC-USD 1d")  # not of another series
        assert "days old" not in shown
