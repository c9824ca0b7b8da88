"""Hold the series of a panel as a portfolio, rebalanced at every close, net of costs.

The market-neutral portfolio holds the fifth with the highest probabilities against the fifth with the lowest. Positions
by a policy are in `model.panel_policies`; both are measured and compared here. All intervals draw whole closes in
blocks, because the returns of one close are correlated. Knows no funding and no borrowing fees. Caution: the series of
a panel were chosen while they were alive, which flatters any portfolio that is long.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from model.bootstrap import Interval
from model.errors import SpecError
from model.multiple_testing import deflate_sharpe_ratio
from model.record import Record
from model.sharpe_and_break_even import BPS, break_even_interval, growth_factors, sharpe_interval
from model.trading import YEAR, TradingCosts, TradingSpec
from model.trading_policy_comparison import PolicyComparison, PolicyResult, net_by_cost, split_return

SHARE = 0.2  # fifths, as in studies of the cross-section
MARKET_NEUTRAL = "market_neutral"  # by probability; by other scores: `market_neutral_by_expected_return`


@dataclass(frozen=True, slots=True)
class Portfolio:
    """A portfolio of the series of a panel, rebalanced at every close.

    Attributes:
        gross: shape (bar,), float64: simple return of each bar before costs.
        traded: shape (bar,), float64: value traded at each close, in multiples of the equity. Weights drift with
            prices, and trading them back counts; the last close, and a close before a gap, also count the exit.
        exposure: mean sum of the absolute weights.
        break_even_bps: costs per side at which the net return is 0, basis points, with its 95 % interval; NaN where
            nothing was traded.
        sharpe: annualised Sharpe ratio net of the stated costs, with its 95 % interval.
        gross_bps: mean gross return per bar, basis points.
        net_bps: the same net of the stated costs.
        net_returns: shape (bar,), float64: simple return of each bar net of those costs.
    """

    gross: Float64[np.ndarray, " bar"]
    traded: Float64[np.ndarray, " bar"]
    exposure: float
    break_even_bps: Interval
    sharpe: Interval
    gross_bps: float
    net_bps: float
    net_returns: Float64[np.ndarray, " bar"]

    def numbers(self) -> dict[str, float]:
        """Return the figures by name, those with an interval also with `_low` and `_high`; see `Performance`."""
        found = {name: getattr(self, name) for name in ("gross_bps", "net_bps", "exposure")}
        found["gross_return"], found["net_return"] = (
            float(np.prod(growth_factors(each)) - 1) for each in (self.gross, self.net_returns)
        )
        found["turnover"] = float(self.traded.sum())
        for name in ("break_even_bps", "sharpe"):
            each = getattr(self, name)
            found |= {name: each.value, f"{name}_low": each.low, f"{name}_high": each.high}
        return found


def quantile_portfolio(
    record: Record,
    scores: Float64[np.ndarray, " window"],
    returns: Float64[np.ndarray, " window"],
    cost_bps: float,
    bar: np.timedelta64,
    seed: int,
) -> Portfolio:
    """Hold the fifth with the highest scores against the fifth with the lowest, in equal parts, from close to close.

    Equal scores are ranked by symbol. Caution: a window without an outcome is no candidate, so a series that misses the
    next bar is never held.

    Args:
        record: of a panel with a horizon of one bar.
        scores: shape (window,), float64.
        returns: shape (window,), float64: simple return until the outcome, one bar later.
        cost_bps: costs per side, basis points of the value traded.
        bar: length of a bar, for the annualisation.
        seed: of the intervals.

    Raises:
        SpecError: the horizon is longer than a bar, so that positions would overlap.

    Time: the position at a close depends on the scores of that close.
    """
    require_one_bar(record, bar)
    return measure_portfolio(record, _weights(record, scores), returns, cost_bps, bar, seed)


def compare_rank_portfolios(
    record: Record,
    scores: Mapping[str, Float64[np.ndarray, " window"]],
    returns: Float64[np.ndarray, " window"],
    costs: TradingCosts,
    bar: np.timedelta64,
    seed: int,
    recipes: int = 1,
) -> PolicyComparison:
    """Compare the market-neutral portfolios of a network with those of baselines.

    Args:
        record: of a panel with a horizon of one bar. Where it has expected moves, a second portfolio ranks the series
            by the expected return.
        scores: by name, shape (window,), float64: what ranks the series by a baseline.
        returns: shape (window,), float64: simple return until the outcome, one bar later.
        costs: of a change of a position.
        bar: length of a bar.
        seed: of the intervals.
        recipes: tried on these closes.

    Returns:
        The results by MARKET_NEUTRAL and what ranks the series; see `compare_portfolios`.

    Raises:
        SpecError: the horizon is longer than a bar, so that positions would overlap.

    Time: as `quantile_portfolio`.
    """
    require_one_bar(record, bar)
    ranked = {MARKET_NEUTRAL: record.probabilities}
    if len(record.expected_moves):
        ranked[f"{MARKET_NEUTRAL}_by_expected_return"] = record.expected_returns()
    weights = {name: _weights(record, each) for name, each in ranked.items()}
    theirs = {f"{MARKET_NEUTRAL}_by_{name}": _weights(record, each) for name, each in scores.items()}
    return compare_portfolios(record, weights, theirs, returns, costs, bar, seed, recipes)


def compare_portfolios(
    record: Record,
    weights: Mapping[str, Float64[np.ndarray, "bar series"]],
    baselines: Mapping[str, Float64[np.ndarray, "bar series"]],
    returns: Float64[np.ndarray, " window"],
    costs: TradingCosts,
    bar: np.timedelta64,
    seed: int,
    recipes: int = 1,
) -> PolicyComparison:
    """Measure several portfolios of a panel on the same closes.

    Args:
        record: of a panel with a horizon of one bar.
        weights: by name, shape (bar, series): those of the network, as `measure_portfolio` takes them.
        baselines: likewise, of baselines. They are not counted as tried, and have no deflated Sharpe ratio.
        returns: shape (window,), float64: simple return until the outcome, one bar later.
        costs: of a change of a position.
        bar: length of a bar.
        seed: of the intervals.
        recipes: tried on these closes.

    Returns:
        The results by name; `tried` is the number of recipes times that of the network's portfolios, and
        `buy_and_hold_return` is that of all series present, in equal parts.
    """
    held = {
        name: measure_portfolio(record, each, returns, costs.side_bps, bar, seed)
        for name, each in {**weights, **baselines}.items()
    }
    tried, earned = recipes * len(weights), earned_by_series(record, returns)
    present = earned_by_series(record, np.ones(len(record)))
    results: dict[str, PolicyResult] = {}
    for name, found in held.items():
        figures = found.numbers() | split_return({**weights, **baselines}[name], earned, seed, present)
        if name in weights:
            others = [held[each].net_returns for each in weights if each != name]
            figures["deflated_sharpe"] = deflate_sharpe_ratio(found.net_returns, others, tried)
        results[name] = PolicyResult(figures, net_by_cost(found.gross, found.traded), ())
    equal_parts = returns / np.bincount(record.bar_numbers())[record.bar_numbers()]
    spec = TradingSpec(**costs.model_dump(include=set(TradingCosts.model_fields)), kind="long_short")
    return PolicyComparison(spec, results, tried, float(equal_parts.sum()))


def measure_portfolio(
    record: Record,
    weights: Float64[np.ndarray, "bar series"],
    returns: Float64[np.ndarray, " window"],
    cost_bps: float,
    bar: np.timedelta64,
    seed: int,
) -> Portfolio:
    """Measure a portfolio by its weights at each close.

    Args:
        record: of a panel with a horizon of one bar.
        weights: shape (bar, series), float64: of the equity, series in alphabetical order; 0 where a series is missing.
        returns: shape (window,), float64: simple return until the outcome, one bar later.
        cost_bps: costs per side, basis points of the value traded.
        bar: length of a bar, for gaps and the annualisation.
        seed: of the intervals.

    Returns:
        The portfolio, with a row for each close of the record.
    """
    gross, traded = flows(record, weights, returns, bar)
    net = gross - traded * cost_bps * BPS
    return Portfolio(
        gross=gross,
        traded=traded,
        exposure=float(np.abs(weights).sum(axis=1).mean()),
        break_even_bps=break_even_interval(gross, traded, seed),
        sharpe=sharpe_interval(net, float(YEAR / bar), seed),
        gross_bps=float(gross.mean() / BPS),
        net_bps=float(net.mean() / BPS),
        net_returns=net,
    )


def flows(
    record: Record,
    weights: Float64[np.ndarray, "bar series"],
    returns: Float64[np.ndarray, " window"],
    bar: np.timedelta64,
) -> tuple[Float64[np.ndarray, " bar"], Float64[np.ndarray, " bar"]]:
    """Return gross return and value traded of each bar; see `measure_portfolio`.

    Time: the value traded at a close depends on its weights, and on those of the close before and their returns.
    """
    earned = earned_by_series(record, returns)
    gross = (weights * earned).sum(axis=1)
    drifted = weights * (1 + earned) / np.maximum(1 + gross, BPS)[:, None]
    followed = np.append(np.diff(np.unique(record.decided_at)) == bar, False)
    carried = np.where(followed[:, None], drifted, 0.0)
    before = np.concatenate([np.zeros((1, weights.shape[1])), carried[:-1]])
    traded = np.abs(weights - before).sum(axis=1) + np.abs(drifted - carried).sum(axis=1)
    return gross, traded


def earned_by_series(record: Record, returns: Float64[np.ndarray, " window"]) -> Float64[np.ndarray, "bar series"]:
    """Return the returns of the windows by close and series, series in alphabetical order; 0 where one is missing."""
    bars, (_, series) = record.bar_numbers(), np.unique(record.symbols, return_inverse=True)
    earned = np.zeros((int(bars[-1]) + 1, int(series.max()) + 1))
    earned[bars, series] = returns
    return earned


def require_one_bar(record: Record, bar: np.timedelta64) -> None:
    """Raise unless every label is resolved a bar after its decision.

    Raises:
        SpecError: the horizon is longer than a bar, so that positions would overlap.
    """
    horizons = np.unique(record.resolved_at - record.decided_at)
    if len(horizons) and (len(horizons) > 1 or horizons[0] != bar):
        raise SpecError(f"portfolio: expected a horizon of one bar, found one of {horizons[-1] / bar:g}")


def fifth_sizes(present: Int64[np.ndarray, " bar"]) -> Int64[np.ndarray, " bar"]:
    """Return how many series a fifth is, shape (bar,), int64: at least one, none where a close has a single series.

    Args:
        present: shape (bar,), int64: series at each close.

    Examples:
        >>> fifth_sizes(np.array([1, 2, 7, 8, 42])).tolist()
        [0, 1, 1, 2, 8]
    """
    held = np.maximum(np.round(SHARE * present), 1).astype(np.int64)
    return np.where(present > 1, held, 0)


def _weights(record: Record, scores: Float64[np.ndarray, " window"]) -> Float64[np.ndarray, "bar series"]:
    """Return the weight of each series at each close: +1 spread over the top fifth, -1 over the bottom one."""
    bars = record.bar_numbers()
    _, series = np.unique(record.symbols, return_inverse=True)
    grid = np.full((int(bars[-1]) + 1, int(series.max()) + 1), np.nan)
    grid[bars, series] = scores
    present = np.isfinite(grid).sum(axis=1)
    held = fifth_sizes(present)
    places = np.argsort(np.argsort(np.where(np.isfinite(grid), grid, np.inf), axis=1, kind="stable"), axis=1)
    short = places < held[:, None]
    long = (places >= (present - held)[:, None]) & (places < present[:, None])
    return np.asarray((long.astype(np.float64) - short) / np.maximum(held, 1)[:, None])
