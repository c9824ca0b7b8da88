"""Retrain many series, in groups that the workers of the work pools share; a group runs in one process."""

from datetime import datetime
from typing import Annotated

from prefect import flow, runtime
from pydantic import Field

from data_checks.check_spec import CheckSpec
from model.abstention import AbstentionSpec
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.promotion_rule import PromotionRule
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.series_submission import start_group, start_retrain
from tasks.services.flow_run_names import flow_run_name
from tasks.services.group_runs import MAX_SERIES
from tasks.services.prefect_run_page import readable
from tasks.sources.source_spec import SourceSpec

UNLIMITED = "retrain/series"  # the deployment of retrain without a concurrency limit
IN_GROUPS = "retrain_group/retrain_group"
GROUP_SIZE = 10  # own choice: a process then spends a tenth of its imports on a series


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
    abstention: AbstentionSpec = AbstentionSpec(),
    force: bool = False,
    group_size: Annotated[int, Field(ge=1, le=MAX_SERIES)] = GROUP_SIZE,
) -> list[str]:
    """Start the retrains of many series and return the run ids without waiting for the runs.

    Args:
        sources: Where the bars of each series come from.
        window: Lookback, horizon, features and gaps.
        training: Optimiser, epochs, early stopping, ensemble size and seed.
        folds: Walk-forward evaluation on out-of-sample bars.
        network: Architecture of the network.
        promotion: Rule that promotes, holds or rejects.
        check: Rules for bars, and which failures stop the run.
        as_of: Time of the run (UTC); empty: now for an exchange, the last close for a file.
        abstention: Stated share of decisions with an opinion, and stated coverage; no condition of a promotion.
        force: Retrain even if a decision on the same bars, recipe, rule and code exists.
        group_size: Series that one process retrains, one after the other; 1: a process for each series.
    """
    specs = {"check": check, "window": window, "folds": folds, "network": network, "training": training,
             "promotion": promotion, "abstention": abstention}  # fmt: skip
    recipe = {name: spec.model_dump(mode="json", exclude_unset=True) for name, spec in specs.items()}
    parameters = {**recipe, "as_of": as_of.isoformat() if as_of else None, "force": force}
    sender, different = str(runtime.flow_run.id), list(dict.fromkeys(sources))
    if group_size == 1:
        return [start_retrain(UNLIMITED, source, parameters, sender) for source in different]
    different.sort(key=lambda source: source.interval)  # series with windows of one shape share a traced network
    groups = [different[first : first + group_size] for first in range(0, len(different), group_size)]
    return [start_group(IN_GROUPS, number, group, parameters, sender) for number, group in enumerate(groups, 1)]
