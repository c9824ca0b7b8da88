"""Replay the daily retrain and its promotion decision on each day of a period, from stored bars."""

from datetime import date
from typing import Annotated

from prefect import flow
from pydantic import Field

from model.bars import IntervalName
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.presets import recipe_for
from model.promotion_rule import PromotionRule
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.champion.replay_summary import ReplaySummary
from tasks.pages.replay_page import replay_headline
from tasks.replay import open_replay, replay_day, summarise
from tasks.services.flow_run_names import add_outcome_to_name, flow_run_name
from tasks.services.prefect_run_page import completed, readable


@flow(name="replay", flow_run_name=flow_run_name)
@readable
def replay(
    *,
    first: date,
    last: date,
    name: str = "",
    symbol: Annotated[str, Field(min_length=1)] = "BTC-USD",
    interval: IntervalName = "1d",
    window: WindowSpec = WindowSpec(),
    training: TrainingSpec = TrainingSpec(),
    folds: FoldSpec = FoldSpec(),
    network: NetworkSpec = NetworkSpec(),
    promotion: PromotionRule = PromotionRule(),
) -> ReplaySummary:
    """Replay the daily decision for each day of a period; days already replayed are skipped.

    A replay changes no champion. Each of its days counts as one look at the test bars, as a retrain does.

    Args:
        first: First day; its decision is made at 00:00 UTC with the bars closed by then.
        last: Last day. Each day that is replayed counts as one look at its test bars.
        name: Name of the replay's model registry and decision log; empty: the name of the series with -replay.
        symbol: Symbol of the stored series.
        interval: Length of its bars.
        window: Lookback, horizon, features and gaps.
        training: Optimiser, epochs, early stopping, ensemble size and seed.
        folds: Walk-forward evaluation on out-of-sample bars.
        network: Architecture of the network.
        promotion: Rule that promotes, holds or rejects.
    """
    recipe = recipe_for(symbol, interval, window, folds, network, training)
    opened = open_replay(recipe, promotion, first, last, name)
    for day in opened.days:
        replay_day(opened, day)
    summary = summarise(opened)
    add_outcome_to_name(summary.outcome)
    return completed(summary, "; ".join(filter(None, [replay_headline(summary), summary.caveat])))
