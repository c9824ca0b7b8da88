"""Each chart holds its data, and stays readable with many or very small numbers."""

import numpy as np
from synthetic_records import coin_labels, daily_record, forecast

from model.interactive_charts import equity_chart, map_chart, probabilities_chart
from model.metrics import Record


def record(count: int) -> Record:
    labels = coin_labels(count, seed=1)
    return daily_record(labels, forecast(labels, 0.6, seed=2), folds=2)


def test_every_probability_is_drawn_in_the_colour_of_its_outcome() -> None:
    made = record(300)
    _, rises, falls = probabilities_chart(made, np.linspace(1, 2, 300)).data[:3]
    assert np.array_equal(rises.y, made.probabilities[made.labels == 1])
    assert np.array_equal(falls.y, made.probabilities[made.labels == 0])
    assert rises.name == f"actual rise ({(made.labels == 1).sum()})"


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


def test_a_map_names_three_bars_upright_and_hours_where_there_are_several_a_day() -> None:
    for step, form in (("h", "%b %-d<br>%H:%M"), ("D", "%b %-d")):
        opened_at = np.datetime64("2024-04-20", "us") + np.arange(24) * np.timedelta64(1, step)
        axis = map_chart(np.ones((24, 3)), opened_at, row="unit", opens=True).layout.xaxis
        assert (axis.tickformat, axis.tickangle) == (form, 0)
        assert list(axis.tickvals) == list(opened_at[[4, 12, 19]])
