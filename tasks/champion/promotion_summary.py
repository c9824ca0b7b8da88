"""What a held version lacks for a promotion, and what an evaluation shows of skill and costs, each in a sentence."""

import math
from collections.abc import Mapping, Sequence

from model.baseline_comparison import ALPHA
from model.evaluation import BUY_AND_HOLD, Evaluation
from model.trading import TradingSpec
from tasks.store.decision_log import mark_reasons


def missing_for_promotion(
    reasons: Sequence[str], marks: Sequence[str], numbers: Mapping[str, float | None]
) -> list[str]:
    """Return what would have to differ for a promotion, one phrase for each clause that failed."""
    found = []
    for mark, reason in mark_reasons(reasons, marks):
        name = "base_rate" if " vs. the base rate" in reason else "champion" if " vs. the champion" in reason else ""
        limits = [numbers.get(f"{name}.{key}") for key in ("low", "tolerance", "difference", "margin")]
        if mark == "failed" and None not in limits:
            low, tolerance, difference, margin = (float(each or 0.0) for each in limits)
            excess = max(low - tolerance, difference - margin)
            found.append(f"a log loss lower by {excess:.4f} vs. the {name.replace('_', ' ')}")
        elif mark != "passed":
            found.append(f"this clause must pass: {reason.partition(': ')[0]}")  # the whole reason stands above
    return found


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
    """State at which costs per side long or flat would have had no net return."""
    found, held = evaluation.trading["long_flat"], evaluation.trading[BUY_AND_HOLD]
    if math.isnan(found["break_even_bps"]):
        return "the long-or-flat strategy never traded"
    low, high = found["break_even_bps_low"], found["break_even_bps_high"]
    assumed = costs.side_bps
    finding = "a gain" if low > assumed else "a loss" if high < assumed else "no significant gain or loss"
    doubt = ", which without evidence of skill may come from a rising market alone"
    doubt = doubt if finding == "a gain" and not _has_skill(evaluation) else ""
    return (
        f"the long-or-flat strategy breaks even at {found['break_even_bps']:.0f} bps per side [{low:.0f}, {high:.0f}], "
        f"costs assumed {assumed:g} bps: {finding} after costs{doubt}. Net {found['net_return']:+.1%}, "
        f"Sharpe {found['sharpe']:.2f} [{found['sharpe_low']:.2f}, {found['sharpe_high']:.2f}]; "
        f"buy and hold {held['net_return']:+.1%}"
    )
