"""Release refused bars from quarantine: a person found them to be correct."""

from datetime import UTC, datetime
from typing import Annotated

from prefect import flow
from pydantic import Field

from model.bars import IntervalName, Series
from model.plurals import counted
from model.times import as_utc
from tasks.pages.prefect_artifacts import show_table, shown
from tasks.services.flow_run_names import flow_run_name
from tasks.services.prefect_run_page import readable
from tasks.store.bar_store import MergeResult
from tasks.workspace import open_workspace

QUARTER_HOUR = 900


@flow(name="release", flow_run_name=flow_run_name, timeout_seconds=QUARTER_HOUR)
@readable
def release(
    symbol: Annotated[str, Field(min_length=1)],
    interval: IntervalName,
    at: Annotated[list[datetime], Field(min_length=1)],
    reason: Annotated[str, Field(min_length=1)],
) -> MergeResult:
    """Accept refused bars; later checks accept them too, as long as the source reports the same values.

    Args:
        symbol: Symbol of the series.
        interval: Length of its bars.
        at: Open times of the bars (UTC), one or more, as listed by `riseorfall quarantine`.
        reason: Why these bars are correct; stored with the release.
    """
    with shown("release") as run, run.step("release"):
        series = Series(symbol, interval)
        merged = open_workspace().bar_store.release(series, at, reason, released_at=datetime.now(UTC))
        rows = [{"released bar (open time)": time.isoformat()} for time in sorted(map(as_utc, at))]
        show_table("released-bars", rows, f"{series.name}: {reason}")
        run.report_line(f"{counted(merged.added, 'bar')} released, {merged.revised} revised; version {merged.version}")
        return merged
