"""Draw the monitor's picture: running log loss, e-process against the champion, and drift of the bars."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int8, Shaped

from model.chart_style import FALL, QUIET, RISE
from model.drift import Drift
from model.live_score import LiveScore
from model.metrics import log_losses

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATIO_TICKS = (0.0, 0.5, 1.0)


def monitor_picture(
    decided_at: Shaped[np.ndarray, " prediction"],
    labels: Int8[np.ndarray, " prediction"],
    probabilities: Float64[np.ndarray, " prediction"],
    score: LiveScore,
    drift: tuple[Drift, ...],
) -> "Figure":
    """Draw running log loss, e-process and drift in three rows.

    Args:
        decided_at: shape (prediction,), datetime64[us], UTC, oldest first.
        labels: shape (prediction,), int8: 1 rise, 0 fall.
        probabilities: shape (prediction,), float64: P(rise).
        score: live score of the same predictions.
        drift: as `measure_drift` returns it; may be empty.
    """
    from matplotlib.figure import Figure  # imported here: matplotlib takes a second

    figure = Figure(figsize=(9, 7.5), layout="constrained")
    losses, evidence, drifts = figure.subplots(3, 1, height_ratios=(3, 2, 2))
    count = np.arange(1, len(labels) + 1)
    if len(labels):
        running = np.cumsum(log_losses(labels, probabilities)) / count
        losses.plot(decided_at, running, color=RISE, label="champion")
        evidence.plot(decided_at, score.e_values, color=RISE)
        evidence.axhline(score.threshold, color=FALL, linewidth=1, linestyle="--")
        evidence.set_yscale("log")
        losses.axhline(score.base_rate_loss, color=QUIET, linestyle="--", label="base rate, final mean")
        losses.legend(frameon=False, loc="upper right")
    else:
        losses.text(0.5, 0.5, "no prediction with an outcome yet", ha="center", va="center", transform=losses.transAxes)
    losses.set_title(f"Running mean log loss (nats), {len(labels)} live predictions", loc="left")
    evidence.set_title(f"E-process for a champion worse than its record; alarm at {score.threshold:g}", loc="left")
    names = [f"{each.name}, {kind}" for each in drift if each.name != "level" for kind in ("KS", "PSI")]
    ratios = [
        value / limit
        for each in drift
        if each.name != "level"
        for value, limit in ((each.ks, each.ks_limit), (each.psi, each.psi_limit))
    ]
    drifts.barh(names, ratios, color=[FALL if ratio > 1 else RISE for ratio in ratios])
    drifts.axvline(1, color=FALL, linewidth=1, linestyle="--")
    drifts.set_xlim(0, 1.05 * max(1.1, *ratios, 0) if ratios else 1.15)
    drifts.set_xticks(RATIO_TICKS)
    drifts.invert_yaxis()
    drifts.set_title("Drift of the newest bars, in multiples of its limit", loc="left")
    for axes in (losses, evidence, drifts):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
