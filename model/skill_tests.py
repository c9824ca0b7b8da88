"""Is there skill? Every test that the reader is owed, of one forecaster beside its rivals on the same unseen bars.

Knows a record and the probabilities of rivals (baselines, the champion) on its windows, and gathers what
`model/significance.py` computes: nothing is decided here. Tests that take windows as independent see every n-th
window only where labels overlap. The trap: four baselines are four chances to be fooled, so McNemar's p-values of
that family come raised (Holm); the champion is one question of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from model.metrics import Record
from model.significance import (
    PairedDifference,
    SkillTest,
    binomial_against_majority,
    holm,
    mcnemar,
    paired_difference,
    pesaran_timmermann,
    power_of_accuracy,
    rate_block_bars,
)

ALPHA = 0.05
TRUE_ACCURACIES = (0.52, 0.53, 0.55, 0.60)  # skills whose detection is worth knowing; 53 % is a good day's work


@dataclass(frozen=True, slots=True)
class Comparison:
    """A forecaster beside one rival on the same windows.

    Attributes:
        difference: log loss, forecaster minus rival: below zero the forecaster is the better one.
        mcnemar: whether both are right equally often.
        mcnemar_p_value: that test's p-value, raised for the size of the family where there is one.
    """

    difference: PairedDifference
    mcnemar: SkillTest
    mcnemar_p_value: float


@dataclass(frozen=True, slots=True)
class Skill:
    """What the tests say.

    Attributes:
        pesaran_timmermann: direction skill, whatever the base rate.
        majority: against always naming the commoner class.
        rivals: by name, beside each baseline.
        n: windows that count as independent.
        power: by true accuracy, the probability that the exact test against 50 % would have found it on n windows.
    """

    pesaran_timmermann: SkillTest
    majority: SkillTest
    rivals: dict[str, Comparison]
    n: int
    power: dict[float, float]

    def metrics(self) -> dict[str, float]:
        """Return every number by a name that sorts well, such as `skill.pesaran_timmermann_p`."""
        found = {
            "skill.pesaran_timmermann": self.pesaran_timmermann.statistic,
            "skill.pesaran_timmermann_p": self.pesaran_timmermann.p_value,
            "skill.majority_p": self.majority.p_value,
            "skill.independent_windows": float(self.n),
        }
        for name, comparison in self.rivals.items():
            found |= comparison_metrics(name, comparison)
        return found | {f"skill.power_{accuracy:.0%}".rstrip("%"): value for accuracy, value in self.power.items()}


def comparison_metrics(name: str, comparison: Comparison) -> dict[str, float]:
    """Return the numbers of a comparison with a rival of that name."""
    return {
        f"skill.{name}_difference": comparison.difference.mean,
        f"skill.{name}_difference_low": comparison.difference.low,
        f"skill.{name}_difference_high": comparison.difference.high,
        f"skill.{name}_difference_p": comparison.difference.p_value,
        f"skill.{name}_mcnemar_p": comparison.mcnemar_p_value,
    }


def judge_skill(record: Record, rivals: Mapping[str, Float64[np.ndarray, " window"]], seed: int) -> Skill:
    """Test a record by itself and beside each rival.

    Args:
        record: out-of-sample probabilities, oldest first.
        rivals: by name, shape (window,), float64: P(rise) of each baseline on the record's windows.
        seed: of the bootstrap.
    """
    apart = independent_windows(record)
    labels, probabilities = record.labels[apart], record.probabilities[apart]
    compared = {name: compare(record, theirs, seed) for name, theirs in rivals.items()}
    raised = holm({name: found.mcnemar.p_value for name, found in compared.items()})
    return Skill(
        pesaran_timmermann=pesaran_timmermann(labels, probabilities),
        majority=binomial_against_majority(labels, probabilities),
        rivals={name: Comparison(found.difference, found.mcnemar, raised[name]) for name, found in compared.items()},
        n=len(apart),
        power={accuracy: power_of_accuracy(len(apart), accuracy, ALPHA) for accuracy in TRUE_ACCURACIES},
    )


def compare(record: Record, rival: Float64[np.ndarray, " window"], seed: int) -> Comparison:
    """Compare a record with one rival's P(rise) on its windows, shape (window,)."""
    apart = independent_windows(record)
    block_bars = max(rate_block_bars(len(record)), 2 * record.overlap_bars())
    difference = paired_difference(record.labels, record.probabilities, rival, seed, block_bars)
    test = mcnemar(record.labels[apart], record.probabilities[apart], rival[apart])
    return Comparison(difference, test, test.p_value)


def compare_with_record(record: Record, champion: Record, seed: int) -> Comparison | None:
    """Compare two records on the decisions that both made, by the labels of the first; None where there is none."""
    known = champion.take(np.isfinite(champion.probabilities))
    _, ours, theirs = np.intersect1d(record.decided_at, known.decided_at, return_indices=True)
    return compare(record.take(ours), known.probabilities[theirs], seed) if len(ours) else None


def independent_windows(record: Record) -> np.ndarray:
    """Return the indices of windows of which no two labels share a bar."""
    return np.arange(0, len(record), record.overlap_bars())
