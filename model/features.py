"""Build the feature matrix: the chosen columns of the bars, unscaled.

Prices are in the quote currency, volume in the unit of the source. Nothing is scaled here, so nothing can differ
between training and serving; the network's first layer (and `model.windows.standardise` for the baselines) scales each
window. Caution: volume is NaN for a source without volumes, and one NaN spoils every window that contains it, so it is
refused by name.
"""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

from model.bars import Bars
from model.errors import SpecError

FeatureName = Literal["open", "high", "low", "close", "volume"]
FEATURE_NAMES: tuple[FeatureName, ...] = get_args(FeatureName)


def feature_matrix(bars: Bars, names: tuple[FeatureName, ...]) -> Float64[np.ndarray, "bar feature"]:
    """Return the chosen raw columns as a matrix.

    Args:
        bars: shape (bar,), oldest first.
        names: the columns, in order; none twice.

    Returns:
        Shape (bar, feature), float64, contiguous, oldest first; a copy of the bars' own columns.

    Raises:
        SpecError: no name, an unknown or repeated one, or a chosen column that is not finite throughout.

    Time: row t depends on bar t alone.
    Source: own.
    """
    if not names or len(set(names)) < len(names) or not set(names) <= set(FEATURE_NAMES):
        raise SpecError(f"features: expected some of {', '.join(FEATURE_NAMES)}, none twice; found {names!r}")
    matrix = np.column_stack([bars.column(name) for name in names])
    bad = ~np.isfinite(matrix)
    if bad.any():
        bar, feature = np.argwhere(bad)[0]
        raise SpecError(
            f"features: expected finite numbers, found {int(bad.sum())} that are not, the first in {names[feature]} of "
            f"the {bars.interval} bar opened at {bars.opened_at[bar]}. Leave that column out of --window.features, or "
            "let the data checks quarantine such bars."
        )
    return matrix
