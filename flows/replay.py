"""The daily retrain and its gate, as they would have gone on each day of a span, from stored bars."""

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
from tasks.champion.daily_replay import ReplaySummary
from tasks.replay import open_replay, replay_day, summarise
from tasks.services.flow_run_names import flow_run_name


@flow(name="replay", flow_run_name=flow_run_name)
def replay(
    *,
    first: date,
    last: date,
    symbol: Annotated[str, Field(min_length=1)] = "BTC-USD",
    interval: IntervalName = "1d",
    window: WindowSpec = WindowSpec(),
    folds: FoldSpec = FoldSpec(),
    network: NetworkSpec = NetworkSpec(),
    training: TrainingSpec = TrainingSpec(),
    promotion: PromotionRule = PromotionRule(),
    name: str = "",
) -> ReplaySummary:
    """Replay the daily decision for each day of a span; days done before are not done again.

    Args:
        first: First day; its decision is made at 00:00 UTC with the bars closed by then.
        last: Last day.
        symbol: Symbol of the stored series.
        interval: Length of its bars.
        window: What a window shows and what is asked of it.
        folds: How a model is judged on bars that it never saw.
        network: The network.
        training: How it is fitted.
        promotion: What it must show to become champion.
        name: Name of the replay's registry and ledger; empty: the series' name with -replay.
    """
    recipe = recipe_for(symbol, interval, window, folds, network, training)
    opened = open_replay(recipe, promotion, first, last, name)
    for day in opened.days:
        replay_day(opened, day)
    return summarise(opened)
