"""Compare an out-of-sample record with baselines and with the champion, by every significance test of the project.

Knows a record and the P(rise) of baselines on its windows; gathers the tests of `model.significance_tests` and
`model.bootstrap` and decides nothing. Tests that assume independent windows get every n-th window where labels overlap.
Caution: several baselines are a family of tests, so their McNemar p-values are Holm-adjusted; the champion is a single
test and is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from model.bootstrap import PairedDifference, compare_losses
from model.label_names import RISE_NAMES, LabelNames
from model.multiple_testing import holm
from model.record import Record
from model.significance_tests import (
    SkillTest,
    binomial_against_majority,
    mcnemar,
    pesaran_timmermann,
    power_of_accuracy,
)

ALPHA = 0.05
TRUE_ACCURACIES = (0.52, 0.53, 0.55, 0.60)  # accuracies whose power is reported; 53 % is high for daily prices


@dataclass(frozen=True, slots=True)
class Comparison:
    """A forecaster vs. one opponent on the same windows.

    Attributes:
        difference: log loss, forecaster minus opponent; negative where the forecaster is better.
        mcnemar: test for equal accuracy.
        mcnemar_p_value: p-value of that test, Holm-adjusted where it belongs to a family.
    """

    difference: PairedDifference
    mcnemar: SkillTest
    mcnemar_p_value: float


@dataclass(frozen=True, slots=True)
class Skill:
    """The results of all tests for skill.

    Attributes:
        pesaran_timmermann: direction skill, whatever the base rate.
        majority: accuracy vs. always predicting the majority class.
        baselines: by name, the comparison with each baseline.
        n: independent windows.
        power: by true accuracy, the power of the exact test against 50 % on n windows.
    """

    pesaran_timmermann: SkillTest
    majority: SkillTest
    baselines: dict[str, Comparison]
    n: int
    power: dict[float, float]

    def holm_adjusted(self) -> dict[str, float]:
        """Return the p-values of all tests, Holm-adjusted as one family: `majority`, `base_rate_mcnemar`, ..."""
        found = {"pesaran_timmermann": self.pesaran_timmermann.p_value, "majority": self.majority.p_value}
        for name, comparison in self.baselines.items():
            found[f"{name}_difference"] = comparison.difference.p_value
            found[f"{name}_mcnemar"] = comparison.mcnemar.p_value
        return holm(found)

    def metrics(self) -> dict[str, float]:
        """Return every number by the name under which it is logged, such as `skill.pesaran_timmermann_p`."""
        found = {
            "skill.pesaran_timmermann": self.pesaran_timmermann.statistic,
            "skill.pesaran_timmermann_p": self.pesaran_timmermann.p_value,
            "skill.majority_p": self.majority.p_value,
            "skill.independent_windows": float(self.n),
        }
        for name, comparison in self.baselines.items():
            found |= comparison_metrics(name, comparison)
        return found | {f"skill.power_{accuracy:.0%}".rstrip("%"): value for accuracy, value in self.power.items()}


def comparison_metrics(name: str, comparison: Comparison) -> dict[str, float]:
    """Return the numbers of a comparison with an opponent of that name, by the names under which they are logged."""
    return {
        f"skill.{name}_difference": comparison.difference.mean,
        f"skill.{name}_difference_low": comparison.difference.low,
        f"skill.{name}_difference_high": comparison.difference.high,
        f"skill.{name}_difference_p": comparison.difference.p_value,
        f"skill.{name}_mcnemar_p": comparison.mcnemar_p_value,
    }


def measure_skill(
    record: Record,
    baselines: Mapping[str, Float64[np.ndarray, " window"]],
    seed: int,
    names: LabelNames = RISE_NAMES,
) -> Skill:
    """Test a record for skill, by itself and vs. each baseline.

    Args:
        record: out-of-sample probabilities, oldest first.
        baselines: by name, shape (window,), float64: P(rise) of each baseline on the record's windows.
        seed: of the bootstrap.
        names: words for the label.
    """
    independent = record.independent_windows()
    labels, probabilities = record.labels[independent], record.probabilities[independent]
    compared = {name: compare_forecasts(record, theirs, seed) for name, theirs in baselines.items()}
    adjusted = holm({name: found.mcnemar.p_value for name, found in compared.items()})
    return Skill(
        pesaran_timmermann=pesaran_timmermann(labels, probabilities, names),
        majority=binomial_against_majority(labels, probabilities),
        baselines={name: Comparison(each.difference, each.mcnemar, adjusted[name]) for name, each in compared.items()},
        n=len(independent),
        power={accuracy: power_of_accuracy(len(independent), accuracy, ALPHA) for accuracy in TRUE_ACCURACIES},
    )


def compare_forecasts(record: Record, opponent: Float64[np.ndarray, " window"], seed: int) -> Comparison:
    """Compare a record with an opponent's P(rise) on the record's windows, shape (window,), float64."""
    independent = record.independent_windows()
    difference = compare_losses(record, opponent, seed)
    test = mcnemar(record.labels[independent], record.probabilities[independent], opponent[independent])
    return Comparison(difference, test, test.p_value)


def compare_records(record: Record, champion: Record, seed: int) -> Comparison | None:
    """Compare two records on their common decisions, with the labels of the first; None where there is none."""
    ours, theirs = record.common_decisions(champion)
    return compare_forecasts(ours, theirs.probabilities, seed) if len(ours) else None
