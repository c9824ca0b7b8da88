"""Positions that know their cost: bands of P(rise) that a position must leave before it is changed.

Where the network predicts the size of a move too, the bands are of the expected return instead.
Pure functions of forecasts; costs are shares of the value traded. A band is in force fold by fold. Both policies
are one mechanism: `threshold` searches the band, `no_trade_band` derives it from the expected return and the cost of a
change. Caution: what candidates are compared by must be a fold's validation windows, never its test windows; early
stopping and the calibrator saw those windows too, so a band looks better there than it is.

Source: Davis and Norman 1990 (with proportional costs, the best policy does nothing inside a band); Garleanu and
Pedersen 2013 (with quadratic costs it trades part of the way to the target; not built).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float64, Int64

from model.errors import SpecError
from model.metrics import THRESHOLD

PolicyName = Literal["sign", "threshold", "no_trade_band"]
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
# The grids are small, because a fold has a few hundred validation windows. Quantiles of abs(P - 0.5), so that the grid
# fits timid and bold networks alike.
ENTER_QUANTILES = (0.25, 0.5, 0.75, 0.9)
LEAVE_SHARES = (1.0, 0.0, -1.0)  # leaves: at the same threshold; at even odds; at an opposite signal as strong
# How much of the cost of a side one forecast must earn: half, where a position lasts for several forecasts; one side;
# both sides, entry and exit.
WIDTHS = (0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Band:
    """Enter a long position where P(rise) - 0.5 is above `enter`, leave it at `leave` or below; short: P(fall).

    Attributes:
        enter: 0 or more; infinite where no position is ever taken.
        leave: from -`enter` to `enter`.
        of_returns: the thresholds are expected returns, not distances of P(rise) from 0.5.
    """

    enter: float
    leave: float
    of_returns: bool = False

    def __str__(self) -> str:
        """Return the thresholds as probabilities, or as expected returns in basis points."""
        if np.isinf(self.enter):
            return "never trades"
        if self.of_returns:
            return f"enter above {self.enter * 1e4:.1f} bps, leave at {self.leave * 1e4:.1f} bps"
        return f"enter above {THRESHOLD + self.enter:.1%}, leave at {THRESHOLD + self.leave:.1%}"


NO_RETURNS = np.empty(0, np.float64)
SIGN = Band(0.0, 0.0)
NEVER = Band(np.inf, np.inf)


def candidate_bands(
    policy: PolicyName,
    probabilities: Float64[np.ndarray, " window"],
    returns: Float64[np.ndarray, " window"],
    cost: float,
    expected_returns: Float64[np.ndarray, " _"] = NO_RETURNS,
) -> tuple[Band, ...]:
    """Return the bands that a policy chooses from, the one nearest to `sign` first; the choice takes the first best.

    Args:
        policy: which policy.
        probabilities: shape (window,), float64: P(rise) of validation windows.
        returns: shape (window,), float64: simple return of the price from decision to outcome.
        cost: of a side, share of the value traded.
        expected_returns: shape (window,), float64: used in place of P(rise) - 0.5 where they are known; else empty.
    """
    of_returns = len(expected_returns) > 0
    signals = expected_returns if of_returns else probabilities - THRESHOLD
    if policy == "sign":
        return (SIGN,)
    if policy == "threshold":
        enters = [float(each) for each in np.quantile(np.abs(signals), ENTER_QUANTILES)]
        found = [Band(enter, share * enter) for enter in enters for share in LEAVE_SHARES]
        bands = [SIGN, *found, NEVER]
    else:
        fitted, by_size = expected_return_slopes(signals, returns)
        slopes = (fitted, 1.0 if of_returns else by_size)
        bands = [no_trade_band(slope, width * cost) for slope in slopes for width in WIDTHS]
    return tuple(replace(band, of_returns=of_returns) for band in bands)


def expected_return_slopes(
    margins: Float64[np.ndarray, " window"], returns: Float64[np.ndarray, " window"]
) -> tuple[float, float]:
    """Return two estimates of the expected return for each unit of P(rise) - 0.5.

    The first is the slope of realised returns on P - 0.5 by least squares, without an intercept, so that it is
    small where hits fall on small moves. The second is direction times size, (2 P - 1) times the mean absolute
    return, which believes the probabilities.

    >>> expected_return_slopes(np.array([0.25, -0.25]), np.array([0.125, -0.125]))
    (0.5, 0.25)
    """
    squares = float(margins @ margins)
    slope = float(margins @ returns) / squares if squares > 0 else 0.0
    return slope, 2 * float(np.abs(returns).mean())


def no_trade_band(slope: float, cost: float) -> Band:
    """Return the band in which no change of position is worth its cost.

    From flat, a unit long is expected to earn slope times (P - 0.5) and costs `cost`; from long, being flat saves an
    expected loss at the same cost. So the band is symmetric. Without a cost it is that of `sign`; where P - 0.5 does
    not rise with returns, no position is worth a cost.

    Args:
        slope: expected return for each unit of P(rise) - 0.5.
        cost: of a change, share of the value traded.

    >>> no_trade_band(0.1, 0.001)
    Band(enter=0.01, leave=-0.01, of_returns=False)
    """
    if cost <= 0:
        return SIGN
    if slope <= 0:
        return NEVER
    return Band(cost / slope, -cost / slope)


def hold_bands(
    probabilities: Float64[np.ndarray, " bar"],
    fold: Int64[np.ndarray, " bar"],
    bands: Mapping[int, Band],
    in_force: Bool[np.ndarray, " bar"],
    *,
    short: bool,
    expected_returns: Float64[np.ndarray, " _"] = NO_RETURNS,
) -> Float64[np.ndarray, " bar"]:
    """Return the position over each bar, shape (bar,): 1 long, 0 flat, -1 short.

    Args:
        probabilities: shape (bar,), float64: P(rise) of the newest decision.
        fold: shape (bar,), int64: its fold.
        bands: by fold.
        in_force: shape (bar,), bool: flat where False.
        short: whether positions are taken on predicted falls too.
        expected_returns: shape (bar,), float64: of the newest decision, in place of P(rise) - 0.5; empty: not known.

    Raises:
        SpecError: a fold has no band.

    Time: entry t depends on entries 0..t.

    Examples:
        >>> p, fold = np.array([0.52, 0.57, 0.52, 0.49, 0.44]), np.zeros(5, dtype=np.int64)
        >>> hold_bands(p, fold, {0: Band(0.05, 0.0)}, np.ones(5, dtype=bool), short=True).tolist()
        [0.0, 1.0, 1.0, 0.0, -1.0]
    """
    if missing := sorted(set(np.unique(fold).tolist()) - set(bands)):
        raise SpecError(f"policy: expected a band for each fold, found none for {', '.join(map(str, missing))}")
    enter, leave = np.empty(len(fold)), np.empty(len(fold))
    for number, band in bands.items():
        enter[fold == number], leave[fold == number] = band.enter, band.leave
    margins = expected_returns if len(expected_returns) else probabilities - THRESHOLD
    long = _latch(in_force & (margins > enter), ~in_force | (margins <= leave))
    return long - _latch(in_force & (-margins > enter), ~in_force | (-margins <= leave)) if short else long


def _latch(
    switched_on: Bool[np.ndarray, " bar"], switched_off: Bool[np.ndarray, " bar"]
) -> Float64[np.ndarray, " bar"]:
    """Return 1 from each bar that switches on until one that switches off, 0 elsewhere."""
    switches = np.where(switched_on | switched_off, np.arange(len(switched_on)), -1)
    newest = np.maximum.accumulate(switches)
    return np.where((newest >= 0) & switched_on[newest], 1.0, 0.0)
