"""How a champion fares after the fact: its live score under sequential control, and drift of what it is shown.

Knows stored probabilities, bars and the champion's own out-of-sample record; no store and no clock. Losses are in
nats. The score is watched by a betting process: it may be looked at every day, for ever, and still raises a false
alarm with probability at most `false_alarm_rate` (Ville's inequality), where a daily test at 5 % would cry within
weeks. The trap: volatility comes in clusters, so the textbook limits of drift statistics are passed in any calm or
stormy quarter; here the limit is what the champion's own training bars did in their most unusual stretch, and more.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int8, Shaped
from pydantic import BaseModel, ConfigDict, Field

from model.bars import Bars
from model.calibration import Z_95, wilson_interval
from model.errors import SpecError
from model.metrics import log_losses

AlarmKind = Literal["degraded", "drifted", "stale", "missing"]
BETS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # stakes in nats, side by side: none has to be the right one
LARGEST_SHARE = 0.9  # of the wealth that a single day may cost
Z_RECORD = 1.6448536269514722  # quantile of the normal distribution at 95 %
PSI_BINS = 10
STEP_BARS = 5  # between two stretches of the training bars
LEVEL_BARS = 10  # closes whose median is the level of a price


class MonitorSpec(BaseModel):
    """When the monitor raises an alarm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    false_alarm_rate: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="Probability that the live score of a champion that is as good as its record ever raises an alarm",
    )
    score_tolerance: float = Field(
        default=0.005, ge=0, le=1, description="How much worse than its record the champion may be (nats per decision)"
    )
    recent_bars: int = Field(
        default=120, ge=30, le=100_000, description="Newest bars that are held against the champion's training bars"
    )
    drift_slack: float = Field(
        default=1.3,
        ge=1,
        le=10,
        description="Drift is what exceeds the most unusual stretch of the training bars by this factor",
    )
    max_level_factor: float = Field(
        default=3.0, gt=1, le=1000, description="Most by which the price may have left that of the last training bars"
    )
    max_champion_age_days: float = Field(
        default=30.0, gt=0, le=10_000, description="Oldest that the champion's newest training bar may be (days)"
    )
    max_missing_share: float = Field(
        default=0.1, ge=0, le=1, description="Share of the recent decisions that may lack a prediction"
    )
    cool_down_days: float = Field(
        default=7.0, ge=0, le=1000, description="Days until an alarm that persists is raised again"
    )


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person or a retrain should look after."""

    kind: AlarmKind
    message: str


@dataclass(frozen=True, slots=True)
class LiveScore:
    """Predictions that were stored before their outcome, with what happened.

    Attributes:
        count: predictions with an outcome.
        accuracy: share that was right, with its 95 % Wilson interval.
        log_loss: mean, nats, with its 95 % interval by the normal approximation.
        base_rate_loss: mean log loss of the base rate on the same bars.
        calibration: observed share of rises minus mean probability, with its 95 % interval.
        allowed_excess: loss over the base rate that counts as no change, nats.
        wealth: shape (prediction,), float64: evidence that the champion is worse; 1 / false_alarm_rate is an alarm.
        degraded: whether the evidence ever sufficed.
    """

    count: int
    accuracy: tuple[float, float, float]
    log_loss: tuple[float, float, float]
    base_rate_loss: float
    calibration: tuple[float, float, float]
    allowed_excess: float
    wealth: Float64[np.ndarray, " prediction"]
    degraded: bool


@dataclass(frozen=True, slots=True)
class Drift:
    """One property of the bars: how far the recent ones are from the training ones, and how far is too far.

    Attributes:
        name: of the property.
        ks: Kolmogorov-Smirnov distance of the two distributions, 0 to 1; NaN for the level.
        ks_limit: slack times the largest among stretches of the training bars.
        psi: population stability index; for the level the factor between now and then.
        psi_limit: the same for the index; for the level the largest factor allowed.
        drifted: whether both limits are passed.
    """

    name: str
    ks: float
    ks_limit: float
    psi: float
    psi_limit: float
    drifted: bool


def outcomes(
    decided_at: Shaped[np.ndarray, " prediction"], resolves_at: Shaped[np.ndarray, " prediction"], bars: Bars
) -> Int8[np.ndarray, " prediction"]:
    """Return what happened: 1 rise, 0 fall, -1 where a bar is not (or never) there.

    Args:
        decided_at: shape (prediction,), datetime64[us], UTC: a close.
        resolves_at: shape (prediction,), datetime64[us], UTC: a later close.
        bars: shape (bar,), oldest first.

    Time: entry p depends on the two bars that close at decided_at[p] and resolves_at[p].
    """
    close = bars.column("close")
    then, later = _bar_closing(bars, decided_at), _bar_closing(bars, resolves_at)
    known = (then >= 0) & (later >= 0)
    return np.where(known, close[later] > close[then], -1).astype(np.int8)


def allowed_excess(
    labels: Int8[np.ndarray, " window"],
    probabilities: Float64[np.ndarray, " window"],
    base_rate: float,
    tolerance: float,
) -> float:
    """Return how much worse than the base rate a champion as good as its record may be, nats per decision.

    The record is a sample: the upper 95 % bound of its mean counts.

    Args:
        labels: shape (window,), int8: of the champion's out-of-sample record.
        probabilities: shape (window,), float64: of the same.
        base_rate: share of rises that the base rate says.
        tolerance: added on top, nats.
    """
    if not len(labels):
        raise SpecError("monitor: expected the champion's record to hold windows, found none")
    excess = log_losses(labels, probabilities) - log_losses(labels, np.full(len(labels), base_rate))
    return float(excess.mean() + Z_RECORD * excess.std() / np.sqrt(len(labels)) + tolerance)


def live_score(
    labels: Int8[np.ndarray, " prediction"],
    probabilities: Float64[np.ndarray, " prediction"],
    base_rate: float,
    excess: float,
    spec: MonitorSpec,
) -> LiveScore:
    """Score predictions whose outcomes are known, oldest first, and bet that they are worse than allowed.

    Args:
        labels: shape (prediction,), int8: 1 rise, 0 fall.
        probabilities: shape (prediction,), float64: P(rise), as stored before the outcome.
        base_rate: share of rises that the base rate says.
        excess: see `allowed_excess`.
        spec: when it is an alarm.

    Time: entry t of the wealth depends on predictions 0..t.
    """
    count = len(labels)
    if not count:
        nothing = (float("nan"),) * 3
        return LiveScore(0, nothing, nothing, float("nan"), nothing, excess, np.empty(0), degraded=False)
    losses = log_losses(labels, probabilities)
    right = (probabilities > 0.5) == (labels == 1)  # noqa: PLR2004 - the middle, as in model.metrics
    low, high = wilson_interval(np.array([right.sum()], dtype=np.float64), np.array([count], dtype=np.float64))
    wealth = bet(labels, probabilities, base_rate, excess)
    return LiveScore(
        count=count,
        accuracy=(float(right.mean()), float(low[0]), float(high[0])),
        log_loss=_mean_with_bounds(losses),
        base_rate_loss=float(log_losses(labels, np.full(count, base_rate)).mean()),
        calibration=_mean_with_bounds(labels - probabilities),
        allowed_excess=excess,
        wealth=wealth,
        degraded=bool(wealth.max() >= 1 / spec.false_alarm_rate),
    )


def bet(
    labels: Int8[np.ndarray, " prediction"],
    probabilities: Float64[np.ndarray, " prediction"],
    base_rate: float,
    excess: float,
) -> Float64[np.ndarray, " prediction"]:
    """Return the wealth of someone who bets, from 1 on, that the loss exceeds the base rate's by more than `excess`.

    While that is not so the wealth is a supermartingale: it ever reaches 1 / a with probability at most a. Each bet
    knows the probability of its day, and with it the worst that can come, but not the outcome.

    Time: entry t depends on predictions 0..t.
    Source: Waudby-Smith and Ramdas 2024 (betting); Ville 1939 (the bound). The mixture of stakes is our own.
    """
    base = np.full(len(labels), base_rate)
    ones, zeros = np.ones(len(labels), dtype=np.int8), np.zeros(len(labels), dtype=np.int8)
    either = [log_losses(label, probabilities) - log_losses(label, base) - excess for label in (ones, zeros)]
    worst = np.maximum(-np.minimum(*either), 1e-12)
    gain = np.where(labels == 1, *either)
    stakes = np.minimum(np.array(BETS)[:, None], LARGEST_SHARE / worst)
    wealth: Float64[np.ndarray, " prediction"] = np.exp(np.cumsum(np.log1p(stakes * gain), axis=1)).mean(axis=0)
    return wealth


def drifts(training: Bars, recent: Bars, spec: MonitorSpec) -> tuple[Drift, ...]:
    """Hold recent bars against those that the champion learned from: moves, their size, ranges, and the price's level.

    Price levels by themselves are no drift: the network standardises each window. A level that left the training's by
    a large factor is: a split, another unit, another symbol.

    Args:
        training: shape (bar,), bars up to the champion's training end.
        recent: shape (bar,), the newest `recent_bars` bars or more.
        spec: limits.

    Raises:
        SpecError: there are too few bars for a comparison.
    """
    if len(training) < 2 * spec.recent_bars or len(recent) <= spec.recent_bars:
        raise SpecError(
            f"drift: expected {2 * spec.recent_bars} training bars and {spec.recent_bars + 1} recent ones; found "
            f"{len(training)} and {len(recent)}. Lower recent_bars."
        )
    found = compare(references(training, spec), recent, spec)
    then = float(np.median(training.column("close")[-LEVEL_BARS:]))
    factor = float(np.median(recent.column("close")[-LEVEL_BARS:])) / then
    apart = max(factor, 1 / factor)
    return (
        *found,
        Drift("level", float("nan"), float("nan"), factor, spec.max_level_factor, apart > spec.max_level_factor),
    )


@dataclass(frozen=True, slots=True)
class Reference:
    """One property of the training bars, ready to be compared with: `drifts` is one look, a study takes many.

    Attributes:
        ordered: shape (training,), float64, ascending.
        edges: shape (edge,), float64: of the bins of the stability index.
        ks_limit: slack times the largest distance among stretches of the training bars.
        psi_limit: the same for the index.
    """

    ordered: Float64[np.ndarray, " training"]
    edges: Float64[np.ndarray, " edge"]
    ks_limit: float
    psi_limit: float


def references(training: Bars, spec: MonitorSpec) -> dict[str, Reference]:
    """Return what recent bars are compared with, by property."""
    return {name: _reference(values, spec) for name, values in _properties(training).items()}


def compare(reference: dict[str, Reference], recent: Bars, spec: MonitorSpec) -> list[Drift]:
    """Hold the newest `recent_bars` bars against the references."""
    now = _properties(recent)
    found = []
    for name, each in reference.items():
        newest = now[name][-spec.recent_bars :]
        ks, index = ks_distance(each.ordered, np.sort(newest)), psi(each.edges, each.ordered, newest)
        drifted = ks > each.ks_limit and index > each.psi_limit
        found.append(Drift(name, ks, each.ks_limit, index, each.psi_limit, drifted))
    return found


def ks_distance(sample: Float64[np.ndarray, " training"], other: Float64[np.ndarray, " recent"]) -> float:
    """Return the largest distance of two empirical distributions; `sample` and `other` must be sorted.

    Source: Kolmogorov and Smirnov; equals `scipy.stats.ks_2samp(...).statistic`.
    """
    points = np.concatenate([sample, other])
    ours = np.searchsorted(sample, points, side="right") / len(sample)
    theirs = np.searchsorted(other, points, side="right") / len(other)
    return float(np.abs(ours - theirs).max())


def psi(
    edges: Float64[np.ndarray, " edge"], sample: Float64[np.ndarray, " training"], other: Float64[np.ndarray, " recent"]
) -> float:
    """Return the population stability index of two samples over the bins between `edges`; half a count in each bin.

    Source: Siddiqi 2006. Half a count keeps empty bins finite.
    """
    bins = len(edges) + 1
    ours, theirs = (
        (np.bincount(np.searchsorted(edges, each), minlength=bins) + 0.5) / (len(each) + bins / 2)
        for each in (sample, other)
    )
    return float(((theirs - ours) * np.log(theirs / ours)).sum())


def alarms(
    score: LiveScore, drift: tuple[Drift, ...], age_days: float, missing: int, expected: int, spec: MonitorSpec
) -> tuple[Alarm, ...]:
    """Say what is wrong, each in one sentence with its numbers.

    Args:
        score: live score of the champion.
        drift: what `drifts` found; empty where there was nothing to compare.
        age_days: of the champion's newest training bar.
        missing: recent decisions without a prediction.
        expected: recent decisions.
        spec: limits.
    """
    found = []
    if score.degraded:
        worse = score.log_loss[0] - score.base_rate_loss
        found.append(
            Alarm(
                "degraded",
                f"log loss {score.log_loss[0]:.4f} over {score.count} live predictions, {worse:+.4f} against the base "
                f"rate where its record allows {score.allowed_excess:+.4f}; evidence {score.wealth.max():.0f} to 1",
            )
        )
    moved = [_drift_words(each) for each in drift if each.drifted]
    if moved:
        found.append(Alarm("drifted", f"bars unlike those of the training: {'; '.join(moved)}"))
    if age_days > spec.max_champion_age_days:
        told = f"trained until {age_days:.1f} days ago; {spec.max_champion_age_days:g} are allowed"
        found.append(Alarm("stale", told))
    if missing > spec.max_missing_share * expected:
        found.append(Alarm("missing", f"{missing} of the last {expected} decisions have no prediction of their time"))
    return tuple(found)


def _bar_closing(bars: Bars, moments: Shaped[np.ndarray, " prediction"]) -> np.ndarray:
    """Return the index of the bar that closes at each moment, -1 where none does."""
    closes = bars.closed_at
    if not len(closes):
        return np.full(len(moments), -1)
    place = np.minimum(np.searchsorted(closes, moments), len(closes) - 1)
    return np.where(closes[place] == moments, place, -1)


def _mean_with_bounds(values: Float64[np.ndarray, " prediction"]) -> tuple[float, float, float]:
    mean, half = float(values.mean()), float(Z_95 * values.std() / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def _properties(bars: Bars) -> dict[str, Float64[np.ndarray, " bar"]]:
    """Return what is compared, each without a unit: log moves of the close, their size, log of high over low."""
    moves = np.diff(np.log(bars.column("close")))
    ranges = np.log(bars.column("high") / bars.column("low"))[1:]
    return {"move": moves, "move size": np.abs(moves), "range": ranges}


def _reference(values: Float64[np.ndarray, " training"], spec: MonitorSpec) -> Reference:
    ordered = np.sort(values)
    edges = np.quantile(ordered, np.linspace(0, 1, PSI_BINS + 1)[1:-1])
    starts = range(0, len(values) - spec.recent_bars + 1, STEP_BARS)
    stretches = [values[start : start + spec.recent_bars] for start in starts]
    ks_limit = spec.drift_slack * max(ks_distance(ordered, np.sort(each)) for each in stretches)
    psi_limit = spec.drift_slack * max(psi(edges, ordered, each) for each in stretches)
    return Reference(ordered, edges, ks_limit, psi_limit)


def _drift_words(drift: Drift) -> str:
    if drift.name == "level":
        return f"price {drift.psi:.3g} times that of the last training bars (allowed {drift.psi_limit:g})"
    ks, index = f"KS {drift.ks:.2f} (limit {drift.ks_limit:.2f})", f"PSI {drift.psi:.2f} (limit {drift.psi_limit:.2f})"
    return f"{drift.name} {ks}, {index}"
