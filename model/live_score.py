"""Score the predictions that a champion stored before their outcome: accuracy, log loss, calibration and evidence.

Knows stored probabilities, bars and the champion's own out-of-sample record; no store and no clock. Losses are in
nats. The evidence that the champion is worse than its record is a running e-process (`model.e_process`), so it may be
read every day. The trap: the record is a sample itself, so the loss that the champion is allowed is the upper
confidence bound of its record's mean, not the mean.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int8, Int64, Shaped

from model.bars import Bars
from model.calibration import Z_95, wilson_interval
from model.e_process import e_process
from model.errors import SpecError
from model.metrics import log_losses, predicts_rise

Z_UPPER_95 = 1.6448536269514722  # quantile of the normal distribution at 95 %


@dataclass(frozen=True, slots=True)
class LiveScore:
    """The score of predictions that were stored before their outcome.

    Attributes:
        count: predictions with an outcome.
        accuracy: share of correct predictions, with its 95 % Wilson interval.
        log_loss: mean, nats, with its 95 % interval by the normal approximation.
        base_rate_loss: mean log loss of the base rate on the same bars, nats.
        calibration: observed share of rises minus mean probability, with its 95 % interval.
        allowed_excess: mean log loss above the base rate's that counts as no change, nats.
        e_values: shape (prediction,), float64: running evidence that the champion is worse than allowed.
        degraded: whether the evidence ever reached 1 / false-alarm rate.
    """

    count: int
    accuracy: tuple[float, float, float]
    log_loss: tuple[float, float, float]
    base_rate_loss: float
    calibration: tuple[float, float, float]
    allowed_excess: float
    e_values: Float64[np.ndarray, " prediction"]
    degraded: bool


def outcomes(
    decided_at: Shaped[np.ndarray, " prediction"], resolves_at: Shaped[np.ndarray, " prediction"], bars: Bars
) -> Int8[np.ndarray, " prediction"]:
    """Return the actual outcomes: 1 rise, 0 fall, -1 where one of the two bars is missing.

    Args:
        decided_at: shape (prediction,), datetime64[us], UTC: a close.
        resolves_at: shape (prediction,), datetime64[us], UTC: a later close.
        bars: shape (bar,), oldest first.

    Time: entry p depends on the two bars that close at decided_at[p] and resolves_at[p].
    """
    decided, resolved = _bar_closing(bars, decided_at), _bar_closing(bars, resolves_at)
    known = (decided >= 0) & (resolved >= 0)
    if not known.any():
        return np.full(len(decided_at), -1, dtype=np.int8)
    close = bars.column("close")
    return np.where(known, close[resolved] > close[decided], -1).astype(np.int8)


def allowed_excess(
    labels: Int8[np.ndarray, " window"],
    probabilities: Float64[np.ndarray, " window"],
    base_rate: float,
    tolerance: float,
) -> float:
    """Return the mean log loss above the base rate's that a champion as good as its record may have, nats.

    It is the upper 95 % confidence bound of the record's mean excess, plus the tolerance.

    Args:
        labels: shape (window,), int8: labels of the champion's out-of-sample record.
        probabilities: shape (window,), float64: P(rise) of that record.
        base_rate: P(rise) that the base rate predicts.
        tolerance: nats added on top.

    Raises:
        SpecError: the record is empty.
    """
    if not len(labels):
        raise SpecError("monitor: expected the champion's record to hold windows, found none")
    excess = log_losses(labels, probabilities) - log_losses(labels, np.full(len(labels), base_rate))
    return float(excess.mean() + Z_UPPER_95 * excess.std() / np.sqrt(len(labels)) + tolerance)


def live_score(
    labels: Int8[np.ndarray, " prediction"],
    probabilities: Float64[np.ndarray, " prediction"],
    base_rate: float,
    excess: float,
    false_alarm_rate: float,
) -> LiveScore:
    """Score predictions whose outcomes are known, oldest first, and test whether they are worse than allowed.

    Args:
        labels: shape (prediction,), int8: 1 rise, 0 fall.
        probabilities: shape (prediction,), float64: P(rise), as stored before the outcome.
        base_rate: P(rise) that the base rate predicts.
        excess: what `allowed_excess` returns, nats.
        false_alarm_rate: probability that a champion as good as its record ever counts as degraded.

    Time: entry t of the e-values depends on predictions 0..t.
    """
    count = len(labels)
    if not count:
        undefined = (float("nan"),) * 3
        return LiveScore(0, undefined, undefined, float("nan"), undefined, excess, np.empty(0), degraded=False)
    correct = predicts_rise(probabilities) == (labels == 1)
    low, high = wilson_interval(np.array([correct.sum()], dtype=np.float64), np.array([count], dtype=np.float64))
    e_values = e_process(labels, probabilities, base_rate, excess)
    return LiveScore(
        count=count,
        accuracy=(float(correct.mean()), float(low[0]), float(high[0])),
        log_loss=_mean_with_bounds(log_losses(labels, probabilities)),
        base_rate_loss=float(log_losses(labels, np.full(count, base_rate)).mean()),
        calibration=_mean_with_bounds(labels - probabilities),
        allowed_excess=excess,
        e_values=e_values,
        degraded=bool(e_values.max() >= 1 / false_alarm_rate),
    )


def _bar_closing(bars: Bars, times: Shaped[np.ndarray, " prediction"]) -> Int64[np.ndarray, " prediction"]:
    """Return the index of the bar that closes at each time, -1 where none does."""
    closes = bars.closed_at
    if not len(closes):
        return np.full(len(times), -1)
    place = np.minimum(np.searchsorted(closes, times), len(closes) - 1)
    return np.where(closes[place] == times, place, -1)


def _mean_with_bounds(values: Float64[np.ndarray, " prediction"]) -> tuple[float, float, float]:
    """Return the mean and its 95 % interval by the normal approximation."""
    mean, half = float(values.mean()), float(Z_95 * values.std() / np.sqrt(len(values)))
    return mean, mean - half, mean + half
