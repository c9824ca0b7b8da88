"""Compare trading policies on one record: what each earns, at which costs, by its exposure or by its timing.

Every policy is traded with the spec's kind and costs, whichever the spec chose, because a reader who saw only the
chosen one could not know what was passed over. Baselines are traded by the same policies, with bands of their own.
Knows no other recipes but their net returns, for the deflated Sharpe ratio. Caution: the policies were compared on the
same test bars, so the best of them is not out of sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float64

from model.bars import Bars
from model.baseline_records import BaselineRecords
from model.bootstrap import Interval, optimal_block_bars, percentile_bounds, resample
from model.multiple_testing import deflate_sharpe_ratio
from model.record import Record
from model.sharpe_and_break_even import BPS, growth_factors
from model.trading import StrategyResult, TradingSpec, trade_strategy, traded_value
from model.trading_policies import POLICIES, Band

COST_CURVE_BPS = tuple(range(21))  # costs of a side
NO_BASELINES: Mapping[str, BaselineRecords] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """What one policy earned out of sample.

    Attributes:
        figures: those of `Performance.numbers`; `mean_position`; `exposure_return` and `timing_return`, whose sum is
            the uncompounded gross return, the latter with `_low` and `_high`; `deflated_sharpe`, not of baselines.
        net_by_cost: net return at each of `COST_CURVE_BPS`, with these positions.
        bands: in force in each fold, oldest first; none for sign.
    """

    figures: dict[str, float]
    net_by_cost: tuple[float, ...]
    bands: tuple[Band, ...]


@dataclass(frozen=True, slots=True)
class PolicyComparison:
    """All policies on the same bars.

    Attributes:
        spec: kind and costs of all of them, and the policy chosen.
        results: by policy; those of baselines by the name of `traded_by`.
        tried: recipes tried on these bars times policies; the Sharpe ratios are deflated for them.
        buy_and_hold_return: uncompounded, before costs.
    """

    spec: TradingSpec
    results: Mapping[str, PolicyResult]
    tried: int
    buy_and_hold_return: float

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; what is undefined or infinite is None."""
        return {
            "trading": self.spec.model_dump(mode="json"),
            "tried": self.tried,
            "buy_and_hold_return": self.buy_and_hold_return,
            "cost_curve_bps": COST_CURVE_BPS,
            "policies": {
                name: {
                    "figures": {key: _finite(value) for key, value in found.figures.items()},
                    "net_by_cost": found.net_by_cost,
                    "bands": [_band_to_json(band) for band in found.bands],
                }
                for name, found in self.results.items()
            },
        }


def _band_to_json(band: Band) -> dict[str, Any]:
    thresholds = {"enter": _finite(band.enter), "leave": _finite(band.leave)}
    return thresholds | ({"of_returns": True} if band.of_returns else {})


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def compare_policies(
    record: Record,
    validation: Sequence[Record],
    bars: Bars,
    spec: TradingSpec,
    seed: int,
    recipes: int = 1,
    others: Sequence[Float64[np.ndarray, " _"]] = (),
    baselines: Mapping[str, BaselineRecords] = NO_BASELINES,
) -> PolicyComparison:
    """Trade a record, and baselines, by every policy.

    Args:
        record: out-of-sample probabilities, oldest first.
        validation: each fold's probabilities of its validation windows.
        bars: the bars that the windows were cut from.
        spec: kind and costs of all policies.
        seed: of the bootstrap.
        recipes: tried on these bars.
        others: net returns of other recipes tried on them, where they are known.
        baselines: by name, on the windows of the record; they are not counted as tried.

    Returns:
        The results of every policy, in the order of `POLICIES`, then those of each baseline.

    Raises:
        SpecError: the record is empty, or a fold has no validation windows.

    Time: as in `trade_strategy`.
    """
    specs = {policy: spec.model_copy(update={"policy": policy}) for policy in POLICIES}
    traded = {policy: trade_strategy(record, bars, each, seed, validation) for policy, each in specs.items()}
    net = {policy: result.strategy.net_returns for policy, result in traded.items()}
    tried = recipes * len(POLICIES)
    results: dict[str, PolicyResult] = {}
    for policy, found in traded.items():
        passed_over = [each for name, each in net.items() if name != policy]
        own, deflated = _result(found, seed), deflate_sharpe_ratio(net[policy], [*passed_over, *others], tried)
        results[policy] = replace(own, figures={**own.figures, "deflated_sharpe": deflated})
    for name, baseline in baselines.items():
        for policy, each in specs.items():
            found = trade_strategy(baseline.test, bars, each, seed, baseline.validation)
            results[traded_by(policy, name)] = _result(found, seed)
    return PolicyComparison(spec, results, tried, float(traded[spec.policy].returns.sum()))


def traded_by(policy: str, forecaster: str) -> str:
    """Return the name of the result of a policy by the probabilities of a baseline.

    >>> traded_by("sign", "gradient_boosting"), policy_and_forecaster("sign_by_gradient_boosting")
    ('sign_by_gradient_boosting', ('sign', 'gradient_boosting'))
    """
    return f"{policy}_by_{forecaster}"


def policy_and_forecaster(result: str) -> tuple[str, str]:
    """Return the policy and the baseline of a result; the latter is "" where the network alone is traded.

    Caution: of `market_neutral_by_expected_return`, a portfolio of the network, it is "expected_return".
    """
    policy, _, forecaster = result.partition("_by_")
    return policy, forecaster


def _result(found: StrategyResult, seed: int) -> PolicyResult:
    positions = found.strategy.positions
    return PolicyResult(
        found.strategy.numbers() | split_return(positions, found.returns, seed),
        net_by_cost(positions * found.returns, traded_value(positions, found.returns)),
        tuple(found.bands.values()),
    )


def net_by_cost(gross: Float64[np.ndarray, " bar"], traded: Float64[np.ndarray, " bar"]) -> tuple[float, ...]:
    """Return the net return of fixed positions at each cost a side of `COST_CURVE_BPS`, as shares.

    Args:
        gross: shape (bar,), float64: simple returns before costs.
        traded: shape (bar,), float64: value traded, in multiples of the equity.
    """
    return tuple(float(np.prod(growth_factors(gross - traded * cost * BPS)) - 1) for cost in COST_CURVE_BPS)


def split_return(
    positions: Float64[np.ndarray, "_ ..."],
    returns: Float64[np.ndarray, "_ ..."],
    seed: int,
    present: Float64[np.ndarray, "_ ..."] | None = None,
) -> dict[str, float]:
    """Split the uncompounded gross return into exposure and timing.

    The sum of position times return is the mean position times the sum of returns (exposure: what a constant
    position of that size earns), plus the sum of (position - mean position) times return (timing: bars times the
    covariance of position and return). Both are before costs. Of several series the parts are added up, and a constant
    position is one in equal parts of the series present: that a series is listed later is no timing.

    Args:
        positions: shape (bar,) or (bar, series), float64.
        returns: the same shape, float64: simple returns of the price; 0 where a series is missing.
        seed: of the bootstrap of timing; the mean position is estimated anew in each resample.
        present: the same shape, float64: 1, or 0 where a series is missing; at least one is present; None: all are.

    Source: the decomposition of a product's mean, as in Lo 2008 (active and passive components of a return).

    >>> found = split_return(np.array([1.0, 0.0]), np.array([0.5, 0.25]), seed=1)
    >>> found["mean_position"], found["exposure_return"], found["timing_return"]
    (0.5, 0.375, 0.125)
    """
    n = len(positions)
    positions, returns = positions.reshape(n, -1), returns.reshape(n, -1)
    gross = (positions * returns).sum(axis=1)
    there = np.ones_like(positions) if present is None else present.reshape(n, -1)
    parts = there.sum(axis=1, keepdims=True)
    held, earned = positions * parts, returns / parts  # in equal parts of the series present

    def timing(counts: Float64[np.ndarray, "resample bar"]) -> Float64[np.ndarray, "resample number"]:
        constant = ((counts @ held) * (counts @ earned) / np.maximum(counts @ there, 1)).sum(axis=1)
        return np.asarray((counts @ gross - constant)[:, None])

    drawn = resample(timing, n, optimal_block_bars(gross), seed)[:, 0]
    value = float(timing(np.ones((1, n)))[0, 0])
    found = Interval(value, *percentile_bounds(drawn))
    return {
        "mean_position": float(positions.sum(axis=1).mean()),
        "exposure_return": float(gross.sum()) - value,
        "timing_return": found.value,
        "timing_return_low": found.low,
        "timing_return_high": found.high,
    }
