"""Probabilities and outcomes of simulated services: what the rules over many days are measured on.

Every generator knows the truth, so that a rule's errors can be counted. Arrays have one run per row.
"""

import numpy as np
from jaxtyping import Float64, Int8
from scipy.signal import lfilter
from scipy.stats import norm

Probabilities = Float64[np.ndarray, "run decision"]
Labels = Int8[np.ndarray, "run decision"]
STATE_SIZE = 0.3  # of the market's expected move over its noise, at horizon 1; falls with the root of the horizon


def persistent_noise(rng: np.random.Generator, runs: int, count: int, persistence: float) -> Probabilities:
    """Return a standard normal autoregression of order 1, shape (run, decision)."""
    steps = rng.standard_normal((runs, count))
    steps[:, 1:] *= np.sqrt(1 - persistence**2)
    return np.asarray(lfilter([1.0], [1.0, -persistence], steps, axis=1))


def forecasts_of_a_drifting_market(
    rng: np.random.Generator, runs: int, count: int, horizon: int, *, skilled: bool, persistence: float = 0.98
) -> tuple[Labels, Probabilities]:
    """Return overlapping outcomes and persistent forecasts of a market whose drift is an autoregression.

    Args:
        rng: source of randomness.
        runs: independent services.
        count: decisions, one a bar.
        horizon: bars until the outcome.
        skilled: the forecast is the true probability; else the market is a random walk and the same forecasts,
            which belong to another market, are noise.
        persistence: correlation of the drift from bar to bar.
    """
    size = STATE_SIZE / np.sqrt(horizon)
    drift = size * persistent_noise(rng, runs, count + horizon, persistence)
    moves = rng.standard_normal((runs, count + horizon))
    if skilled:
        moves[:, 1:] += drift[:, :-1]
    path = np.cumsum(moves, axis=1)
    labels = (path[:, horizon:] > path[:, :-horizon]).astype(np.int8)
    ahead = np.cumsum(persistence ** np.arange(horizon))
    variance = horizon + size**2 * (1 - persistence**2) * float((ahead[:-1] ** 2).sum())
    return labels, np.clip(norm.cdf(drift[:, :count] * ahead[-1] / np.sqrt(variance)), 0.02, 0.98)


def calibrated_forecasts(
    rng: np.random.Generator, runs: int, count: int, accuracy: float
) -> tuple[Labels, Probabilities]:
    """Return independent outcomes and a calibrated forecaster that is right with the given probability."""
    probabilities = 0.5 + (accuracy - 0.5) * rng.choice([-1.0, 1.0], (runs, count))
    return (rng.random((runs, count)) < probabilities).astype(np.int8), probabilities
