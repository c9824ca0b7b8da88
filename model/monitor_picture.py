"""Draw the monitor's picture: running log loss, e-process against the champion, and drift of the bars."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Shaped

from model.chart_style import FALL, QUIET, RISE
from model.drift import Drift
from model.live_score import LiveScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RATIO_TICKS = (0.0, 0.5, 1.0)


def monitor_picture(
    decided_at: Shaped[np.ndarray, " observation"],
    losses: Float64[np.ndarray, " observation"],
    score: LiveScore,
    drift: tuple[Drift, ...],
) -> "Figure":
    """Draw running log loss, e-process and drift in rows; a row without data is left out.

    Args:
        decided_at: shape (observation,), datetime64[us], UTC, oldest first: of predictions, or closes of a panel.
        losses: shape (observation,), float64: log loss, at a close the mean over its series.
        score: live score of the same observations.
        drift: as `measure_drift` returns it; may be empty.
    """
    from matplotlib.figure import Figure  # imported here: matplotlib takes a second

    compared = [each for each in drift if each.name != "level"]
    heights = [3.0, 2.0] * bool(len(losses)) + [2.0] * bool(compared)
    figure = Figure(figsize=(9, 1 + sum(heights)), layout="constrained")
    if not heights:
        figure.text(0.5, 0.5, "no prediction with an outcome yet", ha="center", va="center")
        return figure
    rows = list(figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    if len(losses):
        mean, evidence = rows[:2]
        running = np.cumsum(losses) / np.arange(1, len(losses) + 1)
        mean.plot(decided_at, running, color=RISE, label="champion")
        mean.axhline(score.base_rate_loss, color=QUIET, linestyle="--", label="base rate, final mean")
        mean.legend(frameon=False, loc="upper right")
        mean.set_title(f"Running mean log loss (nats), {score.counted}", loc="left")
        evidence.plot(decided_at, score.e_values, color=RISE)
        evidence.axhline(score.threshold, color=FALL, linewidth=1, linestyle="--")
        evidence.set_yscale("log")
        evidence.set_title(f"E-process for a champion worse than its record; alarm at {score.threshold:g}", loc="left")
    if compared:
        _draw_drift(rows[-1], compared)
    for axes in rows:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_drift(axes: "Axes", compared: Sequence[Drift]) -> None:
    """Draw each statistic as a bar, in multiples of its limit."""
    names = [f"{each.name}, {kind}" for each in compared for kind in ("KS", "PSI")]
    ratios = [
        value / limit for each in compared for value, limit in ((each.ks, each.ks_limit), (each.psi, each.psi_limit))
    ]
    axes.barh(names, ratios, color=[FALL if ratio > 1 else RISE for ratio in ratios])
    axes.axvline(1, color=FALL, linewidth=1, linestyle="--")
    axes.set_xlim(0, 1.05 * max(1.1, *ratios))
    axes.set_xticks(RATIO_TICKS)
    axes.invert_yaxis()
    axes.set_title("Drift of the newest bars, in multiples of its limit", loc="left")
