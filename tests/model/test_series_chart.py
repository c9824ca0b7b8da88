"""The chart of the dashboard shows its newest marker whole, and legends whose colours can be seen."""

import numpy as np
from plotly.graph_objects import Figure
from synthetic_records import coin_labels, daily_record, forecast

from model.series_chart import series_chart

CLOSED_AT = np.datetime64("2024-01-01", "us") + np.arange(121) * np.timedelta64(1, "D")


def drawn() -> Figure:
    labels = coin_labels(50, seed=1)
    record = daily_record(labels, forecast(labels, 0.6, seed=2), folds=2)
    live = CLOSED_AT[-2:], np.array([0.4, 0.6]), np.array([0, -1], dtype=np.int8), np.array([True, False])
    return series_chart(CLOSED_AT, np.linspace(1, 2, 121), record, *live)


def test_the_axis_goes_on_after_the_newest_marker() -> None:
    figure = drawn()
    first, last = figure.layout.xaxis2.range
    assert (first, last) == ("2024-01-01T00:00:00", "2024-05-02T00:00:00")  # 120 days and a sixtieth of them
    (open_one,) = (trace for trace in figure.data if trace.name == "live, outcome unknown")
    assert np.datetime64(open_one.x[-1]) + np.timedelta64(2, "D") == np.datetime64(last)
    assert open_one.cliponaxis is False  # a zoomed view ends at it


def test_a_prediction_that_was_stored_late_is_not_called_live() -> None:
    assert [trace.name for trace in drawn().data[-2:]] == ["live, outcome unknown", "late, fall"]


def test_prices_have_no_prefix_of_units() -> None:
    """Plotly would write 0.1 as 100m, and d3's format `s` too; `r` is the decimal notation."""
    for close in (np.linspace(0.1, 0.3, 121), np.geomspace(0.05, 900, 121)):
        none = np.zeros(0, dtype=np.int8)
        figure = series_chart(
            CLOSED_AT,
            close,
            daily_record(none, np.zeros(0), folds=1),
            CLOSED_AT[:0],
            np.zeros(0),
            none,
            none.astype(np.bool_),
        )
        assert figure.layout.yaxis.tickformat == ",.9~r"
        assert figure.layout.yaxis.exponentformat == "none"
        assert "~r}" in figure.data[0].hovertemplate


def test_the_small_dots_are_large_in_the_legend() -> None:
    figure = drawn()
    assert figure.layout.legend.itemsizing == "constant"
    dots = [trace.marker for trace in figure.data if trace.name.startswith("out-of-sample")]
    assert [(each.size, each.opacity) for each in dots] == [(4, 0.75), (4, 0.75)]
