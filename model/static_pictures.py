"""Pictures of a retrain: training curves, confusion matrix, probabilities over price, reliability.

Returns matplotlib figures and neither shows nor stores them; drawn by the object interface, so that no window system
and no global state is touched. Rises are blue and falls orange throughout: told apart by colour-blind readers too.
The trap: a loss axis that follows one diverged epoch hides all the others, so it is cut at a quantile.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from model.calibration import reliability_curve
from model.metrics import CLASSES, THRESHOLD, Record, normalise_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RISE, FALL, QUIET, INK = "#0072b2", "#d55e00", "#9a9a9a", "#222222"  # Okabe and Ito 2008
LOSS_OF_IGNORANCE = float(np.log(2))  # nats: always saying 0.5
FOLD_SHADES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7f6c00", "#555555")
LEGEND_FOLDS = len(FOLD_SHADES)


@runtime_checkable  # tests check signatures as they run
class EpochNumbers(Protocol):
    """What one epoch of training left behind."""

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


def learning_curves(histories: Sequence[Sequence[EpochNumbers]]) -> "Figure":
    """Draw loss and accuracy by epoch for each fold, training dashed and validation solid, the best epoch marked.

    Args:
        histories: the epochs of each fold, oldest fold first.
    """
    from matplotlib.ticker import MaxNLocator  # here: matplotlib takes a second

    figure = _figure(10.0, 4.4)
    axes = figure.subplots(1, 2)
    for fold, history in enumerate(histories):
        _draw_history(axes, history, fold)
    _frame_losses(axes[0], histories)
    axes[0].set(title="Loss", xlabel="epoch", ylabel="log loss (nats)")
    axes[1].set(title="Accuracy", xlabel="epoch", ylabel="share right")
    axes[0].axhline(LOSS_OF_IGNORANCE, color=QUIET, linewidth=0.8, zorder=1)
    axes[1].axhline(THRESHOLD, color=QUIET, linewidth=0.8, zorder=1)
    _legend_of_folds(figure, len(histories))
    last = max((epoch.number for history in histories for epoch in history), default=1)
    for ax in axes:
        _quieten(ax)
        ax.set_xlim(0.5, last + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def _draw_history(axes: Any, history: Sequence[EpochNumbers], fold: int) -> None:
    """Draw one fold's curves and its best epoch."""
    shade = FOLD_SHADES[fold % len(FOLD_SHADES)]
    epochs = [epoch.number for epoch in history]
    columns = (("loss", "validation_loss"), ("accuracy", "validation_accuracy"))
    losses = np.array([epoch.validation_loss for epoch in history], dtype=np.float64)
    best = int(np.nanargmin(losses)) if np.isfinite(losses).any() else None
    for ax, (training, validation) in zip(axes, columns, strict=True):
        marker = "o" if len(history) == 1 else ""  # a line of one point shows nothing
        ax.plot(epochs, [getattr(epoch, training) for epoch in history], color=shade, linestyle=(0, (3, 2)),
                linewidth=1, alpha=0.7, marker=marker, markersize=3)  # fmt: skip
        held = [getattr(epoch, validation) for epoch in history]
        ax.plot(epochs, held, color=shade, linewidth=1.6, marker=marker, markersize=3)
        if best is not None:
            ax.plot(epochs[best], held[best], marker="o", color="white", markeredgecolor=shade, markeredgewidth=1.6,
                    markersize=6, zorder=5)  # fmt: skip


def _frame_losses(ax: "Axes", histories: Sequence[Sequence[EpochNumbers]]) -> None:
    """Cut the loss axis where one diverged epoch would hide the others."""
    losses = np.array([[epoch.loss, epoch.validation_loss] for history in histories for epoch in history]).ravel()
    losses = losses[np.isfinite(losses)]
    if len(losses):
        low, high = float(losses.min()), float(np.quantile(losses, 0.98))
        low, high = min(low, LOSS_OF_IGNORANCE), max(high, LOSS_OF_IGNORANCE)
        room = max(high - low, 0.01) * 0.08
        ax.set_ylim(low - room, high + room)


def _legend_of_folds(figure: "Figure", fold_count: int) -> None:
    """Explain colours (folds), dashes and the mark, below the axes."""
    from matplotlib.lines import Line2D  # here: matplotlib takes a second

    handles = [
        Line2D([], [], color=FOLD_SHADES[fold % len(FOLD_SHADES)], linewidth=1.6, label=f"fold {fold + 1}")
        for fold in range(min(fold_count, LEGEND_FOLDS))
    ]
    handles += [
        Line2D([], [], color=INK, linestyle=(0, (3, 2)), linewidth=1, label="training"),
        Line2D([], [], color=INK, linewidth=1.6, label="validation"),
        Line2D([], [], color="white", marker="o", markeredgecolor=INK, markeredgewidth=1.6, label="best epoch"),
        Line2D([], [], color=QUIET, linewidth=0.8, label="always 50 %"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 9), frameon=False, fontsize=8)


def confusion_picture(matrix: Int64[np.ndarray, "2 2"]) -> "Figure":
    """Draw a confusion matrix: counts, and shares of what happened in each row.

    Args:
        matrix: shape (2, 2), int64: rows what happened (fall, rise), columns what was said (fall, rise).
    """
    figure = _figure(4.6, 4.2)
    ax = figure.subplots()
    shares = normalise_rows(matrix)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(2):
        for column in range(2):
            ink = "white" if shares[row, column] > 0.55 else INK  # noqa: PLR2004 - where the blue turns dark
            ax.text(column, row - 0.06, f"{shares[row, column]:.1%}", ha="center", va="center", color=ink, fontsize=17)
            ax.text(column, row + 0.14, f"{matrix[row, column]:,}", ha="center", va="center", color=ink, fontsize=10)
    ax.set_xticks([0, 1], [f"said {name}" for name in CLASSES])
    ax.set_yticks([0, 1], [f"{name}\n({int(matrix[k].sum()):,})" for k, name in enumerate(CLASSES)])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    right = int(np.trace(matrix)) / max(int(matrix.sum()), 1)
    ax.set_title(f"What happened (rows) and what was said\n{right:.1%} of {int(matrix.sum()):,} right", fontsize=10)
    return figure


def probabilities_picture(record: Record, close: Float64[np.ndarray, " window"]) -> "Figure":
    """Draw P(rise) over time, coloured by what happened, below the close of the same bars.

    Args:
        record: out-of-sample probabilities, oldest first.
        close: shape (window,), float64: close at each `decided_at`, in the quote currency.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # here: matplotlib takes a second

    figure = _figure(10.0, 5.6)
    price, chance = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.2])
    for part in _without_gaps(record.decided_at):
        price.plot(record.decided_at[part], close[part], color=INK, linewidth=1)
    price.set(ylabel="close", title="Probability of a rise on bars the model never saw")
    if len(close) and np.nanmin(close) > 0 and np.nanmax(close) / np.nanmin(close) > 5:  # noqa: PLR2004 - five-fold
        price.set_yscale("log")
        _plain_prices(price)
    size = float(np.clip(6000 / max(len(record), 1), 2, 14))
    for label, shade in ((0, FALL), (1, RISE)):
        those = record.labels == label
        chance.scatter(record.decided_at[those], record.probabilities[those], s=size, color=shade, linewidths=0,
                       alpha=0.75, label=f"{CLASSES[label]} followed ({int(those.sum()):,})")  # fmt: skip
    chance.axhline(THRESHOLD, color=QUIET, linewidth=0.8, zorder=1)
    for start in record.decided_at[1:][np.diff(record.fold) != 0]:
        for ax in (price, chance):
            ax.axvline(start, color=QUIET, linewidth=0.6, linestyle=(0, (1, 3)), zorder=0)
    chance.set(ylabel="P(rise)", ylim=_probability_limits(record.probabilities))
    figure.legend(*chance.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=8,
                  markerscale=2)  # fmt: skip
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]  # matplotlib leaves it untyped
    chance.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]  # matplotlib leaves it untyped
    chance.xaxis.set_major_formatter(formatter)
    for ax in (price, chance):
        _quieten(ax)
    return figure


def _plain_prices(ax: "Axes") -> None:
    """Label a logarithmic price axis with plain prices at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # here: matplotlib takes a second

    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _without_gaps(times: Shaped[np.ndarray, " window"]) -> list[slice]:
    """Cut times where a step is far longer than the usual one, so that no line claims what happened in between."""
    steps = np.diff(times)
    if not len(steps):
        return [slice(0, len(times))]
    edges = [0, *(np.flatnonzero(steps > 2 * np.median(steps)) + 1).tolist(), len(times)]
    return [slice(start, end) for start, end in pairwise(edges)]


def _probability_limits(probabilities: Float64[np.ndarray, " window"]) -> tuple[float, float]:
    """Return an axis that shows all probabilities and 0.5."""
    return _span_of(np.append(probabilities, THRESHOLD))


def reliability_picture(record: Record) -> "Figure":
    """Draw what happened by what was said, with 95 % intervals, above the number of windows in each bin.

    Args:
        record: out-of-sample probabilities.
    """
    curve = reliability_curve(record.labels, record.probabilities)
    figure = _figure(5.0, 5.6)
    ax, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    said, happened = curve.mean_probabilities, curve.observed_shares
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1, zorder=0, label="said = happened")
    ax.axhline(float(record.labels.mean()), color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0,
               label=f"share of rises ({record.labels.mean():.1%})")  # fmt: skip
    ax.errorbar(said, happened, yerr=[happened - curve.lows, curve.highs - happened], color=RISE, marker="o",
                markersize=5, linewidth=1.2, elinewidth=1, capsize=2, label="bins, 95 % interval")  # fmt: skip
    low, high = _span_of(record.probabilities)
    ax.set(title=f"Reliability: expected calibration error {curve.expected_error:.3f}", ylabel="share that rose",
           xlim=(low, high))  # fmt: skip
    floor, ceiling = float(min(curve.lows.min(), low)), float(max(curve.highs.max(), high))
    ax.set_ylim(max(floor - 0.03, -0.02), min(ceiling + 0.03, 1.02))
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    below.hist(record.probabilities, bins=list(np.linspace(low, high, 31)), color=RISE, alpha=0.6)
    below.set(xlabel="P(rise) said", ylabel="windows")
    for panel in (ax, below):
        _quieten(panel)
    return figure


def _span_of(probabilities: Float64[np.ndarray, " window"]) -> tuple[float, float]:
    """Return an axis that shows all probabilities and is never narrower than 0.1."""
    low, high = float(probabilities.min()), float(probabilities.max())
    room = max(0.05 * (high - low), (0.1 - (high - low)) / 2)
    return max(low - room, -0.02), min(high + room, 1.02)


def _figure(width_inches: float, height_inches: float) -> "Figure":
    """Return an empty figure that lays itself out."""
    from matplotlib.figure import Figure  # here: matplotlib takes a second

    return Figure(figsize=(width_inches, height_inches), dpi=110, layout="constrained")


def _quieten(ax: "Axes") -> None:
    """Take away the frame's upper and right side and draw a faint grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8)
    ax.title.set_fontsize(10)
