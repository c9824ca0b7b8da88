"""Start one retrain for each of many series, distributed over the workers of the work pools."""

from datetime import datetime

from prefect import flow, runtime

from data_checks.check_spec import CheckSpec
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.promotion_rule import PromotionRule
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.retrain_submission import start_retrain
from tasks.services.flow_run_names import flow_run_name
from tasks.services.run_page import readable
from tasks.sources.source_spec import SourceSpec

UNLIMITED = "retrain/series"  # the deployment of retrain without a concurrency limit


@flow(name="retrain_all", flow_run_name=flow_run_name)
@readable
def retrain_all(
    sources: list[SourceSpec],
    window: WindowSpec = WindowSpec(),
    training: TrainingSpec = TrainingSpec(),
    folds: FoldSpec = FoldSpec(),
    network: NetworkSpec = NetworkSpec(),
    promotion: PromotionRule = PromotionRule(),
    check: CheckSpec = CheckSpec(),
    as_of: datetime | None = None,
    *,
    force: bool = False,
) -> list[str]:
    """Start one retrain for each series and return the run ids without waiting for the runs.

    Args:
        sources: Where the bars of each series come from.
        window: Lookback, horizon, features and gaps.
        training: Optimiser, epochs, early stopping, ensemble size and seed.
        folds: Walk-forward evaluation on out-of-sample bars.
        network: Architecture of the network.
        promotion: Rule that promotes, holds or rejects.
        check: Rules for bars, and which failures stop the run.
        as_of: Time of the run (UTC); empty: now for an exchange, the last close for a file.
        force: Retrain even if a decision on the same bars, recipe, rule and code exists.
    """
    specs = {"check": check, "window": window, "folds": folds, "network": network, "training": training,
             "promotion": promotion}  # fmt: skip
    recipe = {name: spec.model_dump(mode="json", exclude_unset=True) for name, spec in specs.items()}
    parameters = {**recipe, "as_of": as_of.isoformat() if as_of else None, "force": force}
    return [start_retrain(UNLIMITED, source, parameters, str(runtime.flow_run.id)) for source in sources]
