"""Monitor the champion: stored predictions against outcomes, inputs against training bars; alarms become events."""

from datetime import datetime
from typing import Annotated

from prefect import flow
from pydantic import Field

from model.bars import IntervalName
from model.monitor_alarms import MonitorSpec
from tasks.monitoring import run_monitor
from tasks.pages.prefect_artifacts import shown
from tasks.results import Monitoring
from tasks.services.flow_run_names import flow_run_name
from tasks.services.prefect_run_page import readable

QUARTER_HOUR = 900


@flow(name="monitor", flow_run_name=flow_run_name, timeout_seconds=QUARTER_HOUR)
@readable
def monitor(
    symbol: Annotated[str, Field(min_length=1)] = "BTC-USD",
    interval: IntervalName = "1d",
    spec: MonitorSpec = MonitorSpec(),
    as_of: datetime | None = None,
) -> Monitoring:
    """Score the stored predictions, test for drift, and raise alarms.

    Args:
        symbol: Symbol of the series; PANEL for the champion of a panel.
        interval: Length of its bars.
        spec: Limits at which an alarm is raised.
        as_of: Time of the run (UTC); empty: now for an exchange, the last close for a file.
    """
    with shown("monitor"):
        return run_monitor(symbol, interval, spec, as_of)
