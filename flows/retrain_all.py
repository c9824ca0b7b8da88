"""One retrain for each of many series, spread over the workers of the pools."""

from datetime import datetime

from prefect import flow, runtime

from data_checks.suites import CheckSpec
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.promotion_rule import PromotionRule
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.retrain_submission import start_retrain
from tasks.sources.source_spec import SourceSpec

ANY_NUMBER = "retrain/series"  # the deployment of retrain that lets any number run at a time


@flow(name="retrain_all", flow_run_name="retrain all")
def retrain_all(
    sources: list[SourceSpec],
    check: CheckSpec = CheckSpec(),
    window: WindowSpec = WindowSpec(),
    folds: FoldSpec = FoldSpec(),
    network: NetworkSpec = NetworkSpec(),
    training: TrainingSpec = TrainingSpec(),
    promotion: PromotionRule = PromotionRule(),
    as_of: datetime | None = None,
) -> list[str]:
    """Start one retrain for each series and return the ids of the runs; none is waited for.

    Args:
        sources: Where the bars of each series come from.
        check: What good bars are, and which failures stop the run.
        window: What a window shows and what is asked of it.
        folds: How the models are judged on bars that they never saw.
        network: The network.
        training: How it is fitted.
        promotion: What a model must show to become champion.
        as_of: What counts as now (UTC); empty: the clock for an exchange, the last close for a file.
    """
    specs = {"check": check, "window": window, "folds": folds, "network": network, "training": training,
             "promotion": promotion}  # fmt: skip
    recipe = {name: spec.model_dump(mode="json", exclude_unset=True) for name, spec in specs.items()}
    parameters = {**recipe, "as_of": as_of.isoformat() if as_of else None}
    return [start_retrain(ANY_NUMBER, source, parameters, str(runtime.flow_run.id)) for source in sources]
