"""The static pictures show their data, and are drawn on any input that a retrain may produce."""

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from synthetic_records import coin_labels, daily_record, forecast, loud_forecast

from model.label_names import LABEL_NAMES
from model.metrics import Record, confusion_matrix
from model.mlflow_pictures import confusion_picture, learning_curves, probabilities_picture, reliability_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Numbers:
    number: int
    loss: float = 0.69
    accuracy: float = 0.52
    validation_loss: float = 0.7
    validation_accuracy: float = 0.51


def png(figure: "Figure") -> bytes:
    """Render a figure."""
    stream = BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def record(count: int = 200) -> Record:
    labels = coin_labels(count, seed=1)
    return daily_record(labels, loud_forecast(labels, seed=2, spread=0.1))


def texts(figure: "Figure") -> set[str]:
    return {text.get_text() for ax in figure.axes for text in ax.texts}


def test_the_best_epoch_is_marked_at_the_lowest_validation_loss() -> None:
    history = [Numbers(1, validation_loss=0.72), Numbers(2, validation_loss=0.68), Numbers(3, validation_loss=0.7)]
    figure = learning_curves([history])
    marks = [line for line in figure.axes[0].lines if line.get_markeredgewidth() == 1.6]
    assert [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in marks] == [(2, 0.68)]
    assert png(figure).startswith(b"\x89PNG")


def test_one_diverged_epoch_does_not_hide_the_others() -> None:
    history = [Numbers(k + 1, loss=40.0 if k == 3 else 0.69) for k in range(60)]
    assert learning_curves([history]).axes[0].get_ylim()[1] < 1


@pytest.mark.parametrize(
    "histories",
    [
        [],
        [[]],
        [[Numbers(1)]],
        [[Numbers(1, validation_loss=NAN, validation_accuracy=NAN)] * 2],
        [[Numbers(1, loss=NAN), Numbers(2, loss=float("inf"))]],
        [[Numbers(k + 1) for k in range(5)]] * 12,
    ],
)
def test_learning_curves_of_any_length_are_drawn(histories: list[list[Numbers]]) -> None:
    assert png(learning_curves(histories))


def test_the_matrix_shows_counts_and_shares_of_rows() -> None:
    figure = confusion_picture(np.array([[30, 10], [1500, 500]]))
    assert texts(figure) == {"75.0%", "25.0%", "30", "10", "1,500", "500"}
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["fall\n(40)", "rise\n(2,000)"]
    assert png(figure)


def test_pictures_of_ranks_speak_of_the_median_and_not_of_rises() -> None:
    ranks, shown = LABEL_NAMES["rank"], record()
    matrix = confusion_picture(np.array([[30, 10], [1500, 500]]), ranks.classes)
    ticks = [label.get_text() for label in (*matrix.axes[0].get_xticklabels(), *matrix.axes[0].get_yticklabels())]
    assert ticks == [
        "predicted below\nthe median", "predicted above\nthe median",
        "below\nthe median\n(40)", "above\nthe median\n(2,000)",
    ]  # fmt: skip
    figure = reliability_picture(shown, ranks)
    above, below = figure.axes
    assert (above.get_ylabel(), below.get_xlabel()) == (
        "observed share above the median",
        "predicted P(above the median)",
    )
    assert f"share above the median ({shown.labels.mean():.1%})" in above.get_legend_handles_labels()[1]
    assert png(matrix)
    assert png(figure)
    legend = figure.legends[0].get_window_extent()
    assert 0 <= legend.x0 < legend.x1 <= figure.bbox.width  # the longer names fit


def test_an_empty_row_is_drawn() -> None:
    assert png(confusion_picture(confusion_matrix(np.ones(3, dtype=np.int8), np.array([0.4, 0.6, 0.7]))))


def test_probabilities_are_coloured_by_the_actual_outcome() -> None:
    shown = record()
    figure = probabilities_picture(shown, np.linspace(100, 200, 200))
    falls, rises = figure.axes[1].collections
    assert (falls.get_offsets()[:, 1] == shown.probabilities[shown.labels == 0]).all()
    assert (rises.get_offsets()[:, 1] == shown.probabilities[shown.labels == 1]).all()
    assert figure.axes[0].get_yscale() == "linear"
    assert png(figure)


def test_no_line_is_drawn_across_a_gap() -> None:
    shown = record().take(np.r_[0:50, 80:200])
    lines = probabilities_picture(shown, np.full(170, 100.0)).axes[0].lines
    assert [len(line.get_xdata()) for line in lines[:2]] == [50, 120]


def test_a_price_that_grew_many_fold_is_drawn_on_a_logarithmic_axis() -> None:
    figure = probabilities_picture(record(), np.geomspace(200, 60_000, 200))
    assert figure.axes[0].get_yscale() == "log"
    assert png(figure)


@pytest.mark.parametrize("constant", [0.5, 0.0, 1.0])
def test_constant_probabilities_are_drawn(constant: float) -> None:
    shown = daily_record(coin_labels(50, seed=1), np.full(50, constant))
    assert png(probabilities_picture(shown, np.full(50, 100.0)))
    assert png(reliability_picture(shown))


def test_one_decision_is_drawn() -> None:
    shown = record(1)
    assert png(probabilities_picture(shown, np.array([100.0])))
    assert png(reliability_picture(shown))


def test_reliability_shows_every_window_and_the_error() -> None:
    labels = coin_labels(500, seed=3)
    figure = reliability_picture(daily_record(labels, forecast(labels, 0.6, seed=4)))
    assert sum(patch.get_height() for patch in figure.axes[1].patches) == 500
    assert "expected calibration error 0.0" in figure.axes[0].get_title()
    assert png(figure)
