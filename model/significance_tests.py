"""Test for skill: Pesaran-Timmermann, binomial and McNemar tests, and their power.

Knows labels (1 rise, 0 fall) and P(rise) of one or two forecasters on the same windows. Caution: these tests assume
independent windows; where labels overlap (horizon above the stride), pass every n-th window only
(`Record.overlap_bars`). A constant forecast is "no skill", p = 1, not an error.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int8

from model.label_names import RISE_NAMES, LabelNames
from model.metrics import predicts_rise


@dataclass(frozen=True, slots=True)
class SkillTest:
    """The result of one test, with a sentence for the reader."""

    name: str
    statistic: float
    p_value: float
    n: int
    reading: str


def pesaran_timmermann(
    labels: Int8[np.ndarray, " window"],
    probabilities: Float64[np.ndarray, " window"],
    names: LabelNames = RISE_NAMES,
) -> SkillTest:
    """Test the null hypothesis that predicted and actual class are independent, against positive dependence.

    One-sided. Where the forecast or the labels hold one class only there is no skill to find: statistic 0, p = 1.

    Source: Pesaran and Timmermann 1992; statsmodels' `pesaran_timmermann`.
    """
    name, n = "Pesaran-Timmermann", len(labels)
    predicted = predicts_rise(probabilities)
    for what, values in (("the forecast is always", predicted), ("every label is", labels == 1)):
        if n == 0 or values.all() or not values.any():
            word = names.classes[int(n > 0 and bool(values.all()))]
            return SkillTest(name, 0.0, 1.0, n, f"no skill: {what} {word}" if n else "no skill: there is no window")
    from statsmodels.stats.diagnostic import pesaran_timmermann as statsmodels_test  # imported here: 3 s

    outcome = statsmodels_test(labels.astype(np.float64), predicted.astype(np.float64), alternative="larger")
    accuracy = float((predicted == (labels == 1)).mean())
    rises, predicted_rises = float((labels == 1).mean()), float(predicted.mean())
    by_chance = rises * predicted_rises + (1 - rises) * (1 - predicted_rises)
    reading = f"accuracy {accuracy:.1%} on {n} windows, {by_chance:.1%} under independence"
    return SkillTest(name, float(outcome[0]), float(outcome[1]), n, reading)


def binomial_against_majority(
    labels: Int8[np.ndarray, " window"], probabilities: Float64[np.ndarray, " window"]
) -> SkillTest:
    """Test whether the accuracy exceeds that of always predicting the majority class of these same labels.

    One-sided, exact. The baseline uses the labels' own majority, which no forecaster could know, so the test is
    conservative. The statistic is the accuracy.
    """
    name, n = "binomial against majority", len(labels)
    if n == 0:
        return SkillTest(name, 0.0, 1.0, 0, "no skill: there is no window")
    from scipy.stats import binomtest  # imported here: 1 s

    hits = int((predicts_rise(probabilities) == (labels == 1)).sum())
    rises = float((labels == 1).mean())
    majority = max(rises, 1 - rises)
    p_value = float(binomtest(hits, n, majority, alternative="greater").pvalue)
    return SkillTest(
        name, hits / n, p_value, n, f"accuracy {hits / n:.1%} on {n} windows, majority class {majority:.1%}"
    )


def mcnemar(
    labels: Int8[np.ndarray, " window"],
    probabilities_a: Float64[np.ndarray, " window"],
    probabilities_b: Float64[np.ndarray, " window"],
) -> SkillTest:
    """Test whether a and b have the same accuracy, by the windows in which exactly one of them is correct.

    Two-sided, exact. The statistic is a's share of those windows; above 0.5, a is the more accurate one.

    Source: McNemar 1947; statsmodels' `mcnemar`.
    """
    from statsmodels.stats.contingency_tables import mcnemar as statsmodels_test  # imported here: 3 s

    rose = labels == 1
    correct_a, correct_b = predicts_rise(probabilities_a) == rose, predicts_rise(probabilities_b) == rose
    only_a, only_b = int((correct_a & ~correct_b).sum()), int((correct_b & ~correct_a).sum())
    table = [[int((correct_a & correct_b).sum()), only_a], [only_b, int((~correct_a & ~correct_b).sum())]]
    share = only_a / (only_a + only_b) if only_a + only_b else 0.5
    p_value = float(statsmodels_test(table, exact=True).pvalue)
    reading = f"alone correct on {only_a} windows, the other on {only_b}"
    return SkillTest("McNemar", share, p_value, len(labels), reading)


def power_of_accuracy(n: int, true_accuracy: float, alpha: float = 0.05, null_accuracy: float = 0.5) -> float:
    """Return the power of the one-sided exact binomial test against a forecaster of a true accuracy.

    Args:
        n: windows.
        true_accuracy: accuracy of the forecaster, 0 to 1.
        alpha: significance level.
        null_accuracy: accuracy without skill, 0 to 1.

    Returns:
        0 to 1; 0 where no number of hits reaches the level.
    """
    from scipy.stats import binom  # imported here: 1 s

    hits = np.arange(n + 2)
    critical = int(np.flatnonzero(binom.sf(hits - 1, n, null_accuracy) <= alpha)[0])
    return float(binom.sf(critical - 1, n, true_accuracy))
