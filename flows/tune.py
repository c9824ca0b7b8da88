"""Tune: search for a better recipe on the bars before the test bars."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from model.bars import IntervalName
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.presets import recipe_for
from model.search_space import TuneSpec
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.champion.hyperparameter_search import SearchResult
from tasks.services.flow_run_names import flow_run_name
from tasks.services.prefect_run_page import readable
from tasks.tuning import search


@flow(name="tune", flow_run_name=flow_run_name)
@readable
def tune(
    symbol: Annotated[str, Field(min_length=1)] = "BTC-USD",
    interval: IntervalName = "1d",
    spec: TuneSpec = TuneSpec(),
    window: WindowSpec = WindowSpec(),
    training: TrainingSpec = TrainingSpec(),
    folds: FoldSpec = FoldSpec(),
    network: NetworkSpec = NetworkSpec(),
) -> SearchResult:
    """Search for a recipe with a lower log loss on the bars before the test bars; an interrupted search resumes.

    Args:
        symbol: Symbol of the stored series.
        interval: Length of its bars.
        spec: Number of trials, and the windows on which a trial is scored.
        window: Lookback, horizon, features and gaps; the search varies the lookback.
        training: Training of the trials; the search varies batch size and learning rate.
        folds: Test bars, which stay out-of-sample; the search uses earlier bars only.
        network: Start of the search; its kind is fixed.
    """
    return search(recipe_for(symbol, interval, window, folds, network, training), spec)
