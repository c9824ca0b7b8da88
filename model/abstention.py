"""Abstain from a stated share of decisions, or from as many as a stated coverage needs: online, at each close.

Knows labels (1 rise, 0 fall) and P(rise), not the models. The confidence of a decision is |P(rise) - 0.5|; its rank is
the conformal p-value of that confidence among recent ones. A decision has an opinion if its rank is at most a level,
and the level is corrected after each decision by what was observed (adaptive conformal inference). So the stated rate
holds for any sequence of probabilities and outcomes, drifting and dependent ones included. Caution: what is guaranteed
is the share of opinions, or the share of all decisions that are wrong opinions; the accuracy of opinions is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Shaped
from pydantic import BaseModel, ConfigDict, Field

from model.bars import Bars
from model.bootstrap import Interval, percentile_bounds, record_block_bars, resample
from model.metrics import THRESHOLD, log_losses
from model.record import Record, validation_by_fold
from model.sharpe_and_break_even import BPS

# Own choice by simulation (docs/decisions/0013): a larger step follows drift faster, and selects less sharply.
STEP = 0.02
REFERENCE = 500  # own choice: recent confidences that a rank compares with


class AbstentionSpec(BaseModel):
    """On which decisions the model has an opinion."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Abstention")

    opinion_share: float = Field(
        default=0.1, gt=0, lt=1, description="Share of decisions with an opinion: the most confident ones"
    )
    coverage: float = Field(
        default=0.95,
        gt=0.5,
        lt=1,
        description="Share of prediction sets that contain the outcome; a set is rise, fall, or both (no opinion)",
    )


@dataclass(frozen=True, slots=True)
class Opinions:
    """Which decisions have an opinion, by one rule.

    Attributes:
        ranks: shape (window,), float64: share of recent confidences at least as high, above 0, at most 1.
        levels: shape (window,), float64: opinion where the rank is at most this.
        held: shape (window,), bool: decisions with an opinion.
    """

    ranks: Float64[np.ndarray, " window"]
    levels: Float64[np.ndarray, " window"]
    held: Bool[np.ndarray, " window"]


@dataclass(frozen=True, slots=True)
class OpinionScores:
    """Out-of-sample numbers of the decisions with an opinion, with 95 % block bootstrap intervals; NaN without any.

    Attributes:
        stated: share or coverage that the rule was given.
        opinions: number of decisions with an opinion.
        share: their share of all decisions.
        coverage: share of all decisions whose prediction set contains the outcome.
        accuracy: of the opinions.
        log_loss: of the opinions, nats.
        vs_base_rate: log loss minus that of the base rate on the same decisions, nats.
        move_bps: mean signed move from decision to outcome: positive where the price moved as predicted, before costs.
        guaranteed: lower and upper bound of the share, or of the coverage, that held before the outcomes were seen.
    """

    stated: float
    opinions: int
    share: float
    coverage: float
    accuracy: Interval
    log_loss: Interval
    vs_base_rate: Interval
    move_bps: Interval
    guaranteed: tuple[float, float]

    def numbers(self) -> dict[str, float | None]:
        """Return every number by name, those with an interval also with `_low` and `_high`; None for NaN."""
        numbers = {
            "stated": self.stated,
            "opinions": float(self.opinions),
            "share": self.share,
            "coverage": self.coverage,
        }
        numbers |= {"guaranteed_low": self.guaranteed[0], "guaranteed_high": self.guaranteed[1]}
        for name in ("accuracy", "log_loss", "vs_base_rate", "move_bps"):
            found = getattr(self, name)
            numbers |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        return {name: float(value) if np.isfinite(value) else None for name, value in numbers.items()}


def rank_confidences(
    reference: Float64[np.ndarray, " reference"], probabilities: Float64[np.ndarray, " window"]
) -> Float64[np.ndarray, " window"]:
    """Rank each decision's confidence among the `REFERENCE` confidences before it: its conformal p-value.

    Args:
        reference: shape (reference,), float64: P(rise) of earlier decisions of the same network, oldest first.
        probabilities: shape (window,), float64: P(rise), oldest first.

    Returns:
        Shape (window,), above 0 and at most 1; small where the confidence is high. Equal confidences count as higher.

    Time: entry t depends on the reference and on probabilities 0..t.

    Examples:
        >>> rank_confidences(np.array([0.5, 0.6, 0.45]), np.array([0.7, 0.5])).tolist()
        [0.25, 1.0]
    """
    confidences = np.abs(np.concatenate([reference, probabilities]) - THRESHOLD)
    ends = np.arange(len(reference), len(confidences))
    recent = [confidences[max(0, end - REFERENCE) : end] for end in ends]
    counts = [np.count_nonzero(each >= confidences[end]) for end, each in zip(ends, recent, strict=True)]
    sizes = np.minimum(ends, REFERENCE)
    return np.asarray((1.0 + np.array(counts, dtype=np.float64)) / (1 + sizes), dtype=np.float64)


def rank_record(record: Record, validation: Sequence[Record]) -> Float64[np.ndarray, " window"]:
    """Rank the decisions of every fold among those of its own network: its validation windows, then its test windows.

    Args:
        record: out-of-sample probabilities, oldest first.
        validation: each fold's probabilities of its validation windows, in any order.

    Returns:
        Shape (window,), above 0 and at most 1, in the order of the record.

    Raises:
        SpecError: a fold has no validation windows.

    Time: entry t depends on the probabilities decided until t.
    """
    ranks = np.empty(len(record))
    for number, before in validation_by_fold(record, validation, "abstention").items():
        tested = record.fold == number
        ranks[tested] = rank_confidences(before.probabilities, record.probabilities[tested])
    return ranks


def hold_share(ranks: Float64[np.ndarray, " window"], share: float) -> Opinions:
    """Hold an opinion on a stated share of decisions, the most confident ones; the level starts at the share.

    Args:
        ranks: shape (window,), float64, of `rank_record` or `rank_confidences`.
        share: stated share.

    Time: entry t depends on the ranks 0..t.
    """
    counted, moment = np.ones(len(ranks), dtype=np.bool_), np.arange(len(ranks))
    return _hold(ranks, counted, moment, moment, share, share)


def hold_coverage(ranks: Float64[np.ndarray, " window"], record: Record, coverage: float) -> Opinions:
    """Hold opinions as long as the prediction sets cover the outcomes at a stated rate.

    The level starts where a forecaster without skill would need it: wrong in half of its opinions.

    Args:
        ranks: shape (window,), float64, of `rank_record`.
        record: out-of-sample probabilities, oldest first.
        coverage: stated coverage of the sets {rise}, {fall} and {rise, fall}, the last without an opinion.

    Time: entry t depends on the ranks 0..t and on outcomes that were resolved at or before decision t.
    """
    wrong = (record.probabilities > THRESHOLD) != (record.labels == 1)
    return _hold(ranks, wrong, record.resolved_at, record.decided_at, 1 - coverage, 2 * (1 - coverage))


def _hold(
    ranks: Float64[np.ndarray, " window"],
    counted: Bool[np.ndarray, " window"],
    known_at: Shaped[np.ndarray, " window"],
    decided_at: Shaped[np.ndarray, " window"],
    rate: float,
    level: float,
) -> Opinions:
    """Hold opinions so that opinions that count are a stated share of decisions.

    Source: Gibbs and Candes 2021, equation 2; the level moves once an earlier decision's event is known. The cap never
    binds for shares; where wrong opinions are rarer than stated, it keeps the level from growing without bound.
    """
    levels, held, known = np.empty(len(ranks)), np.zeros(len(ranks), dtype=np.bool_), 0

    def learn(level: float, event: int) -> float:
        return min(level + STEP * (rate - float(held[event] and counted[event])), 1 + STEP * rate)

    for now in range(len(ranks)):
        while known < now and known_at[known] <= decided_at[now]:
            level = learn(level, known)
            known += 1
        levels[now] = level
        held[now] = ranks[now] <= level
    return Opinions(ranks, levels, held)


def share_bounds(share: float, windows: int) -> tuple[float, float]:
    """Return between which bounds the share of opinions of `hold_share` lies, whatever the probabilities.

    The level cannot leave -STEP (1 - share) .. 1 + STEP share, because no rank is at most 0 and every rank is at most
    1; the share differs from the stated one by the way that the level went, divided by STEP and the windows.

    Source: Gibbs and Candes 2021, proposition 4.1, with both ends of the level kept apart.
    """
    low = share - ((1 - share) / STEP + share) / windows
    return max(0.0, low), min(1.0, share + (share / STEP + 1 - share) / windows)


def coverage_bound(coverage: float, windows: int, pending: int) -> float:
    """Return the least coverage of `hold_coverage`, whatever the probabilities and outcomes.

    Below level 0 there is no opinion, so at most `pending` wrong ones, whose outcomes were not known, follow.

    Args:
        coverage: stated coverage.
        windows: decisions.
        pending: of `pending_decisions`; 1 for a series whose labels do not overlap.

    Source: own, from Gibbs and Candes 2021, proposition 4.1, with delayed outcomes.
    """
    return max(0.0, coverage - (2 * (1 - coverage) / STEP + coverage * pending) / windows)


def pending_decisions(record: Record) -> int:
    """Return the largest number of decisions without a known outcome after a decision, that one included."""
    known = np.searchsorted(np.maximum.accumulate(record.resolved_at), record.decided_at, side="right")
    return int((np.arange(1, len(record) + 1) - known).max(initial=1))


def signed_moves(record: Record, bars: Bars) -> Float64[np.ndarray, " window"]:
    """Return the move from decision to outcome, in the predicted direction, in basis points, shape (window,).

    NaN where a bar of the decision or of the outcome is missing (it was filled).

    Time: entry t depends on probability t and on the closes at its decision and its outcome.
    """
    closed_at, close = bars.closed_at, bars.column("close")

    def close_at(moment: Shaped[np.ndarray, " window"]) -> Float64[np.ndarray, " window"]:
        place = np.minimum(np.searchsorted(closed_at, moment), len(bars) - 1)
        return np.where(closed_at[place] == moment, close[place], np.nan)

    moves = close_at(record.resolved_at) / close_at(record.decided_at) - 1
    return np.asarray(np.where(record.probabilities > THRESHOLD, moves, -moves) / BPS, dtype=np.float64)


def score_abstention(
    spec: AbstentionSpec,
    record: Record,
    ranks: Float64[np.ndarray, " window"],
    base_rate: Float64[np.ndarray, " window"],
    moves: Float64[np.ndarray, " window"],
    seed: int,
) -> dict[str, OpinionScores]:
    """Score the decisions with an opinion, by rule: `all` decisions, the stated `share`, the stated `coverage`.

    Args:
        spec: stated rates.
        record: out-of-sample probabilities, oldest first.
        ranks: shape (window,), float64, of `rank_record`.
        base_rate: shape (window,), float64: the base rate's P(rise) on the record's windows.
        moves: shape (window,), float64, of `signed_moves`.
        seed: of the bootstrap.

    Returns:
        The scores by rule, in this order.

    Time: opinion t depends on ranks 0..t, and for `coverage` on outcomes known at decision t.
    """
    n = len(record)
    share, coverage = spec.opinion_share, spec.coverage
    rules = {
        "all": (1.0, np.ones(n, dtype=np.bool_), (1.0, 1.0)),
        "share": (share, hold_share(ranks, share).held, share_bounds(share, n)),
        "coverage": (
            coverage,
            hold_coverage(ranks, record, coverage).held,
            (coverage_bound(coverage, n, pending_decisions(record)), 1.0),
        ),
    }
    right = (record.probabilities > THRESHOLD) == (record.labels == 1)
    losses, theirs = (log_losses(record.labels, each) for each in (record.probabilities, base_rate))
    numbers = np.stack([right.astype(np.float64), losses, losses - theirs, moves], axis=1)
    found = {}
    for name, (stated, held, guaranteed) in rules.items():
        accuracy, loss, difference, move = _means_of(numbers, held, record, seed)
        covered = float((right | ~held).mean())
        found[name] = OpinionScores(
            stated, int(held.sum()), float(held.mean()), covered, accuracy, loss, difference, move, guaranteed
        )
    return found


def _means_of(
    numbers: Float64[np.ndarray, "window number"], held: Bool[np.ndarray, " window"], record: Record, seed: int
) -> list[Interval]:
    """Return the means over the decisions held, with intervals; whole closes are resampled, held or not."""
    chosen, bar = held[:, None] & np.isfinite(numbers), record.bar_numbers()
    sums, weights = (np.zeros((bar.max(initial=0) + 1, numbers.shape[1])) for _ in range(2))
    np.add.at(sums, bar, np.where(chosen, numbers, 0.0))
    np.add.at(weights, bar, chosen)

    def means(counts: Float64[np.ndarray, "resample bar"]) -> Float64[np.ndarray, "resample number"]:
        drawn = counts @ weights
        return np.asarray(counts @ sums / np.where(drawn > 0, drawn, np.nan))

    resamples = resample(means, len(sums), record_block_bars(record), seed)
    return [
        Interval(float(mean), *percentile_bounds(column))
        for mean, column in zip(means(np.ones((1, len(sums))))[0], resamples.T, strict=True)
    ]
