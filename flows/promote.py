"""Promote: decide again about a registered version; the champion changes only after a person approves in Prefect."""

from typing import Annotated, Any

from prefect import flow
from prefect.states import Completed
from pydantic import Field

from model.bars import IntervalName, Series
from model.promotion_rule import PromotionRule
from tasks.champion.promotion_by_hand import commit_promotion, plan_promotion
from tasks.pages.prefect_artifacts import show_manual_decision, shown
from tasks.services.approval import ask_for_approval
from tasks.services.events import announce
from tasks.services.flow_run_names import flow_run_name
from tasks.services.prefect_run_page import readable
from tasks.settings import Settings


@flow(name="promote", flow_run_name=flow_run_name)
@readable
def promote(
    symbol: Annotated[str, Field(min_length=1)],
    interval: IntervalName,
    version: Annotated[str, Field(pattern=r"^\d+$")],
    reason: str = "",
    *,
    force: bool = False,
    promotion: PromotionRule = PromotionRule(),
) -> Any:
    """Decide again about a registered version; the run pauses for approval before the champion changes.

    Args:
        symbol: Symbol of the series.
        interval: Length of its bars.
        version: Version to decide about.
        reason: Reason, for the decision log; required with force.
        force: Promote it whatever the rule decides; the decision log marks it.
        promotion: Rule that promotes, holds or rejects, unless forced.
    """
    series, settings = Series(symbol, interval), Settings()
    with shown("compare", "commit") as run:
        with run.step("compare"):
            planned = plan_promotion(series, settings, version, promotion, force=force, reason=reason)
        row = ask_for_approval(planned) if planned.action == "promote" else planned
        if row is None:
            return Completed(name="Declined", message=f"version {version} was declined; the champion has not changed")
        with run.step("commit"):
            commit_promotion(series, settings, row)
        show_manual_decision(row)
        run.report_line(announce(row))
        return row
