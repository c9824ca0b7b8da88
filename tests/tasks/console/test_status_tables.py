"""The status of a home whose coins are predicted by their panel; tables whose words stay whole at 80 columns."""

import json
import shlex
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from panel_home import SYMBOLS, coins, home_of_panel, store_coins
from synthetic_bars import random_walk
from terminal import on_a_terminal

from flows.cli import run
from model.bars import PANEL, Series
from model.times import to_datetime
from tasks.champion.series_alarms import series_health
from tasks.console.command_output import show_bars
from tasks.console.status_tables import short_alarm, show_all_status, show_status
from tasks.settings import Settings
from tasks.workspace import Workspace

NEWEST = to_datetime(coins()["BTC-USD"].closed_at[-1])
ADA, OLD = Series("ADA-USD", "1d"), Series("OLD-USD", "1d")
NO_CHAMPION = (
    "ADA-USD-1d: expected a champion, found none. Run `riseorfall retrain --source.kind KIND --source.symbol ADA-USD "
    "--source.interval 1d` first."
)


@pytest.fixture(scope="module")
def template(template_home: Path) -> Path:
    return home_of_panel(template_home).root


def shown_by(capsys: pytest.CaptureFixture[str], words: str, code: int = 0) -> str:
    assert run(shlex.split(words)) == code
    return capsys.readouterr().out


def test_a_series_that_the_panel_predicts_is_no_alarm(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    for symbol in SYMBOLS:
        found = series_health(Series(symbol, "1d"), settings, NEWEST)
        assert (found["alarms"], found["predicted_by"]) == ([], "PANEL-1d")
    shown = shown_by(capsys, "status --check")
    assert shown.count("by PANEL-1d") == 3
    shown = " ".join(shown_by(capsys, "status --symbol ADA-USD").split())
    assert "champion none; predicted by PANEL-1d" in shown
    assert "prediction those of PANEL-1d: `riseorfall predictions --symbol PANEL`" in shown
    assert "alarms none" in shown


def test_a_series_that_no_panel_predicts_is_an_alarm(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither one that the panel was not trained on, nor one of another interval, nor one with decisions of its own."""
    store_coins(settings, {"OLD-USD": random_walk(200, seed=7), "BTC-USD": random_walk(90, interval="1h")})
    log = Workspace(settings).decision_log
    (promoted,) = log.rows("PANEL-1d")
    own = {"series_name": ADA.name, "symbol": ADA.symbol, "action": "hold", "champion_after": None, "files": {}}
    log.append(replace(promoted, decision_id="run-2", **own))
    for series in (OLD, Series("BTC-USD", "1h"), ADA):
        found = series_health(series, settings, NEWEST)
        assert found["predicted_by"] == ""
        command = Workspace(settings, series).retrain_command
        assert found["alarms"] == [f"{series.name}: expected a champion, found none. Run `{command}` first."]
    assert "expected a champion, found none" in " ".join(shown_by(capsys, "status --check", code=4).split())


def test_a_panel_whose_champion_cannot_be_read_predicts_nothing(settings: Settings) -> None:
    path = Workspace(settings, Series(PANEL, "1d")).registry.read_version("1").folder / "network.onnx"
    path.write_bytes(b"another network")
    assert series_health(ADA, settings, NEWEST)["alarms"] == [NO_CHAMPION]


def test_the_column_alarms_shows_what_the_alarm_is(capsys: pytest.CaptureFixture[str]) -> None:
    for alarm, short in (
        (NO_CHAMPION, "expected a champion, found none"),
        ("monitor: it never ran; limit 26. Run `riseorfall monitor`, or `riseorfall up`", "monitor: it never ran"),
        ("bars: the newest closed 5.1 bars ago; limit 3", "bars: the newest closed 5.1 bars ago"),
        ("champion: version 1 cannot predict, it lacks network.onnx. Run", "champion: version 1 cannot predict"),
    ):
        assert short_alarm(alarm, "ADA-USD-1d") == short
    show_all_status([LINE | {"series": "ADA-USD-1d", "health": {"alarms": [NO_CHAMPION], "predicted_by": ""}}])
    assert "ADA-USD-1d:" not in capsys.readouterr().out


@pytest.mark.usefixtures("settings")
def test_the_status_of_a_panel_counts_windows_and_shows_that_nothing_was_predicted_yet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [line.split() for line in shown_by(capsys, "status --symbol PANEL").splitlines()]
    shown = " ".join(" ".join(line) for line in lines)
    assert "prediction none; `riseorfall predict --panel` stores them" in shown
    assert "live no monitor run yet" in shown
    assert "challenger" not in [line[0] for line in lines]  # the champion is the newest version
    assert ["age", "bars", "from"] in [line[:3] for line in lines]
    assert ["alarms", "none"] in lines
    found = json.loads(shown_by(capsys, "status --symbol PANEL --json"))
    scores = {"log_loss": 0.7, "balanced_accuracy": 0.5}
    show_status(found | {"champion": found["champion"] | scores})
    assert "log loss 0.7000 on 360 windows" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("settings")
def test_a_challenger_of_another_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(shown_by(capsys, "status --symbol PANEL --json"))
    assert found["challenger"] is None
    show_status(found | {"challenger": found["champion"] | {"version": "2"}})
    assert "challenger version 2, trained until" in " ".join(capsys.readouterr().out.split())


def test_the_old_champion_of_a_panel_of_an_exchange_is_an_alarm(settings: Settings) -> None:
    store, panel = Workspace(settings).bar_store, Series(PANEL, "1d")
    assert series_health(panel, settings, NEWEST + timedelta(days=40))["alarms"] == []  # historical bars
    newer = random_walk(241, seed=1)
    store.merge(Series("BTC-USD", "1d"), newer.frame(), {"kind": "exchange"}, merged_at=datetime.now(UTC))
    for days, alarms in (
        (29, []),
        (40, ["stale: the champion's newest training bar is 40 days old; limit 30"]),
    ):
        found = series_health(panel, settings, NEWEST + timedelta(days=days))
        assert found["alarms"] == alarms
        assert found["bars_age_hours"] == 24 * (days - 1)


@pytest.mark.usefixtures("settings")
def test_decisions_show_all_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    shown = " ".join(shown_by(capsys, "decisions --symbol PANEL").split())
    assert (
        "- passed: log loss difference +0.0001 vs. the base rate - passed: there is no champion "
        "- passed: sanity check: no problem found"
    ) in shown


def test_decisions_are_numbered_by_series_whatever_a_replay_decided(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Workspace(settings).decision_log
    (first,) = log.rows("PANEL-1d")
    later = {"decision_id": "run-3", "action": "hold", "files": {}}
    log.append(replace(first, decision_id="run-2", series_name="PANEL-1d-replay", files={}))
    log.append(replace(first, **later))
    rows = json.loads(shown_by(capsys, "decisions --symbol PANEL --json"))
    assert [(row["number"], row["sequence"]) for row in rows] == [(1, 1), (2, 3)]
    (newest,) = json.loads(shown_by(capsys, "decisions --symbol PANEL --last 1 --json"))
    assert (newest["number"], newest["decision_id"]) == (2, "run-3")
    assert len(json.loads(shown_by(capsys, "decisions --symbol PANEL --last 0 --json"))) == 2
    lines = shown_by(capsys, "decisions --symbol PANEL").splitlines()
    assert [line.split()[0] for line in lines if " version " in line and line[:4].strip().isdigit()] == ["1", "2"]


BARS_ROW = {
    "symbol": "1000SHIB-USDT", "interval": "15m", "rows": 235000, "first": "2018-01-01T08:15:00+00:00",
    "last": "2025-01-01T08:15:00+00:00", "gaps": 123, "missing_bars": 4567, "quarantined": 12345, "revised": 12345,
    "version": 1234,
}  # fmt: skip
ALARMS = ["monitor: it never ran; limit 26", "champion: version 1 cannot predict, it lacks network.onnx, network.keras"]
LINE = {
    "series": "1000SHIB-USDT-15m", "champion": {"version": "123", "log_loss": 0.7},
    "decisions": [{"action": "rollback", "decided_at": "2026-11-27T08:04:00+00:00"}],
    "health": {"alarms": ALARMS, "predicted_by": ""}, "bars": {"last": "2026-11-27T08:04:00+00:00", "interval": "15m"},
}  # fmt: skip
FOREIGN = {"series": "ADA-USDT-15m", "champion": None, "health": {"alarms": [], "predicted_by": "PANEL-15m"}}


def test_no_word_is_broken_at_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    small = BARS_ROW | {"symbol": "ADA-USDT", "interval": "1d", "gaps": 0, "missing_bars": 0}
    for show in (lambda: show_bars([BARS_ROW, small]), lambda: show_all_status([LINE, LINE | FOREIGN])):
        words = {}
        for width in (80, 200):
            monkeypatch.setenv("COLUMNS", str(width))
            show()
            shown = capsys.readouterr().out
            assert max(map(len, shown.splitlines())) <= width
            words[width] = sorted(word for word in shown.split() if "─" not in word)
        assert words[80] == words[200]
    monkeypatch.setenv("COLUMNS", "80")
    show_bars([BARS_ROW, small])
    shown = capsys.readouterr().out
    assert "1000SHIB-USDT 15m " in shown  # a series is one line
    assert "ADA-USDT 1d " in shown


@pytest.mark.parametrize("width", [40, 60])
def test_on_a_narrow_terminal_nothing_is_cut(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    show_bars([BARS_ROW, BARS_ROW | {"symbol": "ADA-USDT", "gaps": 0}])
    show_all_status([LINE, LINE | FOREIGN])
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    for line in ("series 1000SHIB-USDT 15m", "gaps (bars) 123 (4567)", "quarantined 12345", "log loss 0.7000",
                 "last decision rollback 2026-11-27", "champion by PANEL-15m"):  # fmt: skip
        assert line in lines


@pytest.mark.usefixtures("settings")
def test_a_terminal_of_80_columns_shows_the_bars_whole() -> None:
    shown = on_a_terminal([sys.executable, "-c", "from flows.cli import main; main()", "bars"])
    assert "quarantined" in shown
    assert "…" not in shown
    assert "ADA-USD 1d " in shown
