"""Compare the newest bars with the champion's training bars: distributions of moves and ranges, and the price level.

Knows bars only. Statistics are the Kolmogorov-Smirnov distance and the population stability index (PSI);
`model/panel_drift.py` compares panels by the same ones. Caution: volatility comes in clusters, so the textbook limits
of these statistics are exceeded in any calm or turbulent quarter; the limit here is the most unusual stretch of the
champion's own training bars, times a factor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from model.bars import Bars
from model.errors import SpecError

PSI_BINS = 10
STEP_BARS = 5  # between the starts of two stretches of the training bars
LEVEL_BARS = 10  # closes whose median is the price level

Properties = Mapping[str, Float64[np.ndarray, " move"]]  # by name, oldest first; see `bar_properties`


@dataclass(frozen=True, slots=True)
class Drift:
    """The drift of one property of the bars, with its limits.

    Attributes:
        name: of the property.
        ks: Kolmogorov-Smirnov distance of the two distributions, 0 to 1; NaN for the price level.
        ks_limit: the factor times the largest distance among stretches of the training bars.
        psi: population stability index; for the price level the ratio of now to then.
        psi_limit: the same limit for the index; for the price level the largest ratio allowed.
        drifted: whether both limits are exceeded.
    """

    name: str
    ks: float
    ks_limit: float
    psi: float
    psi_limit: float
    drifted: bool


@dataclass(frozen=True, slots=True)
class DriftReference:
    """One property of the training bars, prepared once for many comparisons.

    Attributes:
        ordered: shape (training,), float64, ascending.
        edges: shape (edge,), float64: edges of the bins of the stability index.
        ks_limit: the factor times the largest distance among stretches of the training bars.
        psi_limit: the same limit for the index.
        recent_bars: bars of a stretch, and of a comparison.
    """

    ordered: Float64[np.ndarray, " training"]
    edges: Float64[np.ndarray, " edge"]
    ks_limit: float
    psi_limit: float
    recent_bars: int


def measure_drift(
    training: Bars, recent: Bars, recent_bars: int, slack: float, max_level_factor: float
) -> tuple[Drift, ...]:
    """Compare recent bars with training bars: moves of the close, their size, ranges, and the price level.

    The price level alone is no drift, because the network standardises each window. A level that changed by a large
    factor is: a split, another unit, another symbol.

    Args:
        training: shape (bar,), bars up to the champion's training end.
        recent: shape (bar,), at least the newest `recent_bars` bars and one more.
        recent_bars: newest bars compared.
        slack: factor between the most unusual stretch of the training bars and the limit.
        max_level_factor: largest ratio of price levels, in either direction.

    Raises:
        SpecError: there are too few bars for a comparison.
    """
    if len(training) < 2 * recent_bars or len(recent) <= recent_bars:
        raise SpecError(
            f"drift: expected {2 * recent_bars} training bars and {recent_bars + 1} recent ones; found "
            f"{len(training)} and {len(recent)}. Lower recent_bars."
        )
    references = drift_references(bar_properties(training), recent_bars, slack)
    ratio = price_level(recent) / price_level(training)
    return (*compare_with_references(references, bar_properties(recent)), level_drift(ratio, max_level_factor))


def level_drift(ratio: float, max_level_factor: float) -> Drift:
    """Return the drift of the price level from the ratio of now to then."""
    drifted = max(ratio, 1 / ratio) > max_level_factor
    return Drift("level", float("nan"), float("nan"), ratio, max_level_factor, drifted)


def drift_references(training: Properties, recent_bars: int, slack: float) -> dict[str, DriftReference]:
    """Return the properties of the training bars, with their limits, by name; arguments as in `measure_drift`."""
    return {name: _reference(values, recent_bars, slack) for name, values in training.items()}


def compare_with_references(references: dict[str, DriftReference], recent: Properties) -> list[Drift]:
    """Compare the newest values of each property with its reference.

    Args:
        references: by name, as `drift_references` returns them.
        recent: by name, shape (move,), oldest first; at least `recent_bars`.
    """
    found = []
    for name, reference in references.items():
        newest = recent[name][-reference.recent_bars :]
        ks = ks_distance(reference.ordered, np.sort(newest))
        index = psi(reference.edges, reference.ordered, newest)
        drifted = ks > reference.ks_limit and index > reference.psi_limit
        found.append(Drift(name, ks, reference.ks_limit, index, reference.psi_limit, drifted))
    return found


def ks_distance(sample: Float64[np.ndarray, " training"], other: Float64[np.ndarray, " recent"]) -> float:
    """Return the largest distance of two empirical distribution functions; both samples must be sorted.

    Source: Kolmogorov and Smirnov; equals `scipy.stats.ks_2samp(...).statistic`. Between two values of `other` its
    function is constant and that of `sample` rises, so the largest distance is at a value of `other` or just before it.
    """
    sides: tuple[Literal["left", "right"], ...] = ("left", "right")
    at = ((np.searchsorted(sample, other, side) / len(sample), np.searchsorted(other, other, side) / len(other))
          for side in sides)  # fmt: skip
    return max(float(np.abs(ours - theirs).max()) for ours, theirs in at)


def psi(
    edges: Float64[np.ndarray, " edge"], sample: Float64[np.ndarray, " training"], other: Float64[np.ndarray, " recent"]
) -> float:
    """Return the population stability index of two samples over the bins between `edges`.

    Half a count is added to each bin, so that an empty bin gives a finite index.

    Source: Siddiqi 2006.
    """
    return _stability_index(_bin_shares(edges, sample), _bin_shares(edges, other))


def _bin_shares(edges: Float64[np.ndarray, " edge"], values: Float64[np.ndarray, " _"]) -> Float64[np.ndarray, " bin"]:
    bins = len(edges) + 1
    counts = np.bincount(np.searchsorted(edges, values), minlength=bins)
    return np.asarray((counts + 0.5) / (len(values) + bins / 2), dtype=np.float64)


def _stability_index(ours: Float64[np.ndarray, " bin"], theirs: Float64[np.ndarray, " bin"]) -> float:
    return float(((theirs - ours) * np.log(theirs / ours)).sum())


def price_level(bars: Bars) -> float:
    """Return the median of the newest closes."""
    return float(np.median(bars.column("close")[-LEVEL_BARS:]))


def bar_properties(bars: Bars) -> dict[str, Float64[np.ndarray, " move"]]:
    """Return the compared properties, all without a unit: log moves of the close, their size, log of high over low."""
    moves = np.diff(np.log(bars.column("close")))
    ranges = np.log(bars.column("high") / bars.column("low"))[1:]
    return {"move": moves, "move size": np.abs(moves), "range": ranges}


def _reference(values: Float64[np.ndarray, " training"], recent_bars: int, slack: float) -> DriftReference:
    ordered = np.sort(values)
    edges = np.quantile(ordered, np.linspace(0, 1, PSI_BINS + 1)[1:-1])
    starts = range(0, len(values) - recent_bars + 1, STEP_BARS)
    stretches = [values[start : start + recent_bars] for start in starts]
    ks_limit = slack * max(ks_distance(ordered, np.sort(each)) for each in stretches)
    shares = _bin_shares(edges, ordered)
    psi_limit = slack * max(_stability_index(shares, _bin_shares(edges, each)) for each in stretches)
    return DriftReference(ordered, edges, ks_limit, psi_limit, recent_bars)
