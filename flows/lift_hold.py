"""Lift a hold: let a recipe that a rollback holds be promoted again; the champion stays."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from model.bars import IntervalName, Series
from tasks.champion.rollback import lift_hold as lift
from tasks.pages.prefect_artifacts import show_manual_decision, shown
from tasks.services.events import announce
from tasks.services.flow_run_names import flow_run_name
from tasks.services.prefect_run_page import readable
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision

QUARTER_HOUR = 900


@flow(name="lift_hold", flow_run_name=flow_run_name, timeout_seconds=QUARTER_HOUR)
@readable
def lift_hold(
    symbol: Annotated[str, Field(min_length=1)],
    interval: IntervalName,
    reason: Annotated[str, Field(min_length=1)],
    version: Annotated[str, Field(pattern=r"^\d*$")] = "",
) -> LoggedDecision:
    """Let a recipe that a rollback holds be promoted again; the champion stays.

    Args:
        symbol: Symbol of the series.
        interval: Length of its bars.
        reason: Reason, for the decision log.
        version: Version that was rolled back; empty: that of the only held recipe. If several recipes are
            held, an empty field is refused with their versions.
    """
    with shown("lift") as run, run.step("lift"):
        row = lift(Series(symbol, interval), Settings(), reason, version)
        show_manual_decision(row)
        run.report_line(announce(row))
        return row
