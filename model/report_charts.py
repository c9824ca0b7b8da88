"""Draw the interactive charts of a retrain, the equity curve among them, as plotly figures for the report.

Caution: plotly interprets tags in its texts, so no text from outside the project is written into a figure.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Shaped

from model.baseline_comparison import ALPHA
from model.bootstrap import PairedDifference
from model.calibration_error import reliability_curve, reliability_intervals
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
from model.label_names import RISE_NAMES, LabelNames
from model.metrics import CLASSES, THRESHOLD
from model.plotly_figures import PRICE_FORMAT, add_lines, add_trace, new_figure, new_panels, scatter_kind
from model.record import Record

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

FEW_DOTS = 1500  # above, dots become smaller and fainter


@runtime_checkable  # tests check signatures as they run
class EpochNumbers(Protocol):
    """The losses and accuracies of one training epoch."""

    @property
    def number(self) -> int:
        """Counted from 1."""
        ...

    @property
    def loss(self) -> float:
        """Training log loss, nats."""
        ...

    @property
    def accuracy(self) -> float:
        """Training accuracy, share."""
        ...

    @property
    def validation_loss(self) -> float:
        """Validation log loss, nats; NaN without validation."""
        ...

    @property
    def validation_accuracy(self) -> float:
        """Validation accuracy, share; NaN without validation."""
        ...


def loss_differences_chart(differences: Mapping[str, PairedDifference], corrected: Mapping[str, float]) -> "Figure":
    """Draw the log loss difference to each opponent with its interval: left of zero the network is better.

    Args:
        differences: by opponent.
        corrected: p-value after correction, by opponent; a significant difference has a colour. An opponent without
            one is a single comparison: its interval counts.
    """
    figure = new_figure(60 + 46 * len(differences))
    names = list(differences)[::-1]
    found = [differences[name] for name in names]
    significant = [
        corrected[name] <= ALPHA if name in corrected else each.high < 0 or each.low > 0
        for name, each in zip(names, found, strict=True)
    ]
    shades = [
        (RISE if each.mean < 0 else FALL) if differs else INK for each, differs in zip(found, significant, strict=True)
    ]
    add_trace(
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
    add_lines(figure, {"color": INK, "width": 1, "dash": "dot"}, x=[0])
    figure.update_xaxes(title="difference in log loss (nats)", zeroline=False)
    figure.update_yaxes(gridcolor="rgba(0,0,0,0)")
    return figure


def reliability_chart(record: Record, names: LabelNames = RISE_NAMES) -> "Figure":
    """Draw observed by predicted share of class 1, with 95 % intervals, above a histogram of the probabilities."""
    curve = reliability_curve(record.labels, record.probabilities)
    lows, highs = reliability_intervals(record)
    figure = new_panels(420, [0.75, 0.25])
    low, high = probability_limits(record.probabilities)
    diagonal = {"type": "line", "x0": 0, "x1": 1, "y0": 0, "y1": 1, "line": {"color": QUIET, "width": 1}}
    figure.layout.shapes = [{**diagonal, "layer": "below", "xref": "x", "yref": "y"}]
    add_trace(
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
            "array": highs - curve.observed_shares,
            "arrayminus": curve.observed_shares - lows,
            "thickness": 1,
            "width": 3,
        },
        customdata=curve.counts,
        hovertemplate="predicted %{x:.1%}, observed %{y:.1%} (%{customdata} windows)<extra></extra>",
        showlegend=False,
    )
    add_trace(
        figure,
        "Histogram",
        row=2,
        x=record.probabilities,
        nbinsx=40,
        marker={"color": RISE, "opacity": 0.6},
        hovertemplate="%{x}: %{y} windows<extra></extra>",
        showlegend=False,
    )
    floor, ceiling = min(float(lows.min()), low), max(float(highs.max()), high)
    figure.layout.yaxis.update(title=f"observed {names.share}", tickformat=".0%", range=[floor - 0.02, ceiling + 0.02])
    figure.layout.yaxis2.update(title="windows")
    figure.update_xaxes(range=[low, high], tickformat=".0%")
    figure.layout.xaxis2.update(title=f"predicted {names.probability}")
    return figure


def equity_chart(closed_at: Shaped[np.ndarray, " bar"], lines: Mapping[str, Float64[np.ndarray, " bar"]]) -> "Figure":
    """Draw the equity curve, net of costs, of each strategy; the scale is logarithmic."""
    figure = new_figure(380)
    shades = (RISE, "#e69f00", QUIET)
    for (name, equity), shade in zip(lines.items(), shades, strict=False):
        add_trace(
            figure,
            scatter_kind(len(equity)),
            x=closed_at,
            y=equity,
            name=name,
            mode="lines",
            line={"color": shade, "width": 1.6},
            hovertemplate="%{y:.3~r}",
        )
    add_lines(figure, {"color": INK, "width": 1, "dash": "dot"}, y=[1])
    figure.update_yaxes(title="equity (start 1)", type="log", tickformat=".2~r", nticks=8)
    figure.update_layout(hovermode="x unified")
    return figure


def cost_chart(costs_bps: Sequence[float], net_returns: Mapping[str, Sequence[float]], assumed_bps: float) -> "Figure":
    """Draw the net return of each trading policy by the cost of a side; the assumed cost is marked where it is shown.

    Args:
        costs_bps: of a side, basis points, increasing.
        net_returns: by name, one share for each cost.
        assumed_bps: cost of a side that the trades were computed with.
    """
    figure = new_figure(340)
    for (name, shares), shade in zip(net_returns.items(), FOLD_SHADES, strict=False):
        add_trace(
            figure,
            "Scatter",
            x=list(costs_bps),
            y=list(shares),
            name=name,
            mode="lines",
            line={"color": shade, "width": 1.8},
            hovertemplate="%{x:g} bps: %{y:+.1%}<extra>%{fullData.name}</extra>",
        )
    add_lines(figure, {"color": INK, "width": 1, "dash": "dot"}, y=[0])
    if costs_bps[0] <= assumed_bps <= costs_bps[-1]:
        add_lines(figure, {"color": QUIET, "width": 1, "dash": "dot"}, x=[assumed_bps])
    figure.update_xaxes(title="cost per side (bps)")
    figure.update_yaxes(title="net return", tickformat=".0%")
    return figure


def probabilities_chart(record: Record, close: Float64[np.ndarray, " window"]) -> "Figure":
    """Draw P(rise), coloured by the actual outcome, below the close of the same bars.

    Args:
        record: out-of-sample probabilities, oldest first.
        close: shape (window,), float64: close at each `decided_at`, in the quote currency.
    """
    figure = new_panels(480, [0.45, 0.55])
    add_close(figure, record.decided_at, close)
    for label, shade in ((1, RISE), (0, FALL)):
        those = record.labels == label
        add_trace(
            figure,
            scatter_kind(len(record)),
            row=2,
            x=record.decided_at[those],
            y=record.probabilities[those],
            mode="markers",
            marker={"color": shade, **_dots(len(record))},
            name=f"actual {CLASSES[label]} ({int(those.sum()):,})",
            hovertemplate="%{x|%Y-%m-%d %H:%M}: %{y:.1%}<extra></extra>",
        )
    add_lines(figure, {"color": INK, "width": 1, "dash": "dot"}, y=[THRESHOLD], rows=[2])
    starts = [str(start) for start in record.decided_at[1:][np.diff(record.fold) != 0]]
    add_lines(figure, {"color": QUIET, "width": 0.6, "dash": "dot"}, x=starts, rows=[1, 2])
    figure.layout.yaxis2.update(title="P(rise)", tickformat=".0%")
    return figure


def add_close(figure: "Figure", times: Shaped[np.ndarray, " bar"], close: Float64[np.ndarray, " bar"]) -> None:
    """Draw the close in the first row, broken at gaps; over a wide range its axis is logarithmic."""
    x, y = broken_at_gaps(times, close)
    add_trace(
        figure,
        scatter_kind(len(x)),
        row=1,
        x=x,
        y=y,
        mode="lines",
        line={"color": INK, "width": 1.2},
        name="close",
        showlegend=False,
        hovertemplate="%{x|%Y-%m-%d %H:%M}: %{y:" + PRICE_FORMAT + "}<extra>close</extra>",
    )
    scale = {"type": "log", "dtick": "D2"} if needs_log_scale(close) else {"type": "linear"}
    figure.layout.yaxis.update(title="close", nticks=6, tickformat=PRICE_FORMAT, **scale)


def _dots(count: int) -> dict[str, float]:
    """Return size and opacity of dots: the more there are, the smaller and fainter, so that none hides the others."""
    crowd = min(1.0, math.sqrt(FEW_DOTS / max(count, 1)))
    return {"size": max(2.0, 5 * crowd), "opacity": max(0.3, 0.75 * crowd)}


def learning_chart(histories: Sequence[Sequence[EpochNumbers]]) -> "Figure":
    """Draw the log loss by epoch for each fold: training dashed, validation solid, the best epoch marked.

    Args:
        histories: the epochs of each fold, oldest fold first.
    """
    figure = new_figure(360)
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
        add_trace(
            figure,
            "Scatter",
            y=training,
            mode="lines",
            name=f"{group}, training",
            showlegend=False,
            line={"color": shade, "width": 1, "dash": "dash"},
            opacity=0.7,
            **shared,
        )
        add_trace(
            figure,
            "Scatter",
            y=validation,
            mode="lines+markers",
            name=group,
            line={"color": shade, "width": 1.8},
            marker={"size": [10 if best else 0 for best in is_best_epoch(validation)]},
            **shared,
        )
    add_lines(figure, {"color": QUIET, "width": 1, "dash": "dot"}, y=[COIN_LOSS])
    last = max((epoch.number for history in histories for epoch in history), default=1)
    figure.update_xaxes(title="epoch", dtick=max(1, round(last / 8)), range=[0.5, last + 0.5])
    figure.update_yaxes(title="log loss (nats)", range=loss_limits(losses))
    return figure


def broken_at_gaps(
    times: Shaped[np.ndarray, " window"], values: Float64[np.ndarray, " window"]
) -> tuple[Shaped[np.ndarray, " point"], Float64[np.ndarray, " point"]]:
    """Insert NaN at each gap, so that no line is drawn across it."""
    gaps = gap_starts(times)
    return np.insert(times, gaps, times[gaps - 1]), np.insert(values, gaps, np.nan)
