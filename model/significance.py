"""Could it be chance? Intervals and tests for probabilities on bars that the model never saw.

Knows labels (1 rise, 0 fall) and P(rise) of one or two forecasters on the same windows. Resampling is the stationary
block bootstrap, because neighbouring bars resemble each other; losses are in nats. The trap: Pesaran-Timmermann, the
binomial test and McNemar take windows as independent: where labels overlap (horizon above the stride) hand them every
n-th window only (`Record.overlap_bars`). A forecast that always says the same is "no skill", p = 1, not an error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int8

from model.errors import SpecError
from model.metrics import METRICS, THRESHOLD, log_losses, score, score_resamples

CONFIDENCE = 0.95
REPETITIONS = 1000
CHUNK_CELLS = 4_000_000  # resample times window held at once: 32 MB
MIN_WINDOWS_FOR_BLOCKS = 20  # below, an autocorrelation says nothing


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its bootstrap interval (percentile, 95 % unless said otherwise)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean log loss of a minus that of b on the same windows, nats: below zero, a is the better one.

    Attributes:
        mean: mean difference.
        low: lower bound of its interval.
        high: upper bound of its interval.
        p_value: two-sided, of "the mean is zero".
        n: windows compared.
        block_bars: mean length of the blocks drawn.
    """

    mean: float
    low: float
    high: float
    p_value: float
    n: int
    block_bars: int


@dataclass(frozen=True, slots=True)
class SkillTest:
    """The outcome of one test, with a sentence that says what it found."""

    name: str
    statistic: float
    p_value: float
    n: int
    reading: str


def optimal_block_bars(series: Float64[np.ndarray, " window"]) -> int:
    """Return the mean block length (windows) that suits the autocorrelation of a series, at least 1.

    Source: Politis and White 2004, corrected by Patton, Politis and White 2009; arch's `optimal_block_length`.
    """
    if len(series) < MIN_WINDOWS_FOR_BLOCKS or np.ptp(series) <= 1e-12 * np.abs(series).max():
        return 1
    from arch.bootstrap import optimal_block_length  # here: 1 s

    length = float(optimal_block_length(series)["stationary"].iloc[0])
    if not np.isfinite(length):
        return rate_block_bars(len(series))
    return int(np.clip(np.ceil(length), 1, len(series) // 4))


def rate_block_bars(n: int) -> int:
    """Return the mean block length (windows) that depends on the number of windows alone: the cube root of n.

    Where it is used, a bound of a mean can only rise when losses rise: the same windows are drawn whatever they hold.

    Source: Politis and White 2004, the rate at which the optimal length grows.
    """
    return max(1, int(np.ceil(np.cbrt(n))))


def resample(
    statistic: Callable[[Float64[np.ndarray, "resample window"]], Float64[np.ndarray, "resample number"]],
    n: int,
    block_bars: int,
    seed: int,
    repetitions: int = REPETITIONS,
) -> Float64[np.ndarray, "resample number"]:
    """Compute numbers on stationary block bootstrap resamples of n windows.

    Args:
        statistic: takes how often each window was drawn, shape (resample, window); returns shape (resample, number).
        n: windows.
        block_bars: mean block length, windows.
        seed: the same seed, n and block length draw the same windows.
        repetitions: resamples.

    Returns:
        Shape (resample, number).

    Raises:
        SpecError: there is no window.

    Source: Politis and Romano 1994; arch's `StationaryBootstrap`.
    """
    if n < 1:
        raise SpecError("bootstrap: expected at least one window, found none")
    from arch.bootstrap import StationaryBootstrap  # here: 1 s

    generator = np.random.default_rng(seed)
    draws = StationaryBootstrap(block_bars, np.arange(n), seed=generator).bootstrap(repetitions)
    rows = max(1, CHUNK_CELLS // n)
    chunks = []
    for start in range(0, repetitions, rows):
        drawn = [next(draws)[0][0] for _ in range(min(rows, repetitions - start))]
        counts = np.stack([np.bincount(index, minlength=n) for index in drawn]).astype(np.float64)
        chunks.append(statistic(counts))
    return np.concatenate(chunks)


def bounds(resamples: Float64[np.ndarray, " resample"], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the lower and upper percentile bound of resampled numbers, leaving out NaN; NaN where all are."""
    finite = resamples[np.isfinite(resamples)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bootstrap_intervals(
    labels: Int8[np.ndarray, " window"],
    probabilities: Float64[np.ndarray, " window"],
    seed: int,
    repetitions: int = REPETITIONS,
) -> dict[str, Interval]:
    """Return the six numbers of `METRICS`, each with its 95 % stationary block bootstrap interval.

    Args:
        labels: shape (window,), int8: 1 rise, 0 fall; oldest first.
        probabilities: shape (window,), float64: P(rise).
        seed: of the resampling.
        repetitions: resamples.

    Returns:
        By name; value as `score` gives it, low and high from the resamples in which the number is defined.
    """
    values = score(labels, probabilities)
    block_bars = optimal_block_bars(log_losses(labels, probabilities))

    def six_numbers(counts: Float64[np.ndarray, "resample window"]) -> Float64[np.ndarray, "resample number"]:
        scores = score_resamples(labels, probabilities, counts)
        return np.stack([scores[name] for name in METRICS], axis=1)

    resamples = resample(six_numbers, len(labels), block_bars, seed, repetitions)
    return {name: Interval(values[name], *bounds(resamples[:, k])) for k, name in enumerate(METRICS)}


def paired_difference(
    labels: Int8[np.ndarray, " window"],
    probabilities_a: Float64[np.ndarray, " window"],
    probabilities_b: Float64[np.ndarray, " window"],
    seed: int,
    block_bars: int = 0,
    repetitions: int = REPETITIONS,
) -> PairedDifference:
    """Compare the log loss of two forecasters on the same windows: a minus b, nats.

    Args:
        labels: shape (window,), int8: 1 rise, 0 fall; oldest first.
        probabilities_a: shape (window,), float64: P(rise) of a.
        probabilities_b: shape (window,), float64: P(rise) of b.
        seed: of the resampling.
        block_bars: mean block length, windows; 0 takes the optimal one of the differences.
        repetitions: resamples.

    Returns:
        The mean with its 95 % interval, and the two-sided p-value of "no difference": the share of resamples,
        centred at zero, that stray as far as the mean.
    """
    differences = log_losses(labels, probabilities_a) - log_losses(labels, probabilities_b)
    block_bars = block_bars or optimal_block_bars(differences)
    mean = float(differences.mean())
    means = resample(
        lambda counts: (counts @ differences / len(differences))[:, None],
        len(differences),
        block_bars,
        seed,
        repetitions,
    )[:, 0]
    strays = int((np.abs(means - mean) >= abs(mean)).sum())
    return PairedDifference(mean, *bounds(means), (1 + strays) / (1 + repetitions), len(differences), block_bars)


def pesaran_timmermann(labels: Int8[np.ndarray, " window"], probabilities: Float64[np.ndarray, " window"]) -> SkillTest:
    """Test whether what was said and what happened are independent, against "it is right more often than that".

    One-sided. Where the forecast or the labels hold one class only there is no skill to find: statistic 0, p = 1.

    Source: Pesaran and Timmermann 1992; statsmodels' `pesaran_timmermann`.
    """
    name, n = "Pesaran-Timmermann", len(labels)
    says_rise = probabilities > THRESHOLD
    for what, values in (("the forecast always says", says_rise), ("every label is", labels == 1)):
        if n == 0 or values.all() or not values.any():
            word = "rise" if n and values.all() else "fall"
            return SkillTest(name, 0.0, 1.0, n, f"no skill: {what} {word}" if n else "no skill: there is no window")
    from statsmodels.stats.diagnostic import pesaran_timmermann as statsmodels_test  # here: 3 s

    outcome = statsmodels_test(labels.astype(np.float64), says_rise.astype(np.float64), alternative="larger")
    right = float((says_rise == (labels == 1)).mean())
    rises, said = float((labels == 1).mean()), float(says_rise.mean())
    by_chance = rises * said + (1 - rises) * (1 - said)
    reading = f"right {right:.1%} of {n}, where independence gives {by_chance:.1%}"
    return SkillTest(name, float(outcome[0]), float(outcome[1]), n, reading)


def binomial_against_majority(
    labels: Int8[np.ndarray, " window"], probabilities: Float64[np.ndarray, " window"]
) -> SkillTest:
    """Test whether it is right more often than always naming the commoner class of these same labels would be.

    One-sided, exact. The rival knows the labels' majority in advance, so the test leans to "no skill".
    The statistic is the accuracy.
    """
    name, n = "binomial against majority", len(labels)
    if n == 0:
        return SkillTest(name, 0.0, 1.0, 0, "no skill: there is no window")
    from scipy.stats import binomtest  # here: 1 s

    hits = int(((probabilities > THRESHOLD) == (labels == 1)).sum())
    rises = float((labels == 1).mean())
    majority = max(rises, 1 - rises)
    p_value = float(binomtest(hits, n, majority, alternative="greater").pvalue)
    return SkillTest(name, hits / n, p_value, n, f"right {hits / n:.1%} of {n}, where the majority is {majority:.1%}")


def mcnemar(
    labels: Int8[np.ndarray, " window"],
    probabilities_a: Float64[np.ndarray, " window"],
    probabilities_b: Float64[np.ndarray, " window"],
) -> SkillTest:
    """Test whether a and b are right equally often, by the windows in which only one of them is.

    Two-sided, exact. The statistic is the share of those windows that a wins: above 0.5, a is the better one.

    Source: McNemar 1947; statsmodels' `mcnemar`.
    """
    from statsmodels.stats.contingency_tables import mcnemar as statsmodels_test  # here: 3 s

    rose = labels == 1
    right_a, right_b = (probabilities_a > THRESHOLD) == rose, (probabilities_b > THRESHOLD) == rose
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    table = [[int((right_a & right_b).sum()), only_a], [only_b, int((~right_a & ~right_b).sum())]]
    share = only_a / (only_a + only_b) if only_a + only_b else 0.5
    p_value = float(statsmodels_test(table, exact=True).pvalue)
    return SkillTest("McNemar", share, p_value, len(labels), f"alone right {only_a} times, the other {only_b} times")


def power_of_accuracy(n: int, true_accuracy: float, alpha: float = 0.05, null_accuracy: float = 0.5) -> float:
    """Return the probability that a forecaster of a true accuracy passes the one-sided exact binomial test.

    Args:
        n: windows.
        true_accuracy: what it really hits, 0 to 1.
        alpha: level of the test.
        null_accuracy: what no skill hits, 0 to 1.

    Returns:
        0 to 1; 0 where no number of hits would reach the level.
    """
    from scipy.stats import binom  # here: 1 s

    hits = np.arange(n + 2)
    critical = int(np.flatnonzero(binom.sf(hits - 1, n, null_accuracy) <= alpha)[0])
    return float(binom.sf(critical - 1, n, true_accuracy))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values raised for having looked several times: any of them at or below alpha holds at alpha together.

    Source: Holm 1979; statsmodels' `multipletests`.
    """
    if not p_values:
        return {}
    from statsmodels.stats.multitest import multipletests  # here: 3 s

    adjusted = multipletests(list(p_values.values()), method="holm")[1]
    return dict(zip(p_values, map(float, adjusted), strict=True))
