"""Looks at test bars: how often recipes were scored on them, and how much weaker that makes the evidence.

Knows counts and p-values, not where trials are stored. The best of many recipes looks better on the bars it was chosen
on than it is, so a p-value counts only after correction for the recipes tried. Caution: every recipe that was scored on
these bars counts, those that were discarded too.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from model.plurals import counted


@dataclass(frozen=True, slots=True)
class Looks:
    """How often a span of test bars was scored, this time included.

    Attributes:
        looks: trials whose test bars overlap the span.
        recipes: different recipes among them.
    """

    looks: int = 1
    recipes: int = 1

    def adjusted(self, p_value: float) -> float:
        """Return a p-value after Bonferroni's correction for the recipes tried.

        >>> Looks(7, 3).adjusted(0.02)
        0.06
        """
        return min(1.0, p_value * max(1, self.recipes))

    def evidence(self, p_value: float) -> str:
        """Describe count and significance in one line.

        Args:
            p_value: of the Pesaran-Timmermann test, Holm-adjusted over all tests of the report; NaN: not tested.

        >>> Looks(7, 3).evidence(0.02).split("; ")[1]
        'Pesaran-Timmermann p = 0.06, corrected for all tests and recipes'
        """
        if p_value != p_value:  # noqa: PLR0124 - NaN
            return str(self)
        return f"{self}; Pesaran-Timmermann p = {self.adjusted(p_value):.3g}, corrected for all tests and recipes"

    def __str__(self) -> str:
        """Describe the count in one phrase: `these test bars were scored 7 times, with 3 recipes`."""
        times = "once" if self.looks == 1 else counted(self.looks, "time")
        return f"these test bars were scored {times}, with {counted(self.recipes, 'recipe')}"


@dataclass(frozen=True, slots=True)
class RecipesTried:
    """What was scored on a challenger's test bars besides the challenger itself.

    Attributes:
        looks: the count, the challenger included.
        skill: shape (trial, window), float64: `forecast_skill` of every other trial on the challenger's windows; NaN
            where a trial did not decide.
        unknown: recipes of which only the count is known: their probabilities were not stored.
        decided: other recipes that the strict rule decided about on these bars before.
    """

    looks: Looks
    skill: Float64[np.ndarray, "trial window"]
    unknown: int = 0
    decided: int = 0
