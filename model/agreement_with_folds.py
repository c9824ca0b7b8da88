"""A check of the network that will serve: does it agree with the fold networks, whose out-of-sample record it carries?

The record is that of the fold networks; the final network has seen every bar, so it has no out-of-sample record of its
own. But the folds went through the same procedure, and a later fold's network has also seen the test bars of an earlier
one. So its disagreement with that earlier fold's out-of-sample probabilities shows how far a correct fit disagrees
there, and the final network must not disagree much more. Disagreement is in nats: the loss that a network adds to the
record if the record's probabilities are right. Measured (docs/decisions-over-many-days.md): of 24 honest fits of the
default recipe on the bundled sample none was held, of 500 simulated ones none; confident noise and simulated
overfitting were held 500 of 500 times, two warm chains from day 20 on 8 of 8 times; of 14 honest fits on panels none
was held. Caution: scored on bars that it has learned from, an overfitted network looks excellent; only its disagreement
grows. A network as quiet as its record passes, also one trained on shuffled labels.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import BaseModel, ConfigDict, Field

from model.e_process import divergence
from model.errors import SpecError
from model.panel_live_score import close_means
from model.promotion_rule import FINAL_NETWORK, Clause


class FinalNetworkRule(BaseModel):
    """How much more than a fold network the final network may disagree with the record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: float = Field(
        default=2.0,
        ge=1,
        le=100,
        description="Hold when the final network disagrees with the record by more than this times the largest "
        "disagreement of a fold network",
    )
    negligible: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="A disagreement up to this is never held (nats per decision)",
    )


PANEL_RULE = FinalNetworkRule(negligible=0.005)  # honest fits of 14 panels: at most 0.0034, see above


@dataclass(frozen=True, slots=True)
class FinalNetworkCheck:
    """What the check found; nats per decision.

    Attributes:
        disagreement: of the final network with the record, mean over the record's closes of the mean over a close.
        of_folds: shape (fold - 1,), float64: of each fold network but the first with the record before its own fold.
        limit: largest disagreement that passes.
        passed: whether the network may serve.
    """

    disagreement: float
    of_folds: Float64[np.ndarray, " _"]
    limit: float
    passed: bool


def check_final_network(
    record: Float64[np.ndarray, " window"],
    fold: Int64[np.ndarray, " window"],
    fold_networks: Float64[np.ndarray, "fold window"],
    final: Float64[np.ndarray, " window"],
    rule: FinalNetworkRule,
    closes: Int64[np.ndarray, " window"] | None = None,
) -> FinalNetworkCheck:
    """Hold a final network that disagrees with the fold networks.

    Args:
        record: shape (window,), float64: out-of-sample P(rise), each by its own fold's network, before calibration.
        fold: shape (window,), int64: the fold that holds the window, 0 the oldest.
        fold_networks: shape (fold, window), float64: P(rise) of every fold's network on every window of the record.
            Entries of windows after the network's own fold are not read.
        final: shape (window,), float64: P(rise) of the final network on the same windows.
        rule: factor and negligible disagreement.
        closes: shape (window,), int64: the close at which each window was decided, as any number. The windows of a
            panel's close count as one observation. None: each window has a close of its own.

    Returns:
        The check; a network with a probability that is not finite fails.

    Raises:
        SpecError: shapes that do not fit, or fewer than two folds.

    Source: own. If the final fit is exchangeable with the later fold fits and log disagreements of refits are normal
        with standard deviation s, `false_hold_rate` gives the rate of false holds.

    >>> fold, honest = np.repeat([0, 1, 2], 50), np.tile([0.45, 0.55], 75)
    >>> networks = np.stack([honest, honest + 0.01, honest - 0.01])
    >>> check_final_network(honest, fold, networks, honest + 0.01, FinalNetworkRule()).passed
    True
    >>> check_final_network(honest, fold, networks, 1 - honest * 0.2, FinalNetworkRule()).passed
    False
    """
    folds, count = fold_networks.shape
    if not len(record) == len(fold) == len(final) == count or folds < 2:  # noqa: PLR2004
        raise SpecError(
            f"final network check: expected at least 2 folds and equal numbers of windows, found {folds} folds and "
            f"{len(record)}, {len(fold)}, {count}, {len(final)} windows"
        )
    at, earlier = np.arange(count) if closes is None else closes, [fold < k for k in range(1, folds)]
    of_folds = np.array(
        [
            mean_disagreement(record[before], network[before], at[before])
            for network, before in zip(fold_networks[1:], earlier, strict=True)
        ]
    )
    disagreement = mean_disagreement(record, final, at) if np.isfinite(final).all() else float("inf")
    limit = max(rule.factor * float(of_folds.max()), rule.negligible)
    return FinalNetworkCheck(disagreement, of_folds, limit, passed=disagreement <= limit)


def final_network_clause(found: FinalNetworkCheck) -> Clause:
    """Return the condition of a promotion: the final network passed its check."""
    finding, consequence = ("agrees", "also applies") if found.passed else ("disagrees", "does not apply")
    reason = (
        f"the final network {finding} with the fold networks (mean divergence {found.disagreement:.4f} nats per "
        f"decision, limit {found.limit:.4f}), so their out-of-sample score {consequence} to it"
    )
    numbers = {"disagreement": found.disagreement, "of_folds": float(found.of_folds.max()), "limit": found.limit}
    return Clause(FINAL_NETWORK, found.passed, reason, numbers)


def unchecked_final_network(why: str) -> Clause:
    """Return the clause of a final network that cannot be checked; it is met."""
    return Clause(FINAL_NETWORK, passed=True, reason=f"the final network is not checked: {why}", numbers={})


def mean_disagreement(
    record: Float64[np.ndarray, " window"],
    other: Float64[np.ndarray, " window"],
    closes: Int64[np.ndarray, " window"],
) -> float:
    """Return the mean loss that a forecaster adds if the record's probabilities are right, nats per decision.

    It is the mean Kullback-Leibler divergence, over the windows of each close first: 0 where both agree.

    >>> round(mean_disagreement(np.array([0.5]), np.array([0.7]), np.array([0])), 4)
    0.0872
    """
    return float(close_means(closes, divergence(np.clip(record, 1e-6, 1 - 1e-6), other)).mean())


def false_hold_rate(
    rule: FinalNetworkRule, folds: int, log_deviation: float, seed: int = 0, repetitions: int = 200_000
) -> float:
    """Return the probability that an honest final fit is held, where no disagreement is negligible.

    Args:
        rule: its factor.
        folds: fold networks, 2 or more.
        log_deviation: standard deviation of the log disagreement from one refit to the next.
        seed: of the simulation.
        repetitions: simulated retrains.

    >>> false_hold_rate(FinalNetworkRule(), 5, 0.4) < 0.015
    True
    """
    logs = log_deviation * np.random.default_rng(seed).standard_normal((repetitions, folds))
    return float((logs[:, -1] > logs[:, :-1].max(axis=1) + np.log(rule.factor)).mean())
