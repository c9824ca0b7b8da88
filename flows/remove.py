"""Remove stored bars that turned out to be wrong; they stay in quarantine with the reason."""

from datetime import UTC, datetime
from typing import Annotated

from prefect import flow
from pydantic import Field

from model.bars import IntervalName, Series
from tasks.champion.bar_removal import BarRemoval, remove_bars
from tasks.pages.prefect_artifacts import show_table, shown
from tasks.services.flow_run_names import flow_run_name
from tasks.services.prefect_run_page import readable
from tasks.settings import Settings
from tasks.workspace import require_stored

QUARTER_HOUR = 900


@flow(name="remove", flow_run_name=flow_run_name, timeout_seconds=QUARTER_HOUR)
@readable
def remove(
    symbol: Annotated[str, Field(min_length=1)],
    interval: IntervalName,
    first: datetime,
    reason: Annotated[str, Field(min_length=1)],
    last: datetime | None = None,
) -> BarRemoval:
    """Move accepted bars into quarantine, and list the versions that were trained on them.

    Later checks refuse these bars as long as the source reports the same values.

    Args:
        symbol: Symbol of the series.
        interval: Length of its bars.
        first: Open time of the first bar to remove (UTC).
        reason: Why these bars are wrong; stored with them.
        last: Open time of the last bar to remove (UTC); empty: only the first. The run lists the versions that were
            trained on the removed bars.
    """
    with shown("remove") as run, run.step("remove"):
        series = require_stored(Series(symbol, interval))
        found = remove_bars(series, Settings(), reason, removed_at=datetime.now(UTC), first=first, last=last or first)
        trained = ", ".join(found.trained) or "none"
        rows = [{"removed bar (open time)": time} for time in found.opened_at]
        show_table("removed-bars", rows, f"{found.series}: {reason}. Versions that were trained on them: {trained}")
        run.report_line(f"{len(rows)} bars removed; versions that were trained on them: {trained}")
        return found
