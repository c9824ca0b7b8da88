"""What commands print: reasons with their marks, wrapped between words; losses with their bars; late predictions."""

from datetime import timedelta
from pathlib import Path

import pytest
from synthetic_bars import random_walk
from tiny_home import SERIES, tiny_home

from model.times import to_datetime
from tasks.champion.series_status import series_status
from tasks.console.tables import (
    show_decisions,
    show_forecast,
    show_status,
)
from tasks.serving.forecast import Forecast
from tasks.store.decision_log import LoggedDecision
from tasks.store.prediction_log import new_prediction
from tasks.workspace import Workspace

BARS = random_walk(120, seed=3)
CLOSE = to_datetime(BARS.closed_at[-1])
LONG = (
    "log loss difference +0.0312 [+0.0123, +0.0501] vs. the base rate on 750 bars: significantly worse (tolerance 0.01)"
)
ROW = LoggedDecision("run-1", CLOSE, SERIES.name, SERIES.symbol, SERIES.interval, "hold", "1", "1", "1",
                     (LONG, "passes the sanity check"), {"base_rate.n": 750.0}, marks=("failed", "passed"))  # fmt: skip


def test_a_long_reason_is_wrapped_between_words_with_its_mark(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show_decisions([ROW.to_dict() | {"sequence": 1}])
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert f"failed: {LONG}" in " ".join(shown.split())
    assert "sanity check" not in shown  # it does not decide
    words = [line.split() for line in shown.splitlines()]
    assert all(word in f"failed: {LONG}".split() for word in words[-1])  # no word is broken


def test_status_names_the_bars_of_a_loss_and_the_newest_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = tiny_home(tmp_path, BARS, len(BARS))
    workspace = Workspace(settings, SERIES)
    workspace.decision_log.append(ROW)
    for place, probability in ((-2, 0.42), (-1, 0.537)):
        workspace.prediction_log.store(
            new_prediction(SERIES.name, SERIES, 1, BARS.closed_at[place], "1", probability, CLOSE)
        )
    found = series_status(SERIES, settings)
    assert (found["champion"]["windows"], found["prediction"]["probability"]) == (750, 0.537)
    show_status(found | {"champion": found["champion"] | {"log_loss": 0.6931, "balanced_accuracy": 0.5}})
    shown = " ".join(capsys.readouterr().out.split())
    assert "log loss 0.6931 on 750 bars" in shown
    assert (
        f"P(rise) 0.5370 at {CLOSE + timedelta(days=1):%Y-%m-%d}, decided at {CLOSE:%Y-%m-%d} UTC (version 1)" in shown
    )
    assert "late" not in shown
    assert f"failed: {LONG}" in shown
    assert "passed: passes the sanity check" in shown


@pytest.mark.parametrize(("days", "missed", "late"), [(0, 0, False), (1, 2, True)])
def test_a_prediction_that_is_late_or_follows_missed_bars_says_so(
    capsys: pytest.CaptureFixture[str], days: int, missed: int, late: bool
) -> None:
    stored = new_prediction(SERIES.name, SERIES, 1, BARS.closed_at[-1], "1", 0.5, CLOSE + timedelta(days=days))
    found = Forecast(stored, (stored,) * missed).to_dict()
    assert (found["late"], found["backfilled"]) == (late, missed)
    show_forecast(found)
    shown = capsys.readouterr().out
    assert ("late: it was stored after its outcome was due" in shown) == late
    assert ("backfilled: predictions of 2 missed bars" in shown) == bool(missed)
