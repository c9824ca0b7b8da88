"""The monitor's picture shows the running loss, the e-values and the drift ratios, and is drawn without predictions."""

import numpy as np
import pytest

from model.chart_style import FALL, RISE
from model.drift import Drift
from model.e_process import ForecastReference
from model.live_score import LiveScore, live_score
from model.metrics import log_losses
from model.monitor_picture import monitor_picture

REFERENCE = ForecastReference(base_rate=0.5, excess_slope=0.0, divergence_cap=1.0, tolerance=0.0)
LABELS = np.array([1, 0, 1, 1, 0], dtype=np.int8)
PROBABILITIES = np.array([0.6, 0.55, 0.4, 0.7, 0.5])
LOSSES = log_losses(LABELS, PROBABILITIES)
TIMES = np.datetime64("2026-01-01", "us") + np.arange(5) * np.timedelta64(1, "D")
DRIFT = (
    Drift("move", 0.1, 0.2, 0.3, 0.2, drifted=False),
    Drift("level", float("nan"), float("nan"), 1.2, 3.0, drifted=False),
)


def scored(count: int) -> LiveScore:
    return live_score(LABELS[:count], PROBABILITIES[:count], REFERENCE, 80.0)


def test_each_panel_shows_its_numbers() -> None:
    score = scored(5)
    losses, evidence, drifts = monitor_picture(TIMES, LOSSES, score, DRIFT).axes
    running = np.cumsum(LOSSES) / np.arange(1, 6)
    np.testing.assert_allclose(np.asarray(losses.lines[0].get_ydata(), dtype=np.float64), running)
    assert set(losses.lines[1].get_ydata()) == {score.base_rate_loss}
    np.testing.assert_allclose(np.asarray(evidence.lines[0].get_ydata(), dtype=np.float64), score.e_values)
    assert set(evidence.lines[1].get_ydata()) == {80.0}
    widths = {
        label.get_text(): bar.get_width() for label, bar in zip(drifts.get_yticklabels(), drifts.patches, strict=True)
    }
    assert widths == pytest.approx({"move, KS": 0.5, "move, PSI": 1.5})


def test_a_ratio_above_its_limit_has_another_colour() -> None:
    from matplotlib.colors import to_rgba  # here: matplotlib takes a second

    *_, drifts = monitor_picture(TIMES, LOSSES, scored(5), DRIFT).axes
    assert [bar.get_facecolor() for bar in drifts.patches] == [to_rgba(RISE), to_rgba(FALL)]


def test_a_panel_without_data_is_left_out() -> None:
    none = (TIMES[:0], LOSSES[:0], scored(0))
    figure = monitor_picture(*none, ())
    assert figure.axes == []
    assert [text.get_text() for text in figure.texts] == ["no prediction with an outcome yet"]
    (drifts,) = monitor_picture(*none, DRIFT).axes
    assert len(drifts.patches) == 2
    losses, evidence = monitor_picture(TIMES, LOSSES, scored(5), DRIFT[1:]).axes
    assert "log loss" in losses.get_title(loc="left")
    assert "E-process" in evidence.get_title(loc="left")
