"""Each chart holds its data, and stays readable with many or very small numbers."""

from types import SimpleNamespace

import numpy as np
import pytest
from synthetic_records import coin_labels, daily_record, forecast

from model.bootstrap import PairedDifference
from model.calibration_error import reliability_curve, reliability_intervals
from model.chart_style import FALL, INK, RISE
from model.label_names import LABEL_NAMES
from model.record import Record
from model.report_charts import (
    cost_chart,
    equity_chart,
    learning_chart,
    loss_differences_chart,
    probabilities_chart,
    reliability_chart,
)

OPENED_AT = np.datetime64("2024-04-20", "us") + np.arange(24) * np.timedelta64(1, "D")


def record(count: int) -> Record:
    labels = coin_labels(count, seed=1)
    return daily_record(labels, forecast(labels, 0.6, seed=2), folds=2)


def test_every_probability_is_drawn_in_the_colour_of_its_outcome() -> None:
    made = record(300)
    _, rises, falls = probabilities_chart(made, np.linspace(1, 2, 300)).data[:3]
    assert np.array_equal(rises.y, made.probabilities[made.labels == 1])
    assert np.array_equal(falls.y, made.probabilities[made.labels == 0])
    assert rises.name == f"actual rise ({(made.labels == 1).sum()})"


def test_lines_mark_one_half_and_the_first_decision_of_each_later_fold() -> None:
    made = record(300)
    figure = probabilities_chart(made, np.linspace(1, 2, 300))
    lines = [(line.xref, line.yref, line.x0, line.x1, line.y0, line.y1) for line in figure.layout.shapes]
    start = str(made.decided_at[made.fold == made.fold.max()][0])
    assert lines == [
        ("x2 domain", "y2", 0, 1, 0.5, 0.5),
        ("x", "y domain", start, start, 0, 1),
        ("x2", "y2 domain", start, start, 0, 1),
    ]


def test_many_dots_are_smaller_and_fainter_than_few() -> None:
    few, many = (probabilities_chart(record(n), np.linspace(1, 2, n)).data[1].marker for n in (300, 10_000))
    assert (few.size, few.opacity) == (5, 0.75)
    assert 2 <= many.size < 3
    assert 0.3 <= many.opacity < few.opacity


def test_a_tiny_equity_is_not_labelled_zero() -> None:
    """Two significant digits: 0.00005 is not 0."""
    times = np.arange("2020-01-01", "2020-01-04", dtype="datetime64[D]").astype("datetime64[us]")
    figure = equity_chart(times, {"long or short": np.array([1.0, 0.01, 0.00005])})
    assert figure.layout.yaxis.tickformat == ".2~r"
    assert list(figure.data[0].y) == [1.0, 0.01, 0.00005]


def test_loss_differences_show_mean_and_interval_of_each_opponent() -> None:
    found = {
        "base rate": PairedDifference(-0.02, -0.03, -0.01, 0.01, 750, 10),
        "persistence": PairedDifference(0.0, -0.01, 0.02, 0.9, 750, 10),
        "champion": PairedDifference(0.03, 0.01, 0.05, 0.01, 750, 10),
    }
    (points,) = loss_differences_chart(found, {}).data
    assert list(points.y) == ["champion", "persistence", "base rate"]  # plotly draws the first one at the bottom
    assert list(points.x) == [0.03, 0.0, -0.02]
    assert [x + up for x, up in zip(points.x, points.error_x.array, strict=True)] == pytest.approx([0.05, 0.02, -0.01])
    lows = [x - down for x, down in zip(points.x, points.error_x.arrayminus, strict=True)]
    assert lows == pytest.approx([0.01, -0.01, -0.03])
    assert list(points.marker.color) == [FALL, INK, RISE]


def test_the_colour_of_a_difference_goes_by_the_corrected_p_value_where_there_is_one() -> None:
    below = PairedDifference(-0.02, -0.03, -0.01, 0.01, 750, 10)  # its interval excludes 0
    found = {"base rate": below, "persistence": below, "champion": below}
    (points,) = loss_differences_chart(found, {"base rate": 0.23, "persistence": 0.04}).data
    assert dict(zip(points.y, points.marker.color, strict=True)) == {
        "base rate": INK, "persistence": RISE, "champion": RISE,
    }  # fmt: skip


def test_reliability_shows_the_curve_with_its_intervals_and_every_window() -> None:
    shown = record(500)
    curve = reliability_curve(shown.labels, shown.probabilities)
    lows, highs = reliability_intervals(shown)
    points, histogram = reliability_chart(shown).data
    np.testing.assert_allclose(points.x, curve.mean_probabilities, rtol=1e-6)
    np.testing.assert_allclose(points.y, curve.observed_shares, rtol=1e-6)
    np.testing.assert_allclose(np.add(points.y, points.error_y.array), highs, rtol=1e-6)
    np.testing.assert_allclose(np.subtract(points.y, points.error_y.arrayminus), lows, rtol=1e-6)
    assert list(points.customdata) == curve.counts.tolist()
    assert len(histogram.x) == 500


def test_the_axes_of_the_reliability_chart_name_the_label() -> None:
    ranks, rises = reliability_chart(record(500), LABEL_NAMES["rank"]).layout, reliability_chart(record(500)).layout
    assert (ranks.yaxis.title.text, ranks.xaxis2.title.text) == (
        "observed share above the median",
        "predicted P(above the median)",
    )
    assert (rises.yaxis.title.text, rises.xaxis2.title.text) == ("observed share of rises", "predicted P(rise)")


def epochs(*validation: float) -> list[SimpleNamespace]:
    """Return epochs with these validation losses and a training loss of 0.69."""
    return [
        SimpleNamespace(number=number, loss=0.69, accuracy=0.5, validation_loss=loss, validation_accuracy=0.5)
        for number, loss in enumerate(validation, 1)
    ]


def test_learning_curves_show_both_losses_and_mark_the_best_epoch() -> None:
    first, second = epochs(0.72, 0.68, 0.70), epochs(float("nan"))
    figure = learning_chart([first, second])
    training, validation, _, without = figure.data
    assert list(training.y) == [0.69] * 3
    assert list(validation.y) == [0.72, 0.68, 0.70]
    assert list(validation.marker.size) == [0, 10, 0]
    assert list(without.y) == [None]
    assert list(without.marker.size) == [0]


def test_no_line_is_drawn_across_a_gap() -> None:
    shown = record(300).take(np.r_[0:50, 80:300])
    price = probabilities_chart(shown, np.linspace(1, 2, 270)).data[0]
    assert [place for place, value in enumerate(price.y) if value is None] == [50]


def test_net_returns_by_cost_are_one_line_each_and_the_assumed_cost_is_marked() -> None:
    shown = {"sign": [0.2, 0.1, -0.1], "no-trade band": [0.1, 0.1, 0.1]}
    figure = cost_chart([0, 10, 20], shown, 15)
    assert {line.name: list(line.y) for line in figure.data} == shown
    assert [line.x0 for line in figure.layout.shapes] == [0, 15]  # zero, and the assumed cost
    assert len(cost_chart([0, 10, 20], shown, 25).layout.shapes) == 1
