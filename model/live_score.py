"""Score the predictions that a version stored before their outcome: accuracy, log loss, calibration and evidence.

Knows stored probabilities, bars and what the version's record allows; no store and no clock. Losses are in nats. The
evidence that the version is worse than its record is an e-process (`model.e_process`), so it may be read every day. It
belongs to one version and starts anew with a promotion; `ServiceEvidence` runs across versions.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int8, Int64, Shaped

from model.bars import Bars
from model.bootstrap import widening_factor
from model.e_process import ForecastReference, allowed_excesses, lagged_e_process, long_run_deviation
from model.labels import UNRESOLVED, stretch_numbers
from model.metrics import log_losses, predicts_rise
from model.wilson_interval import Z_95, wilson_interval


@dataclass(frozen=True, slots=True)
class LiveScore:
    """The score of predictions that were stored before their outcome.

    Attributes:
        count: observations with an outcome: predictions, of a panel closes, over which all means are taken.
        accuracy: share of correct predictions, with its 95 % Wilson interval, of a panel that of `mean_with_bounds`;
            where outcomes overlap, the Wilson interval of as many predictions as do not.
        log_loss: mean, nats, with its 95 % interval of `mean_with_bounds`.
        base_rate_loss: mean log loss of the base rate on the same bars, nats.
        calibration: observed share of rises minus mean probability, with its 95 % interval.
        allowed_excess: mean log loss above the base rate's that counts as no change, nats.
        e_values: shape (outcome,), float64, one for each prediction with an outcome: running evidence that the version
            is worse than its record.
        threshold: e-value that is an alarm.
        predictions: of a panel, predictions with an outcome; 0 for one series, which has `count` of them.
    """

    count: int
    accuracy: tuple[float, float, float]
    log_loss: tuple[float, float, float]
    base_rate_loss: float
    calibration: tuple[float, float, float]
    allowed_excess: float
    e_values: Float64[np.ndarray, " outcome"]
    threshold: float
    predictions: int = 0

    @property
    def counted(self) -> str:
        """What was scored: `24 live predictions`, `72 live predictions at 24 closes`."""
        if not self.predictions:
            return f"{self.count} live predictions"
        return f"{self.predictions} live predictions at {self.count} closes"

    @property
    def degraded(self) -> bool:
        """Whether the evidence ever reached the threshold."""
        return bool(self.e_values.max(initial=0.0) >= self.threshold)


@dataclass(frozen=True, slots=True)
class ServiceEvidence:
    """Evidence that the served predictions, of whichever version was champion, are worse than their records.

    Attributes:
        count: observations with an outcome.
        e_value: largest value of the service-wide e-process.
        threshold: e-value that is an alarm.
        of_closes: whether an observation is a close of a panel; else it is a prediction.
    """

    count: int
    e_value: float
    threshold: float
    of_closes: bool = False

    @property
    def degraded(self) -> bool:
        """Whether the evidence ever reached the threshold."""
        return self.e_value >= self.threshold


def outcomes(
    decided_at: Shaped[np.ndarray, " prediction"], resolves_at: Shaped[np.ndarray, " prediction"], bars: Bars
) -> Int8[np.ndarray, " prediction"]:
    """Return the actual outcomes: 1 rise, 0 fall, -1 where `model.labels.label_rises` has none.

    That is where one of the two bars, or one between them, is missing, or where a close is NaN.

    Args:
        decided_at: shape (prediction,), datetime64[us], UTC: a close.
        resolves_at: shape (prediction,), datetime64[us], UTC: a later close.
        bars: shape (bar,), oldest first.

    Time: entry p depends on the bars that close from decided_at[p] to resolves_at[p].
    """
    decided, resolved = bar_closing(bars, decided_at), bar_closing(bars, resolves_at)
    known = (decided >= 0) & (resolved >= 0)
    if not known.any():
        return np.full(len(decided_at), -1, dtype=np.int8)
    stretch, now, later = stretch_numbers(bars), bars.column("close")[decided], bars.column("close")[resolved]
    known &= (stretch[decided] == stretch[resolved]) & ~np.isnan(now) & ~np.isnan(later)
    return np.where(known, later > now, UNRESOLVED).astype(np.int8)


def live_score(
    labels: Int8[np.ndarray, " prediction"],
    probabilities: Float64[np.ndarray, " prediction"],
    reference: ForecastReference,
    threshold: float,
    overlap: int = 1,
) -> LiveScore:
    """Score predictions of one version, and test whether they are worse than its record.

    Args:
        labels: shape (prediction,), int8: 1 rise, 0 fall, -1 not known yet; oldest first. Open predictions have no
            score, but the e-process must see them: with overlapping outcomes their bets count as lost.
        probabilities: shape (prediction,), float64: P(rise), as stored before the outcome.
        reference: what the version may lose by, frozen when it was promoted.
        threshold: e-value that is an alarm; see `model.e_process.alarm_threshold`.
        overlap: decisions made within the life of one label.

    Time: entry t of the e-values depends on labels 0..t and on probabilities 0..t + overlap - 1.
    """
    known = labels >= 0
    count = int(known.sum())
    if not count:
        return no_live_score(threshold)
    base, allowed = np.full(len(labels), reference.base_rate), allowed_excesses(reference, probabilities)
    e_values = lagged_e_process(labels, probabilities, base, allowed, overlap)[known]
    labels, probabilities, base, allowed = labels[known], probabilities[known], base[known], allowed[known]
    correct = predicts_rise(probabilities) == (labels == 1)
    low, high = wilson_interval(np.array([correct.sum() / overlap]), np.array([count / overlap]))
    return LiveScore(
        count=count,
        accuracy=(float(correct.mean()), float(low[0]), float(high[0])),
        log_loss=mean_with_bounds(log_losses(labels, probabilities), overlap),
        base_rate_loss=float(log_losses(labels, base).mean()),
        calibration=mean_with_bounds(labels - probabilities, overlap),
        allowed_excess=float(allowed.mean()),
        e_values=e_values,
        threshold=threshold,
    )


def no_live_score(threshold: float) -> LiveScore:
    """Return the score where no prediction has an outcome yet."""
    undefined = (float("nan"),) * 3
    return LiveScore(0, undefined, undefined, float("nan"), undefined, float("nan"), np.empty(0), threshold)


def bar_closing(bars: Bars, times: Shaped[np.ndarray, " prediction"]) -> Int64[np.ndarray, " prediction"]:
    """Return the index of the bar that closes at each time, -1 where none does."""
    closes = bars.closed_at
    if not len(closes):
        return np.full(len(times), -1)
    place = np.minimum(np.searchsorted(closes, times), len(closes) - 1)
    return np.where(closes[place] == times, place, -1)


def mean_with_bounds(values: Float64[np.ndarray, " observation"], overlap: int = 1) -> tuple[float, float, float]:
    """Return the mean of values of successive outcomes and its 95 % interval, by the normal approximation.

    Where outcomes overlap, the error is that of a mean of dependent values: the long-run deviation over twice the
    overlap, and `widening_factor` for what its weights leave out.

    Args:
        values: shape (observation,), float64, oldest first, at least one.
        overlap: decisions made within the life of one label.

    Source: Newey and West 1987; the factor as in `model.bootstrap`. Coverage by simulation at 30 to 750 observations,
    overlap 5 to 20, forecasts independent or persistent (0.95): 90 to 100 %; without the correction 36 to 74 % at 250.
    """
    mean, count = float(values.mean()), len(values)
    error = values.std()
    if overlap > 1:
        error = widening_factor(count, 2 * overlap, overlap) * long_run_deviation(values, 2 * overlap - 1)
    half = float(Z_95 * error / np.sqrt(count))
    return mean, mean - half, mean + half
