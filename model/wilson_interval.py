"""The confidence interval of a share."""

import numpy as np
from jaxtyping import Float64

Z_95 = 1.959963984540054  # quantile of the normal distribution at 97.5 %


def wilson_interval(
    hits: Float64[np.ndarray, " bin"], counts: Float64[np.ndarray, " bin"]
) -> tuple[Float64[np.ndarray, " bin"], Float64[np.ndarray, " bin"]]:
    """Return the 95 % confidence interval of a share, by bin, within 0 to 1.

    Source: Wilson 1927.

    Examples:
        >>> low, high = wilson_interval(np.array([60.0]), np.array([100.0]))
        >>> low.round(3).tolist(), high.round(3).tolist()
        ([0.502], [0.691])
    """
    share, z2 = hits / counts, Z_95**2
    centre = (share + z2 / (2 * counts)) / (1 + z2 / counts)
    half = Z_95 / (1 + z2 / counts) * np.sqrt(share * (1 - share) / counts + z2 / (4 * counts**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
