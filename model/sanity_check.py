"""The sanity check of a network: whether it may serve at all, whatever its score.

Knows probabilities of as many windows as there are; the caller loads the stored network and says whether it predicts
what the trained one did.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

CONSTANT_SPREAD = 1e-6  # over a few hundred windows, a float32 sigmoid that depends on its input varies by more


@dataclass(frozen=True, slots=True)
class SanityCheck:
    """The check whether a model may be served at all, whatever its score.

    Attributes:
        finite: every probability is a finite number.
        not_constant: the probabilities depend on the bars.
        both_classes_possible: no probability is exactly 0 or 1.
        reloads_equal: the stored model predicts the same as the trained one.
        detail: the numbers found, for the reader.
        loads: the stored model could be loaded; if not, nothing else is known and the others are True.
    """

    finite: bool
    not_constant: bool
    both_classes_possible: bool
    reloads_equal: bool
    detail: str = ""
    loads: bool = True

    @property
    def passed(self) -> bool:
        """All five hold."""
        predicts = self.finite and self.not_constant and self.both_classes_possible
        return self.loads and predicts and self.reloads_equal


def run_sanity_check(probabilities: Float64[np.ndarray, " window"], *, reloads_equal: bool) -> SanityCheck:
    """Check the probabilities of the model that would be served.

    Args:
        probabilities: shape (window,), float64: P(rise); NaN counts as not finite, no window as not finite too. What
            is not finite is neither constant nor 0 or 1.
        reloads_equal: whether the stored model was loaded and predicted the same.
    """
    finite = bool(len(probabilities) and np.isfinite(probabilities).all())
    if not finite:
        missing = int((~np.isfinite(probabilities)).sum())
        detail = f"{missing} of {len(probabilities)} probabilities are not finite"
        return SanityCheck(
            finite=False, not_constant=True, both_classes_possible=True, reloads_equal=reloads_equal, detail=detail
        )
    low, high = float(probabilities.min()), float(probabilities.max())
    return SanityCheck(
        finite=True,
        not_constant=high - low > CONSTANT_SPREAD,
        both_classes_possible=low > 0 and high < 1,
        reloads_equal=reloads_equal,
        detail=f"{len(probabilities)} probabilities from {low:.6f} to {high:.6f}",
    )
