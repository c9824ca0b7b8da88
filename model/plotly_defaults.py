"""Empty plotly figures in the project's style, and how a trace is added to one.

Charts have no titles and adapt to the width of the page, so that they can be read on a phone. Figures are returned,
neither shown nor stored.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from model.chart_style import INK

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

GRID = "#ececec"
MANY_POINTS = 4000  # above, points are drawn with WebGL
PRICE_FORMAT = ",.9~r"  # plain numbers, such as 60,000 and 0.00002; plotly would write 60k and 20μ
MARGIN = {"l": 8, "r": 8, "t": 8, "b": 8}
AXIS = {"gridcolor": GRID, "zeroline": False, "automargin": True, "exponentformat": "none", "linecolor": "#cccccc"}


def new_figure(height_pixels: int) -> "Figure":
    """Return an empty figure in the project's style."""
    import plotly.graph_objects as go  # imported here: plotly takes a second

    return go.Figure(layout={**_layout(height_pixels), "xaxis": AXIS, "yaxis": AXIS})


def new_panels(height_pixels: int, **layout: Any) -> "Figure":
    """Return stacked panels with a shared time axis."""
    from plotly.subplots import make_subplots  # imported here: plotly takes a second

    figure = make_subplots(cols=1, shared_xaxes=True, vertical_spacing=0.05, **layout)
    axes = dict.fromkeys((name for name in figure.layout if name.startswith(("xaxis", "yaxis"))), AXIS)
    return figure.update_layout({**_layout(height_pixels), **axes})


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

    place = {} if row is None else {"row": row, "col": 1}
    figure.add_trace(getattr(go, kind)(**{key: _plain(value) for key, value in trace.items()}), **place)


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
