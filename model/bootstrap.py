"""Bootstrap intervals for the numbers of out-of-sample probabilities, and for differences of log loss.

Knows labels (1 rise, 0 fall) and P(rise) of one or two forecasters on the same windows. Resampling is the stationary
block bootstrap, because neighbouring bars depend on each other; the block lengths of the whole project are chosen here.
Losses are in nats. Caution: where labels overlap (horizon above the stride), blocks must be longer than the overlap
(`record_block_bars`) and bounds wider than plain percentiles (`widening_factor`, `overlap_bounds`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import cos, exp, lgamma, pi, sqrt, tan
from statistics import NormalDist
from threading import Lock

import numpy as np
from jaxtyping import Float64, Int8, Int16, Int64

from model.errors import SpecError
from model.metrics import METRICS, log_losses, score, score_resamples
from model.record import Record

CONFIDENCE = 0.95
REPETITIONS = 1000
CHUNK_CELLS = 400_000  # resample times window held at once: 3 MB, which stay in the cache of the processor
KEPT_CELLS = 50_000_000  # resample times window kept for the next comparisons: 100 MB
QUADRATURE_NODES, NEWTON_STEPS = 48, 12  # within 2e-9 of SciPy for probabilities up to 0.999, 1 to 10,000 degrees
NORMAL = NormalDist()
MIN_WINDOWS_FOR_BLOCKS = 20  # too few windows to estimate an autocorrelation below this


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its bootstrap percentile interval, 95 % unless stated otherwise."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean log loss of a minus that of b on the same windows, nats; negative where a is better.

    Attributes:
        mean: mean difference.
        low: lower bound of its interval.
        high: upper bound of its interval.
        p_value: two-sided, of the null hypothesis that the mean is zero.
        n: windows compared.
        block_bars: mean block length, windows.
        closes: of a panel, closes at which they were decided; 0: each has a close of its own.
    """

    mean: float
    low: float
    high: float
    p_value: float
    n: int
    block_bars: int
    closes: int = 0


def optimal_block_bars(series: Float64[np.ndarray, " window"]) -> int:
    """Return the mean block length (windows) that is optimal for the autocorrelation of a series, at least 1.

    Source: Politis and White 2004, corrected by Patton, Politis and White 2009; arch's `optimal_block_length`.
    """
    if len(series) < MIN_WINDOWS_FOR_BLOCKS or np.ptp(series) <= 1e-12 * np.abs(series).max():
        return 1
    from arch.bootstrap import optimal_block_length  # imported here: 1 s

    length = float(optimal_block_length(series)["stationary"].iloc[0])
    if not np.isfinite(length):
        return rate_block_bars(len(series))
    return int(np.clip(np.ceil(length), 1, len(series) // 4))


def score_block_bars(series: Float64[np.ndarray, " window"], overlap_bars: int) -> int:
    """Return the mean block length for a score of that series: the optimal one; with overlap at least twice that."""
    return max(optimal_block_bars(series), 2 * overlap_bars if overlap_bars > 1 else 1)


def rate_block_bars(n: int) -> int:
    """Return the mean block length (windows) that depends on the number of windows alone: the cube root of n.

    Use it where a bound must be monotone in the losses: equal n draws equal windows, so higher losses cannot lower
    the bound of their mean.

    Source: Politis and White 2004, the rate at which the optimal length grows.
    """
    return max(1, int(np.ceil(np.cbrt(n))))


def paired_block_bars(n: int, overlap_bars: int) -> int:
    """Return the mean block length for paired losses of n closes: `rate_block_bars`, at least twice the overlap."""
    return max(rate_block_bars(n), 2 * overlap_bars)


def record_block_bars(record: Record) -> int:
    """Return the mean block length (closes) for a record; see `paired_block_bars`."""
    return paired_block_bars(len(np.unique(record.decided_at)), record.overlap_bars())


def widening_factor(n: int, block_bars: int, overlap_bars: int) -> float:
    """Return the factor by which resampled means of paired losses must be spread for an interval to cover as stated.

    The block bootstrap underestimates the variance of a mean of dependent losses in three ways, all known in advance:
    blocks cut the dependence of overlapping labels short (autocovariance 1 - k / overlap at lag k), centring removes
    some of it, and n / block blocks are too few for the normal quantile. The factor depends on these three lengths
    alone, not on the losses, so that a bound stays monotone in them.

    Args:
        n: windows.
        block_bars: mean block length, windows.
        overlap_bars: decisions until a label is resolved; 1 where labels do not overlap.

    Source: own; weights of the stationary bootstrap, Politis and Romano 1994; Student's t for the equivalent degrees
    of freedom of a long-run variance, Lazarus, Lewis, Stock and Watson 2018. Coverage by simulation at n = 250 to
    2,500, overlap 1 to 20, forecasts independent or persistent (0.9): 93 to 98 %; without the factor 85 to 96 %.
    """
    upper, kept = (1 + CONFIDENCE) / 2, _kept_variance(n, block_bars, overlap_bars)
    return student_t_quantile(upper, max(n / block_bars, 1)) / NORMAL.inv_cdf(upper) / sqrt(kept)


def _kept_variance(n: int, block_bars: int, overlap_bars: int) -> float:
    """Return the share of the variance of a mean that the block bootstrap keeps."""
    lags = np.arange(1 - overlap_bars, overlap_bars)
    autocovariance = (1 - np.abs(lags) / overlap_bars) / overlap_bars
    return float(autocovariance @ (1 - 1 / block_bars) ** np.abs(lags)) * max(1 - 2 * block_bars / n, 0.1)


def student_t_quantile(probability: float, degrees: float) -> float:
    """Return a quantile of Student's t distribution; equals `scipy.stats.t.ppf`, which takes a second to load.

    The density of the angle whose tangent is t / sqrt(degrees) is proportional to cos(angle)^(degrees - 1); it is
    integrated by the rule of Gauss and Legendre, and the angle is found by Newton's method.

    Args:
        probability: from 0.5 to 1, 1 excluded.
        degrees: of freedom, at least 1, not only whole ones.

    Examples:
        >>> round(student_t_quantile(0.975, 75), 4), round(student_t_quantile(0.975, 1), 3)  # as in tables
        (1.9921, 12.706)
    """
    nodes, weights = np.polynomial.legendre.leggauss(QUADRATURE_NODES)
    scale = exp(lgamma((degrees + 1) / 2) - lgamma(degrees / 2)) / sqrt(pi)
    angle = 0.0
    for _ in range(NEWTON_STEPS):
        places = angle / 2 * (1 + nodes)
        below = 0.5 + scale * angle / 2 * float(weights @ np.cos(places) ** (degrees - 1))
        angle += (probability - below) / (scale * cos(angle) ** (degrees - 1))
    return tan(angle) * sqrt(degrees)


def resample(
    statistic: Callable[[Float64[np.ndarray, "resample window"]], Float64[np.ndarray, "resample number"]],
    n: int,
    block_bars: int,
    seed: int,
    repetitions: int = REPETITIONS,
    cells: int = 0,
) -> Float64[np.ndarray, "resample number"]:
    """Compute numbers on stationary block bootstrap resamples of n windows.

    Args:
        statistic: takes the count of draws of each window, shape (resample, window); returns shape (resample, number).
        n: windows.
        block_bars: mean block length, windows.
        seed: the same seed, n and block length draw the same windows; the newest sets of draws are kept.
        repetitions: resamples.
        cells: numbers that the statistic holds at once for each resample, where those are more than n.

    Returns:
        Shape (resample, number).

    Raises:
        SpecError: there is no window.

    Source: Politis and Romano 1994.
    """
    if n < 1:
        raise SpecError("bootstrap: expected at least one window, found none")
    rows = max(1, CHUNK_CELLS // max(n, cells))
    starts = range(0, repetitions, rows)
    if n * repetitions <= KEPT_CELLS:
        kept = _DRAWS.find(n, block_bars, seed, repetitions)
        return np.concatenate([statistic(kept[start : start + rows].astype(np.float64)) for start in starts])
    draws = _draws(n, block_bars, seed, repetitions)
    sizes = [min(rows, repetitions - start) for start in starts]
    return np.concatenate([statistic(np.array(list(islice(draws, size)), dtype=np.float64)) for size in sizes])


def _draws(n: int, block_bars: int, seed: int, repetitions: int) -> Iterator[Int64[np.ndarray, " window"]]:
    """Draw resamples one by one: how often each window was drawn.

    The same draws as those of arch's `StationaryBootstrap`, which takes 30 microseconds for each, and a second to load:
    a command that compares thirty versions draws 30,000. Here many are made at once.
    """
    generator, place = np.random.default_rng(seed), np.arange(n)
    together = max(1, CHUNK_CELLS // (8 * n))
    for first in range(0, repetitions, together):
        count = min(together, repetitions - first)
        begins, coins = np.empty((count, n), dtype=np.int64), np.empty((count, n))
        for row in range(count):
            begins[row], coins[row] = generator.integers(n, size=n), generator.random(n)
        coins[:, 0] = 0  # the first draw begins a block
        since = np.maximum.accumulate(np.where(coins <= 1 / block_bars, place, 0), axis=1)
        drawn = (np.take_along_axis(begins, since, axis=1) + place - since) % n
        rows = np.arange(count)[:, None] * n
        yield from np.bincount((drawn + rows).ravel(), minlength=count * n).reshape(count, n)


class KeptDraws:
    """Draws by their arguments, the newest up to `KEPT_CELLS`: forecasters, and series of one length, have the same."""

    def __init__(self) -> None:
        """Start with none."""
        self._kept: dict[tuple[int, int, int, int], Int16[np.ndarray, "resample window"]] = {}  # oldest use first
        self._lock = Lock()

    def find(self, n: int, block_bars: int, seed: int, repetitions: int) -> Int16[np.ndarray, "resample window"]:
        """Return how often each resample draws each window; read-only."""
        key = n, block_bars, seed, repetitions
        with self._lock:
            counts = self._kept.pop(key, None)
        if counts is None:
            counts = np.empty((repetitions, n), dtype=np.int16)
            for row, drawn in zip(counts, _draws(n, block_bars, seed, repetitions), strict=True):
                row[:] = drawn
            counts.setflags(write=False)
        with self._lock:
            self._kept[key] = counts
            while sum(each.size for each in self._kept.values()) > KEPT_CELLS:
                del self._kept[next(iter(self._kept))]
        return counts


_DRAWS = KeptDraws()


def percentile_bounds(
    resamples: Float64[np.ndarray, " resample"], confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the lower and upper percentile bound of resampled numbers, without NaN; NaN where all are NaN."""
    finite = resamples[np.isfinite(resamples)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def overlap_bounds(
    resamples: Float64[np.ndarray, " resample"], n: int, block_bars: int, overlap_bars: int
) -> tuple[float, float]:
    """Return 95 % percentile bounds, where labels overlap at the level that `widening_factor` gives."""
    if overlap_bars == 1:
        return percentile_bounds(resamples)
    return percentile_bounds(resamples, _widened_confidence(widening_factor(n, block_bars, overlap_bars)))


def _widened_confidence(factor: float) -> float:
    return 2 * NORMAL.cdf(factor * NORMAL.inv_cdf((1 + CONFIDENCE) / 2)) - 1


def bootstrap_intervals(
    labels: Int8[np.ndarray, " window"],
    probabilities: Float64[np.ndarray, " window"],
    seed: int,
    repetitions: int = REPETITIONS,
    bar_numbers: Int64[np.ndarray, " window"] | None = None,
    overlap_bars: int = 1,
) -> dict[str, Interval]:
    """Return the six numbers of `METRICS`, each with its 95 % stationary block bootstrap interval.

    Args:
        labels: shape (window,), int8: 1 rise, 0 fall; oldest first.
        probabilities: shape (window,), float64: P(rise).
        seed: of the resampling.
        repetitions: resamples.
        bar_numbers: shape (window,), int64: `Record.bar_numbers` of a panel, whose windows of one close are drawn
            together, because their labels are correlated; None: each window has a close of its own.
        overlap_bars: decisions until a label is resolved (`Record.overlap_bars`); 1 where labels do not overlap.

    Returns:
        By name; the value as `score` returns it, the bounds from the resamples in which the number is defined.
    """
    values = score(labels, probabilities)
    sums, sizes = _by_bar(log_losses(labels, probabilities), bar_numbers)
    block_bars = score_block_bars(sums / sizes, overlap_bars)

    def six_numbers(counts: Float64[np.ndarray, "resample bar"]) -> Float64[np.ndarray, "resample number"]:
        drawn = counts if bar_numbers is None else counts[:, bar_numbers]
        scores = score_resamples(labels, probabilities, drawn)
        return np.stack([scores[name] for name in METRICS], axis=1)

    resamples = resample(six_numbers, len(sums), block_bars, seed, repetitions, cells=len(labels))
    bounds = (overlap_bounds(each, len(sums), block_bars, overlap_bars) for each in resamples.T)
    return {name: Interval(values[name], *found) for name, found in zip(METRICS, bounds, strict=True)}


def record_intervals(record: Record, probabilities: Float64[np.ndarray, " window"], seed: int) -> dict[str, Interval]:
    """Return the numbers of a forecaster on the windows of a record by `bootstrap_intervals`; a panel's drawn by close.

    Args:
        record: out-of-sample record, oldest first.
        probabilities: shape (window,), float64: the forecaster's P(rise).
        seed: of the resampling.
    """
    bars = record.bar_numbers() if len(record.symbols) else None
    return bootstrap_intervals(record.labels, probabilities, seed, bar_numbers=bars, overlap_bars=record.overlap_bars())


def _by_bar(
    values: Float64[np.ndarray, " window"], bar_numbers: Int64[np.ndarray, " window"] | None
) -> tuple[Float64[np.ndarray, " bar"], Float64[np.ndarray, " bar"]]:
    """Return the sum of the values decided at each close, and their count."""
    if bar_numbers is None:
        return values, np.ones(len(values))
    return np.bincount(bar_numbers, weights=values), np.bincount(bar_numbers).astype(np.float64)


def paired_difference(
    labels: Int8[np.ndarray, " window"],
    probabilities_a: Float64[np.ndarray, " window"],
    probabilities_b: Float64[np.ndarray, " window"],
    seed: int,
    block_bars: int = 0,
    overlap_bars: int = 1,
    repetitions: int = REPETITIONS,
    bar_numbers: Int64[np.ndarray, " window"] | None = None,
) -> PairedDifference:
    """Compare the log loss of two forecasters on the same windows: a minus b, nats.

    Args:
        labels: shape (window,), int8: 1 rise, 0 fall; oldest first.
        probabilities_a: shape (window,), float64: P(rise) of a.
        probabilities_b: shape (window,), float64: P(rise) of b.
        seed: of the resampling.
        block_bars: mean block length, windows; 0: the optimal length for the differences.
        overlap_bars: decisions until a label is resolved; 1 where labels do not overlap.
        repetitions: resamples.
        bar_numbers: of a panel, whose windows of one close are drawn together; see `bootstrap_intervals`.

    Returns:
        The mean with its 95 % interval: percentiles, at the level that `widening_factor` gives. The two-sided p-value
        is the share of resamples, centred at zero and spread by the same factor, that lie at least as far from zero as
        the mean; where none does, the tail of Student's t distribution of the studentised mean if that is smaller. A
        thousand resamples cannot show less than 1 / 1,001, which no correction for many tests leaves significant. Both
        are about these forecasts: they leave out what another seed of the training would change.

    Examples:
        >>> labels = np.tile(np.array([1, 0, 1, 1, 0], dtype=np.int8), 40)
        >>> skilled = np.where(labels == 1, 0.6, 0.4)
        >>> found = paired_difference(labels, skilled, np.full(200, 0.5), seed=1)
        >>> round(found.mean, 4), found.high < 0
        (-0.1823, True)
    """
    differences = log_losses(labels, probabilities_a) - log_losses(labels, probabilities_b)
    return mean_difference(differences, seed, block_bars, overlap_bars, repetitions, bar_numbers)


def mean_difference(
    differences: Float64[np.ndarray, " window"],
    seed: int,
    block_bars: int = 0,
    overlap_bars: int = 1,
    repetitions: int = REPETITIONS,
    bar_numbers: Int64[np.ndarray, " window"] | None = None,
) -> PairedDifference:
    """Return the mean of paired differences of any loss, shape (window,), oldest first; see `paired_difference`."""
    sums, sizes = _by_bar(differences, bar_numbers)
    block_bars = block_bars or optimal_block_bars(sums / sizes)
    mean = float(differences.mean())
    means = resample(
        lambda counts: (counts @ sums / (counts @ sizes))[:, None],
        len(sums),
        block_bars,
        seed,
        repetitions,
    )[:, 0]
    factor = widening_factor(len(sums), block_bars, overlap_bars)
    low, high = percentile_bounds(means, _widened_confidence(factor))
    extreme = int((factor * np.abs(means - mean) >= abs(mean)).sum())
    p_value = (1 + extreme) / (1 + repetitions)
    error = float(np.sqrt(np.square(means - mean).mean() / _kept_variance(len(sums), block_bars, overlap_bars)))
    if not extreme and error > 1e-12 * abs(mean):  # a constant difference has no error, and is no evidence
        from scipy.special import stdtr  # imported here: status compares thirty versions without scipy

        p_value = min(p_value, 2 * float(stdtr(max(len(sums) / block_bars, 1), -abs(mean) / error)))
    closes = 0 if bar_numbers is None else len(sums)
    return PairedDifference(mean, low, high, p_value, len(differences), block_bars, closes)


def compare_losses(record: Record, opponent: Float64[np.ndarray, " window"], seed: int) -> PairedDifference:
    """Compare log losses, the record's minus an opponent's, allowing for overlapping labels.

    Args:
        record: out-of-sample probabilities, oldest first.
        opponent: shape (window,), float64: the opponent's P(rise) on the record's windows.
        seed: of the resampling.
    """
    differences = log_losses(record.labels, record.probabilities) - log_losses(record.labels, opponent)
    return record_difference(record, differences, seed)


def record_difference(record: Record, differences: Float64[np.ndarray, " window"], seed: int) -> PairedDifference:
    """Return the mean of paired differences of any loss on the windows of a record; a panel's are drawn by close.

    Args:
        record: out-of-sample record, oldest first.
        differences: shape (window,), float64: the record's loss minus an opponent's.
        seed: of the resampling.
    """
    bars = record.bar_numbers() if len(record.symbols) else None
    return mean_difference(differences, seed, record_block_bars(record), record.overlap_bars(), bar_numbers=bars)


def record_ratio(
    record: Record, part: Float64[np.ndarray, " window"], whole: Float64[np.ndarray, " window"], seed: int
) -> Interval:
    """Return the sum of one quantity divided by that of another on the windows of a record, with its 95 % interval.

    Args:
        record: out-of-sample record, oldest first; the windows of a panel's close are drawn together.
        part: shape (window,), float64: numerator.
        whole: shape (window,), float64: denominator; ones give the mean of `part`.
        seed: of the resampling.
    """
    bars, block_bars = record.bar_numbers() if len(record.symbols) else None, record_block_bars(record)
    parts, wholes = (_by_bar(each, bars)[0] for each in (part, whole))
    drawn = resample(lambda counts: (counts @ parts / (counts @ wholes))[:, None], len(parts), block_bars, seed)[:, 0]
    bounds = overlap_bounds(drawn, len(parts), block_bars, record.overlap_bars())
    return Interval(float(part.sum() / whole.sum()), *bounds)
