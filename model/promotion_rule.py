"""Whether a challenger becomes champion: every clause named, its numbers kept, and a reason for each.

Knows out-of-sample records, never models or registries. Losses are log losses in nats, paired bar by bar: challenger
minus the other, so above zero the challenger is the worse one. The daily rule guards a recipe that is retrained every
day: it holds what got clearly worse. The strict rule is for a new recipe: it promotes only what is better with
evidence. The trap: a bound that moves with the losses in more ways than one could reward a worse challenger, so the
blocks drawn depend on the number of bars alone, and raising the challenger's loss never turns hold into promote.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict, Field

from model.bootstrap import PairedDifference, paired_difference, record_block_bars
from model.errors import SpecError
from model.metrics import Record
from model.significance_tests import SkillTest, binomial_against_majority, mcnemar, pesaran_timmermann
from model.trading import TradingResult, TradingSpec

Action = Literal["promote", "hold", "reject"]
CONSTANT_SPREAD = 1e-6  # a float32 sigmoid that answers to its input moves more than this over a few hundred windows


class PromotionRule(BaseModel):
    """What a challenger must show to become champion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["daily", "strict"] = Field(
        default="daily",
        description="daily: a retrain of a known recipe, held when it got worse; strict: a new recipe, promoted only "
        "when it is better with evidence",
    )
    champion_tolerance: float = Field(
        default=0.002,
        ge=0,
        le=1,
        description="daily: hold when the challenger is worse than the champion by more than this with evidence "
        "(lower bound of the 95 % interval of the paired log loss difference, nats)",
    )
    champion_margin: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="daily: hold when the challenger's mean log loss is worse than the champion's by more than this, "
        "evidence or not (nats)",
    )
    base_rate_tolerance: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="daily: hold when the challenger is worse than the base rate by more than this with evidence "
        "(lower bound of the 95 % interval of the paired log loss difference, nats)",
    )
    base_rate_margin: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="daily: hold when the challenger's mean log loss is worse than the base rate's by more than this, "
        "evidence or not (nats)",
    )
    min_common_bars: int = Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="Decisions that challenger and champion must share to be compared; with fewer the daily rule "
        "judges by the base rate alone and the strict rule holds (bars)",
    )
    trading: TradingSpec = Field(
        default=TradingSpec(), description="strict: how the probabilities are traded, and at what costs"
    )
    alpha: float = Field(
        default=0.05, gt=0, lt=0.5, description="strict: level of each test, as a probability of being fooled"
    )


@dataclass(frozen=True, slots=True)
class Soundness:
    """Whether a model may be served at all, whatever its score.

    Attributes:
        finite: every probability is a number.
        not_constant: the probabilities move with the bars.
        both_classes_possible: no probability is exactly 0 or 1, so that nothing is ruled out.
        reloads_equal: the stored model predicts what the trained one did.
        detail: what was found, for the reader.
    """

    finite: bool
    not_constant: bool
    both_classes_possible: bool
    reloads_equal: bool
    detail: str = ""

    @property
    def sound(self) -> bool:
        """All four hold."""
        return self.finite and self.not_constant and self.both_classes_possible and self.reloads_equal


def judge_soundness(probabilities: Float64[np.ndarray, " window"], *, reloads_equal: bool) -> Soundness:
    """Judge the probabilities of the model that would be served.

    Args:
        probabilities: shape (window,), float64: P(rise), of as many windows as there are; NaN counts as not finite.
        reloads_equal: whether the stored model was loaded and predicted the same.
    """
    finite = bool(len(probabilities) and np.isfinite(probabilities).all())
    if not finite:
        missing = int((~np.isfinite(probabilities)).sum())
        detail = f"{missing} of {len(probabilities)} probabilities are not finite"
        return Soundness(
            finite=False, not_constant=False, both_classes_possible=False, reloads_equal=reloads_equal, detail=detail
        )
    low, high = float(probabilities.min()), float(probabilities.max())
    return Soundness(
        finite=True,
        not_constant=high - low > CONSTANT_SPREAD,
        both_classes_possible=low > 0 and high < 1,
        reloads_equal=reloads_equal,
        detail=f"{len(probabilities)} probabilities from {low:.6f} to {high:.6f}",
    )


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition of a rule: whether it was met, why, and the numbers it was judged by."""

    name: str
    passed: bool
    reason: str
    numbers: dict[str, float]


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of the challenger.

    Attributes:
        action: promote, hold (the champion stays; the challenger is sound), reject (the challenger is unsound).
        reasons: a sentence for each clause, those that failed first.
        numbers: every number of every clause, by `clause.number`.
        clauses: the conditions, in the order judged.
    """

    action: Action
    reasons: tuple[str, ...]
    numbers: dict[str, float]
    clauses: tuple[Clause, ...]


def decide(
    rule: PromotionRule,
    soundness: Soundness,
    challenger: Record,
    base_rate_probabilities: Float64[np.ndarray, " window"],
    champion: Record | None,
    seed: int,
    trading: TradingResult | None = None,
) -> Decision:
    """Decide what becomes of a challenger.

    Args:
        rule: what it must show.
        soundness: of the model that would be served.
        challenger: its out-of-sample record.
        base_rate_probabilities: shape (window,), float64: the base rate's out-of-sample P(rise) on those windows.
        champion: the champion's out-of-sample record; None where there is no champion. Only decisions that both
            made are compared, by `decided_at` and with the challenger's labels; a champion's NaN is no decision.
        seed: of the bootstrap.
        trading: the challenger's trades; where given, the strict rule asks for gain after costs.

    Returns:
        Reject where the challenger is unsound, promote where every clause is met, else hold.

    Raises:
        SpecError: the base rate has not one probability for each window of the challenger.
    """
    if len(base_rate_probabilities) != len(challenger):
        raise SpecError(
            f"promotion: expected a base rate for each of the challenger's {len(challenger)} windows, found "
            f"{len(base_rate_probabilities)}. Pass the baseline's probabilities on the same windows."
        )
    sound = _soundness_clause(soundness, challenger)
    if not sound.passed:
        return _decision("reject", (sound,))
    common = None if champion is None else challenger.common_decisions(champion)
    judge = _strict_clauses if rule.kind == "strict" else _daily_clauses
    clauses = (sound, *judge(rule, challenger, base_rate_probabilities, common, seed))
    if rule.kind == "strict" and trading is not None:
        clauses = (*clauses, _costs_clause(trading))
    return _decision("promote" if all(clause.passed for clause in clauses) else "hold", clauses)


def over_broken_champion(decision: Decision) -> Decision:
    """Turn a hold into a promotion: the champion cannot be loaded, so whatever is sound predicts better than nothing.

    A rejection stays one, and every reason and number is kept.
    """
    if decision.action != "hold":
        return decision
    reason = "the champion cannot predict any more, so a sound challenger replaces it"
    return Decision("promote", (reason, *decision.reasons), decision.numbers, decision.clauses)


def _decision(action: Action, clauses: tuple[Clause, ...]) -> Decision:
    """Collect reasons, failed clauses first, and numbers."""
    reasons = [clause.reason for passed in (False, True) for clause in clauses if clause.passed is passed]
    numbers = {f"{clause.name}.{key}": value for clause in clauses for key, value in clause.numbers.items()}
    return Decision(action, tuple(reasons), numbers, clauses)


def _soundness_clause(soundness: Soundness, challenger: Record) -> Clause:
    """Ask that the model may be served, and that its record is finite and not empty."""
    record_finite = bool(len(challenger) and np.isfinite(challenger.probabilities).all())
    complaints = {
        "its probabilities are not finite": soundness.finite,
        "it says the same whatever the bars": soundness.not_constant,
        "it gives a probability of exactly 0 or 1": soundness.both_classes_possible,
        "it does not predict the same after loading": soundness.reloads_equal,
        "its out-of-sample record is empty or not finite": record_finite,
    }
    found = [complaint for complaint, fine in complaints.items() if not fine]
    detail = f" ({soundness.detail})" if soundness.detail else ""
    reason = "sound" if not found else "unsound: " + "; ".join(found)
    return Clause("soundness", not found, f"{reason}{detail}", {"complaints": float(len(found))})


def _daily_clauses(
    rule: PromotionRule,
    challenger: Record,
    base_rate_probabilities: Float64[np.ndarray, " window"],
    common: tuple[Record, Record] | None,
    seed: int,
) -> tuple[Clause, ...]:
    """Ask that the challenger is not worse than the base rate, nor than the champion, beyond what is tolerated."""
    against_base_rate = _not_worse(
        "base_rate",
        "the base rate",
        _difference(challenger, base_rate_probabilities, seed),
        rule.base_rate_tolerance,
        rule.base_rate_margin,
    )
    if common is None:
        return (against_base_rate, _no_champion())
    if len(common[0]) < rule.min_common_bars:
        return (against_base_rate, _too_few(rule, common, "judged by the base rate alone", passed=True))
    against_champion = _not_worse(
        "champion",
        "the champion",
        _difference(common[0], common[1].probabilities, seed),
        rule.champion_tolerance,
        rule.champion_margin,
    )
    return (against_base_rate, against_champion)


def _not_worse(name: str, rival: str, found: PairedDifference, tolerance: float, margin: float) -> Clause:
    """Fail where the loss is higher by more than the tolerance with evidence, or than the margin without."""
    told = f"log loss {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}] against {rival} on {found.n} bars"
    numbers = {**_numbers(found), "tolerance": tolerance, "margin": margin}
    if found.low > tolerance:
        return Clause(
            name, passed=False, reason=f"{told}: worse by more than {tolerance:g} with evidence", numbers=numbers
        )
    if found.mean > margin:
        return Clause(name, passed=False, reason=f"{told}: worse by more than {margin:g} on average", numbers=numbers)
    return Clause(name, passed=True, reason=f"{told}: not worse beyond what is tolerated", numbers=numbers)


def _strict_clauses(
    rule: PromotionRule,
    challenger: Record,
    base_rate_probabilities: Float64[np.ndarray, " window"],
    common: tuple[Record, Record] | None,
    seed: int,
) -> tuple[Clause, ...]:
    """Ask for direction skill, and for a lower loss than the base rate's and the champion's, with evidence."""
    independent = challenger.take(challenger.independent_windows())
    labels, probabilities = independent.labels, independent.probabilities
    clauses = [
        _skilled("pesaran_timmermann", pesaran_timmermann(labels, probabilities), rule.alpha),
        _skilled("majority", binomial_against_majority(labels, probabilities), rule.alpha),
        _better("base_rate", "the base rate", _difference(challenger, base_rate_probabilities, seed)),
    ]
    if common is None:
        return (*clauses, _no_champion())
    if len(common[0]) < rule.min_common_bars:
        return (*clauses, _too_few(rule, common, "too few for evidence", passed=False))
    clauses.append(_better("champion", "the champion", _difference(common[0], common[1].probabilities, seed)))
    ours, theirs = (each.take(common[0].independent_windows()) for each in common)
    direction = mcnemar(ours.labels, ours.probabilities, theirs.probabilities)
    clauses.append(_skilled("mcnemar", direction, rule.alpha, holds=lambda test: test.statistic > 0.5))  # noqa: PLR2004 - even share
    return tuple(clauses)


def _skilled(name: str, test: SkillTest, alpha: float, holds: Callable[[SkillTest], bool] = lambda _: True) -> Clause:
    """Ask that a test finds skill at the level, and in the challenger's favour."""
    passed = test.p_value <= alpha and holds(test)
    reason = f"{test.name}: {test.reading}, p = {test.p_value:.3g}: {'evidence' if passed else 'no evidence'} of skill"
    numbers = {"statistic": test.statistic, "p_value": test.p_value, "n": float(test.n), "alpha": alpha}
    return Clause(name, passed, reason, numbers)


def _better(name: str, rival: str, found: PairedDifference) -> Clause:
    """Ask that the whole interval of the loss difference lies below zero."""
    passed = found.high < 0
    reason = (
        f"log loss {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}] against {rival} on {found.n} bars: "
        f"{'better' if passed else 'not better'} with evidence"
    )
    return Clause(name, passed, reason, _numbers(found))


def _costs_clause(trading: TradingResult) -> Clause:
    """Ask that trading by the probabilities gains after costs, and more for its risk than buying and holding."""
    ours, theirs = trading.strategy, trading.buy_and_hold
    passed = ours.net_return > 0 and ours.sharpe.value > theirs.sharpe.value
    reason = (
        f"net of costs {ours.net_return:+.1%} (Sharpe {ours.sharpe.value:.2f}) against {theirs.net_return:+.1%} "
        f"(Sharpe {theirs.sharpe.value:.2f}) of buy-and-hold: {'earns' if passed else 'does not earn'} its risk"
    )
    numbers = {
        "net_return": ours.net_return,
        "sharpe": ours.sharpe.value,
        "buy_and_hold_net_return": theirs.net_return,
        "buy_and_hold_sharpe": theirs.sharpe.value,
    }
    return Clause("net_of_costs", passed, reason, numbers)


def _no_champion() -> Clause:
    """Say that there is nobody to be compared with."""
    return Clause("champion", passed=True, reason="there was no champion to compare with", numbers={})


def _too_few(rule: PromotionRule, common: tuple[Record, Record], consequence: str, *, passed: bool) -> Clause:
    """Say that challenger and champion share too few decisions."""
    n = len(common[0])
    reason = f"only {n} bars in common with the champion, {rule.min_common_bars} needed: {consequence}"
    return Clause("champion", passed, reason, {"n": float(n), "min_common_bars": float(rule.min_common_bars)})


def _difference(record: Record, rival: Float64[np.ndarray, " window"], seed: int) -> PairedDifference:
    """Compare log losses, challenger minus rival, on blocks that outlast the overlap of labels."""
    return paired_difference(record.labels, record.probabilities, rival, seed, record_block_bars(record))


def _numbers(found: PairedDifference) -> dict[str, float]:
    """Return the numbers of a comparison."""
    return {
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
        "n": float(found.n),
    }
