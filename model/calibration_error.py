"""The reliability curve, its expected calibration error, and that of a perfectly calibrated forecaster.

Knows labels and probabilities of 1, not what maps them (`calibration.py`). Caution: labels of one close of a panel are
correlated, and labels of a horizon above the stride overlap. Both make a share noisier than its number of windows says,
so whatever states noise takes a record and allows for them (`_design_effects`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int8, Int64

from model.e_process import truncated_deviation
from model.errors import SpecError
from model.metrics import tally
from model.record import Record
from model.wilson_interval import wilson_interval

BIN_COUNT = 10
REPETITIONS = 1_000  # simulated sets of labels for the error of a perfectly calibrated forecaster
LEAST_EFFECT = 1e-9  # of a share without noise: all ranks of each close in one bin


@dataclass(frozen=True, slots=True)
class ReliabilityCurve:
    """Predicted and observed share of rises by bins of probability, ascending, without empty bins.

    Attributes:
        counts: shape (bin,), int64: windows in the bin.
        mean_probabilities: shape (bin,), float64: mean predicted P(rise).
        observed_shares: shape (bin,), float64: observed share of rises; its interval: `reliability_intervals`.
        expected_error: expected calibration error: mean distance of share and probability, weighted by windows.
    """

    counts: Int64[np.ndarray, " bin"]
    mean_probabilities: Float64[np.ndarray, " bin"]
    observed_shares: Float64[np.ndarray, " bin"]
    expected_error: float


def reliability_curve(
    labels: Int8[np.ndarray, " window"],
    probabilities: Float64[np.ndarray, " window"],
    bin_count: int = BIN_COUNT,
    bins: Literal["quantile", "width"] = "quantile",
) -> ReliabilityCurve:
    """Bin windows by probability and compare predicted with observed shares of rises.

    Args:
        labels: shape (window,), int8: 1 rise, 0 fall.
        probabilities: shape (window,), float64: P(rise), finite, 0 to 1.
        bin_count: maximum number of bins.
        bins: quantile: equally many windows per bin (probabilities of prices concentrate around 0.5); width: equally
            wide bins from 0 to 1. Equal probabilities always share a bin.

    Raises:
        SpecError: there is no window, or fewer than 1 bin.
        UnsoundModel: a probability is not finite or not within 0 to 1.
    """
    if not len(labels) or bin_count < 1:
        raise SpecError(f"reliability: expected windows and at least 1 bin; found {len(labels)} and {bin_count}")
    counted = tally(labels, probabilities)
    place = np.searchsorted(_bin_edges(probabilities, bin_count, bins), counted.probabilities, side="left")
    windows = counted.falls + counted.rises
    counts = np.bincount(place, weights=windows, minlength=bin_count)
    sums = np.bincount(place, weights=windows * counted.probabilities, minlength=bin_count)
    rises = np.bincount(place, weights=counted.rises, minlength=bin_count)
    filled = counts > 0
    counts, sums, rises = counts[filled], sums[filled], rises[filled]
    return ReliabilityCurve(
        counts=counts.astype(np.int64),
        mean_probabilities=sums / counts,
        observed_shares=rises / counts,
        expected_error=float(np.abs(rises - sums).sum() / counts.sum()),
    )


def _bin_edges(
    probabilities: Float64[np.ndarray, " window"], bin_count: int, bins: Literal["quantile", "width"]
) -> Float64[np.ndarray, " edge"]:
    """Return the inner edges of the bins, ascending."""
    steps = np.linspace(0, 1, bin_count + 1)[1:-1]
    edges: Float64[np.ndarray, " edge"] = np.quantile(probabilities, steps) if bins == "quantile" else steps
    return edges


def reliability_intervals(
    record: Record, bin_count: int = BIN_COUNT
) -> tuple[Float64[np.ndarray, " bin"], Float64[np.ndarray, " bin"]]:
    """Return the 95 % interval of the observed share in each quantile bin of `reliability_curve`: lows, highs.

    It is Wilson's, with the number of windows divided by the bin's design effect (`_design_effects`): exactly Wilson's
    where windows are independent, longer where labels of one close are correlated or labels overlap.

    Args:
        record: out-of-sample probabilities, oldest first; of one series or of a panel.
        bin_count: maximum number of bins.

    Raises:
        SpecError: there is no window, or fewer than 1 bin.

    Source: Wilson 1927; Kish 1965 (design effect); Korn and Graubard 1998 (Wilson's interval with it).
    """
    place = _quantile_places(record, bin_count)
    counts, effects = np.bincount(place), _design_effects(record, place)
    filled = counts > 0
    rises = np.bincount(place, weights=record.labels)
    return wilson_interval((rises / effects)[filled], (counts / effects)[filled])


def perfectly_calibrated_error(
    record: Record, seed: int, bin_count: int = BIN_COUNT, repetitions: int = REPETITIONS
) -> float:
    """Return the mean expected calibration error of a perfectly calibrated forecaster with a record's probabilities.

    Labels are simulated from the probabilities themselves, so all of the error is sampling noise. It falls with the
    root of the number of windows; an observed error near it is no evidence of miscalibration. The simulated labels are
    independent; the noise of each bin is multiplied by the root of its design effect (`_design_effects`).

    Args:
        record: out-of-sample probabilities, oldest first; of one series or of a panel.
        seed: of the simulation.
        bin_count: maximum number of quantile bins, as in `reliability_curve`.
        repetitions: simulated sets of labels.

    Raises:
        SpecError: there is no window, or fewer than 1 bin.

    Source: Broecker and Smith 2007 (consistency resampling); the design effect: own, tested by simulation
    (docs/decisions/0022).
    """
    place, probabilities, n = _quantile_places(record, bin_count), record.probabilities, len(record)
    spread = np.sqrt(_design_effects(record, place))
    generator = np.random.default_rng(seed)
    errors = [
        (spread * np.abs(np.bincount(place, weights=(generator.random(n) < probabilities) - probabilities))).sum() / n
        for _ in range(repetitions)
    ]
    return float(np.mean(errors))


def _quantile_places(record: Record, bin_count: int) -> Int64[np.ndarray, " window"]:
    """Return the quantile bin of each window."""
    if not len(record) or bin_count < 1:
        raise SpecError(f"calibration error: expected windows and at least 1 bin; found {len(record)} and {bin_count}")
    edges = _bin_edges(record.probabilities, bin_count, "quantile")
    return np.searchsorted(edges, record.probabilities, side="left").astype(np.int64)


def _design_effects(record: Record, place: Int64[np.ndarray, " window"]) -> Float64[np.ndarray, " bin"]:
    """Return by how much the variance of each bin's sum of residuals exceeds that of independent ones.

    A residual is label minus probability. Those of a bin are added up by close. The variance of the bin's sum is the
    sum of squares of these sums and of their products at the lags at which labels overlap. Residuals are not centred:
    those of a calibrated forecaster have mean zero, and centring would underestimate the variance where a bin has few
    closes. Miscalibration therefore raises the effect, by little: a bias of d adds, in quadrature, d over the root of
    the number of independent closes in the bin to the standard error of its share.

    Returns:
        1 for all bins where each window has a close of its own and labels do not overlap, and for bins without windows;
        below 1 where labels of one close are negatively correlated, as those of ranks are.
    """
    effects = np.ones(int(place.max()) + 1)
    bars, overlap = record.bar_numbers(), record.overlap_bars()
    closes = int(bars.max()) + 1
    if closes == len(record) and overlap == 1:
        return effects
    residuals = record.labels - record.probabilities
    for number in np.unique(place):
        chosen = place == number
        independent = float(residuals[chosen] @ residuals[chosen])
        sums = np.bincount(bars[chosen], weights=residuals[chosen], minlength=closes)
        variance = max(closes * float(truncated_deviation(sums, overlap)) ** 2, float(sums @ sums))
        if independent > 0:
            effects[number] = max(variance / independent, LEAST_EFFECT)
    return effects
