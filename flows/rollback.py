"""Roll back: make a former champion the champion again, and hold the recipe of the other one."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from model.bars import IntervalName, Series
from tasks.champion.rollback import roll_back, what_next
from tasks.pages.prefect_artifacts import show_manual_decision, shown
from tasks.services.events import announce
from tasks.services.flow_run_names import flow_run_name
from tasks.services.prefect_run_page import readable
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision

QUARTER_HOUR = 900


@flow(name="rollback", flow_run_name=flow_run_name, timeout_seconds=QUARTER_HOUR)
@readable
def rollback(
    symbol: Annotated[str, Field(min_length=1)] = "BTC-USD",
    interval: IntervalName = "1d",
    to: Annotated[str, Field(pattern=r"^\d*$")] = "",
    reason: str = "",
) -> LoggedDecision:
    """Make a former champion the champion again, and hold the recipe of the version that it replaces.

    No retrain promotes a held recipe until `lift_hold` runs.

    Args:
        symbol: Symbol of the series.
        interval: Length of its bars.
        to: Version to restore; empty: the champion that the current one replaced, so that a second rollback goes back
            further. The recipe of the version that it replaces is held: no retrain promotes it until the hold is lifted
            (`lift_hold`).
        reason: Reason, for the decision log.
    """
    with shown("rollback") as run, run.step("rollback"):
        series, settings = Series(symbol, interval), Settings()
        row = roll_back(series, settings, to, reason)
        show_manual_decision(row)
        run.report_line(announce(row))
        run.report_line(what_next(series, settings, row))
        return row
