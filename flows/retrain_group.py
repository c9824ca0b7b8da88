"""Retrain several series one after the other in one process, each as a flow run of its own.

The first series imports the libraries and traces the network; the others use them. A series that fails does not stop
the others. If the process dies, the series that was running is lost, and another run takes up those after it.
"""

from datetime import datetime
from typing import Annotated, Any

from prefect import flow, runtime, tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from data_checks.check_spec import CheckSpec
from flows.retrain import retrain
from model.abstention import AbstentionSpec
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.promotion_rule import PromotionRule
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.services.flow_run_names import flow_run_name
from tasks.services.group_runs import MAX_SERIES, continue_after_crash, incomplete, show_group, summary
from tasks.services.prefect_run_page import readable
from tasks.sources.source_spec import SourceSpec


@flow(name="retrain_group", flow_run_name=flow_run_name, on_crashed=[continue_after_crash])
@readable
def retrain_group(
    sources: Annotated[list[SourceSpec], Field(min_length=1, max_length=MAX_SERIES)],
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
) -> State[Any]:
    """Retrain several series one after the other in one process, and list their decisions.

    Args:
        sources: Where the bars of each series come from.
        window: Lookback, horizon, features and gaps.
        training: Optimiser, epochs, early stopping, ensemble size and seed.
        folds: Walk-forward evaluation on out-of-sample bars.
        network: Architecture of the network.
        promotion: Rule that promotes, holds or rejects.
        check: Rules for bars, and which failures stop the run.
        as_of: Time of the runs (UTC); empty: now for an exchange, the last close for a file.
        abstention: Stated share of decisions with an opinion, and stated coverage; no condition of a promotion.
        force: Retrain even if a decision on the same bars, recipe, rule and code exists.
    """
    specs = {"check": check, "window": window, "folds": folds, "network": network, "training": training,
             "promotion": promotion, "abstention": abstention}  # fmt: skip
    recipe: dict[str, Any] = {name: spec.model_dump(mode="json", exclude_unset=True) for name, spec in specs.items()}
    for source in dict.fromkeys(sources):
        with tags(*runtime.flow_run.tags, source.symbol):
            retrain(source=source.model_dump(mode="json"), **recipe, as_of=as_of, force=force, return_state=True)
    with get_client(sync_client=True) as client:
        rows = show_group(client, client.read_flow_run(runtime.flow_run.id))
    return Failed(message=summary(rows)) if incomplete(rows) else Completed(message=summary(rows), data=rows)
