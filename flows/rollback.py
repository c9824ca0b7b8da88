"""Roll back: make a former champion the champion again."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from model.bars import IntervalName, Series
from tasks.champion.rollback_and_forced_promotion import roll_back
from tasks.pages.prefect_artifacts import shown
from tasks.services.events import decision_event, emit_event_for
from tasks.services.flow_run_names import flow_run_name
from tasks.settings import Settings

QUARTER_HOUR = 900


@flow(name="rollback", flow_run_name=flow_run_name, timeout_seconds=QUARTER_HOUR)
def rollback(
    symbol: Annotated[str, Field(min_length=1)] = "BTC-USD",
    interval: IntervalName = "1d",
    to: Annotated[str, Field(pattern=r"^\d*$")] = "",
    reason: str = "",
) -> str:
    """Make a former champion the champion again, and return its version.

    Args:
        symbol: Symbol of the series.
        interval: Length of its bars.
        to: Version to restore; empty: the champion before this one.
        reason: Reason, for the decision log.
    """
    with shown("rollback") as run, run.step("rollback"):
        row = roll_back(Series(symbol, interval), Settings(), to, reason)
        message = f"version {row.version} is champion again, in place of {row.champion_before}"
        emit_event_for(
            decision_event(row.action), row.series_name, message, version=row.version, champion=row.champion_after
        )
        run.report_line(message)
        return row.version
