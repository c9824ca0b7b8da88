"""What commands print: reasons with their marks, wrapped between words; losses with their bars; late predictions."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from synthetic_bars import random_walk
from synthetic_records import coin_labels, daily_record, loud_forecast
from tiny_home import SERIES, tiny_home

from flows.cli import run
from model.baselines import BASELINES
from model.evaluation import evaluate_record
from model.times import to_datetime
from tasks.champion.series_status import series_status
from tasks.console.command_output import decision_reasons, metrics_table, show_decisions, show_lines, show_quarantine
from tasks.console.prediction_tables import show_forecast
from tasks.console.status_tables import show_status
from tasks.serving.forecast import Forecast
from tasks.store.decision_log import LoggedDecision
from tasks.store.prediction_log import new_prediction
from tasks.workspace import Workspace

BARS = random_walk(120, seed=3)
CLOSE = to_datetime(BARS.closed_at[-1])
LONG = (
    "log loss difference +0.0312 [+0.0123, +0.0501] vs. the base rate on 750 bars: "
    "significantly worse by more than 0.01"
)
ROW = LoggedDecision("run-1", CLOSE, SERIES.name, SERIES.symbol, SERIES.interval, "hold", "1", "1", "1",
                     (LONG, "sanity check: no problem found"), {"base_rate.n": 750.0},
                     marks=("failed", "passed"))  # fmt: skip


def test_a_long_reason_is_wrapped_between_words_with_its_mark(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show_decisions([ROW.to_dict() | {"number": 1}])
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert f"failed: {LONG} - passed: sanity check: no problem found" in " ".join(shown.split())
    words = [word for line in shown.splitlines()[1:] for word in line.split()]
    assert set(words) <= set(f"- failed: {LONG} passed: sanity check: no problem found".split())  # no word is broken


def test_a_line_shows_what_stands_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["forced: [ticket 12] the file was wrong", "log: /data/[old]/a.log", "forced: [/b] does not end a style"]
    show_lines(lines)
    assert capsys.readouterr().out.splitlines() == lines


def test_a_command_is_one_line_however_narrow_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    command = "riseorfall retrain --window.lookback-bars 60 --network.units 16 --network.dropout 0.25"
    show_lines(["a line of text that is wrapped between words", command])
    assert capsys.readouterr().out.splitlines() == ["a line of text that is wrapped between ", "words", command]


def test_the_days_of_a_replay_are_counted_and_have_their_deciding_reason(capsys: pytest.CaptureFixture[str]) -> None:
    show_decisions([ROW.to_dict(), ROW.to_dict() | {"action": "reject"}], whole=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if " version " in line] == ["1", "2"]
    shown = " ".join(" ".join(lines).split())
    assert shown.count(f"failed: {LONG} (+1 more)") == 2
    assert "sanity check" not in shown


def test_of_the_reasons_that_are_left_out_the_failed_ones_are_counted() -> None:
    row = {"reasons": ("a person held it", "worse", "also worse", "sane"), "marks": ("failed", "failed", "passed")}
    assert decision_reasons(row, whole=False) == ["a person held it (+3 more, 2 failed)"]


def test_status_names_the_bars_of_a_loss_and_the_newest_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = tiny_home(tmp_path, BARS, len(BARS))
    workspace = Workspace(settings, SERIES)
    workspace.decision_log.append(ROW)
    for place, probability in ((-2, 0.42), (-1, 0.537)):
        at = BARS.closed_at[place]
        stored = new_prediction(SERIES.name, SERIES, 1, at, "1", probability, to_datetime(at) + timedelta(hours=1))
        workspace.prediction_log.store(stored)
    found = series_status(SERIES, settings)
    assert (found["champion"]["windows"], found["prediction"]["probability"]) == (750, 0.537)
    show_status(found | {"champion": found["champion"] | {"log_loss": 0.6931, "balanced_accuracy": 0.5}})
    shown = " ".join(capsys.readouterr().out.split())
    assert "log loss 0.6931 on 750 bars" in shown
    assert (
        f"P(rise) 0.5370 for the close at {CLOSE + timedelta(days=1):%Y-%m-%d}, decided at that of {CLOSE:%Y-%m-%d} "
        "UTC (version 1)" in shown
    )
    show_status(found | {"champion": found["champion"] | {"version": "2", "log_loss": 0.69, "balanced_accuracy": 0.5}})
    assert "UTC (made by version 1, the champion at that time)" in " ".join(capsys.readouterr().out.split())
    assert f"bars 120, the first closed at {to_datetime(BARS.closed_at[0]):%Y-%m-%d}, the last at" in shown
    assert "T00:00" not in shown
    assert "late" not in shown
    assert f"failed: {LONG}" in shown
    assert "passed: sanity check: no problem found" in shown


def test_the_metrics_of_a_retrain_are_named_as_in_its_report(capsys: pytest.CaptureFixture[str]) -> None:
    labels = coin_labels(200, seed=1)
    record = daily_record(labels, loud_forecast(labels, seed=2, spread=0.1))
    evaluation = evaluate_record(record, dict.fromkeys(BASELINES, np.full(200, 0.5)), {}, seed=1)
    Console(width=80).print(metrics_table(evaluation))
    shown = capsys.readouterr().out
    assert f"200 out-of-sample windows, {evaluation.first[:10]} to {evaluation.last[:10]}" in shown
    for name in ("log loss", "Brier score", "accuracy", "balanced accuracy", "Matthews corr.", "ROC AUC"):
        assert name in shown


def test_a_metric_that_is_undefined_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Where every test bar rose there is no balanced accuracy, no correlation and no area under the curve."""
    labels = np.ones(40, dtype=np.int8)
    record = daily_record(labels, loud_forecast(labels, seed=2, spread=0.1))
    base_rate = np.full(40, 0.6)
    Console(width=80).print(metrics_table(evaluate_record(record, dict.fromkeys(BASELINES, base_rate), {}, seed=1)))
    shown = capsys.readouterr().out
    assert "nan" not in shown
    assert shown.count("undefined") == 6


@pytest.mark.parametrize("released_at", [None, "2026-11-27T10:00:00+00:00"])
def test_a_refused_bar_is_shown_with_the_whole_name_of_its_file(
    released_at: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    refused = {
        "opened_at": "2017-04-15T00:00:00+00:00", "rule": "absurd_tick", "value": "low 0.06 (line 906)",
        "source": "Coinbase_BTCUSD_d.csv", "released_at": None, "release_reason": "",
    }  # fmt: skip
    other = refused | {"released_at": released_at, "release_reason": "checked"}
    show_quarantine([refused, other])
    shown = capsys.readouterr().out
    assert ("released" in shown) == (released_at is not None)
    if released_at is None:
        assert shown.count("2017-04-15   absurd_tick   low 0.06 (line 906)   Coinbase_BTCUSD_d.csv") == 2


BREAK_EVEN = {"": 21.0, "_low": -8.0, "_high": 51.0}


def test_status_lists_the_newest_decision_first_and_its_reasons_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = tiny_home(tmp_path, BARS, len(BARS))
    workspace = Workspace(settings, SERIES)
    workspace.decision_log.append(ROW)
    workspace.decision_log.append(replace(ROW, decision_id="run-2", decided_at=CLOSE + timedelta(days=1)))
    run_id = workspace.registry.version("1").run_id
    logged = {"headline/net_return": 1.81, "headline/buy_and_hold_net_return": 4.37}
    logged |= {f"trading/long_flat_break_even_bps{name}": value for name, value in BREAK_EVEN.items()}
    costs = {"promotion.trading.cost_bps": 10.0, "promotion.trading.slippage_bps": 5.0}
    workspace.runs.log_values(run_id, logged, params=costs)
    for place, probability in ((-3, 0.42), (-1, 0.537)):
        stored = new_prediction(SERIES.name, SERIES, 1, BARS.closed_at[place], "1", probability, CLOSE)
        workspace.prediction_log.store(stored)
    monkeypatch.setenv("COLUMNS", "80")
    show_status(series_status(SERIES, settings))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    days = [line.split()[0] for line in lines[lines.index("last decisions, newest first:") :] if "hold version" in line]
    assert days == [f"{CLOSE + timedelta(days=1):%Y-%m-%d}", f"{CLOSE:%Y-%m-%d}"]
    shown = " ".join(" ".join(lines).split())
    assert shown.count("passed: sanity check: no problem found") == 1
    assert shown.count(f"failed: {LONG}") == 2
    first = f"{to_datetime(BARS.closed_at[0]):%Y-%m-%d}"
    assert f"bars {len(BARS)}, the first closed at {first}, the last at {CLOSE:%Y-%m-%d} UTC" in shown
    rises = BARS.column("close")[-2] > BARS.column("close")[-3]
    outcome = "rise: wrong" if rises else "fall: right"
    assert f"last outcome close at {CLOSE - timedelta(days=1):%Y-%m-%d}, P(rise) 42.0%, {outcome}; late" in shown
    assert (
        "after costs holding only while a rise is predicted (long or flat) returned +181% out of sample after costs of "
        "15 bps per purchase or sale, buy and hold +437%; it breaks even at costs of 21 bps [-8, 51]: no significant "
        "gain or loss"
    ) in shown


def test_predictions_are_listed_with_their_outcomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    workspace = Workspace(tiny_home(tmp_path, BARS, len(BARS)), SERIES)
    for place, probability in ((-4, 0.2), (-3, 0.7), (-1, 0.537)):
        at = to_datetime(BARS.closed_at[place]) + timedelta(hours=1 if place != -4 else 48)
        stored = new_prediction(SERIES.name, SERIES, 1, BARS.closed_at[place], "1", probability, at)
        workspace.prediction_log.store(stored)
    close = BARS.column("close")
    assert run(["predictions", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    rises = [bool(close[-3] > close[-4]), bool(close[-2] > close[-3])]
    assert [row["outcome"] for row in rows] == [*("rise" if each else "fall" for each in rises), None]
    assert [row["right"] for row in rows] == [not rises[0], rises[1], None]
    assert [row["predicted"] for row in rows] == ["fall", "rise", "rise"]
    assert [row["late"] for row in rows] == [True, False, False]
    assert run(["predictions", "--last", "1"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("BTC-USD 1d\n")
    assert [line.split() for line in shown.splitlines() if "%" in line] == [
        [f"{CLOSE + timedelta(days=1):%Y-%m-%d}", "53.7%", "rise", "not", "known", "yet", "1", "in", "time"]
    ]


def test_a_prediction_for_which_another_version_served_says_which_counts(capsys: pytest.CaptureFixture[str]) -> None:
    stored = new_prediction(SERIES.name, SERIES, 1, BARS.closed_at[-1], "2", 0.5, CLOSE)
    before = new_prediction(SERIES.name, SERIES, 1, BARS.closed_at[-1], "1", 0.41, CLOSE)
    show_forecast(Forecast(stored, (), served_before=before).to_dict())
    assert "not served: version 1 predicted P(rise) 0.4100 for this close before" in capsys.readouterr().out
    show_forecast(Forecast(stored, ()).to_dict())
    assert "not served" not in capsys.readouterr().out


@pytest.mark.parametrize(("days", "missed", "late"), [(0, 0, False), (1, 2, True)])
def test_a_prediction_that_is_late_or_follows_missed_bars_says_so(
    capsys: pytest.CaptureFixture[str], days: int, missed: int, late: bool
) -> None:
    stored = new_prediction(SERIES.name, SERIES, 1, BARS.closed_at[-1], "1", 0.5, CLOSE + timedelta(days=days))
    found = Forecast(stored, (stored,) * missed).to_dict()
    assert (found["late"], found["backfilled"]) == (late, missed)
    show_forecast(found)
    shown = capsys.readouterr().out
    assert f"decided at {CLOSE:%Y-%m-%d} UTC, resolves at {CLOSE + timedelta(days=1):%Y-%m-%d} UTC" in " ".join(
        shown.split()
    )
    assert ("late: it was stored after its outcome was due" in shown) == late
    assert ("backfilled: predictions of 2 missed bars" in shown) == bool(missed)


@pytest.mark.parametrize(
    ("source", "next_step"),
    [
        ("sample", "The bundled sample ends there and gets no newer bars; `riseorfall retrain --source.kind exchange`"),
        ("csv", "add newer bars to the file, run `riseorfall ingest`"),
        ("exchange", "run `riseorfall ingest` with the flags of its retrain, then `riseorfall predict`"),
        ("", "run `riseorfall ingest` with the flags of its retrain, then `riseorfall predict`"),
    ],
)
def test_a_late_prediction_says_what_to_do_next_for_the_source_of_its_bars(
    capsys: pytest.CaptureFixture[str], source: str, next_step: str
) -> None:
    stored = new_prediction(SERIES.name, SERIES, 1, BARS.closed_at[-1], "1", 0.5, CLOSE + timedelta(days=1))
    show_forecast(Forecast(stored, (), source=source).to_dict())
    assert next_step in " ".join(capsys.readouterr().out.split())
