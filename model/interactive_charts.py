"""Draw the interactive charts of a retrain and of one prediction, as plotly figures for the report.

Returns plotly figures and neither shows nor stores them. Charts have no titles and adapt to the width of the page, so
that they can be read on a phone. The trap: plotly interprets tags in its texts, so no text from outside the project
is written into a figure.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Shaped

from model.bootstrap import PairedDifference
from model.calibration import reliability_curve
from model.chart_style import (
    COIN_LOSS,
    FALL,
    FOLD_SHADES,
    INK,
    QUIET,
    RISE,
    gap_starts,
    is_best_epoch,
    loss_limits,
    needs_log_scale,
    probability_limits,
)
from model.explanation import Explanation
from model.metrics import CLASSES, THRESHOLD, Record
from model.mlflow_pictures import EpochNumbers

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

GRID = "#ececec"
SIGNED = [[0.0, FALL], [0.5, "#f7f7f7"], [1.0, RISE]]  # colour scale from negative to positive
MANY_POINTS = 4000  # above, points are drawn with WebGL
FEW_DOTS = 1500  # above, dots become smaller and fainter
MARGIN = {"l": 8, "r": 8, "t": 8, "b": 8}


def loss_differences_chart(differences: Mapping[str, PairedDifference]) -> "Figure":
    """Draw the log loss difference to each opponent with its interval: left of zero the network is better."""
    figure = _figure(60 + 46 * len(differences))
    names = list(differences)[::-1]
    found = [differences[name] for name in names]
    shades = [RISE if each.high < 0 else FALL if each.low > 0 else INK for each in found]
    _add(
        figure,
        "Scatter",
        x=[each.mean for each in found],
        y=names,
        mode="markers",
        marker={"size": 9, "color": shades},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [each.high - each.mean for each in found],
            "arrayminus": [each.mean - each.low for each in found],
            "color": QUIET,
            "thickness": 1.5,
            "width": 4,
        },
        hovertemplate="%{y}: %{x:+.4f} nats<extra></extra>",
        showlegend=False,
    )
    figure.add_vline(x=0, line={"color": INK, "width": 1, "dash": "dot"})
    figure.update_xaxes(title="difference in log loss (nats)", zeroline=False)
    figure.update_yaxes(gridcolor="rgba(0,0,0,0)")
    return figure


def reliability_chart(record: Record) -> "Figure":
    """Draw observed by predicted share of rises, with 95 % intervals, above a histogram of the probabilities."""
    curve = reliability_curve(record.labels, record.probabilities)
    figure = _panels(420, rows=2, row_heights=[0.75, 0.25])
    low, high = probability_limits(record.probabilities)
    figure.add_shape(
        type="line", x0=0, x1=1, y0=0, y1=1, line={"color": QUIET, "width": 1}, layer="below", row=1, col=1
    )
    _add(
        figure,
        "Scatter",
        row=1,
        x=curve.mean_probabilities,
        y=curve.observed_shares,
        mode="lines+markers",
        line={"color": RISE, "width": 1.2},
        marker={"size": 8},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": curve.highs - curve.observed_shares,
            "arrayminus": curve.observed_shares - curve.lows,
            "thickness": 1,
            "width": 3,
        },
        customdata=curve.counts,
        hovertemplate="predicted %{x:.1%}, observed %{y:.1%} (%{customdata} windows)<extra></extra>",
        showlegend=False,
    )
    _add(
        figure,
        "Histogram",
        row=2,
        x=record.probabilities,
        nbinsx=40,
        marker={"color": RISE, "opacity": 0.6},
        hovertemplate="%{x}: %{y} windows<extra></extra>",
        showlegend=False,
    )
    floor, ceiling = min(float(curve.lows.min()), low), max(float(curve.highs.max()), high)
    figure.update_yaxes(
        title="observed share of rises", tickformat=".0%", range=[floor - 0.02, ceiling + 0.02], row=1, col=1
    )
    figure.update_yaxes(title="windows", row=2, col=1)
    figure.update_xaxes(range=[low, high], tickformat=".0%")
    figure.update_xaxes(title="predicted P(rise)", row=2, col=1)
    return figure


def equity_chart(closed_at: Shaped[np.ndarray, " bar"], lines: Mapping[str, Float64[np.ndarray, " bar"]]) -> "Figure":
    """Draw the equity curve, net of costs, of each strategy; the scale is logarithmic."""
    figure = _figure(380)
    shades = (RISE, "#e69f00", QUIET)
    for (name, equity), shade in zip(lines.items(), shades, strict=False):
        _add(
            figure,
            _scatter(len(equity)),
            x=closed_at,
            y=equity,
            name=name,
            mode="lines",
            line={"color": shade, "width": 1.6},
            hovertemplate="%{y:.3~r}",
        )
    figure.add_hline(y=1, line={"color": INK, "width": 1, "dash": "dot"})
    figure.update_yaxes(title="equity (start 1)", type="log", tickformat=".2~r", nticks=8)
    figure.update_layout(hovermode="x unified")
    return figure


def probabilities_chart(record: Record, close: Float64[np.ndarray, " window"]) -> "Figure":
    """Draw P(rise), coloured by the actual outcome, below the close of the same bars.

    Args:
        record: out-of-sample probabilities, oldest first.
        close: shape (window,), float64: close at each `decided_at`, in the quote currency.
    """
    figure = _panels(480, rows=2, row_heights=[0.45, 0.55])
    kind = _scatter(len(record))
    times, prices = _broken_at_gaps(record.decided_at, close)
    _add(
        figure,
        kind,
        row=1,
        x=times,
        y=prices,
        mode="lines",
        line={"color": INK, "width": 1},
        name="close",
        showlegend=False,
        hovertemplate="%{x|%Y-%m-%d %H:%M}: %{y:,.2f}<extra></extra>",
    )
    for label, shade in ((1, RISE), (0, FALL)):
        those = record.labels == label
        _add(
            figure,
            kind,
            row=2,
            x=record.decided_at[those],
            y=record.probabilities[those],
            mode="markers",
            marker={"color": shade, **_dots(len(record))},
            name=f"actual {CLASSES[label]} ({int(those.sum()):,})",
            hovertemplate="%{x|%Y-%m-%d %H:%M}: %{y:.1%}<extra></extra>",
        )
    figure.add_hline(y=THRESHOLD, line={"color": INK, "width": 1, "dash": "dot"}, row=2, col=1)
    for start in record.decided_at[1:][np.diff(record.fold) != 0]:
        figure.add_vline(x=str(start), line={"color": QUIET, "width": 0.6, "dash": "dot"})
    figure.update_yaxes(title="close", type="log" if needs_log_scale(close) else "linear", nticks=6, row=1, col=1)
    figure.update_yaxes(title="P(rise)", tickformat=".0%", row=2, col=1)
    return figure


def _dots(count: int) -> dict[str, float]:
    """Return size and opacity of dots: the more there are, the smaller and fainter, so that none hides the others."""
    crowd = min(1.0, math.sqrt(FEW_DOTS / max(count, 1)))
    return {"size": max(2.0, 5 * crowd), "opacity": max(0.3, 0.75 * crowd)}


def learning_chart(histories: Sequence[Sequence[EpochNumbers]]) -> "Figure":
    """Draw the log loss by epoch for each fold: training dashed, validation solid, the best epoch marked.

    Args:
        histories: the epochs of each fold, oldest fold first.
    """
    figure = _figure(360)
    losses = []
    for fold, history in enumerate(histories):
        shade, group = FOLD_SHADES[fold % len(FOLD_SHADES)], f"fold {fold + 1}"
        epochs = [epoch.number for epoch in history]
        training = [epoch.loss for epoch in history]
        validation = np.array([epoch.validation_loss for epoch in history], dtype=np.float64)
        losses += [*training, *validation.tolist()]
        shared: dict[str, Any] = {
            "x": epochs,
            "legendgroup": group,
            "hovertemplate": "%{y:.4f}<extra>%{fullData.name}</extra>",
        }
        _add(figure, "Scatter", y=training, mode="lines", name=f"{group}, training", showlegend=False,
             line={"color": shade, "width": 1, "dash": "dash"}, opacity=0.7, **shared)  # fmt: skip
        _add(figure, "Scatter", y=validation, mode="lines+markers", name=group, line={"color": shade, "width": 1.8},
             marker={"size": [10 if best else 0 for best in is_best_epoch(validation)]}, **shared)  # fmt: skip
    figure.add_hline(y=COIN_LOSS, line={"color": QUIET, "width": 1, "dash": "dot"})
    last = max((epoch.number for history in histories for epoch in history), default=1)
    figure.update_xaxes(title="epoch", dtick=max(1, round(last / 8)), range=[0.5, last + 0.5])
    figure.update_yaxes(title="log loss (nats)", range=loss_limits(losses))
    return figure


def attribution_chart(explanation: Explanation, opened_at: Shaped[np.ndarray, " lookback"]) -> "Figure":
    """Draw a window's prices, the attribution of P(rise) to each bar, and that to each bar and channel.

    Args:
        explanation: of the window.
        opened_at: shape (lookback,), datetime64[us], UTC: open times of its bars.
    """
    figure = _panels(600, rows=3, row_heights=[0.38, 0.27, 0.35])
    window, names = explanation.window, explanation.features
    if {"open", "high", "low", "close"} <= set(names):
        columns = {name: window[:, names.index(name)] for name in ("open", "high", "low", "close")}
        _add(
            figure,
            "Candlestick",
            row=1,
            x=opened_at,
            **columns,
            increasing={"line": {"color": RISE, "width": 1}, "fillcolor": RISE},
            decreasing={"line": {"color": FALL, "width": 1}, "fillcolor": FALL},
            showlegend=False,
        )
    else:
        _add(figure, "Scatter", row=1, x=opened_at, y=window[:, 0], mode="lines", line={"color": INK},
             showlegend=False)  # fmt: skip
    by_bar = explanation.attribution.by_bar()
    _add(
        figure,
        "Bar",
        row=2,
        x=opened_at,
        y=by_bar,
        marker={"color": [RISE if each > 0 else FALL for each in by_bar]},
        showlegend=False,
        hovertemplate="%{x|%Y-%m-%d %H:%M}: %{y:+.2%}<extra></extra>",
    )
    reach = float(np.abs(explanation.attribution.values).max()) or 1.0
    _add(
        figure,
        "Heatmap",
        row=3,
        x=opened_at,
        y=list(names),
        z=explanation.attribution.values.T,
        colorscale=SIGNED,
        zmin=-reach,
        zmax=reach,
        showscale=False,
        hovertemplate="%{x|%Y-%m-%d %H:%M} %{y}: %{z:+.3%}<extra></extra>",
    )
    figure.update_xaxes(rangeslider={"visible": False}, **_three_bars(opened_at))
    figure.update_yaxes(title="price" if "close" in names else names[0], nticks=6, row=1, col=1)
    figure.update_yaxes(title="contribution", tickformat="+.1%", row=2, col=1)
    figure.update_yaxes(autorange="reversed", row=3, col=1)
    return figure


def map_chart(
    values: Float64[np.ndarray, "lookback row"], opened_at: Shaped[np.ndarray, " lookback"], *, row: str, opens: bool
) -> "Figure":
    """Draw a heatmap along the window, one row per filter or unit.

    Args:
        values: shape (lookback, row), float64, oldest bar first.
        opened_at: shape (lookback,), datetime64[us], UTC.
        row: name of a row, such as `filter`.
        opens: whether values are gates from 0 (closed) to 1 (open); otherwise they may have either sign.
    """
    reach = float(np.abs(values).max()) or 1.0
    figure = _figure(70 + 7 * min(max(values.shape[1], 16), 40))
    _add(
        figure,
        "Heatmap",
        x=opened_at,
        y=[str(number) for number in range(1, values.shape[1] + 1)],
        z=values.T,
        colorscale=SIGNED,
        zmin=0.0 if opens else -reach,
        zmax=1.0 if opens else reach,
        colorbar={"thickness": 8, "outlinewidth": 0, "tickfont": {"size": 10}, "nticks": 5},
        hovertemplate=f"%{{x|%Y-%m-%d %H:%M}}, {row} %{{y}}: %{{z:.3f}}<extra></extra>",
    )
    figure.update_yaxes(title=row, autorange="reversed", nticks=8, gridcolor="rgba(0,0,0,0)", type="category")
    figure.update_xaxes(**_three_bars(opened_at))
    return figure


def _three_bars(opened_at: Shaped[np.ndarray, " lookback"]) -> dict[str, Any]:
    """Return three upright time ticks: plotly's default would rotate or overlap where a map is narrow."""
    bars = len(opened_at)
    several_a_day = bool((np.diff(opened_at) < np.timedelta64(1, "D")).any())
    return {
        "tickvals": opened_at[np.unique([bars // 6, bars // 2, bars - 1 - bars // 6])],
        "tickformat": "%b %-d<br>%H:%M" if several_a_day else "%b %-d",
        "tickangle": 0,
    }


def filters_chart(filters: Float64[np.ndarray, "kernel feature filter"], features: Sequence[str]) -> "Figure":
    """Draw the first convolution's kernels side by side: rows are channels, columns the bars of the kernel.

    Args:
        filters: shape (kernel, feature, filter), float64.
        features: names of the channels.
    """
    width, _, count = filters.shape
    blank = np.full((filters.shape[1], 1), np.nan)
    parts = [part for k in range(count) for part in (filters[:, :, k].T, blank)]
    reach = float(np.abs(filters).max()) or 1.0
    figure = _figure(90 + 34 * len(features))
    _add(
        figure,
        "Heatmap",
        z=np.concatenate(parts[:-1], axis=1),
        y=list(features),
        colorscale=SIGNED,
        zmin=-reach,
        zmax=reach,
        colorbar={"thickness": 8, "outlinewidth": 0, "tickfont": {"size": 10}, "nticks": 5},
        hovertemplate="%{y}: %{z:.3f}<extra></extra>",
    )
    middles = [k * (width + 1) + (width - 1) / 2 for k in range(count)]
    figure.update_xaxes(title="filter (oldest bar of each kernel left)", tickvals=middles, showgrid=False,
                        ticktext=[str(k + 1) for k in range(count)])  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def _figure(height_pixels: int) -> "Figure":
    """Return an empty figure in the project's style."""
    import plotly.graph_objects as go  # here: plotly takes a second

    return _styled(go.Figure(), height_pixels)


def _panels(height_pixels: int, **layout: Any) -> "Figure":
    """Return stacked panels with a shared time axis."""
    from plotly.subplots import make_subplots  # here: plotly takes a second

    return _styled(make_subplots(cols=1, shared_xaxes=True, vertical_spacing=0.05, **layout), height_pixels)


def _styled(figure: "Figure", height_pixels: int) -> "Figure":
    figure.update_layout(
        template="none",
        height=height_pixels,
        margin=MARGIN,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0, "font": {"size": 11}},
        hoverlabel={"font": {"size": 12}},
        dragmode=False,  # on a phone, dragging scrolls the page
    )
    axes = {"gridcolor": GRID, "zeroline": False, "automargin": True, "linecolor": "#cccccc"}
    figure.update_xaxes(**axes)
    figure.update_yaxes(**axes)
    return figure


def _add(figure: "Figure", kind: str, row: int | None = None, **trace: Any) -> None:
    """Add one trace, to the panel in that row if one is given."""
    import plotly.graph_objects as go  # here: plotly takes a second

    place = {} if row is None else {"row": row, "col": 1}
    figure.add_trace(getattr(go, kind)(**{key: _plain(value) for key, value in trace.items()}), **place)


def _plain(value: Any) -> Any:
    """Return an array as a list: plotly would encode it in base64, unreadable and no smaller once compressed."""
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


def _scatter(points: int) -> str:
    return "Scattergl" if points > MANY_POINTS else "Scatter"


def _broken_at_gaps(
    times: Shaped[np.ndarray, " window"], values: Float64[np.ndarray, " window"]
) -> tuple[Shaped[np.ndarray, " point"], Float64[np.ndarray, " point"]]:
    """Insert NaN at each gap, so that no line is drawn across it."""
    gaps = gap_starts(times)
    return np.insert(times, gaps, times[gaps - 1]), np.insert(values, gaps, np.nan)
