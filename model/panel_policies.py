"""Trade every series of a panel by one policy, in equal parts, net of costs.

Each series present gets the same share of the equity at every close and holds its own position: long, flat or short by
its own probability, or by its expected return where the network predicts the size of a move too. The band of a policy
is chosen fold by fold on the validation windows of all series together. Baselines are traded by the same policies, with
bands of their own. Knows no funding and no borrowing fees. The market-neutral portfolio of ranks is in
`model.panel_portfolio`.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float64, Int64

from model.baseline_records import BaselineRecords
from model.panel_portfolio import Portfolio, compare_portfolios, flows, measure_portfolio, require_one_bar
from model.record import Record
from model.sharpe_and_break_even import BPS
from model.trading import TradingCosts
from model.trading_policies import POLICIES, Band, PolicyName, candidate_bands, hold_bands
from model.trading_policy_comparison import NO_BASELINES, PolicyComparison, traded_by
from model.walk_forward import pool_records

_Forecasts = dict[str, tuple[PolicyName, Record, Record]]  # policy, test and validation windows by name of the result


def compare_panel_policies(
    record: Record,
    returns: Float64[np.ndarray, " window"],
    validation: Record,
    validated_returns: Float64[np.ndarray, " validated"],
    costs: TradingCosts,
    bar: np.timedelta64,
    seed: int,
    *,
    recipes: int = 1,
    baselines: Mapping[str, BaselineRecords] = NO_BASELINES,
) -> PolicyComparison:
    """Trade a panel's record, and baselines, long or short by every policy, with bands of their validation windows.

    Args:
        record: of a panel with a horizon of one bar.
        returns: shape (window,), float64: simple return until the outcome, one bar later.
        validation: the validation windows of all folds, oldest first in each.
        validated_returns: shape (validated,), float64: the same of those windows.
        costs: of a change of position.
        bar: length of a bar.
        seed: of the intervals.
        recipes: tried on these closes.
        baselines: by name, on the windows of the record and of `validation`.

    Returns:
        The results of every policy, then those of each baseline by the name of `traded_by`; see `compare_portfolios`.

    Raises:
        SpecError: the horizon is longer than a bar, so that positions would overlap, or a fold has no band.

    Time: as `learn_bands` and `trade_panel`.
    """
    require_one_bar(record, bar)
    forecasts: _Forecasts = {policy: (policy, record, validation) for policy in POLICIES}
    opponents: _Forecasts = {
        traded_by(policy, name): (policy, each.test, pool_records(each.validation))
        for name, each in baselines.items()
        for policy in POLICIES
    }
    bands = {
        name: learn_bands(policy, validated, validated_returns, costs.side_bps, bar)
        for name, (policy, _, validated) in {**forecasts, **opponents}.items()
    }
    held, theirs = (
        {name: _hold(tested, bands[name]) for name, (_, tested, _) in each.items()} for each in (forecasts, opponents)
    )
    found = compare_portfolios(record, held, theirs, returns, costs, bar, seed, recipes)
    learned = {
        name: replace(result, bands=tuple(bands[name].values()))
        for name, result in found.results.items()
        if not name.startswith("sign")
    }
    return replace(found, results={**found.results, **learned})


def learn_bands(
    policy: PolicyName,
    validation: Record,
    returns: Float64[np.ndarray, " window"],
    cost_bps: float,
    bar: np.timedelta64,
) -> dict[int, Band]:
    """Return the band of each fold: the one with the highest net growth on the fold's validation windows.

    Args:
        policy: which policy.
        validation: the validation windows of all folds, with the fold that they belong to, oldest first in each; the
            bands are of expected returns where it has expected moves.
        returns: shape (window,), float64: simple return of each until its outcome.
        cost_bps: costs per side, basis points.
        bar: length of a bar.

    Time: the band of a fold depends on windows that were resolved before its test windows were decided.
    """
    chosen = {}
    for number in np.unique(validation.fold).tolist():
        windows = np.flatnonzero(validation.fold == number)
        part, earned = validation.take(windows), returns[windows]
        bands = candidate_bands(policy, part.probabilities, earned, cost_bps * BPS, part.expected_returns())
        growths = []
        for band in bands:
            gross, traded = flows(part, _hold(part, {number: band}), earned, bar)
            growths.append(np.log1p(np.maximum(gross - traded * cost_bps * BPS, -1 + BPS)).sum())
        chosen[number] = bands[int(np.argmax(growths))]
    return chosen


def trade_panel(
    record: Record,
    returns: Float64[np.ndarray, " window"],
    bands: Mapping[int, Band],
    cost_bps: float,
    bar: np.timedelta64,
    seed: int,
) -> Portfolio:
    """Trade a panel's record long or short by the bands of its folds.

    Args:
        record: of a panel with a horizon of one bar.
        returns: shape (window,), float64: simple return until the outcome, one bar later.
        bands: by fold, as `learn_bands` returns.
        cost_bps: costs per side, basis points.
        bar: length of a bar, for the annualisation.
        seed: of the intervals.

    Raises:
        SpecError: the horizon is longer than a bar, so that positions would overlap, or a fold has no band.

    Time: positions at a close depend on the probabilities of that close and of those before.
    """
    require_one_bar(record, bar)
    return measure_portfolio(record, _hold(record, bands), returns, cost_bps, bar, seed)


def _hold(record: Record, bands: Mapping[int, Band]) -> Float64[np.ndarray, "bar series"]:
    """Return the weight of each series at each close: its position in equal parts of the series present."""
    bars, (_, series) = record.bar_numbers(), np.unique(record.symbols, return_inverse=True)
    shape = (int(bars[-1]) + 1, int(series.max()) + 1)
    probabilities, present = np.full(shape, 0.5), np.zeros(shape, dtype=bool)
    probabilities[bars, series], present[bars, series] = record.probabilities, True
    sized = len(record.expected_moves) > 0
    expected = np.zeros(shape if sized else (0, shape[1]))
    if sized:
        expected[bars, series] = record.expected_returns()
    fold: Int64[np.ndarray, " bar"] = np.zeros(shape[0], np.int64)
    fold[bars] = record.fold
    held = [
        hold_bands(probabilities[:, k], fold, bands, present[:, k], short=True, expected_returns=expected[:, k])
        for k in range(shape[1])
    ]
    return np.asarray(np.stack(held, axis=1) / np.maximum(present.sum(axis=1, keepdims=True), 1))
