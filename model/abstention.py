"""Abstain from a stated share of decisions, or from as many as a stated coverage needs: online, at each close.

Knows labels (1 rise, 0 fall) and P(rise), not the models. The confidence of a decision is |P(rise) - 0.5|; its rank is
the conformal p-value of that confidence among recent ones. A decision has an opinion if its rank is at most a level,
and the level is corrected after each close by what was observed (adaptive conformal inference). So the stated rate
holds for any sequence of probabilities and outcomes, drifting and dependent ones included. The series of a panel share
the level of their close, and rates are means over closes. Caution: what is guaranteed is the share of opinions, or the
share of all decisions that are wrong opinions; the accuracy of opinions is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped
from pydantic import BaseModel, ConfigDict, Field

from model.bars import Bars
from model.bootstrap import Interval, overlap_bounds, record_block_bars, resample
from model.metrics import THRESHOLD, log_losses
from model.panel_live_score import close_means
from model.record import Record, validation_by_fold
from model.sharpe_and_break_even import BPS

# Own choice by simulation (docs/decisions/0013): a larger step follows drift faster, and selects less sharply.
STEP = 0.02
REFERENCE = 500  # own choice: closes before a decision whose confidences its rank compares with


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
        levels: shape (close,), float64: opinion where the rank is at most that of its close.
        held: shape (window,), bool: decisions with an opinion.
    """

    ranks: Float64[np.ndarray, " window"]
    levels: Float64[np.ndarray, " close"]
    held: Bool[np.ndarray, " window"]


@dataclass(frozen=True, slots=True)
class OpinionScores:
    """Out-of-sample numbers of the decisions with an opinion, with 95 % block bootstrap intervals; NaN without any.

    Attributes:
        stated: share or coverage that the rule was given.
        opinions: number of decisions with an opinion.
        share: their share of the decisions of a close, averaged over closes.
        coverage: share of the decisions of a close whose prediction set contains the outcome, averaged over closes.
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
    reference: Float64[np.ndarray, " reference"],
    probabilities: Float64[np.ndarray, " window"],
    reference_closes: Int64[np.ndarray, " reference"] | None = None,
    closes: Int64[np.ndarray, " window"] | None = None,
) -> Float64[np.ndarray, " window"]:
    """Rank each decision's confidence among those of the `REFERENCE` closes before it: its conformal p-value.

    Args:
        reference: shape (reference,), float64: P(rise) of earlier decisions of the same network, oldest first.
        probabilities: shape (window,), float64: P(rise), oldest first.
        reference_closes: shape (reference,), int64, rising: number of the close of each; None: each has its own.
        closes: shape (window,), int64, rising: the same of the decisions to rank.

    Returns:
        Shape (window,), above 0 and at most 1; small where the confidence is high. Equal confidences count as higher.

    Time: entry t depends on probability t, on the reference and on the probabilities of earlier closes.

    Examples:
        >>> rank_confidences(np.array([0.5, 0.6, 0.45]), np.array([0.7, 0.5])).tolist()
        [0.25, 1.0]
    """
    confidences = np.abs(np.concatenate([reference, probabilities]) - THRESHOLD)
    starts = np.concatenate([_starts(reference, reference_closes), len(reference) + _starts(probabilities, closes)])
    ends = np.append(starts[1:], len(confidences))
    ranks = np.ones(len(confidences))
    for close in range(int(np.searchsorted(starts, len(reference))), len(starts)):
        own = slice(starts[close], ends[close])
        recent = np.sort(confidences[starts[max(0, close - REFERENCE)] : starts[close]])
        higher = len(recent) - np.searchsorted(recent, confidences[own], side="left")
        ranks[own] = (1 + higher) / (1 + len(recent))
    return ranks[len(reference) :]


def _starts(
    probabilities: Float64[np.ndarray, " window"], closes: Int64[np.ndarray, " window"] | None
) -> Int64[np.ndarray, " close"]:
    """Return where the windows of each close begin."""
    if closes is None:
        return np.arange(len(probabilities), dtype=np.int64)
    return np.unique(closes, return_index=True)[1].astype(np.int64)


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
        own = record.take(tested)
        ranks[tested] = rank_confidences(
            before.probabilities, own.probabilities, before.bar_numbers(), own.bar_numbers()
        )
    return ranks


def hold_share(
    ranks: Float64[np.ndarray, " window"], share: float, closes: Int64[np.ndarray, " window"] | None = None
) -> Opinions:
    """Hold an opinion on a stated share of decisions, the most confident ones; the level starts at the share.

    Args:
        ranks: shape (window,), float64, of `rank_record` or `rank_confidences`.
        share: stated share.
        closes: shape (window,), int64, rising: number of the close of each; None: each has its own.

    Time: entry t depends on rank t and on the ranks of earlier closes.
    """
    starts = _starts(ranks, closes)
    moment = np.arange(len(starts))
    return _hold(ranks, np.ones(len(ranks), dtype=np.bool_), starts, moment, moment, share, share)


def hold_coverage(ranks: Float64[np.ndarray, " window"], record: Record, coverage: float) -> Opinions:
    """Hold opinions as long as the prediction sets cover the outcomes at a stated rate.

    The level starts where a forecaster without skill would need it: wrong in half of its opinions.

    Args:
        ranks: shape (window,), float64, of `rank_record`.
        record: out-of-sample probabilities, oldest first.
        coverage: stated coverage of the sets {rise}, {fall} and {rise, fall}, the last without an opinion.

    Time: entry t depends on rank t, on those of earlier closes and on outcomes resolved at or before decision t.
    """
    wrong = (record.probabilities > THRESHOLD) != (record.labels == 1)
    starts, decided_at, resolved_at = _closes(record)
    return _hold(ranks, wrong, starts, resolved_at, decided_at, 1 - coverage, 2 * (1 - coverage))


def next_level(level: float, rate: float, found: float) -> float:
    """Return the level after a close, or after its outcomes are known.

    The cap never binds for shares; where wrong opinions are rarer than stated, it keeps the level from growing without
    bound.

    Args:
        level: before.
        rate: stated share of decisions that are opinions, or wrong opinions.
        found: share of the decisions of the close that were.

    Source: Gibbs and Candes 2021, equation 2, with the share of a close in place of the event of a decision.
    """
    return min(level + STEP * (rate - found), 1 + STEP * rate)


def _hold(
    ranks: Float64[np.ndarray, " window"],
    counted: Bool[np.ndarray, " window"],
    starts: Int64[np.ndarray, " close"],
    known_at: Shaped[np.ndarray, " close"],
    decided_at: Shaped[np.ndarray, " close"],
    rate: float,
    level: float,
) -> Opinions:
    """Hold opinions so that opinions that count are a stated share of decisions.

    The level moves once the events of an earlier close are known.
    """
    levels, held, known = np.empty(len(starts)), np.zeros(len(ranks), dtype=np.bool_), 0
    closes = [slice(*each) for each in zip(starts, np.append(starts[1:], len(ranks)), strict=True)]
    for now, own in enumerate(closes):
        while known < now and known_at[known] <= decided_at[now]:
            events = closes[known]
            level = next_level(level, rate, float((held[events] & counted[events]).mean()))
            known += 1
        levels[now] = level
        held[own] = ranks[own] <= level
    return Opinions(ranks, levels, held)


def _closes(
    record: Record,
) -> tuple[Int64[np.ndarray, " close"], Shaped[np.ndarray, " close"], Shaped[np.ndarray, " close"]]:
    """Return where the windows of each close begin, its time, and when all its outcomes are known."""
    starts = _starts(record.probabilities, record.bar_numbers())
    resolved_at = np.maximum.reduceat(record.resolved_at, starts) if len(starts) else record.resolved_at
    return starts, record.decided_at[starts], np.maximum.accumulate(resolved_at)


def share_bounds(share: float, closes: int) -> tuple[float, float]:
    """Return between which bounds the share of opinions of `hold_share` lies, whatever the probabilities.

    The level cannot leave -STEP (1 - share) .. 1 + STEP share, because no rank is at most 0 and every rank is at most
    1; the share, averaged over closes, differs from the stated one by the way that the level went, divided by STEP and
    the closes. The number of series at a close does not matter: the share of a close is between 0 and 1.

    Source: Gibbs and Candes 2021, proposition 4.1, with both ends of the level kept apart.
    """
    low = share - ((1 - share) / STEP + share) / closes
    return max(0.0, low), min(1.0, share + (share / STEP + 1 - share) / closes)


def coverage_bound(coverage: float, closes: int, pending: int) -> float:
    """Return the least coverage of `hold_coverage`, averaged over closes, whatever the probabilities and outcomes.

    Below level 0 there is no opinion, so at most `pending` closes with wrong ones, whose outcomes were not known,
    follow.

    Args:
        coverage: stated coverage.
        closes: number of closes; of a series, of decisions.
        pending: of `pending_closes`; 1 where labels do not overlap.

    Source: own, from Gibbs and Candes 2021, proposition 4.1, with delayed outcomes.
    """
    return max(0.0, coverage - (2 * (1 - coverage) / STEP + coverage * pending) / closes)


def pending_closes(record: Record) -> int:
    """Return the largest number of closes without known outcomes after a close, that one included."""
    _, decided_at, resolved_at = _closes(record)
    known = np.searchsorted(resolved_at, decided_at, side="right")
    return int((np.arange(1, len(decided_at) + 1) - known).max(initial=1))


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
        moves: shape (window,), float64: move until the outcome in the predicted direction, basis points; NaN: unknown.
        seed: of the bootstrap.

    Returns:
        The scores by rule, in this order.

    Time: opinion t depends on rank t and those of earlier closes, and for `coverage` on outcomes known at decision t.
    """
    closes = record.bar_numbers()
    n = len(np.unique(closes))
    share, coverage = spec.opinion_share, spec.coverage
    rules = {
        "all": (1.0, np.ones(len(record), dtype=np.bool_), (1.0, 1.0)),
        "share": (share, hold_share(ranks, share, closes).held, share_bounds(share, n)),
        "coverage": (
            coverage,
            hold_coverage(ranks, record, coverage).held,
            (coverage_bound(coverage, n, pending_closes(record)), 1.0),
        ),
    }
    right = (record.probabilities > THRESHOLD) == (record.labels == 1)
    losses, theirs = (log_losses(record.labels, each) for each in (record.probabilities, base_rate))
    numbers = np.stack([right.astype(np.float64), losses, losses - theirs, moves], axis=1)
    found = {}
    for name, (stated, held, guaranteed) in rules.items():
        accuracy, loss, difference, move = _means_of(numbers, held, record, seed)
        held_share, covered = (
            float(close_means(closes, each.astype(np.float64)).mean()) for each in (held, right | ~held)
        )
        found[name] = OpinionScores(
            stated, int(held.sum()), held_share, covered, accuracy, loss, difference, move, guaranteed
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

    block_bars, overlap_bars = record_block_bars(record), record.overlap_bars()
    resamples = resample(means, len(sums), block_bars, seed)
    return [
        Interval(float(mean), *overlap_bounds(column, len(sums), block_bars, overlap_bars))
        for mean, column in zip(means(np.ones((1, len(sums))))[0], resamples.T, strict=True)
    ]
