"""Evaluate the expected move and the expected return out of sample: scores, comparisons, calibration.

Knows numbers only. Resampling is that of `model.bootstrap`. Caution: the score of a size is in nats and may be
negative, because a density may exceed 1; only differences between forecasters of the same windows mean something.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from model.bootstrap import Interval, PairedDifference, record_difference, record_ratio
from model.expected_moves import move_losses
from model.record import Record

NETWORK = "network"


@dataclass(frozen=True, slots=True)
class MoveEvaluation:
    """Out-of-sample results of the expected move.

    Attributes:
        scores: by forecaster (`network` and the baselines): mean of `move_losses`, nats, with its interval.
        differences: by baseline: the network's score minus the baseline's; negative where the network is better.
        ratio: mean actual size divided by mean expected size: 1 where the forecasts are calibrated in the large.
        return_slope: slope of realised on expected log returns, without an intercept: 1 where expected returns are
            calibrated, 0 where they say nothing.
        mean_expected: mean expected size.
    """

    scores: dict[str, Interval]
    differences: dict[str, PairedDifference]
    ratio: Interval
    return_slope: Interval
    mean_expected: float

    def numbers(self) -> dict[str, float]:
        """Return every number by name, those with an interval also with `_low` and `_high`."""
        named = {f"{name}_score": found for name, found in self.scores.items()}
        named |= {"ratio": self.ratio, "return_slope": self.return_slope}
        for baseline, found in self.differences.items():
            named[f"vs_{baseline}"] = Interval(found.mean, found.low, found.high)
        numbers = {"mean_expected": self.mean_expected}
        for name, each in named.items():
            numbers |= {name: each.value, f"{name}_low": each.low, f"{name}_high": each.high}
        return numbers | {f"vs_{name}_p_value": found.p_value for name, found in self.differences.items()}


def evaluate_moves(
    record: Record,
    moves: Float64[np.ndarray, " window"],
    baselines: Mapping[str, Float64[np.ndarray, " window"]],
    seed: int,
) -> MoveEvaluation:
    """Score the expected moves of a record, alone and vs. the baselines, with 95 % block bootstrap intervals.

    Args:
        record: pooled out-of-sample record with expected moves, oldest first; of a panel whole closes are drawn.
        moves: shape (window,), float64: log returns until the outcome; for ranks, less the median of the others.
        baselines: by name, shape (window,), float64: other forecasts of the size.
        seed: of the bootstrap.
    """
    forecasts = {NETWORK: record.expected_moves, **baselines}
    losses = {name: move_losses(moves, each) for name, each in forecasts.items()}
    returns, ones = record.expected_returns(), np.ones(len(record))
    return MoveEvaluation(
        scores={name: record_ratio(record, each, ones, seed) for name, each in losses.items()},
        differences={name: record_difference(record, losses[NETWORK] - losses[name], seed) for name in baselines},
        ratio=record_ratio(record, np.abs(moves), record.expected_moves, seed),
        return_slope=record_ratio(record, returns * moves, np.square(returns), seed),
        mean_expected=float(record.expected_moves.mean()),
    )
