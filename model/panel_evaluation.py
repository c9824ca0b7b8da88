"""Evaluate a panel out of sample: pooled numbers, a table by series, and, for ranks, their order within each close.

Pooled numbers are those of `model.evaluation`, with intervals that draw whole closes. Rank numbers are those of
`model.panel_scores`; portfolios are in `model.panel_portfolio`, because they are corrected for the recipes tried.
Caution: a table of many series holds some good ones by chance; its intervals are not corrected.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float64

from model.bootstrap import Interval, PairedDifference, compare_losses
from model.errors import SpecError
from model.evaluation import NETWORK, Evaluation, evaluate_record
from model.label_names import LABEL_NAMES
from model.metrics import score
from model.panel_recipe import PanelRecipe
from model.panel_scores import auc_by_bar, mean_interval
from model.record import Record

HELD_OUT = "all held out"


@dataclass(frozen=True, slots=True)
class SeriesScores:
    """Out-of-sample scores of the network on one series of a panel.

    Attributes:
        symbol: of the series.
        windows: number of test windows.
        rises_share: share of label 1 among them.
        scores: by the names of `model.metrics.METRICS`.
        against_base_rate: log loss minus that of the panel's base rate on the same windows.
        trained_on: False for a held-out series.
    """

    symbol: str
    windows: int
    rises_share: float
    scores: dict[str, float]
    against_base_rate: PairedDifference
    trained_on: bool = True


@dataclass(frozen=True, slots=True)
class RankScores:
    """What the probabilities of the label `rank` are worth within each close.

    Attributes:
        auc: area under the curve within a close, by forecaster: the network, the baselines, the plain ranks.
        ahead: area of the network minus that of each other forecaster, paired by close.
    """

    auc: dict[str, Interval]
    ahead: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class PanelEvaluation:
    """Out-of-sample results of one retrain of a panel.

    Attributes:
        pooled: over all series.
        closes: number of closes at which test windows were decided.
        series: by symbol, alphabetically.
        ranks: None for the label `rise`.
        left_out: why a symbol of the panel or a held-out one has no scores, by symbol; see
            `model.panel.series_left_out`.
        held_out: of the held-out series, by symbol, alphabetically; if several, all of them come first (`HELD_OUT`).
    """

    pooled: Evaluation
    closes: int
    series: tuple[SeriesScores, ...]
    ranks: RankScores | None
    left_out: Mapping[str, str] = field(default_factory=dict)
    held_out: tuple[SeriesScores, ...] = ()


def evaluate_panel_record(
    record: Record,
    baselines: Mapping[str, Float64[np.ndarray, " window"]],
    scores: Mapping[str, Float64[np.ndarray, " window"]],
    recipe: PanelRecipe,
    further_seeds: Mapping[int, Float64[np.ndarray, " window"]] | None = None,
) -> PanelEvaluation:
    """Evaluate the record of a panel, alone and vs. the baselines.

    Args:
        record: pooled out-of-sample probabilities, in the order of time, with their symbols.
        baselines: by name, shape (window,), float64: P(label 1) on the record's windows, learned on the same inputs.
        scores: by name, shape (window,), float64: what ranks the windows where it is no probability: plain ranks, which
            need no model, and the scores of a baseline in place of its probabilities; read for the label `rank` only.
        recipe: of the panel.
        further_seeds: by seed, shape (window,), float64: probabilities of networks of other seeds.

    Returns:
        The pooled evaluation, the table by series, and for the label rank the scores within each close.

    Raises:
        SpecError: no close of a rank record holds both classes.
    """
    seed = recipe.training.seed
    forecasts = {NETWORK: record.probabilities, **baselines, **scores}
    return PanelEvaluation(
        pooled=evaluate_record(record, baselines, {}, seed, further_seeds, LABEL_NAMES[recipe.panel.label]),
        closes=len(np.unique(record.decided_at)),
        series=tuple(
            _score_series(record, baselines["base_rate"], str(symbol), seed) for symbol in np.unique(record.symbols)
        ),
        ranks=_score_ranks(record, forecasts, seed) if recipe.panel.label == "rank" else None,
    )


def score_held_out(
    record: Record, pooled: Record, base_rate: Float64[np.ndarray, " window"], seed: int
) -> tuple[SeriesScores, ...]:
    """Score each held-out series, and all of them if there are several.

    Args:
        record: what the networks of the folds predicted for the held-out series in their test periods.
        pooled: record of the panel, with the same folds.
        base_rate: shape (window,), float64: the panel's base rate on the windows of `pooled`, one value a fold.
        seed: of the bootstrap.

    Raises:
        SpecError: a fold of the record is none of the panel's.
    """
    rates = {int(number): float(base_rate[pooled.fold == number][0]) for number in np.unique(pooled.fold)}
    unknown = sorted(set(record.fold.tolist()) - rates.keys())
    if unknown:
        raise SpecError(f"held-out series: expected the folds {sorted(rates)} of the panel, found {unknown}")
    base = np.array([rates[number] for number in record.fold.tolist()])
    scores = [_score_series(record, base, str(symbol), seed, trained_on=False) for symbol in np.unique(record.symbols)]
    if len(scores) > 1:
        together = replace(record, symbols=np.full(len(record), HELD_OUT))
        scores.insert(0, _score_series(together, base, HELD_OUT, seed, trained_on=False))
    return tuple(scores)


def _score_series(
    record: Record, base_rate: Float64[np.ndarray, " window"], symbol: str, seed: int, *, trained_on: bool = True
) -> SeriesScores:
    own = record.symbols == symbol
    part = record.take(own)
    return SeriesScores(
        trained_on=trained_on,
        symbol=symbol,
        windows=len(part),
        rises_share=float(part.labels.mean()),
        scores=score(part.labels, part.probabilities),
        against_base_rate=compare_losses(part, base_rate[own], seed),
    )


def _score_ranks(record: Record, scores: Mapping[str, Float64[np.ndarray, " window"]], seed: int) -> RankScores:
    areas, overlap = {name: auc_by_bar(record, each) for name, each in scores.items()}, record.overlap_bars()
    ahead = {name: areas[NETWORK] - each for name, each in areas.items() if name != NETWORK}
    return RankScores(
        auc={name: mean_interval(each, seed, overlap) for name, each in areas.items()},
        ahead={name: mean_interval(each, seed, overlap) for name, each in ahead.items()},
    )
