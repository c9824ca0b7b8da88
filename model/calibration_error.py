"""The reliability curve, its expected calibration error, and that of a perfectly calibrated forecaster.

Knows labels and probabilities of 1, not what maps them (`calibration.py`).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int8, Int64

from model.errors import SpecError
from model.metrics import tally
from model.wilson_interval import wilson_interval

BIN_COUNT = 10
REPETITIONS = 1_000  # simulated sets of labels for the error of a perfectly calibrated forecaster


@dataclass(frozen=True, slots=True)
class ReliabilityCurve:
    """Predicted and observed share of rises by bins of probability, ascending, without empty bins.

    Attributes:
        counts: shape (bin,), int64: windows in the bin.
        mean_probabilities: shape (bin,), float64: mean predicted P(rise).
        observed_shares: shape (bin,), float64: observed share of rises.
        lows: shape (bin,), float64: lower bound of that share's 95 % Wilson interval.
        highs: shape (bin,), float64: upper bound.
        expected_error: expected calibration error: mean distance of share and probability, weighted by windows.
    """

    counts: Int64[np.ndarray, " bin"]
    mean_probabilities: Float64[np.ndarray, " bin"]
    observed_shares: Float64[np.ndarray, " bin"]
    lows: Float64[np.ndarray, " bin"]
    highs: Float64[np.ndarray, " bin"]
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
    lows, highs = wilson_interval(rises, counts)
    return ReliabilityCurve(
        counts=counts.astype(np.int64),
        mean_probabilities=sums / counts,
        observed_shares=rises / counts,
        lows=lows,
        highs=highs,
        expected_error=float(np.abs(rises - sums).sum() / counts.sum()),
    )


def _bin_edges(
    probabilities: Float64[np.ndarray, " window"], bin_count: int, bins: Literal["quantile", "width"]
) -> Float64[np.ndarray, " edge"]:
    """Return the inner edges of the bins, ascending."""
    steps = np.linspace(0, 1, bin_count + 1)[1:-1]
    edges: Float64[np.ndarray, " edge"] = np.quantile(probabilities, steps) if bins == "quantile" else steps
    return edges


def perfectly_calibrated_error(
    probabilities: Float64[np.ndarray, " window"],
    seed: int,
    bin_count: int = BIN_COUNT,
    repetitions: int = REPETITIONS,
) -> float:
    """Return the mean expected calibration error of a perfectly calibrated forecaster with these probabilities.

    Labels are simulated from the probabilities themselves, so all of the error is sampling noise. It falls with the
    root of the number of windows; an observed error near it is no evidence of miscalibration.

    Args:
        probabilities: shape (window,), float64: P(rise), finite, 0 to 1.
        seed: of the simulation.
        bin_count: maximum number of quantile bins, as in `reliability_curve`.
        repetitions: simulated sets of labels.

    Raises:
        SpecError: there is no window, or fewer than 1 bin.

    Source: Broecker and Smith 2007 (consistency resampling).
    """
    n = len(probabilities)
    if not n or bin_count < 1:
        raise SpecError(f"calibration error: expected windows and at least 1 bin; found {n} and {bin_count}")
    place = np.searchsorted(_bin_edges(probabilities, bin_count, "quantile"), probabilities, side="left")
    generator = np.random.default_rng(seed)
    errors = [
        np.abs(np.bincount(place, weights=(generator.random(n) < probabilities) - probabilities)).sum() / n
        for _ in range(repetitions)
    ]
    return float(np.mean(errors))
