"""The monitor's picture: the live score as it ran, the evidence against the champion, and the drift of its inputs."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int8, Shaped

from model.drift import Drift
from model.live_score import LiveScore
from model.metrics import log_losses
from model.monitor_alarms import MonitorSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, GREY, RED = "#1f5a99", "#8a8a8a", "#b3261e"
RATIO_TICKS = (0.0, 0.5, 1.0)


def monitor_picture(
    decided_at: Shaped[np.ndarray, " prediction"],
    labels: Int8[np.ndarray, " prediction"],
    probabilities: Float64[np.ndarray, " prediction"],
    score: LiveScore,
    drift: tuple[Drift, ...],
    spec: MonitorSpec,
) -> "Figure":
    """Draw running log loss, evidence and drift in three rows.

    Args:
        decided_at: shape (prediction,), datetime64[us], UTC, oldest first.
        labels: shape (prediction,), int8: 1 rise, 0 fall.
        probabilities: shape (prediction,), float64: P(rise).
        score: of the same predictions.
        drift: what was found; may be empty.
        spec: the limits.
    """
    from matplotlib.figure import Figure  # here: half a second, and judging needs no picture

    figure = Figure(figsize=(9, 7.5), layout="constrained")
    losses, evidence, inputs = figure.subplots(3, 1, height_ratios=(3, 2, 2))
    count = np.arange(1, len(labels) + 1)
    if len(labels):
        mine = np.cumsum(log_losses(labels, probabilities)) / count
        losses.plot(decided_at, mine, color=BLUE, label="champion")
        evidence.plot(decided_at, score.e_values, color=BLUE)
        evidence.axhline(1 / spec.false_alarm_rate, color=RED, linewidth=1, linestyle="--")
        evidence.set_yscale("log")
        losses.axhline(score.base_rate_loss, color=GREY, linestyle="--", label="base rate, at the end")
        losses.legend(frameon=False, loc="upper right")
    else:
        losses.text(0.5, 0.5, "no prediction has an outcome yet", ha="center", va="center", transform=losses.transAxes)
    losses.set_title(f"Mean log loss so far (nats), {len(labels)} live predictions", loc="left")
    evidence.set_title(
        f"Evidence that the champion is worse than its record; alarm at {1 / spec.false_alarm_rate:g}", loc="left"
    )
    names = [f"{each.name}, {kind}" for each in drift if each.name != "level" for kind in ("KS", "PSI")]
    ratios = [
        value / limit
        for each in drift
        if each.name != "level"
        for value, limit in ((each.ks, each.ks_limit), (each.psi, each.psi_limit))
    ]
    inputs.barh(names, ratios, color=[RED if ratio > 1 else BLUE for ratio in ratios])
    inputs.axvline(1, color=RED, linewidth=1, linestyle="--")
    inputs.set_xlim(0, 1.05 * max(1.1, *ratios, 0) if ratios else 1.15)
    inputs.set_xticks(RATIO_TICKS)
    inputs.invert_yaxis()
    inputs.set_title("Drift of the newest bars, as a share of its limit", loc="left")
    for axes in (losses, evidence, inputs):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
