"""Score what a panel predicted before the outcome, with the series of one close as ONE observation.

The labels of a close are strongly correlated: coins fall together. So losses are averaged over the series of a close
first, and intervals and evidence count closes. Losses are in nats. The e-process bets on that average: what is tested
is, for each close, the expected mean excess loss given all that is known before it, which no correlation inside the
close changes. Knows probabilities and outcomes; no store and no clock.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64

from model.e_process import (
    ForecastReference,
    allowed_excesses,
    clip_base_rate,
    divergence,
    excess_e_process,
    excess_losses,
    reference_of,
)
from model.errors import SpecError
from model.label_names import LabelKind
from model.live_score import LiveScore, mean_with_bounds, no_live_score
from model.metrics import log_losses, predicts_rise
from model.record import Record

RANK_BASE_RATE = 0.5  # a series is as often above the median of the others as below


def freeze_panel_reference(record: Record, label: LabelKind, tolerance: float = 0.005) -> ForecastReference:
    """Summarise the out-of-sample record of a panel's version at its promotion, by close.

    Args:
        record: of the panel; its symbols may be any.
        label: the base rate is 0.5 for ranks, else the mean share of rises at a close.
        tolerance: excess loss per close that counts as no change, nats.

    Raises:
        SpecError: the record is empty.
    """
    if not len(record):
        raise SpecError("sequential evidence: expected a record of at least one window, found none")
    closes = record.bar_numbers()
    share = float(close_means(closes, record.labels.astype(np.float64)).mean())
    base_rate = RANK_BASE_RATE if label == "rank" else clip_base_rate(share)
    base = np.full(len(record), base_rate)
    excess = log_losses(record.labels, record.probabilities) - log_losses(record.labels, base)
    spread = divergence(base, record.probabilities)
    means = close_means(closes, excess), close_means(closes, spread)
    return reference_of(base_rate, *means, spread, tolerance, record.overlap_bars())


def panel_live_score(
    closes: Int64[np.ndarray, " prediction"],
    labels: Int8[np.ndarray, " prediction"],
    probabilities: Float64[np.ndarray, " prediction"],
    reference: ForecastReference,
    threshold: float,
    overlap: int = 1,
) -> LiveScore:
    """Score predictions of one version of a panel, and test whether they are worse than its record.

    Args:
        closes: shape (prediction,), int64, rising: the close at which each was decided, as any number.
        labels: shape (prediction,), int8: 1, 0, or -1 where the outcome is not known or not final.
        probabilities: shape (prediction,), float64: of label 1, as stored before the outcome.
        reference: what the version may lose by, frozen when it was promoted.
        threshold: e-value that is an alarm; see `model.e_process.alarm_threshold`.
        overlap: closes within the life of one label.

    Returns:
        The score; `count` counts closes with an outcome, and each mean is one over closes of the mean over series.

    Time: entry t of the e-values depends on the labels of closes 0..t and the probabilities of 0..t + overlap - 1.
    """
    known = labels >= 0
    if not known.any():
        return no_live_score(threshold)
    base, allowed = np.full(len(labels), reference.base_rate), allowed_excesses(reference, probabilities)
    e_values = panel_e_process(closes, labels, probabilities, base, allowed, overlap)
    numbers = np.unique(closes, return_inverse=True)[1]
    scored = np.bincount(numbers, weights=known) > 0
    at, labels, probabilities, base = closes[known], labels[known], probabilities[known], base[known]
    correct = (predicts_rise(probabilities) == (labels == 1)).astype(np.float64)
    return LiveScore(
        count=int(scored.sum()),
        accuracy=mean_with_bounds(close_means(at, correct), overlap),
        log_loss=mean_with_bounds(close_means(at, log_losses(labels, probabilities)), overlap),
        base_rate_loss=float(close_means(at, log_losses(labels, base)).mean()),
        calibration=mean_with_bounds(close_means(at, labels - probabilities), overlap),
        allowed_excess=float(close_means(at, allowed[known]).mean()),
        e_values=e_values[scored],
        threshold=threshold,
        predictions=int(known.sum()),
    )


def panel_e_process(
    closes: Int64[np.ndarray, " prediction"],
    labels: Int8[np.ndarray, " prediction"],
    probabilities: Float64[np.ndarray, " prediction"],
    base_rates: Float64[np.ndarray, " prediction"],
    allowed: Float64[np.ndarray, " prediction"],
    overlap: int = 1,
) -> Float64[np.ndarray, " close"]:
    """Return the evidence that the mean excess loss of a close is larger than allowed, after each close's outcomes.

    A bet is sized before the outcome by the worst that the series of the close could do together. A prediction whose
    outcome never comes counts as neither gain nor loss, so that the bet stays what it was when it was made.

    Args:
        closes: shape (prediction,), int64, rising.
        labels: shape (prediction,), int8: 1, 0, -1 not known; a close without any known label is still open.
        probabilities: shape (prediction,), float64.
        base_rates: shape (prediction,), float64: of the version that decided.
        allowed: shape (prediction,), float64: see `model.e_process.allowed_excesses`.
        overlap: closes within the life of one label.

    Time: entry t depends on the labels of closes 0..t and the probabilities of 0..t + overlap - 1.
    Source: own, on `model.e_process.lagged_e_process`.

    >>> wrong, sure, base = np.zeros(8, dtype=np.int8), np.full(8, 0.8), np.full(8, 0.5)
    >>> one, two = (panel_e_process(np.arange(8) // each, wrong, sure, base, np.zeros(8)) for each in (1, 2))
    >>> len(one), len(two), bool(np.isclose(one[3], two[3]))  # two equal series at a close are one observation
    (8, 4, True)
    """
    gains, lowest, highest = excess_losses(labels, probabilities, base_rates, allowed)
    gains, lowest, highest = (close_means(closes, each) for each in (gains, lowest, highest))
    known = close_means(closes, (labels >= 0).astype(np.float64)) > 0
    return excess_e_process(gains, lowest, highest, known, overlap)


def opinion_accuracy(
    closes: Int64[np.ndarray, " prediction"],
    labels: Int8[np.ndarray, " prediction"],
    probabilities: Float64[np.ndarray, " prediction"],
    held: Bool[np.ndarray, " prediction"],
    overlap: int = 1,
) -> tuple[int, int, tuple[float, float, float]]:
    """Return the number of opinions with an outcome, that of their closes, and the share right with its interval.

    The share is the mean over closes with an opinion, like the other numbers of the score; NaN without any.

    Args:
        closes: shape (prediction,), int64, rising.
        labels: shape (prediction,), int8: 1, 0, or -1 where the outcome is not known or not final.
        probabilities: shape (prediction,), float64: of label 1.
        held: shape (prediction,): whether there was an opinion.
        overlap: closes within the life of one label.

    >>> opinion_accuracy(np.arange(4) // 2, np.array([1, 0, 1, -1], np.int8), np.full(4, 0.6), np.full(4, True))[:2]
    (3, 2)
    """
    chosen = held & (labels >= 0)
    if not chosen.any():
        return 0, 0, (np.nan, np.nan, np.nan)
    right = predicts_rise(probabilities[chosen]) == (labels[chosen] == 1)
    means = close_means(closes[chosen], right.astype(np.float64))
    return int(chosen.sum()), len(means), mean_with_bounds(means, overlap)


def close_means(
    closes: Int64[np.ndarray, " prediction"], values: Float64[np.ndarray, " prediction"]
) -> Float64[np.ndarray, " close"]:
    """Return the mean of the values of each close, in the order of the closes.

    >>> close_means(np.array([3, 3, 7]), np.array([1.0, 2.0, 5.0]))
    array([1.5, 5. ])
    """
    numbers = np.unique(closes, return_inverse=True)[1]
    return np.asarray(np.bincount(numbers, weights=values) / np.bincount(numbers), dtype=np.float64)
