"""Score probabilities: the six metrics, the confusion matrix and the classification report.

Knows labels (1 rise, 0 fall) and P(rise), not the models. Log loss (nats) and Brier score are proper scoring rules:
only the true probability minimises their expectation. A probability above 0.5 predicts a rise, 0.5 itself a fall. All
six metrics follow from a `Tally`, which merges: the tally of merged folds equals that of the pooled sample. Caution:
where the labels hold one class only, balanced accuracy, Matthews correlation and ROC AUC are undefined and returned as
NaN; a constant forecast is no skill (balanced accuracy 0.5, correlation 0, area 0.5), not an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64

from model.errors import SpecError, UnsoundModel
from model.label_names import RISE_NAMES
from model.labels import require_labels

METRIC_NAMES = {
    "log_loss": "log loss",
    "brier_score": "Brier score",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "mcc": "Matthews corr.",
    "roc_auc": "ROC AUC",
}
METRICS = tuple(METRIC_NAMES)
LOWER_IS_BETTER = frozenset({"log_loss", "brier_score"})
CLASSES = RISE_NAMES.classes
THRESHOLD = 0.5  # a probability above it predicts a rise: the one decision threshold of the project
# Log loss is clipped at two places, because probabilities come in two precisions. Records are float64 and take
# scikit-learn's clip: a certain and wrong forecast costs 36 nats, not infinity. Training sees float32 probabilities and
# takes Keras' epsilon, so that training and validation losses of a fit are comparable.
CLIP = float(np.finfo(np.float64).eps)
TRAINING_CLIP = 1e-7
ODDS_CLIP = 1e-12  # of probabilities in log odds and divergences, which are then at most 28 nats


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of rises and falls by predicted probability: sufficient for the six metrics, and mergeable.

    Law: `tally(a) + tally(b)` equals `tally` of a and b pooled, to the last bit, in any order.

    Attributes:
        probabilities: shape (value,), float64: the distinct P(rise), ascending.
        falls: shape (value,), int64: windows with that probability that fell.
        rises: shape (value,), int64: windows with that probability that rose.
    """

    probabilities: Float64[np.ndarray, " value"]
    falls: Int64[np.ndarray, " value"]
    rises: Int64[np.ndarray, " value"]

    def __add__(self, other: "Tally") -> "Tally":
        """Merge two tallies."""
        probabilities, place = np.unique(np.concatenate([self.probabilities, other.probabilities]), return_inverse=True)
        falls = np.zeros(len(probabilities), dtype=np.int64)
        rises = np.zeros(len(probabilities), dtype=np.int64)
        np.add.at(falls, place, np.concatenate([self.falls, other.falls]))
        np.add.at(rises, place, np.concatenate([self.rises, other.rises]))
        return Tally(probabilities, falls, rises)

    def __len__(self) -> int:
        """Count the windows."""
        return int(self.falls.sum() + self.rises.sum())

    def score(self) -> dict[str, float]:
        """Return the metrics of `METRICS` by name; NaN where one is undefined."""
        falls, rises = self.falls.astype(np.float64), self.rises.astype(np.float64)
        rise_losses, fall_losses = losses_by_outcome(self.probabilities)
        predicted = predicts_rise(self.probabilities)
        sums = (
            rises @ rise_losses + falls @ fall_losses,
            rises @ (1 - self.probabilities) ** 2 + falls @ self.probabilities**2,
            rises @ predicted,
            falls @ predicted,
            rises.sum(),
            falls.sum(),
            rises @ (np.cumsum(falls) - falls / 2),
        )
        return {name: float(value[0]) for name, value in _metrics(*np.array(sums)[:, None]).items()}


def tally(labels: Int8[np.ndarray, " window"], probabilities: Float64[np.ndarray, " window"]) -> Tally:
    """Count labels by probability.

    Args:
        labels: shape (window,), int8: 1 rise, 0 fall.
        probabilities: shape (window,), float64: P(rise), finite, 0 to 1.

    Raises:
        SpecError: lengths differ, or a label is neither 0 nor 1.
        UnsoundModel: a probability is not finite or not within 0 to 1.
    """
    _require_pair(labels, probabilities)
    values, place = np.unique(probabilities, return_inverse=True)
    rises = np.bincount(place, weights=labels, minlength=len(values)).astype(np.int64)
    return Tally(values, np.bincount(place, minlength=len(values)).astype(np.int64) - rises, rises)


def score(labels: Int8[np.ndarray, " window"], probabilities: Float64[np.ndarray, " window"]) -> dict[str, float]:
    """Return the six metrics of `METRICS` by name.

    Args:
        labels: shape (window,), int8: 1 rise, 0 fall.
        probabilities: shape (window,), float64: P(rise), finite, 0 to 1.

    Returns:
        log_loss (nats), brier_score (mean square error of P(rise)), accuracy, balanced_accuracy (mean of the two
        recalls), mcc (Matthews correlation, 0 for a constant forecast), roc_auc (ties count half). The last three
        are NaN where the labels hold one class; all are NaN where there is no window.

    Raises:
        SpecError: lengths differ, or a label is neither 0 nor 1.
        UnsoundModel: a probability is not finite or not within 0 to 1.

    Examples:
        >>> labels = np.array([1, 0, 1, 1], dtype=np.int8)
        >>> found = score(labels, np.array([0.8, 0.4, 0.6, 0.3]))
        >>> round(found["log_loss"], 4), found["accuracy"], round(found["roc_auc"], 4)
        (0.6122, 0.75, 0.6667)
    """
    return tally(labels, probabilities).score()


def score_resamples(
    labels: Int8[np.ndarray, " window"],
    probabilities: Float64[np.ndarray, " window"],
    counts: Float64[np.ndarray, "resample window"],
) -> dict[str, Float64[np.ndarray, " resample"]]:
    """Return the metrics of `METRICS` for many resamples of the same windows at once.

    Args:
        labels: shape (window,), int8: 1 rise, 0 fall.
        probabilities: shape (window,), float64: P(rise).
        counts: shape (resample, window): count of draws of each window in each resample.

    Returns:
        By name, shape (resample,); NaN where a resample holds one class and the metric is undefined, or no window.

    Raises:
        SpecError: lengths differ, or a label is neither 0 nor 1.
        UnsoundModel: a probability is not finite or not within 0 to 1.
    """
    _require_pair(labels, probabilities)
    rose, predicted = labels == 1, predicts_rise(probabilities)
    by_window = [
        unchecked_losses(labels, probabilities),
        (probabilities - labels) ** 2,
        predicted & rose,
        predicted & ~rose,
        rose,
        ~rose,
    ]
    losses, errors, hits, false_rises, rises, falls = (counts @ np.stack(by_window, axis=1).astype(np.float64)).T
    in_order = _pairs_in_order(labels, probabilities, counts)
    return _metrics(losses, errors, hits, false_rises, rises, falls, in_order)


def _pairs_in_order(
    labels: Int8[np.ndarray, " window"],
    probabilities: Float64[np.ndarray, " window"],
    counts: Float64[np.ndarray, "resample window"],
) -> Float64[np.ndarray, " resample"]:
    """Return how many pairs of a rise and a fall have the higher P(rise) at the rise; ties count half."""
    order = np.argsort(probabilities, kind="stable")
    rises, falls = order[labels[order] == 1], order[labels[order] == 0]
    falls_below = np.zeros((len(counts), len(falls) + 1))
    np.cumsum(counts[:, falls], axis=1, out=falls_below[:, 1:])
    below = np.searchsorted(probabilities[falls], probabilities[rises], side="left")
    up_to = np.searchsorted(probabilities[falls], probabilities[rises], side="right")
    beaten = falls_below[:, below]
    if (up_to > below).any():
        beaten = (beaten + falls_below[:, up_to]) / 2
    return np.asarray(np.einsum("ij,ij->i", counts[:, rises], beaten))


def _metrics(
    log_loss: Float64[np.ndarray, " resample"],
    square_error: Float64[np.ndarray, " resample"],
    true_rises: Float64[np.ndarray, " resample"],
    false_rises: Float64[np.ndarray, " resample"],
    rises: Float64[np.ndarray, " resample"],
    falls: Float64[np.ndarray, " resample"],
    pairs_in_order: Float64[np.ndarray, " resample"],
) -> dict[str, Float64[np.ndarray, " resample"]]:
    """Return the metrics of `METRICS` from sums over the windows of each resample; see `_pairs_in_order`."""
    total = rises + falls
    true_falls, false_falls = falls - false_rises, rises - true_rises
    both = np.where((rises > 0) & (falls > 0), 1.0, np.nan)
    product = (true_rises + false_rises) * (true_falls + false_falls) * rises * falls
    covariance = true_rises * true_falls - false_rises * false_falls
    return {
        "log_loss": _ratio(log_loss, total),
        "brier_score": _ratio(square_error, total),
        "accuracy": _ratio(true_rises + true_falls, total),
        "balanced_accuracy": (_ratio(true_rises, rises) + _ratio(true_falls, falls)) / 2,
        "mcc": both * np.where(product > 0, _ratio(covariance, np.sqrt(product)), 0.0),
        "roc_auc": _ratio(pairs_in_order, rises * falls),
    }


def _ratio(
    part: Float64[np.ndarray, " resample"], whole: Float64[np.ndarray, " resample"]
) -> Float64[np.ndarray, " resample"]:
    """Divide, with NaN where the whole is zero."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), np.nan)


def log_losses(
    labels: Int8[np.ndarray, " window"], probabilities: Float64[np.ndarray, " window"]
) -> Float64[np.ndarray, " window"]:
    """Return the log loss of each window, shape (window,), nats.

    Time: entry t depends on window t alone.

    Raises:
        SpecError: lengths differ, or a label is neither 0 nor 1.
        UnsoundModel: a probability is not finite or not within 0 to 1.
    """
    _require_pair(labels, probabilities)
    return unchecked_losses(labels, probabilities)


def unchecked_losses(
    labels: Int8[np.ndarray, "*#run window"], probabilities: Float64[np.ndarray, "*#run window"]
) -> Float64[np.ndarray, "*#run window"]:
    """Return the log loss of each forecast, nats; labels and probabilities broadcast, and NaN stays NaN."""
    rise_losses, fall_losses = losses_by_outcome(probabilities)
    return np.where(labels == 1, rise_losses, fall_losses)


def predicts_rise(probabilities: Float64[np.ndarray, " window"]) -> Bool[np.ndarray, " window"]:
    """Return whether each probability predicts a rise: above `THRESHOLD`; at it, a fall.

    Examples:
        >>> predicts_rise(np.array([0.49, 0.5, 0.51])).tolist()
        [False, False, True]
    """
    return np.asarray(probabilities > THRESHOLD, dtype=np.bool_)


def losses_by_outcome(
    probabilities: Float64[np.ndarray, "*value"],
) -> tuple[Float64[np.ndarray, "*value"], Float64[np.ndarray, "*value"]]:
    """Return the log loss of each probability for an actual rise, and for an actual fall."""
    clipped = np.clip(probabilities, CLIP, 1 - CLIP)
    return -np.log(clipped), -np.log1p(-clipped)


def confusion_matrix(
    labels: Int8[np.ndarray, " window"], probabilities: Float64[np.ndarray, " window"]
) -> Int64[np.ndarray, "2 2"]:
    """Count windows by actual class (rows: fall, rise) and predicted class (columns: fall, rise).

    Raises:
        SpecError: lengths differ, or a label is neither 0 nor 1.
        UnsoundModel: a probability is not finite or not within 0 to 1.
    """
    _require_pair(labels, probabilities)
    cell = labels.astype(np.int64) * 2 + predicts_rise(probabilities)
    return np.bincount(cell, minlength=4).astype(np.int64).reshape(2, 2)


def normalise_rows(matrix: Int64[np.ndarray, "row column"]) -> Float64[np.ndarray, "row column"]:
    """Divide each row by its sum, so that the diagonal holds the recalls; a row without windows is zero."""
    shares: Float64[np.ndarray, "row column"] = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return shares


def classification_report(
    labels: Int8[np.ndarray, " window"],
    probabilities: Float64[np.ndarray, " window"],
    classes: tuple[str, str] = CLASSES,
) -> str:
    """Return precision, recall, F1 and support of the two classes as text, in scikit-learn's layout.

    A ratio with denominator 0 is 0, as in scikit-learn with `zero_division=0`.

    Raises:
        SpecError: lengths differ, or a label is neither 0 nor 1.
        UnsoundModel: a probability is not finite or not within 0 to 1.
    """
    return report_of_matrix(confusion_matrix(labels, probabilities), classes)


def report_of_matrix(matrix: Int64[np.ndarray, "row column"], classes: Sequence[str]) -> str:
    """Return the report of `classification_report` for any number of classes, from their confusion matrix."""
    hits, predicted, actual = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    precision, recall = hits / np.maximum(predicted, 1), hits / np.maximum(actual, 1)
    table = np.stack([precision, recall, 2 * hits / np.maximum(predicted + actual, 1)], axis=1)
    total = int(actual.sum())
    weights = actual / max(total, 1)
    width = max(len(name) for name in (*classes, "weighted avg"))
    rows = [f"{'':>{width}} " + "".join(f" {name:>9}" for name in ("precision", "recall", "f1-score", "support")), ""]
    rows += [_report_row(name.rjust(width), table[k], int(actual[k])) for k, name in enumerate(classes)]
    rows += ["", f"{'accuracy':>{width}} {'':>20} {hits.sum() / max(total, 1):>9.2f} {total:>9}"]
    averages = {"macro avg": table.mean(axis=0), "weighted avg": weights @ table}
    rows += [_report_row(name.rjust(width), values, total) for name, values in averages.items()]
    return "\n".join(rows) + "\n"


def _report_row(name: str, values: Float64[np.ndarray, " column"], support: int) -> str:
    """Return one line of the report."""
    return f"{name} " + "".join(f" {value:>9.2f}" for value in values) + f" {support:>9}"


def _require_pair(labels: Int8[np.ndarray, " window"], probabilities: Float64[np.ndarray, " _"]) -> None:
    """Raise unless there is a probability in [0, 1] for each label, and each label is 0 or 1."""
    if labels.shape != probabilities.shape:
        raise SpecError(f"expected a probability for each label; found {len(probabilities)} for {len(labels)}")
    require_labels(labels)
    bad = np.flatnonzero(~((probabilities >= 0) & (probabilities <= 1)))
    if len(bad):
        raise UnsoundModel(
            f"expected probabilities from 0 to 1; found {len(bad)} of {len(probabilities)} outside or not finite, "
            f"the first {probabilities[bad[0]]} at window {bad[0]}. Retrain with a lower learning rate."
        )
