"""Evaluate a panel out of sample: pooled numbers, a table by series, and, for ranks, what they earn within each close.

Pooled numbers are those of `model.evaluation`, with intervals that draw whole closes. Rank numbers are those of
`model.panel_scores` and `model.panel_portfolio`. Caution: a table of many series holds some good ones by chance; its
intervals are not corrected.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from model.bars import interval_delta
from model.bootstrap import Interval, PairedDifference, compare_losses
from model.evaluation import NETWORK, Evaluation, evaluate_record
from model.label_names import LABEL_NAMES
from model.metrics import Record, score
from model.panel_portfolio import quantile_portfolio
from model.panel_recipe import PanelRecipe
from model.panel_scores import auc_by_bar, mean_interval
from model.trading import TradingSpec

PROBABILITY, EXPECTED_RETURN = "probability", "expected_return"


@dataclass(frozen=True, slots=True)
class SeriesScores:
    """Out-of-sample scores of the network on one series of a panel.

    Attributes:
        symbol: of the series.
        windows: number of test windows.
        rises_share: share of label 1 among them.
        scores: by the names of `model.metrics.METRICS`.
        against_base_rate: log loss minus that of the panel's base rate on the same windows.
    """

    symbol: str
    windows: int
    rises_share: float
    scores: dict[str, float]
    against_base_rate: PairedDifference


@dataclass(frozen=True, slots=True)
class RankScores:
    """What the probabilities of the label `rank` are worth within each close.

    Attributes:
        auc: area under the curve within a close, by forecaster.
        portfolios: `Portfolio.numbers` of the network's market-neutral portfolio, by what ranks the series:
            PROBABILITY, and EXPECTED_RETURN where it predicts the size of a move; empty for a horizon above one bar,
            where positions would overlap.
    """

    auc: dict[str, Interval]
    portfolios: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class PanelEvaluation:
    """Out-of-sample results of one retrain of a panel.

    Attributes:
        pooled: over all series.
        closes: number of closes at which test windows were decided.
        series: by symbol, alphabetically.
        ranks: None for the label `rise`.
        left_out: why a symbol of the panel is not among the series, by symbol; see `model.panel.series_left_out`.
    """

    pooled: Evaluation
    closes: int
    series: tuple[SeriesScores, ...]
    ranks: RankScores | None
    left_out: Mapping[str, str] = field(default_factory=dict)


def evaluate_panel_record(
    record: Record,
    baselines: Mapping[str, Float64[np.ndarray, " window"]],
    returns: Float64[np.ndarray, " window"],
    recipe: PanelRecipe,
    costs: TradingSpec,
    further_seeds: Mapping[int, Float64[np.ndarray, " window"]] | None = None,
) -> PanelEvaluation:
    """Evaluate the record of a panel, alone and vs. the baselines.

    Args:
        record: pooled out-of-sample probabilities, in the order of time, with their symbols.
        baselines: by name, shape (window,), float64: P(label 1) on the record's windows, learned on the same inputs.
        returns: shape (window,), float64: simple return from each decision to its outcome.
        recipe: of the panel.
        costs: per side, of the market-neutral portfolio.
        further_seeds: by seed, shape (window,), float64: probabilities of networks of other seeds.

    Returns:
        The pooled evaluation, the table by series, and for the label rank the scores within each close.

    Raises:
        SpecError: no close of a rank record holds both classes.
    """
    seed = recipe.training.seed
    forecasts = {NETWORK: record.probabilities, **baselines}
    return PanelEvaluation(
        pooled=evaluate_record(record, baselines, {}, seed, further_seeds, LABEL_NAMES[recipe.panel.label]),
        closes=len(np.unique(record.decided_at)),
        series=tuple(
            _score_series(record, baselines["base_rate"], str(symbol), seed) for symbol in np.unique(record.symbols)
        ),
        ranks=_score_ranks(record, forecasts, returns, recipe, costs) if recipe.panel.label == "rank" else None,
    )


def _score_series(record: Record, base_rate: Float64[np.ndarray, " window"], symbol: str, seed: int) -> SeriesScores:
    own = record.symbols == symbol
    part = record.take(own)
    return SeriesScores(
        symbol=symbol,
        windows=len(part),
        rises_share=float(part.labels.mean()),
        scores=score(part.labels, part.probabilities),
        against_base_rate=compare_losses(part, base_rate[own], seed),
    )


def _score_ranks(
    record: Record,
    forecasts: Mapping[str, Float64[np.ndarray, " window"]],
    returns: Float64[np.ndarray, " window"],
    recipe: PanelRecipe,
    costs: TradingSpec,
) -> RankScores:
    seed = recipe.training.seed
    auc = {name: mean_interval(auc_by_bar(record, given), seed) for name, given in forecasts.items()}
    if recipe.window.horizon_bars > 1:
        return RankScores(auc, {})
    bar, ranked = interval_delta(recipe.interval), {PROBABILITY: record.probabilities}
    if recipe.network.magnitude:
        ranked[EXPECTED_RETURN] = record.expected_returns()
    held = {
        name: quantile_portfolio(record, each, returns, costs.side_bps, bar, seed).numbers()
        for name, each in ranked.items()
    }
    return RankScores(auc, held)
