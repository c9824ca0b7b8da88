"""Decide whether a challenger becomes champion: named clauses, each with its numbers and a reason.

Knows out-of-sample records, never models or registries. Losses are log losses in nats, paired by decision: challenger
minus opponent, so a positive difference means that the challenger is worse. The daily rule is for a refit of a known
recipe, with two non-inferiority margins: it holds the challenger if it is significantly worse than the opponent by more
than a tolerance, or worse on average by more than a margin. It does not prove non-inferiority, for which the upper
bound of the interval would have to be below the tolerance. The strict rule is for a new recipe: the challenger must be
significantly better, after correction for all that was scored on its test bars. Caution: in the bootstrap of a
difference the block length depends only on the number of bars, not on the losses. Otherwise the lower bound of the
interval would not be monotone in the losses, and a higher loss could turn hold into promote.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict, Field

from model.bootstrap import PairedDifference, compare_losses
from model.correction_for_looks import Looks, RecipesTried
from model.errors import SpecError
from model.multiple_testing import forecast_skill, skill_p_values
from model.plurals import counted
from model.record import Record
from model.sanity_check import SanityCheck
from model.significance_tests import SkillTest, binomial_against_majority, mcnemar, pesaran_timmermann
from model.trading import TradingResult, TradingSpec

Action = Literal["promote", "hold", "reject"]
Mark = Literal["passed", "failed", "held"]  # held: by a reason besides the rule
FINAL_NETWORK = "final_network"  # clause of `model.agreement_with_folds`
HOLD = "hold"  # clause of a reason besides the rule
UNCOMPARED = "min_common_bars"  # number of the champion's clause where the two share fewer decisions
CONDITIONS = ("soundness", FINAL_NETWORK, "past_champions")  # clauses whose reasons come last where they are met


class PromotionRule(BaseModel):
    """What a challenger must show to become champion."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Promotion")

    kind: Literal["daily", "strict"] = Field(
        default="daily",
        description="daily: a refit of a known recipe, promoted unless significantly worse; strict: a new recipe, "
        "promoted only when significantly better",
    )
    champion_tolerance: float = Field(
        default=0.002,
        ge=0,
        le=1,
        description="daily: hold when significantly worse than the champion: the lower bound of the 95 % interval of "
        "the paired log loss difference exceeds this tolerance (nats)",
    )
    champion_margin: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="daily: hold when the mean log loss exceeds the champion's by more than this, significant or not "
        "(nats)",
    )
    base_rate_tolerance: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="daily: hold when significantly worse than the base rate: the lower bound of the 95 % interval of "
        "the paired log loss difference exceeds this tolerance (nats)",
    )
    base_rate_margin: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="daily: hold when the mean log loss exceeds the base rate's by more than this, significant or "
        "not (nats)",
    )
    min_common_bars: int = Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="Common decisions of challenger and champion that a comparison needs; with fewer, the daily rule "
        "uses the base rate alone and the strict rule holds (bars)",
    )
    trading: TradingSpec = Field(
        default=TradingSpec(),
        description="how probabilities are traded, at what costs; reported always; a condition of the strict rule",
    )
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="strict: significance level of each test")


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition of a rule: whether it was met, the reason, and its numbers."""

    name: str
    passed: bool
    reason: str
    numbers: dict[str, float]


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about a challenger.

    Attributes:
        action: promote, hold (the champion stays), reject (the challenger failed the sanity check).
        reasons: a sentence for each clause, failed ones first, then that the champion was not compared, `CONDITIONS`
            that are met last.
        numbers: every number of every clause, by `clause.number`.
        clauses: the conditions, in the order of evaluation.
    """

    action: Action
    reasons: tuple[str, ...]
    numbers: dict[str, float]
    clauses: tuple[Clause, ...]

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Whether each clause was met, in the order of the last reasons; earlier reasons belong to no clause."""
        return tuple(_mark(clause) for clause in _ordered(self.clauses))


def decide(
    rule: PromotionRule,
    sanity_check: SanityCheck,
    challenger: Record,
    base_rate_probabilities: Float64[np.ndarray, " window"],
    champion: Record | None,
    seed: int,
    trading: TradingResult | None = None,
    instead_of_champion: Clause | None = None,
    *,
    further: tuple[Clause, ...] = (),
    tried: RecipesTried | None = None,
) -> Decision:
    """Decide whether a challenger is promoted, held or rejected.

    Args:
        rule: conditions of a promotion.
        sanity_check: of the model that would be served.
        challenger: its out-of-sample record.
        base_rate_probabilities: shape (window,), float64: the base rate's out-of-sample P(rise) on those windows.
        champion: the champion's out-of-sample record; None where there is no champion. Common decisions are compared,
            by `decided_at` and with the challenger's labels; NaN in the champion's record is no decision.
        seed: of the bootstrap.
        trading: the challenger's trades; where given, the strict rule requires a positive net return and a higher
            Sharpe ratio than buy-and-hold.
        instead_of_champion: replaces the comparison with the champion where the two predict different outcomes.
        further: clauses of both rules that other modules evaluate.
        tried: what else was scored on the challenger's test bars; the strict rule corrects for it.

    Returns:
        Reject where the sanity check failed, promote where every clause is met, else hold.

    Raises:
        SpecError: the base rate has not one probability for each window of the challenger.
    """
    if len(base_rate_probabilities) != len(challenger):
        raise SpecError(
            f"promotion: expected a base rate for each of the challenger's {len(challenger)} windows, found "
            f"{len(base_rate_probabilities)}. Pass the baseline's probabilities on the same windows."
        )
    sane = _sanity_clause(sanity_check, challenger)
    if not sane.passed:
        return _decision("reject", (sane,))
    evaluate = _strict_clauses if rule.kind == "strict" else _daily_clauses
    clauses = (sane, *further, *evaluate(rule, challenger, base_rate_probabilities, champion, seed))
    if instead_of_champion is not None:
        clauses = (*(clause for clause in clauses if clause.name != "champion"), instead_of_champion)
    if rule.kind == "strict":
        clauses = (*clauses, _skilled_after_search(rule, challenger, base_rate_probabilities, tried, seed))
    if rule.kind == "strict" and trading is not None:
        clauses = (*clauses, _costs_clause(trading))
    return _decision("promote" if all(clause.passed for clause in clauses) else "hold", clauses)


def different_question(rule: PromotionRule, ours: int, theirs: int, champion: PairedDifference) -> Clause:
    """Return the champion's clause where it has another horizon: labels at one cannot score forecasts at the other.

    The daily rule holds, because it has nothing to compare. The strict rule holds the challenger if the champion
    has significant skill at its own horizon.

    Args:
        rule: conditions of a promotion.
        ours: horizon of the challenger, bars.
        theirs: horizon of the champion, bars.
        champion: log loss of the champion vs. the base rate on its own out-of-sample record.
    """
    horizons = f"the challenger predicts {ours} bars ahead, the champion {theirs}: they are not compared"
    numbers = {**_numbers(champion), "horizon_bars": float(ours), "champion_horizon_bars": float(theirs)}
    if rule.kind == "daily":
        reason = (
            f"{horizons}, and the daily rule compares equal horizons only; use the strict rule (promotion.kind strict)"
        )
        return Clause("champion", passed=False, reason=reason, numbers=numbers)
    skilled = champion.high < 0
    finding = "significant skill" if skilled else "no significant skill"
    reason = (
        f"{horizons}; at its own horizon the champion has {finding} (log loss difference {champion.mean:+.4f} "
        f"[{champion.low:+.4f}, {champion.high:+.4f}] vs. the base rate)"
    )
    return Clause("champion", not skilled, reason, numbers)


def replace_broken_champion(decision: Decision) -> Decision:
    """Turn a hold into a promotion because the champion cannot predict; a rejection stays one.

    A challenger whose final network failed its check stays held: what it would serve has no record. Every reason and
    number is kept.
    """
    if decision.action != "hold" or not all(each.passed for each in decision.clauses if each.name == FINAL_NETWORK):
        return decision
    reason = "the champion cannot predict any more, so a challenger that passes both checks of its network replaces it"
    return Decision("promote", (reason, *decision.reasons), decision.numbers, decision.clauses)


def hold_because(decision: Decision, reason: str) -> Decision:
    """Hold for a reason besides the rule, which comes first; a rejection stays one, every number is kept."""
    if decision.action == "reject":
        return decision
    clause = Clause(HOLD, passed=False, reason=reason, numbers={})
    return Decision("hold", (reason, *decision.reasons), decision.numbers, (clause, *decision.clauses))


def _mark(clause: Clause) -> Mark:
    if clause.passed:
        return "passed"
    return "held" if clause.name == HOLD else "failed"


def _decision(action: Action, clauses: tuple[Clause, ...]) -> Decision:
    """Collect reasons, failed clauses first and conditions of any promotion last, and numbers."""
    reasons = [clause.reason for clause in _ordered(clauses)]
    numbers = {f"{clause.name}.{key}": value for clause in clauses for key, value in clause.numbers.items()}
    return Decision(action, tuple(reasons), numbers, clauses)


def _ordered(clauses: tuple[Clause, ...]) -> list[Clause]:
    def place(clause: Clause) -> tuple[bool, bool, bool]:
        return (
            clause.passed,
            clause.passed and UNCOMPARED not in clause.numbers,
            clause.passed and clause.name in CONDITIONS,
        )

    return sorted(clauses, key=place)


def _sanity_clause(sanity_check: SanityCheck, challenger: Record) -> Clause:
    """Require that the model may be served, and that its record is finite and not empty."""
    record_finite = bool(len(challenger) and np.isfinite(challenger.probabilities).all())
    problems = {
        "its registered files cannot be loaded": sanity_check.loads,
        "its probabilities are not finite": sanity_check.finite,
        "its probability is constant": sanity_check.not_constant,
        "it predicts a probability of exactly 0 or 1": sanity_check.both_classes_possible,
        "it does not predict the same after loading": sanity_check.reloads_equal,
        "its out-of-sample record is empty or not finite": record_finite,
    }
    found = [problem for problem, fine in problems.items() if not fine]
    detail = f" ({sanity_check.detail})" if sanity_check.detail else ""
    reason = "sanity check: " + ("; ".join(found) or "no problem found")
    # `soundness.complaints` is the name of the number in stored decisions.
    return Clause("soundness", not found, f"{reason}{detail}", {"complaints": float(len(found))})


def _daily_clauses(
    rule: PromotionRule,
    challenger: Record,
    base_rate_probabilities: Float64[np.ndarray, " window"],
    champion: Record | None,
    seed: int,
) -> tuple[Clause, ...]:
    """Require that the challenger is not significantly worse than the base rate and the champion."""
    against_base_rate = _non_inferior(
        "base_rate",
        "the base rate",
        compare_losses(challenger, base_rate_probabilities, seed),
        rule.base_rate_tolerance,
        rule.base_rate_margin,
    )
    if champion is None:
        return (against_base_rate, _no_champion())
    common = challenger.common_decisions(champion)
    if len(common[0]) < rule.min_common_bars:
        consequence = (
            "the two were not compared. The base rate alone decides, so a promotion does not show that the challenger "
            "is as good as the champion"
        )
        return (against_base_rate, _too_few(rule, challenger, champion, consequence, passed=True))
    against_champion = _non_inferior(
        "champion",
        "the champion",
        compare_losses(common[0], common[1].probabilities, seed),
        rule.champion_tolerance,
        rule.champion_margin,
    )
    return (against_base_rate, against_champion)


def _non_inferior(name: str, opponent: str, found: PairedDifference, tolerance: float, margin: float) -> Clause:
    """Fail where the interval lies above the tolerance, or the mean above the margin."""
    if found.low > tolerance:
        finding = f"significantly worse by more than {tolerance:g}"
    elif found.mean > margin:
        finding = f"worse by more than {margin:g} on average"
    else:
        finding = f"not significantly worse by more than {tolerance:g}"
    passed = found.low <= tolerance and found.mean <= margin
    numbers = {**_numbers(found), "tolerance": tolerance, "margin": margin}
    return Clause(name, passed, f"{_describe(found, opponent)}: {finding}", numbers)


def _describe(found: PairedDifference, opponent: str) -> str:
    compared = f"{found.n} windows of {found.closes} closes" if found.closes else f"{found.n} bars"
    return f"log loss difference {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}] vs. {opponent} on {compared}"


def _strict_clauses(
    rule: PromotionRule,
    challenger: Record,
    base_rate_probabilities: Float64[np.ndarray, " window"],
    champion: Record | None,
    seed: int,
) -> tuple[Clause, ...]:
    """Require direction skill, a lower loss than the base rate's, and a significantly lower one than the champion's."""
    independent = challenger.take(challenger.independent_windows())
    labels, probabilities = independent.labels, independent.probabilities
    clauses = [
        _skilled("pesaran_timmermann", pesaran_timmermann(labels, probabilities), rule.alpha),
        _skilled("majority", binomial_against_majority(labels, probabilities), rule.alpha),
        _lower_loss(compare_losses(challenger, base_rate_probabilities, seed)),
    ]
    if champion is None:
        return (*clauses, _no_champion())
    common = challenger.common_decisions(champion)
    if len(common[0]) < rule.min_common_bars:
        return (*clauses, _too_few(rule, challenger, champion, "too few for a test", passed=False))
    clauses.append(_better("champion", "the champion", compare_losses(common[0], common[1].probabilities, seed)))
    ours, theirs = (each.take(common[0].independent_windows()) for each in common)
    direction = mcnemar(ours.labels, ours.probabilities, theirs.probabilities)
    clauses.append(_skilled("mcnemar", direction, rule.alpha, holds=lambda test: test.statistic > 0.5))  # noqa: PLR2004 - even share
    return tuple(clauses)


def _skilled(name: str, test: SkillTest, alpha: float, holds: Callable[[SkillTest], bool] = lambda _: True) -> Clause:
    """Require that a test is significant, in the challenger's favour."""
    passed = test.p_value <= alpha and holds(test)
    reason = f"{test.name}: {test.reading}, p = {test.p_value:.3g}: {'significant' if passed else 'not significant'}"
    numbers = {"statistic": test.statistic, "p_value": test.p_value, "n": float(test.n), "alpha": alpha}
    return Clause(name, passed, reason, numbers)


def _better(name: str, opponent: str, found: PairedDifference) -> Clause:
    """Require that the whole interval of the loss difference lies below zero."""
    passed = found.high < 0
    finding = "significantly better" if passed else "not significantly better"
    return Clause(name, passed, f"{_describe(found, opponent)}: {finding}", _numbers(found))


def _lower_loss(found: PairedDifference) -> Clause:
    """Require a lower mean loss than the base rate's; `_skilled_after_search` decides whether it may be chance."""
    passed = found.mean < 0
    reason = f"{_describe(found, 'the base rate')}: {'lower' if passed else 'not lower'} on average"
    return Clause("base_rate", passed, reason, _numbers(found))


def _skilled_after_search(
    rule: PromotionRule,
    challenger: Record,
    base_rate_probabilities: Float64[np.ndarray, " window"],
    tried: RecipesTried | None,
    seed: int,
) -> Clause:
    """Require skill that is significant after correction for everything that was scored on these test bars.

    Recipes whose probabilities are not known count by Bonferroni's inequality. The correction is valid for one decision
    about the best of all recipes. Where recipes are decided about one after another, the d-th decision has the level
    alpha 6 / (pi d)^2; these sum to alpha, however many decisions there are.
    """
    own = forecast_skill(challenger.labels, base_rate_probabilities, challenger.probabilities)[None]
    tried = tried or RecipesTried(Looks(), np.empty((0, len(challenger))))
    skill = np.concatenate([own, tried.skill])
    statistic, alone, adjusted = skill_p_values(skill, seed, challenger.overlap_bars())
    unknown, looks = tried.unknown, tried.looks
    level = rule.alpha * 6 / (math.pi * (1 + tried.decided)) ** 2
    corrected = min(1.0, float(adjusted[0] + unknown * alone[0]))
    passed = corrected <= level
    reason = (
        f"skill vs. the base rate: p = {corrected:.3g} after correction for the recipes tried ({looks}), "
        f"{alone[0]:.3g} before: {'significant' if passed else 'not significant'} (needed: p <= {level:.2g}; "
        f"{rule.alpha:.0%} is shared by all strict decisions on these bars, this is number {1 + tried.decided})"
    )
    numbers = {
        "p_value": float(alone[0]),
        "p_value_corrected": corrected,
        "statistic": float(statistic[0]),
        "looks": float(looks.looks),
        "recipes": float(looks.recipes),
        "alpha": level,
        "decisions": float(1 + tried.decided),
    }
    return Clause("recipes_tried", passed, reason, numbers)


def _costs_clause(trading: TradingResult) -> Clause:
    """Require a gain net of costs and a higher Sharpe ratio than buy-and-hold."""
    ours, theirs = trading.strategy, trading.buy_and_hold
    passed = ours.net_return > 0 and ours.sharpe.value > theirs.sharpe.value
    reason = (
        f"net of costs {ours.net_return:+.1%} (Sharpe {ours.sharpe.value:.2f}) vs. buy-and-hold "
        f"{theirs.net_return:+.1%} (Sharpe {theirs.sharpe.value:.2f}): {'better' if passed else 'not better'}"
    )
    numbers = {
        "net_return": ours.net_return,
        "sharpe": ours.sharpe.value,
        "buy_and_hold_net_return": theirs.net_return,
        "buy_and_hold_sharpe": theirs.sharpe.value,
    }
    return Clause("net_of_costs", passed, reason, numbers)


def _no_champion() -> Clause:
    """Return the clause of a challenger without a champion."""
    return Clause("champion", passed=True, reason="there is no champion to compare with", numbers={})


def _too_few(rule: PromotionRule, challenger: Record, champion: Record, consequence: str, *, passed: bool) -> Clause:
    """Return the clause of a challenger that shares too few decisions with the champion."""
    n = len(challenger.common_decisions(champion)[0])
    reason = f"{counted(n, 'decision')} in common with the champion, {rule.min_common_bars} needed: {consequence}"
    return Clause("champion", passed, reason, {"n": float(n), UNCOMPARED: float(rule.min_common_bars)})


def _numbers(found: PairedDifference) -> dict[str, float]:
    """Return the numbers of a comparison."""
    return {
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
        "n": float(found.n),
    }
