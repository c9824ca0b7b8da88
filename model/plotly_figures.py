"""Plotly figures in the project's style: empty ones, their panels, and how traces and lines are added to them.

Charts have no titles and adapt to the width of the page, so that they can be read on a phone. Figures are returned,
neither shown nor stored.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from model.chart_style import INK

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

GRID = "#ececec"
MANY_POINTS = 4000  # above, points are drawn with WebGL
PRICE_FORMAT = ",.9~r"  # plain numbers, such as 60,000 and 0.00002; plotly would write 60k and 20μ
GAP = 0.05  # between panels, share of the height
MARGIN = {"l": 8, "r": 8, "t": 8, "b": 8}
AXIS = {"gridcolor": GRID, "zeroline": False, "automargin": True, "exponentformat": "none", "linecolor": "#cccccc"}


def new_figure(height_pixels: int) -> "Figure":
    """Return an empty figure in the project's style."""
    import plotly.graph_objects as go  # imported here: plotly takes a second

    return go.Figure(layout={**_layout(height_pixels), "xaxis": AXIS, "yaxis": AXIS})


def new_panels(height_pixels: int, shares: Sequence[float] = (1.0,)) -> "Figure":
    """Return stacked panels with a shared time axis; plotly's `make_subplots` takes ten times as long for the same.

    Args:
        height_pixels: of all panels.
        shares: of the height, top first; they sum to 1.
    """
    import plotly.graph_objects as go  # imported here: plotly takes a second

    count, top, axes = len(shares), 1.0, {}
    room = 1 - GAP * (count - 1)
    for row, share in enumerate(shares, start=1):
        number = axis_number(row)
        bottom = round(top - room * share, 6)
        upper = {"matches": f"x{axis_number(count)}", "showticklabels": False} if row < count else {}
        axes[f"xaxis{number}"] = {**AXIS, "anchor": f"y{number}", "domain": [0.0, 1.0], **upper}
        axes[f"yaxis{number}"] = {**AXIS, "anchor": f"x{number}", "domain": [bottom, top]}
        top = round(bottom - GAP, 6)
    return go.Figure(layout={**_layout(height_pixels), **axes})


def axis_number(row: int) -> str:
    """Return the number in the names of a panel's axes; the first has none."""
    return "" if row == 1 else str(row)


def _layout(height_pixels: int) -> dict[str, Any]:
    return {
        "template": "none",
        "height": height_pixels,
        "margin": MARGIN,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0, "font": {"size": 11}},
        "hoverlabel": {"font": {"size": 12}},
        "dragmode": False,  # on a phone, dragging scrolls the page
    }


def add_trace(figure: "Figure", kind: str, row: int | None = None, **trace: Any) -> None:
    """Add one trace, to the panel in that row if one is given."""
    import plotly.graph_objects as go  # imported here: plotly takes a second

    place = {} if row is None else {"xaxis": f"x{axis_number(row)}", "yaxis": f"y{axis_number(row)}"}
    figure.add_trace(getattr(go, kind)(**{key: _plain(value) for key, value in trace.items()}, **place))


def add_lines(
    figure: "Figure",
    line: dict[str, Any],
    *,
    x: Sequence[Any] = (),
    y: Sequence[float] = (),
    rows: Sequence[int] = (1,),
) -> None:
    """Add straight lines across the panels in some rows: upright ones at each x, level ones at each y."""
    lines = []
    for number in map(axis_number, rows):
        upright = {"xref": f"x{number}", "yref": f"y{number} domain"}
        level = {"xref": f"x{number} domain", "yref": f"y{number}"}
        lines += [{"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": line, **upright} for at in x]
        lines += [{"type": "line", "x0": 0, "x1": 1, "y0": at, "y1": at, "line": line, **level} for at in y]
    figure.layout.shapes = [*figure.layout.shapes, *lines]  # at once: each `add_vline` of plotly visits all panels


def _plain(value: Any) -> Any:
    """Return an array as a list: plotly would encode it in base64, unreadable and no smaller once compressed."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind == "M":
        return np.datetime_as_string(value, unit="s").tolist()
    if value.dtype.kind == "f":
        return [[_short(x) for x in row] for row in value] if value.ndim == 2 else [_short(x) for x in value]  # noqa: PLR2004 - a matrix
    return value.tolist()


def _short(number: float) -> float | None:
    """Round to seven significant digits; None where the number is not finite."""
    return float(f"{number:.7g}") if np.isfinite(number) else None


def scatter_kind(points: int) -> str:
    """Return the trace type for so many points: drawn with WebGL where there are many."""
    return "Scattergl" if points > MANY_POINTS else "Scatter"
