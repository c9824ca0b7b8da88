"""Multiple testing: p-values and figures corrected for the number of tests, and for the number of recipes tried.

Knows outcomes, probabilities of every recipe on the same windows, and returns of every recipe; not where they are
stored. Holm's adjustment is for several tests of one recipe. For several recipes there are a skill test whose p-values
hold for any choice among them, the deflated Sharpe ratio for trading figures, and the probability of backtest
overfitting. Caution: every recipe that was scored on these windows counts, discarded ones included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int8

from model.bootstrap import REPETITIONS
from model.e_process import long_run_deviation, truncated_deviation
from model.errors import SpecError
from model.metrics import ODDS_CLIP

EULER_MASCHERONI = 0.5772156649015329
LEAST_PERIODS = 3  # of a deflated Sharpe ratio: fewer have no skewness
PARTS = 16  # of the windows in CSCV: 12,870 splits, as in Bailey et al. 2017
LEAST_WINDOWS_PER_PART = 10  # own
CSCV_CELLS = 10_000_000  # splits times recipes held at once: 80 MB an array


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return Holm-adjusted p-values, which control the family-wise error rate.

    Source: Holm 1979. Own code, because statsmodels' `multipletests` collects all garbage of the process at each call,
    which took 30 % of a retrain.

    Examples:
        >>> {name: round(p_value, 4) for name, p_value in holm({"a": 0.01, "b": 0.03, "c": 0.04}).items()}
        {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    ascending = sorted(p_values, key=p_values.__getitem__)
    factors = np.arange(len(ascending), 0, -1)
    steps = np.array([p_values[name] for name in ascending]) * factors
    adjusted = np.minimum(np.maximum.accumulate(steps), 1.0)
    by_name = dict(zip(ascending, map(float, adjusted), strict=True))
    return {name: by_name[name] for name in p_values}


@dataclass(frozen=True, slots=True)
class SearchSkill:
    """Skill of every recipe tried, against forecasting the base rate.

    Attributes:
        statistic: shape (recipe,), float64: studentised mean skill.
        p_value: shape (recipe,), float64: one-sided, of each recipe alone.
        adjusted_p_value: shape (recipe,), float64: corrected for all recipes tried; valid for whichever is chosen.
        excess_loss: shape (recipe,), float64: mean log loss minus that of the base rate, nats.
    """

    statistic: Float64[np.ndarray, " recipe"]
    p_value: Float64[np.ndarray, " recipe"]
    adjusted_p_value: Float64[np.ndarray, " recipe"]
    excess_loss: Float64[np.ndarray, " recipe"]


def search_skill(
    labels: Int8[np.ndarray, " window"],
    base_rates: Float64[np.ndarray, " window"],
    probabilities: Float64[np.ndarray, "recipe _"],
    seed: int,
    overlap: int = 1,
) -> SearchSkill:
    """Test every recipe for skill, each p-value corrected for all recipes tried.

    The skill of a forecast is (outcome - base rate) x (log odds of the forecast - log odds of the base rate): the fall
    of its log loss, freed of what boldness alone costs. Its mean is zero for a forecaster without skill, however bold;
    the mean log loss difference of such a forecaster is above zero, and a test of it wastes half of the power.

    Args:
        labels: shape (window,), int8: 1 rise, 0 fall; oldest first.
        base_rates: shape (window,), float64: out-of-sample P(rise) of the base rate.
        probabilities: shape (recipe, window), float64: out-of-sample P(rise) of every recipe that was scored; NaN where
            a recipe did not decide.
        seed: of the bootstrap.
        overlap: decisions made within the life of one label (`Record.overlap_bars`). Without overlap the skill of a
            forecaster without skill is a martingale difference, so no blocks are needed.

    Returns:
        One entry for each recipe. Promoting a recipe whose adjusted p-value is at most alpha promotes one without skill
        with probability at most alpha, however it was chosen among them.

    Raises:
        SpecError: no recipe, or arrays of different lengths.

    Source: Clark and West 2007 (the adjustment); Hubrich and West 2010 (the largest of many); Romano and Wolf 2005
        (p-values that hold for any choice, single step).

    >>> rng = np.random.default_rng(0)
    >>> labels = rng.integers(0, 2, 400).astype(np.int8)
    >>> knows, guesses = 0.4 + 0.2 * labels, rng.uniform(0.4, 0.6, 400)
    >>> search_skill(labels, np.full(400, 0.5), np.stack([knows, guesses]), seed=1).adjusted_p_value.round(2)[0]
    np.float64(0.0)
    """
    if probabilities.ndim != 2 or not len(probabilities) or probabilities.shape[1] != len(labels):  # noqa: PLR2004
        raise SpecError(
            f"search: expected probabilities of at least one recipe on each of {len(labels)} windows, found shape "
            f"{probabilities.shape}"
        )
    p, q = (np.clip(each, ODDS_CLIP, 1 - ODDS_CLIP) for each in (probabilities, base_rates))
    losses = np.where(labels == 1, np.log(q / p), np.log((1 - q) / (1 - p)))
    excess = np.nansum(losses, axis=1) / np.maximum(np.isfinite(losses).sum(axis=1), 1)
    statistic, alone, adjusted = skill_p_values(forecast_skill(labels, base_rates, probabilities), seed, overlap)
    return SearchSkill(statistic, alone, adjusted, excess)


def forecast_skill(
    labels: Int8[np.ndarray, " window"],
    base_rates: Float64[np.ndarray, " window"],
    probabilities: Float64[np.ndarray, "*recipe window"],
) -> Float64[np.ndarray, "*recipe window"]:
    """Return the skill of each forecast: (outcome - base rate) x (its log odds - those of the base rate), nats.

    Time: entry t depends on window t alone; NaN where the probability is.
    """
    p, q = (np.clip(each, ODDS_CLIP, 1 - ODDS_CLIP) for each in (probabilities, base_rates))
    return np.asarray((labels - q) * (np.log(p / (1 - p)) - np.log(q / (1 - q))), dtype=np.float64)


def skill_p_values(
    skill: Float64[np.ndarray, "recipe window"], seed: int, overlap: int = 1
) -> tuple[Float64[np.ndarray, " recipe"], Float64[np.ndarray, " recipe"], Float64[np.ndarray, " recipe"]]:
    """Return studentised mean skill and one-sided p-values, alone and corrected for all rows; see `search_skill`.

    A statistic beyond every resample has the tail probability of its distribution, corrected by Bonferroni's
    inequality: the normal one, or Student's t for the equivalent degrees of freedom where labels overlap.

    Args:
        skill: shape (recipe, window), float64: of `forecast_skill`; NaN where a recipe did not decide.
        seed: of the bootstrap.
        overlap: decisions made within the life of one label.
    """
    statistic, null = _studentised(skill.T, seed, overlap)
    alone = (1 + (null >= statistic).sum(axis=0)) / (1 + len(null))
    largest = np.sort(null.max(axis=1))
    adjusted = (1 + len(null) - np.searchsorted(largest, statistic, side="left")) / (1 + len(null))
    from scipy.special import ndtr, stdtr  # imported here: a prediction starts without scipy

    windows = np.maximum(np.isfinite(skill).sum(axis=1), 2 * overlap)
    tail = ndtr(-statistic) if overlap == 1 else stdtr(windows / (2 * overlap), -statistic)
    alone = np.where(statistic > null.max(axis=0), np.minimum(alone, tail), alone)
    adjusted = np.where(statistic > largest[-1], np.minimum(adjusted, len(statistic) * tail), adjusted)
    return statistic, alone, adjusted


def expected_largest_sharpe(trials: int, variance: float) -> float:
    """Return the largest Sharpe ratio to be expected of recipes without any, by their number and their variance.

    Args:
        trials: recipes tried, independent or nearly.
        variance: of the Sharpe ratios of the recipes tried, per period.

    Source: Bailey and Lopez de Prado 2014, equation 6.

    >>> expected_largest_sharpe(1, 0.01), round(expected_largest_sharpe(100, 0.01), 3)
    (0.0, 0.253)
    """
    if trials <= 1:
        return 0.0
    from scipy.special import ndtri  # imported here: a prediction starts without scipy

    high, higher = -ndtri(1 / trials), -ndtri(1 / (trials * np.e))
    return float(np.sqrt(variance) * ((1 - EULER_MASCHERONI) * high + EULER_MASCHERONI * higher))


def deflated_sharpe_ratio(returns: Float64[np.ndarray, " period"], trials: int, variance: float) -> float:
    """Return the probability that the true Sharpe ratio exceeds what the best of as many trials shows by luck.

    Args:
        returns: shape (period,), float64: of the recipe chosen, net of costs.
        trials: recipes tried on these periods, the chosen one included.
        variance: of the Sharpe ratios of the recipes tried, per period, not annualised; 0 with one trial.

    Returns:
        0 to 1; with one trial it is the probabilistic Sharpe ratio against 0. 0.95 or more is evidence of a return
        above zero.

    Raises:
        SpecError: fewer than three periods.

    Source: Bailey and Lopez de Prado 2012 and 2014.

    >>> gains = np.tile([0.02, -0.01], 200)
    >>> deflated_sharpe_ratio(gains, 1, 0.0) > deflated_sharpe_ratio(gains, 100, 0.01)
    True
    """
    if len(returns) < LEAST_PERIODS:
        raise SpecError(
            f"deflated Sharpe ratio: expected returns of at least {LEAST_PERIODS} periods, found {len(returns)}"
        )
    centred, spread = returns - returns.mean(), float(returns.std())
    if spread <= 0:
        return 0.0
    sharpe = float(returns.mean()) / spread
    skew, kurtosis = (float((centred**power).mean()) / spread**power for power in (3, 4))
    error = np.sqrt(max(1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2, 1e-12) / (len(returns) - 1))
    from scipy.special import ndtr  # imported here: a prediction starts without scipy

    return float(ndtr((sharpe - expected_largest_sharpe(trials, variance)) / error))


def deflate_sharpe_ratio(
    returns: Float64[np.ndarray, " period"],
    others: Sequence[Float64[np.ndarray, " _"]],
    recipes: int,
) -> float:
    """Return the deflated Sharpe ratio of a recipe, given the returns of others that were tried on the same periods.

    Args:
        returns: shape (period,), float64: of the recipe, net of costs.
        others: returns of each other recipe whose forecasts are known.
        recipes: all recipes tried, the recipe itself and unknown ones included.

    Returns:
        See `deflated_sharpe_ratio`; NaN with fewer than three periods. The variance is that of the known Sharpe ratios,
        at least that of an estimate without skill, one over the number of periods: policies and portfolios of one
        network are alike, other recipes are not, and their ratios vary at least by chance.
    """
    if len(returns) < LEAST_PERIODS:
        return float("nan")
    ratios = [float(each.mean() / each.std()) if each.std() > 0 else 0.0 for each in (returns, *others)]
    variance = float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0
    return deflated_sharpe_ratio(returns, recipes, max(variance, 1 / len(returns)))


@dataclass(frozen=True, slots=True)
class BacktestOverfitting:
    """How often the best recipe of one half of the windows is below the middle in the other half.

    Attributes:
        probability: share of splits in which it is in the lower half, 0 to 1; about 0.5 where nothing is found.
        logits: shape (split,), float64: log odds of its relative rank in the other half; below zero is overfit.
        probability_of_loss: share of splits in which its performance in the other half is below zero.
        parts: contiguous parts that the splits are made of.
    """

    probability: float
    logits: Float64[np.ndarray, " split"]
    probability_of_loss: float
    parts: int


def fitting_parts(recipes: int, windows: int) -> int:
    """Return into how many parts CSCV can cut: even, at most `PARTS`, of ten windows each; 0 where it is no use.

    Many recipes need fewer parts, so that splits times recipes fit into memory.

    >>> fitting_parts(20, 500), fitting_parts(20, 60), fitting_parts(10_000, 500), fitting_parts(1, 500)
    (16, 6, 12, 0)
    """
    fitting = (
        parts
        for parts in range(PARTS, 3, -2)
        if windows >= LEAST_WINDOWS_PER_PART * parts and comb(parts, parts // 2) * recipes <= CSCV_CELLS
    )
    return next(fitting, 0) if recipes > 1 else 0


def backtest_overfitting(
    performance: Float64[np.ndarray, "recipe window"], parts: int = PARTS, statistic: Literal["mean", "sharpe"] = "mean"
) -> BacktestOverfitting:
    """Estimate the probability of backtest overfitting by combinatorially symmetric cross-validation (CSCV).

    Args:
        performance: shape (recipe, window), float64: higher is better: returns, or the base rate's log loss minus the
            recipe's; oldest first. Windows beyond a multiple of `parts` are left out at the old end.
        parts: even number of contiguous parts; every choice of half of them is one split.
        statistic: mean performance, or its Sharpe ratio.

    Raises:
        SpecError: fewer than two recipes, an odd number of parts, or fewer windows than two for each part.

    Source: Bailey, Borwein, Lopez de Prado and Zhu 2017.

    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0, 1, (20, 800)); good[3] += 1
    >>> backtest_overfitting(good, parts=8).probability
    0.0
    """
    recipes, count = performance.shape
    if recipes < 2 or parts < 2 or parts % 2 or count < 2 * parts:  # noqa: PLR2004
        raise SpecError(
            f"backtest overfitting: expected 2 recipes, an even number of parts and 2 windows for each; found "
            f"{recipes} recipes, {parts} parts, {count} windows"
        )
    from scipy.stats import rankdata  # imported here: a prediction starts without scipy

    length = count // parts
    cut = performance[:, count - length * parts :].reshape(recipes, parts, length)
    sums, squares = cut.sum(axis=2), (cut**2).sum(axis=2)
    chosen = np.zeros((0, parts))
    chosen = np.array([np.isin(np.arange(parts), half) for half in combinations(range(parts), parts // 2)], dtype=float)
    inside, outside = (_performance(half, sums, squares, length, statistic) for half in (chosen, 1 - chosen))
    best = inside.argmax(axis=1)
    rank = rankdata(outside, axis=1)[np.arange(len(best)), best] / (recipes + 1)
    logits = np.log(rank / (1 - rank))
    loss = float((outside[np.arange(len(best)), best] < 0).mean())
    return BacktestOverfitting(float((logits <= 0).mean()), logits, loss, parts)


def _performance(
    half: Float64[np.ndarray, "split part"],
    sums: Float64[np.ndarray, "recipe part"],
    squares: Float64[np.ndarray, "recipe part"],
    length: int,
    statistic: str,
) -> Float64[np.ndarray, "split recipe"]:
    """Return the performance of each recipe on the chosen parts of each split."""
    count = half.sum(axis=1, keepdims=True) * length
    mean = half @ sums.T / count
    if statistic == "mean":
        return np.asarray(mean, dtype=np.float64)
    spread = np.sqrt(np.maximum(half @ squares.T / count - mean**2, 1e-300))
    return np.asarray(mean / spread, dtype=np.float64)


def _studentised(
    values: Float64[np.ndarray, "window recipe"], seed: int, overlap: int
) -> tuple[Float64[np.ndarray, " recipe"], Float64[np.ndarray, "resample recipe"]]:
    """Return studentised means and draws of them under "every mean is zero"; a constant series is no evidence.

    The draws are means of the centred values times normal multipliers that neighbouring windows share as far as their
    labels overlap.

    Source: Shao 2010 (dependent wild bootstrap, Bartlett kernel); Chernozhukov, Chetverikov and Kato 2013 (the largest
        of many).
    """
    count, span = len(values), 2 * overlap if overlap > 1 else 1
    decided = np.isfinite(values)
    windows = np.maximum(decided.sum(axis=0), 1)
    mean = np.where(decided, values, 0).sum(axis=0) / windows
    centred = np.where(decided, values - mean, 0)
    noise = np.random.default_rng(seed).standard_normal((REPETITIONS, count + span - 1))
    running = np.cumsum(np.pad(noise, ((0, 0), (1, 0))), axis=1)
    multipliers = (running[:, span:] - running[:, :-span]) / np.sqrt(span)
    means = multipliers @ centred / windows
    # The exact variance of the multipliers, not the sampled one.
    error = long_run_deviation(centred.T, span - 1) * np.sqrt(count) / windows
    safe = np.where(error > 0, error, np.inf)
    larger = np.maximum(safe, truncated_deviation(centred.T, overlap) * np.sqrt(count) / windows)
    return mean / larger, means / safe
