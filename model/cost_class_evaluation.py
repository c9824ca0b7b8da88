"""Evaluate the probabilities of the three classes of a cost out of sample: proper scores, calibration, confusion.

Knows numbers only. The predicted class is the most probable one, which at a low cost is hardly ever `neither`: the
confusion matrix shows it, the proper scores do not depend on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int8

from model.bootstrap import Interval, PairedDifference, record_difference, record_ratio
from model.calibration_error import reliability_curve
from model.cost_classes import CLASS_COLUMNS, CLASS_NAMES, brier_losses, class_losses
from model.metrics import normalise_rows, report_of_matrix
from model.record import Record

NETWORK = "network"
Matrix = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class CostClassEvaluation:
    """Out-of-sample results of the three classes.

    Attributes:
        cost_bps: the cost, basis points.
        log_loss: by forecaster (`network` and the baselines): mean log loss, nats.
        brier_score: by forecaster: mean Brier score, 0 to 2.
        differences: by baseline: the network's log loss minus the baseline's; negative where the network is better.
        calibration_errors: expected calibration error of each class against the other two.
        shares: share of each class among the windows.
        confusion: rows actual (down, neither, up), columns the most probable class.
    """

    cost_bps: float
    log_loss: dict[str, Interval]
    brier_score: dict[str, Interval]
    differences: dict[str, PairedDifference]
    calibration_errors: tuple[float, ...]
    shares: tuple[float, ...]
    confusion: Matrix

    @property
    def accuracy(self) -> float:
        """Share of windows whose most probable class is the actual one."""
        counts = np.array(self.confusion)
        return float(np.trace(counts) / counts.sum())

    def report(self) -> str:
        """Return classification report and confusion matrix as text."""
        counts = np.array(self.confusion)
        return (
            f"{report_of_matrix(counts, CLASS_NAMES)}\n\n"
            f"confusion matrix (rows: actual {', '.join(CLASS_NAMES)}; columns: most probable)\n{counts}\n\n"
            f"row-normalised\n{np.array2string(normalise_rows(counts), precision=3)}\n"
        )

    def numbers(self) -> dict[str, float]:
        """Return every number but the matrix by name, those with an interval also with `_low` and `_high`."""
        named = {f"{name}_log_loss": found for name, found in self.log_loss.items()}
        named |= {f"{name}_brier_score": found for name, found in self.brier_score.items()}
        for baseline, versus in self.differences.items():
            named[f"vs_{baseline}"] = Interval(versus.mean, versus.low, versus.high)
        numbers = {"cost_bps": self.cost_bps, "accuracy": self.accuracy}
        for name, each in named.items():
            numbers |= {name: each.value, f"{name}_low": each.low, f"{name}_high": each.high}
        for column, error, share in zip(CLASS_COLUMNS, self.calibration_errors, self.shares, strict=True):
            kind = column.removeprefix("p_")
            numbers |= {f"calibration_error_{kind}": error, f"share_{kind}": share}
        return numbers | {f"vs_{name}_p_value": versus.p_value for name, versus in self.differences.items()}


def evaluate_cost_classes(
    record: Record,
    classes: Int8[np.ndarray, " window"],
    cost_bps: float,
    baselines: Mapping[str, Float64[np.ndarray, "window class"]],
    seed: int,
) -> CostClassEvaluation:
    """Score the class probabilities of a record, alone and vs. the baselines, with 95 % block bootstrap intervals.

    Args:
        record: pooled out-of-sample record with class probabilities, oldest first; of a panel whole closes are drawn.
        classes: shape (window,), int8: actual classes, as `label_cost_classes` returns them.
        cost_bps: the cost, basis points.
        baselines: by name, shape (window, 3), float64: other forecasts.
        seed: of the bootstrap.
    """
    forecasts = {NETWORK: record.class_probabilities, **baselines}
    losses = {name: class_losses(classes, each) for name, each in forecasts.items()}

    def mean_of(values: Float64[np.ndarray, " window"]) -> Interval:
        return record_ratio(record, values, np.ones(len(values)), seed)

    def calibration_error(kind: int) -> float:
        hits = (classes == kind).astype(np.int8)
        return reliability_curve(hits, record.class_probabilities[:, kind]).expected_error

    predicted = record.class_probabilities.argmax(axis=1)
    confusion = np.bincount(classes * 3 + predicted, minlength=9).reshape(3, 3)
    return CostClassEvaluation(
        cost_bps=cost_bps,
        log_loss={name: mean_of(each) for name, each in losses.items()},
        brier_score={name: mean_of(brier_losses(classes, each)) for name, each in forecasts.items()},
        differences={name: record_difference(record, losses[NETWORK] - losses[name], seed) for name in baselines},
        calibration_errors=tuple(calibration_error(kind) for kind in range(3)),
        shares=tuple(float(each) for each in np.bincount(classes, minlength=3) / len(classes)),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )
