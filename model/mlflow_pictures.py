"""Draw the static pictures of a retrain: learning curves, confusion matrix, probabilities over price, reliability.

Returns matplotlib figures and neither shows nor stores them. Uses the object interface, so that no window system and no
global state is touched. Caution: a loss axis that follows one diverged epoch hides all the others, so it is cut at a
quantile.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64

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
    probability_limits_with_threshold,
)
from model.label_names import RISE_NAMES, LabelNames
from model.metrics import CLASSES, THRESHOLD, Record, normalise_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEGEND_FOLDS = len(FOLD_SHADES)


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


def learning_curves(histories: Sequence[Sequence[EpochNumbers]]) -> "Figure":
    """Draw loss and accuracy by epoch for each fold, training dashed and validation solid, the best epoch marked.

    Args:
        histories: the epochs of each fold, oldest fold first.
    """
    from matplotlib.ticker import MaxNLocator  # imported here: matplotlib takes a second

    figure = _figure(10.0, 4.4)
    axes = figure.subplots(1, 2)
    for fold, history in enumerate(histories):
        _draw_history(axes, history, fold)
    losses = [loss for history in histories for epoch in history for loss in (epoch.loss, epoch.validation_loss)]
    axes[0].set_ylim(loss_limits(losses))
    axes[0].set(title="Loss", xlabel="epoch", ylabel="log loss (nats)")
    axes[1].set(title="Accuracy", xlabel="epoch", ylabel="accuracy")
    axes[0].axhline(COIN_LOSS, color=QUIET, linewidth=0.8, zorder=1)
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
    best = np.flatnonzero(is_best_epoch(losses))
    for ax, (training, validation) in zip(axes, columns, strict=True):
        marker = "o" if len(history) == 1 else ""  # a line of one point shows nothing
        ax.plot(epochs, [getattr(epoch, training) for epoch in history], color=shade, linestyle=(0, (3, 2)),
                linewidth=1, alpha=0.7, marker=marker, markersize=3)  # fmt: skip
        values = [getattr(epoch, validation) for epoch in history]
        ax.plot(epochs, values, color=shade, linewidth=1.6, marker=marker, markersize=3)
        for place in best:
            ax.plot(epochs[place], values[place], marker="o", color="white", markeredgecolor=shade,
                    markeredgewidth=1.6, markersize=6, zorder=5)  # fmt: skip


def _legend_of_folds(figure: "Figure", fold_count: int) -> None:
    """Explain colours (folds), dashes and the mark, below the axes."""
    from matplotlib.lines import Line2D  # imported here: matplotlib takes a second

    handles = [
        Line2D([], [], color=FOLD_SHADES[fold % len(FOLD_SHADES)], linewidth=1.6, label=f"fold {fold + 1}")
        for fold in range(min(fold_count, LEGEND_FOLDS))
    ]
    handles += [
        Line2D([], [], color=INK, linestyle=(0, (3, 2)), linewidth=1, label="training"),
        Line2D([], [], color=INK, linewidth=1.6, label="validation"),
        Line2D([], [], color="white", marker="o", markeredgecolor=INK, markeredgewidth=1.6, label="best epoch"),
        Line2D([], [], color=QUIET, linewidth=0.8, label="constant 50 %"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 9), frameon=False, fontsize=8)


def confusion_picture(matrix: Int64[np.ndarray, "2 2"], classes: tuple[str, str] = CLASSES) -> "Figure":
    """Draw a confusion matrix: counts, and shares of each row.

    Args:
        matrix: shape (2, 2), int64: rows are actual classes 0 and 1, columns predicted ones.
        classes: their names.
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
    ax.set_xticks([0, 1], [f"predicted {_two_lines(name)}" for name in classes])
    ax.set_yticks([0, 1], [f"{_two_lines(name)}\n({int(matrix[k].sum()):,})" for k, name in enumerate(classes)])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    correct = int(np.trace(matrix)) / max(int(matrix.sum()), 1)
    ax.set_title(
        f"Actual (rows) and predicted class\naccuracy {correct:.1%} on {int(matrix.sum()):,} windows", fontsize=10
    )
    return figure


def _two_lines(name: str) -> str:
    """Break a long name of a class, so that two fit side by side."""
    first, _, rest = name.partition(" ")
    return f"{first}\n{rest}" if rest else name


def probabilities_picture(record: Record, close: Float64[np.ndarray, " window"]) -> "Figure":
    """Draw P(rise) over time, coloured by the actual outcome, below the close of the same bars.

    Args:
        record: out-of-sample probabilities, oldest first.
        close: shape (window,), float64: close at each `decided_at`, in the quote currency.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # imported here: matplotlib takes a second

    figure = _figure(10.0, 5.6)
    price, chance = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.2])
    edges = [0, *gap_starts(record.decided_at).tolist(), len(record)]
    for part in (slice(start, end) for start, end in pairwise(edges)):
        price.plot(record.decided_at[part], close[part], color=INK, linewidth=1)
    price.set(ylabel="close", title="Out-of-sample probability of a rise")
    if needs_log_scale(close):
        price.set_yscale("log")
        _plain_prices(price)
    size = float(np.clip(6000 / max(len(record), 1), 2, 14))
    for label, shade in ((0, FALL), (1, RISE)):
        those = record.labels == label
        chance.scatter(record.decided_at[those], record.probabilities[those], s=size, color=shade, linewidths=0,
                       alpha=0.75, label=f"actual {CLASSES[label]} ({int(those.sum()):,})")  # fmt: skip
    chance.axhline(THRESHOLD, color=QUIET, linewidth=0.8, zorder=1)
    for start in record.decided_at[1:][np.diff(record.fold) != 0]:
        for ax in (price, chance):
            ax.axvline(start, color=QUIET, linewidth=0.6, linestyle=(0, (1, 3)), zorder=0)
    chance.set(ylabel="P(rise)", ylim=probability_limits_with_threshold(record.probabilities))
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
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # imported here: matplotlib takes a second

    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def reliability_picture(record: Record, names: LabelNames = RISE_NAMES) -> "Figure":
    """Draw observed by predicted share of class 1, with 95 % intervals, above a histogram of the probabilities.

    Args:
        record: out-of-sample probabilities.
        names: of the label.
    """
    curve = reliability_curve(record.labels, record.probabilities)
    figure = _figure(5.0, 5.6)
    ax, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    predicted, observed = curve.mean_probabilities, curve.observed_shares
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1, zorder=0, label="perfect calibration")
    ax.axhline(float(record.labels.mean()), color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0,
               label=f"{names.share} ({record.labels.mean():.1%})")  # fmt: skip
    ax.errorbar(predicted, observed, yerr=[observed - curve.lows, curve.highs - observed], color=RISE, marker="o",
                markersize=5, linewidth=1.2, elinewidth=1, capsize=2, label="bins, 95 % interval")  # fmt: skip
    low, high = probability_limits(record.probabilities)
    title = f"Reliability: expected calibration error {curve.expected_error:.3f}"
    ax.set(title=title, ylabel=f"observed {names.share}", xlim=(low, high))
    floor, ceiling = float(min(curve.lows.min(), low)), float(max(curve.highs.max(), high))
    ax.set_ylim(max(floor - 0.03, -0.02), min(ceiling + 0.03, 1.02))
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    below.hist(record.probabilities, bins=list(np.linspace(low, high, 31)), color=RISE, alpha=0.6)
    below.set(xlabel=f"predicted {names.probability}", ylabel="windows")
    for panel in (ax, below):
        _quieten(panel)
    return figure


def _figure(width_inches: float, height_inches: float) -> "Figure":
    """Return an empty figure with constrained layout."""
    from matplotlib.figure import Figure  # imported here: matplotlib takes a second

    return Figure(figsize=(width_inches, height_inches), dpi=110, layout="constrained")


def _quieten(ax: "Axes") -> None:
    """Remove the upper and right spine and draw a faint grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8)
    ax.title.set_fontsize(10)
