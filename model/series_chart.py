"""Draw the chart of a series for the dashboard: close, out-of-sample P(rise) and stored predictions on one time axis.

Caution: plotly interprets tags in its texts, so no text from outside the project is written into a figure.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64, Int8, Shaped

from model.chart_style import FALL, INK, QUIET, RISE
from model.metrics import CLASSES, THRESHOLD
from model.plotly_figures import add_lines, add_trace, new_panels, scatter_kind
from model.record import Record
from model.report_charts import add_close

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

HEIGHT_PIXELS = 440
CLOSE_SHARE = 0.55  # of the height, where probabilities are drawn below the close
ROOM = 60  # the newest marker is whole: the axis is longer than the bars by one part in so many
HOVER = "%{x|%Y-%m-%d %H:%M}: %{y:.1%}<extra>%{fullData.name}</extra>"


def series_chart(
    closed_at: Shaped[np.ndarray, " bar"],
    close: Float64[np.ndarray, " bar"],
    record: Record,
    decided_at: Shaped[np.ndarray, " prediction"],
    probabilities: Float64[np.ndarray, " prediction"],
    labels: Int8[np.ndarray, " prediction"],
    late: Bool[np.ndarray, " prediction"],
) -> "Figure":
    """Draw the close above P(rise), out-of-sample and predicted since, coloured by the actual outcome.

    Without probabilities the close is drawn alone.

    Args:
        closed_at: shape (bar,), datetime64[us], UTC, oldest first.
        close: shape (bar,), float64, in the quote currency.
        record: out-of-sample probabilities of the champion; empty if there is none.
        decided_at: shape (prediction,), datetime64[us], UTC: of the stored predictions, oldest first.
        probabilities: shape (prediction,), float64: their P(rise).
        labels: shape (prediction,), int8: 1 rise, 0 fall, -1 not known yet.
        late: shape (prediction,), bool: stored after the outcome was due, so not live.
    """
    if not len(record) and not len(labels):
        figure = new_panels(round(CLOSE_SHARE * HEIGHT_PIXELS))
        add_close(figure, closed_at, close)
        return _with_room(figure, closed_at)
    figure = new_panels(HEIGHT_PIXELS, [CLOSE_SHARE, 1 - CLOSE_SHARE])
    add_close(figure, closed_at, close)
    for label, shade in ((1, RISE), (0, FALL)):
        those = record.labels == label
        if those.any():
            marker = {"color": shade, "size": 4, "opacity": 0.75}
            _add_dots(figure, f"out-of-sample, {CLASSES[label]}", record.decided_at[those],
                      record.probabilities[those], marker)  # fmt: skip
    outcomes = ((1, CLASSES[1], RISE), (0, CLASSES[0], FALL), (-1, "outcome unknown", INK))
    for kind, of_kind in (("live", ~late), ("late", late)):
        for label, outcome, shade in outcomes:
            those = (labels == label) & of_kind
            if those.any():
                marker = {"color": shade, "size": 7, "symbol": "diamond" if label >= 0 else "diamond-open"}
                if kind == "late":
                    marker["opacity"] = 0.5
                _add_dots(figure, f"{kind}, {outcome}", decided_at[those], probabilities[those], marker)
    # a zoomed view ends at the newest marker; WebGL (many predictions) knows no such setting
    figure.update_traces(cliponaxis=False, selector={"type": "scatter", "mode": "markers"})
    add_lines(figure, {"color": QUIET, "width": 1, "dash": "dot"}, y=[THRESHOLD], rows=[2])
    figure.layout.yaxis2.update(title="P(rise)", tickformat=".0%")
    figure.update_layout(legend={"itemsizing": "constant"})  # the dots are too small to show their colour there
    return _with_room(figure, closed_at)


def _with_room(figure: "Figure", closed_at: Shaped[np.ndarray, " bar"]) -> "Figure":
    """Let the time axis go on after the newest bar."""
    if len(closed_at):
        room = (closed_at[-1] - closed_at[0]) // ROOM
        figure.update_xaxes(range=[str(closed_at[0])[:19], str(closed_at[-1] + room)[:19]])
    return figure


def _add_dots(
    figure: "Figure",
    name: str,
    decided_at: Shaped[np.ndarray, " chosen"],
    probabilities: Float64[np.ndarray, " chosen"],
    marker: dict[str, object],
) -> None:
    add_trace(
        figure, scatter_kind(len(decided_at)), row=2, x=decided_at, y=probabilities, mode="markers", marker=marker,
        name=name, hovertemplate=HOVER,
    )  # fmt: skip
