"""Pictures of a run as SVG files: the confusion matrix, and charts of any input that a retrain may produce."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from synthetic_records import coin_labels, daily_record, loud_forecast

from model.chart_svg import VARIABLES, chart_svg, standalone_svg
from model.confusion_picture import confusion_svg
from model.label_names import LABEL_NAMES
from model.metrics import confusion_matrix
from model.record import Record
from model.report_charts import learning_chart, probabilities_chart, reliability_chart

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Numbers:
    number: int
    loss: float = 0.69
    accuracy: float = 0.52
    validation_loss: float = 0.7
    validation_accuracy: float = 0.51


def record(count: int = 200) -> Record:
    labels = coin_labels(count, seed=1)
    return daily_record(labels, loud_forecast(labels, seed=2, spread=0.1))


def elements(svg: str) -> ET.Element:
    """Parse a picture as a browser does that opens the file."""
    return ET.fromstring(standalone_svg(svg))


def drawn(figure: "Figure") -> ET.Element:
    return elements(chart_svg(json.loads(str(figure.to_json())), "chart"))


def texts(picture: ET.Element) -> list[str]:
    return [str(each.text) for each in picture.iter("{http://www.w3.org/2000/svg}text")]


def test_a_file_has_the_colours_that_a_page_has_in_its_style_sheet() -> None:
    picture = standalone_svg(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 7"><path stroke="var(--rise)"/></svg>'
    )
    root = ET.fromstring(picture)
    style, paper, path = root
    assert root.attrib == {"viewBox": "0 0 9 7", "width": "9", "height": "7"}  # else MLflow shows nothing
    assert all(f"--{name}:{colour};" in str(style.text) for colour, name in VARIABLES.items())
    assert (paper.attrib["fill"], path.attrib["stroke"]) == ("#ffffff", "var(--rise)")


def test_the_matrix_shows_counts_and_shares_of_rows() -> None:
    picture = elements(confusion_svg(np.array([[30, 10], [1500, 500]])))
    assert set(texts(picture)) == {
        "Actual (rows) and predicted class", "accuracy 26.0% on 2,040 windows",
        "75.0%", "25.0%", "30", "10", "1,500", "500",
        "fall", "(40)", "rise", "(2,000)", "predicted fall", "predicted rise",
    }  # fmt: skip
    cells = [each for each in picture.iter("{http://www.w3.org/2000/svg}rect") if "fill-opacity" in each.attrib]
    assert [each.attrib["fill-opacity"] for each in cells] == ["0.750", "0.250", "0.750", "0.250"]
    assert len({(each.attrib["x"], each.attrib["y"]) for each in cells}) == 4


def test_a_matrix_of_ranks_names_the_median() -> None:
    found = texts(elements(confusion_svg(np.array([[30, 10], [1500, 500]]), LABEL_NAMES["rank"].classes)))
    assert found.count("the median") == 4
    assert {"below", "above", "predicted below", "predicted above"} <= set(found)


def test_an_empty_row_is_drawn() -> None:
    matrix = confusion_matrix(np.ones(3, dtype=np.int8), np.array([0.4, 0.6, 0.7]))
    assert "(0)" in texts(elements(confusion_svg(matrix)))


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
    shown = texts(drawn(learning_chart(histories)))
    assert ("log loss (nats)" in shown) == bool(histories)  # without a fold there is no panel


def test_one_diverged_epoch_does_not_hide_the_others() -> None:
    history = [Numbers(k + 1, loss=40.0 if k == 3 else 0.69) for k in range(60)]
    assert learning_chart([history]).layout.yaxis.range[1] < 1


def test_a_price_that_grew_many_fold_is_drawn_on_a_logarithmic_axis() -> None:
    figure = probabilities_chart(record(), np.geomspace(200, 60_000, 200))
    assert figure.layout.yaxis.type == "log"
    assert "P(rise)" in texts(drawn(figure))
    assert probabilities_chart(record(), np.linspace(100, 200, 200)).layout.yaxis.type == "linear"


@pytest.mark.parametrize("constant", [0.5, 0.0, 1.0])
def test_constant_probabilities_are_drawn(constant: float) -> None:
    shown = daily_record(coin_labels(50, seed=1), np.full(50, constant))
    assert texts(drawn(probabilities_chart(shown, np.full(50, 100.0))))
    assert texts(drawn(reliability_chart(shown)))


def test_one_decision_is_drawn() -> None:
    shown = record(1)
    assert texts(drawn(probabilities_chart(shown, np.array([100.0]))))
    assert texts(drawn(reliability_chart(shown)))
