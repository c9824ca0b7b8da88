"""Intervals of trading figures: Sharpe ratio, break-even cost, compounded return, by the stationary block bootstrap.

Knows the returns of bars, simple and as shares; what was traded, and when, is in `trading.py` and `panel_portfolio.py`.
For the same seed and number of bars, all three draw from the same stream. Caution: an interval knows the noise of
these bars only, neither the seed of the network nor how many strategies were tried.
"""

import numpy as np
from jaxtyping import Float64

from model.bootstrap import Interval, optimal_block_bars, percentile_bounds, resample

BPS = 1e-4


def sharpe_interval(returns: Float64[np.ndarray, " bar"], bars_a_year: float, seed: int) -> Interval:
    """Return the annualised Sharpe ratio with its 95 % stationary block bootstrap interval; 0 for constant returns.

    Args:
        returns: shape (bar,), float64: simple returns.
        bars_a_year: bars per year, for the annualisation.
        seed: of the resampling.
    """
    n = len(returns)

    def ratio(counts: Float64[np.ndarray, "resample bar"]) -> Float64[np.ndarray, "resample number"]:
        mean = counts @ returns / n
        variance = np.maximum(counts @ returns**2 / n - mean**2, 0) * n / max(n - 1, 1)
        moved = variance > np.finfo(np.float64).eps * np.maximum(mean**2, np.finfo(np.float64).tiny)
        sharpe: Float64[np.ndarray, " resample"] = mean / np.sqrt(np.where(moved, variance, 1.0)) * np.sqrt(bars_a_year)
        return np.where(moved, sharpe, 0.0)[:, None]

    value = float(ratio(np.ones((1, n)))[0, 0])
    return Interval(value, *percentile_bounds(resample(ratio, n, optimal_block_bars(returns), seed)[:, 0]))


def break_even_interval(gross: Float64[np.ndarray, " bar"], traded: Float64[np.ndarray, " bar"], seed: int) -> Interval:
    """Return the costs per side at which the net return is 0, in basis points, with their 95 % interval.

    That is the logarithmic gross return for each unit of value traded. Draws the same resamples as `sharpe_interval`
    for the same seed.

    Args:
        gross: shape (bar,), float64: simple returns before costs.
        traded: shape (bar,), float64: value traded, in multiples of the equity.
        seed: of the resampling.
    """
    if not traded.any():
        return Interval(np.nan, np.nan, np.nan)
    growth = log_growth(gross) / BPS

    def ratio(counts: Float64[np.ndarray, "resample bar"]) -> Float64[np.ndarray, "resample number"]:
        value = counts @ traded
        return np.asarray((counts @ growth / np.where(value > 0, value, np.nan))[:, None])

    found = resample(ratio, len(gross), optimal_block_bars(gross), seed)[:, 0]
    return Interval(float(growth.sum() / traded.sum()), *percentile_bounds(found))


def net_return_interval(returns: Float64[np.ndarray, " bar"], seed: int) -> Interval:
    """Return the compounded return of the whole span with its 95 % stationary block bootstrap interval, as shares.

    Draws the same resamples as `sharpe_interval` for the same seed.

    Args:
        returns: shape (bar,), float64: simple returns after costs; -1 or less is a total loss.
        seed: of the resampling.
    """
    growth = log_growth(returns)
    resamples = resample(
        lambda counts: np.expm1(counts @ growth)[:, None], len(returns), optimal_block_bars(returns), seed
    )[:, 0]
    return Interval(float(np.prod(growth_factors(returns)) - 1), *percentile_bounds(resamples))


def growth_factors(returns: Float64[np.ndarray, " bar"]) -> Float64[np.ndarray, " bar"]:
    """Return by what each bar multiplies the equity; 0 where a short position loses more than all of it."""
    return np.asarray(np.maximum(1 + returns, 0.0))


def log_growth(returns: Float64[np.ndarray, " bar"]) -> Float64[np.ndarray, " bar"]:
    """Return the logarithmic growth of each bar; a total loss is the smallest number."""
    return np.asarray(np.log(np.maximum(1 + returns, np.finfo(np.float64).tiny)), dtype=np.float64)
