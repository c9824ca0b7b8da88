"""Draw the interactive charts that explain one prediction: attributions, activations and filters, as plotly figures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Shaped

from model.chart_style import FALL, INK, RISE
from model.explanation import Explanation
from model.plotly_figures import PRICE_FORMAT, add_trace, new_figure, new_panels

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SIGNED = [[0.0, FALL], [0.5, "#f7f7f7"], [1.0, RISE]]  # colour scale from negative to positive


def attribution_chart(explanation: Explanation, opened_at: Shaped[np.ndarray, " lookback"]) -> "Figure":
    """Draw a window's prices, the attribution of P(rise) to each bar, and that to each bar and channel.

    Args:
        explanation: of the window.
        opened_at: shape (lookback,), datetime64[us], UTC: open times of its bars.
    """
    figure = new_panels(600, [0.38, 0.27, 0.35])
    window, names = explanation.window, explanation.features
    if {"open", "high", "low", "close"} <= set(names):
        columns = {name: window[:, names.index(name)] for name in ("open", "high", "low", "close")}
        add_trace(
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
        add_trace(figure, "Scatter", row=1, x=opened_at, y=window[:, 0], mode="lines", line={"color": INK},
             showlegend=False)  # fmt: skip
    by_bar = explanation.attribution.by_bar()
    add_trace(
        figure,
        "Bar",
        row=2,
        x=opened_at,
        y=100 * by_bar,
        marker={"color": [RISE if each > 0 else FALL for each in by_bar]},
        showlegend=False,
        hovertemplate="%{x|%Y-%m-%d %H:%M}: %{y:+.2f} pp<extra></extra>",
    )
    reach = 100 * float(np.abs(explanation.attribution.values).max()) or 1.0
    add_trace(
        figure,
        "Heatmap",
        row=3,
        x=opened_at,
        y=list(names),
        z=100 * explanation.attribution.values.T,
        colorscale=SIGNED,
        zmin=-reach,
        zmax=reach,
        showscale=False,
        hovertemplate="%{x|%Y-%m-%d %H:%M} %{y}: %{z:+.3f} pp<extra></extra>",
    )
    figure.update_xaxes(rangeslider={"visible": False}, **_three_bars(opened_at))
    title = "price" if "close" in names else names[0]
    figure.layout.yaxis.update(title=title, tickformat=PRICE_FORMAT, nticks=6)
    figure.layout.yaxis2.update(title="contribution (pp)", tickformat="+.2~f")
    figure.layout.yaxis3.update(autorange="reversed")
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
    figure = new_figure(70 + 7 * min(max(values.shape[1], 16), 40))
    add_trace(
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
    figure = new_figure(90 + 34 * len(features))
    add_trace(
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
