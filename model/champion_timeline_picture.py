"""Draw the history of the champion: each decision, the champion after it, and each challenger vs. the base rate.

Knows decisions as small values, not the decision log. Losses are out-of-sample log losses in nats, challenger minus
base rate: negative where the challenger is better. Caution: many decisions may have nearly the same time (a day of
manual retrains), so they are drawn by their position in the log, and times are labels only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from model.chart_style import FALL, INK, QUIET, RISE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Action = Literal["promote", "hold", "reject", "rollback"]
MARKS: dict[Action, tuple[str, str]] = {  # marker and colour
    "promote": ("^", RISE),
    "hold": ("s", QUIET),
    "reject": ("x", FALL),
    "rollback": ("v", "#cc79a7"),
}
MAX_LABELS = 12  # times and versions that fit on the axes
LAST_STEPS = 120  # newest decisions drawn; more would be too narrow


@dataclass(frozen=True, slots=True)
class Step:
    """One decision.

    Attributes:
        decided_at: datetime64[us], UTC.
        action: the decision.
        version: the version decided about.
        champion: champion after the decision; empty where there was none.
        forced: promoted by a person against the rule.
        difference: log loss of the challenger minus the base rate's, nats; NaN where not measured.
        low: lower bound of its 95 % interval.
        high: upper bound.
    """

    decided_at: np.datetime64
    action: Action
    version: str
    champion: str
    forced: bool = False
    difference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")


def champion_history_picture(steps: Sequence[Step]) -> "Figure":
    """Draw the champion and each decision, above each challenger's log loss difference to the base rate.

    Args:
        steps: decisions in the order of the decision log; the newest `LAST_STEPS` are drawn.
    """
    from matplotlib.figure import Figure  # imported here: matplotlib takes a second

    shown = list(steps)[-LAST_STEPS:]
    figure = Figure(figsize=(10.0, 5.4), dpi=110)
    # Fixed margins, with room for versions of five digits: measuring the labels takes a third of the drawing.
    figure.subplots_adjust(left=0.1, right=0.985, top=0.945, bottom=0.175, hspace=0.06)
    champions, losses = figure.subplots(2, 1, sharex=True, height_ratios=[1.3, 1])
    _draw_champions(champions, shown)
    _draw_losses(losses, shown)
    _label_times(losses, shown)
    handles, labels = champions.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="lower center", ncols=6, frameon=False, fontsize=8)
    for ax in (champions, losses):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#e6e6e6", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.tick_params(labelsize=8)
    return figure


def _draw_champions(ax: "Axes", steps: Sequence[Step]) -> None:
    """Draw the champion as a step line, and each decision at its version."""
    seen = {step.version for step in steps} | {step.champion for step in steps if step.champion}
    versions = sorted(seen, key=lambda version: (len(version), version))
    place = {version: number for number, version in enumerate(versions)}
    line = np.array([place.get(step.champion, np.nan) for step in steps], dtype=np.float64)
    if len(steps):
        ax.step(np.arange(len(steps) + 1), np.append(line, line[-1]), where="post", color=INK, linewidth=2,
                label="champion", zorder=2)  # fmt: skip
    for action, (marker, shade) in MARKS.items():
        those = [k for k, step in enumerate(steps) if step.action == action]
        if those:
            ax.scatter(those, [place[steps[k].version] for k in those], marker=marker, color=shade, s=42, zorder=3,
                       label=f"{action} ({len(those)})")  # fmt: skip
    forced = [k for k, step in enumerate(steps) if step.forced]
    if forced:
        ax.scatter(forced, [place[steps[k].version] for k in forced], marker="o", s=130, facecolors="none",
                   edgecolors=INK, zorder=4, label=f"forced ({len(forced)})")  # fmt: skip
    every = max(1, -(-len(versions) // MAX_LABELS))
    ax.set_yticks(range(0, len(versions), every), [f"version {version}" for version in versions[::every]])
    ax.set_title(f"Champion after each of {len(steps)} decisions", fontsize=10)


def _draw_losses(ax: "Axes", steps: Sequence[Step]) -> None:
    """Draw each challenger's log loss difference to the base rate, with its interval."""
    measured = [(k, step) for k, step in enumerate(steps) if np.isfinite(step.difference)]
    places, shades = [k for k, _ in measured], [MARKS[step.action][1] for _, step in measured]
    # Two collections: hundreds of single lines take longer than everything else of the picture.
    ax.vlines(places, [step.low for _, step in measured], [step.high for _, step in measured],
              colors=shades, linewidth=1.2)  # fmt: skip
    ax.scatter(places, [step.difference for _, step in measured], s=12, c=shades, zorder=2)
    ax.axhline(0.0, color=QUIET, linewidth=0.8, zorder=1)
    ax.set_ylabel("log loss vs.\nthe base rate (nats)", fontsize=8)


def _label_times(ax: "Axes", steps: Sequence[Step]) -> None:
    """Label some decisions with their day."""
    every = max(1, -(-len(steps) // MAX_LABELS))
    ax.set_xticks(
        range(0, len(steps), every),
        [np.datetime_as_string(step.decided_at, unit="D").item() for step in steps[::every]],
        rotation=30,
        ha="right",
    )
    ax.set_xlim(-0.6, max(len(steps), 1) + 0.1)
