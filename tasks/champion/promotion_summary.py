"""What a held version lacks, what to do about a decision, what an evaluation shows of skill and costs: sentences."""

import math
from collections.abc import Mapping, Sequence
from shlex import quote

from model.bars import Series
from model.baseline_comparison import ALPHA
from model.evaluation import BUY_AND_HOLD, Evaluation
from model.forecaster_names import POLICY_NAMES
from model.metrics import THRESHOLD
from model.plurals import counted
from model.trading import TradingSpec
from tasks.registry.metric_names import BREAK_EVEN
from tasks.store.decision_log import mark_reasons


def deciding_reason(reasons: Sequence[str], marks: Sequence[str]) -> str:
    """Return the first reason of a decision, and how many other clauses failed."""
    others = sum(mark == "failed" for mark, _ in mark_reasons(reasons, marks)[1:])
    return f"{reasons[0]} ({counted(others, 'other clause')} failed too)" if others else reasons[0]


def missing_for_promotion(
    reasons: Sequence[str], marks: Sequence[str], numbers: Mapping[str, float | None]
) -> list[str]:
    """Return what a promotion lacks: the shortfall of each failed clause where one is known, and how many others."""
    found, others = [], 0
    for mark, reason in mark_reasons(reasons, marks):
        name = "base_rate" if " vs. the base rate" in reason else "champion" if " vs. the champion" in reason else ""
        limits = [numbers.get(f"{name}.{key}") for key in ("low", "tolerance", "difference", "margin")]
        if mark == "failed" and None not in limits:
            low, tolerance, difference, margin = (float(each or 0.0) for each in limits)
            excess = max(low - tolerance, difference - margin)
            found.append(f"a log loss lower by {excess:.4f} vs. the {name.replace('_', ' ')}")
        elif mark == "failed":
            others += 1
    if others:
        found.append(f"{counted(others, 'other clause' if found else 'clause')} marked failed above")
    return found


def what_to_do(action: str, marks: Sequence[str], version: str, series: Series) -> str:
    """Return what a person can do about a held or rejected version; empty where there is nothing to add.

    A reason besides the rule, such as a hold on the recipe, says itself what to do.
    """
    if action == "reject":
        return (
            "retrain again. A rejected version cannot serve; if the next one is rejected too, "
            "`riseorfall doctor` examines the stored files."
        )
    if action != "hold" or "held" in marks:
        return ""
    return (
        "nothing after a single hold: the next retrain is compared again. If every retrain is held, follow what the "
        "failed reasons say. To promote this version "
        f"against the rule: `riseorfall promote --symbol {quote(series.symbol)} --interval {series.interval} "
        f'--version {version} --force --reason "..."`, or the form promote with force and a reason.'
    )


def skill_and_costs(evaluation: Evaluation, costs: TradingSpec) -> tuple[str, str]:
    """State the evidence of skill, and what trading by the probabilities earned after costs."""
    return _skill(evaluation), _costs(evaluation, costs)


def _skill(evaluation: Evaluation) -> str:
    """State whether there is evidence of directional skill, by which test, and how often the bars were looked at."""
    p_value = evaluation.skill.holm_adjusted()["pesaran_timmermann"]
    evidence = "evidence" if _has_skill(evaluation) else "no evidence"
    return f"{evidence} of directional skill: {evaluation.looks.evidence(p_value)}"


def _has_skill(evaluation: Evaluation) -> bool:
    return evaluation.corrected()["pesaran_timmermann"] <= ALPHA


def _costs(evaluation: Evaluation, costs: TradingSpec) -> str:
    """State the net return of long or flat, and at which costs per side there would have been none."""
    found, held = evaluation.trading["long_flat"], evaluation.trading[BUY_AND_HOLD]
    if math.isnan(found["break_even_bps"]):
        return "the long-or-flat strategy never traded"
    text = costs_text(found["net_return"], held["net_return"], costs, *(found[name] for name in BREAK_EVEN))
    gain = found["break_even_bps_low"] > costs.side_bps
    doubt = ", which without evidence of skill may come from a rising market alone"
    return (
        f"{text}{doubt if gain and not _has_skill(evaluation) else ''}. "
        f"Sharpe {found['sharpe']:.2f} [{found['sharpe_low']:.2f}, {found['sharpe_high']:.2f}]"
    )


def costs_text(net_return: float, held: float, spec: TradingSpec, break_even: float, low: float, high: float) -> str:
    """State what trading long or flat earned after costs, and its significance.

    Args:
        net_return: of long or flat, out of sample.
        held: net return of buy and hold.
        spec: policy and costs.
        break_even: costs per side that would have left no return, bps.
        low: lower bound of its 95 % interval.
        high: upper bound.

    >>> costs_text(1.81, 4.37, TradingSpec(), 21, 16, 51).split("; ")[1]
    'it breaks even at costs of 21 bps [16, 51]: a significant gain'
    """
    assumed = spec.side_bps
    finding = "a significant gain" if low > assumed else "a significant loss" if high < assumed else ""
    rise = "a rise is predicted" if spec.threshold == THRESHOLD else f"P(rise) is above {spec.threshold:.0%}"
    way = f"holding only while {rise} (long or flat)"
    if spec.policy != "sign":
        way = f"trading long or flat by the policy {POLICY_NAMES[spec.policy]}"
    return (
        f"{way} returned {net_return:+.0%} out of sample after costs of {assumed:g} bps per purchase or sale, buy and "
        f"hold {held:+.0%}; it breaks even at costs of {break_even:.0f} bps [{low:.0f}, {high:.0f}]: "
        f"{finding or 'no significant gain or loss'}"
    )
