"""Roll back: make a former champion the champion again, and hold the recipe of the other one; or lift such a hold."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from model.bars import IntervalName, Series
from tasks.champion.rollback_and_forced_promotion import lift_hold, roll_back
from tasks.pages.prefect_artifacts import show_manual_decision, shown
from tasks.services.events import announce
from tasks.services.flow_run_names import flow_run_name
from tasks.settings import Settings

QUARTER_HOUR = 900


@flow(name="rollback", flow_run_name=flow_run_name, timeout_seconds=QUARTER_HOUR)
def rollback(
    symbol: Annotated[str, Field(min_length=1)] = "BTC-USD",
    interval: IntervalName = "1d",
    to: Annotated[str, Field(pattern=r"^\d*$")] = "",
    reason: str = "",
    *,
    lift: bool = False,
) -> str:
    """Make a former champion the champion again, and return the version of the champion.

    The recipe of the version that it replaces is held: no retrain promotes it until a person lifts the hold.

    Args:
        symbol: Symbol of the series.
        interval: Length of its bars.
        to: Version to restore; empty: the champion before this one. With lift: the version that was rolled back.
        reason: Reason, for the decision log.
        lift: Lift the hold of a former rollback instead; the champion stays. Requires a reason; `to` chooses among
            several.
    """
    with shown("rollback") as run, run.step("rollback"):
        series, settings = Series(symbol, interval), Settings()
        row = lift_hold(series, settings, reason, to) if lift else roll_back(series, settings, to, reason)
        show_manual_decision(row)
        run.report_line(announce(row))
        return row.champion_after or ""
