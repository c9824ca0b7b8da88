"""Read bars from a source into a landing file, and merge the accepted ones into the bar store.

`ingest` reads a whole file, or the bars of an exchange since `OVERLAP_BARS` before the newest stored one (before the
as-of time, if that is earlier), and drops what had not closed by `as_of`; it judges no value. `store` merges what
`tasks/validation.py` accepted in between, so a refused bar never enters the table that models learn from: new bars are
added, changed values replace the stored ones and are kept in the table `revisions`, equal ones change nothing. Of a
fail-over exchange only bars newer than the stored ones are landed, because its other values are no revisions. From then
on a `BarsRef` stands for the bars: table version and SHA-256 of times and values, which every later read compares.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import get_run_logger, task
from prefect.client.schemas.objects import State

from model.bars import is_closed
from model.errors import SourceUnavailable, UnreadableFile
from model.plurals import counted
from model.times import as_utc, column_times, to_datetime, to_datetime64, to_timedelta
from tasks.console.progress import current_progress
from tasks.pages.prefect_artifacts import report_warning, show_table
from tasks.registry.mlflow_run_names import SHORT_HASH
from tasks.results import Landing, Stored
from tasks.services.form_wording import in_words_of_the_form
from tasks.settings import Settings
from tasks.sources.exchange_source import BACKFILL_BARS
from tasks.sources.printable_text import printable
from tasks.sources.source_spec import FAIL_OVER, SourceSpec, latest_as_of, open_source
from tasks.workspace import open_workspace

if TYPE_CHECKING:
    import pandas as pd

OVERLAP_BARS = 50  # own choice: stored bars that are read again from an exchange, to find its revisions


@task(name="ingest", task_run_name="ingest {source.symbol} {source.interval} from {source.kind}")
def ingest(source: SourceSpec, as_of: datetime | None, run_id: str) -> Landing:
    """Read the bars of a source that had closed by `as_of`, and land them in a file.

    Args:
        source: where the bars come from.
        as_of: what counts as now, UTC; None takes the source's own: the clock for an exchange, the close of the last
            bar for a file, or the clock if that is earlier.
        run_id: names the landing file.

    Raises:
        UnreadableFile: no bar had closed by then, or, without `as_of`, a bar of a file opens in the future.
    """
    run = current_progress()
    with run.step("ingest"):
        bars_version = open_workspace().bar_store.version()
        opened = open_source(source, run.page_read, _known(source))
        newest = open_workspace().bar_store.newest(source.series) if source.kind == "exchange" else None
        bars = opened.fetch(_first_to_fetch(source, newest, as_of))
        clock = datetime.now(UTC)
        moment = as_utc(as_of) if as_of else latest_as_of(opened, bars, source, clock)
        opened_at = column_times(bars.frame["timestamp"])
        closed = is_closed(opened_at, source.series.delta, to_datetime64(moment))
        early = opened_at[closed & ~is_closed(opened_at, source.series.delta, to_datetime64(clock))]
        if as_of and source.kind == "csv" and len(early):  # an exchange drops them by its own clock
            report_warning(in_words_of_the_form(
                f"--as-of {moment:%Y-%m-%d %H:%M} UTC lies after the clock, {clock:%Y-%m-%d %H:%M} UTC: "
                f"{counted(len(early), 'bar')} that may be unfinished {'counts' if len(early) == 1 else 'count'} as "
                f"closed, the first opened at {to_datetime(early.min()):%Y-%m-%d %H:%M}"
            ))  # fmt: skip
        landed = bars.frame.assign(line=bars.line_numbers)[closed]
        if landed.empty:
            raise UnreadableFile(
                f"{source.symbol} {source.interval}: expected bars closed by {moment:%Y-%m-%d %H:%M} UTC, found none "
                f"among the {len(bars)} of {printable(source.path) or source.kind}. Choose a later --as-of."
            )
        layout = {"source": source.path or source.kind, **bars.layout}
        if newest is not None and FAIL_OVER in layout:
            landed = landed[landed["timestamp"] > newest]
            layout["landed"] = f"bars that opened after {newest:%Y-%m-%d %H:%M} only"
        path = Settings().landing_folder / f"{run_id}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        landed.to_parquet(path, index=False)
        show_table("source", [{"property": name, "found": value} for name, value in layout.items()],
                   "How the source was read")  # fmt: skip
        unfinished = int((~closed).sum())
        run.report_line(
            f"{counted(len(landed), 'bar')} from {layout['source']}, "
            f"{unfinished} not closed by {moment:%Y-%m-%d %H:%M} UTC"
        )
        if source.kind == "csv":
            run.report_line(bars.layout_line)
            get_run_logger().info("layout of %s: %s", layout["source"], layout)
        return Landing(
            str(path), source.symbol, source.interval, len(landed), unfinished, moment, layout, source.kind == "csv",
            bars_version,
        )  # fmt: skip


@task(name="store", task_run_name="store")
def store(landing: Landing, accepted: str, run_id: str = "") -> Stored:
    """Merge the accepted bars of a landing into the bar store; merging twice adds nothing.

    Args:
        landing: their source and `as_of`.
        accepted: path of the accepted bars.
        run_id: MLflow run that uses these bars; their version and content hash are logged to it.
    """
    import pandas as pd

    with current_progress().step("ingest"):
        bars = open_workspace().bar_store
        frame = pd.read_parquet(accepted)
        merged = bars.merge(
            landing.series, frame, landing.layout, merged_at=datetime.now(UTC), read_at=landing.bars_version
        )
        ref = bars.ref(landing.series, as_of=landing.as_of)
        if run_id:
            workspace = open_workspace(landing.series)
            workspace.runs.log_bars(run_id, ref, "training")
            tags = {"bars_version": str(ref.version), "bars_sha256": ref.sha256[:SHORT_HASH]}
            workspace.runs.log_values(run_id, tags=tags | {"as_of": ref.closed_at.isoformat()})
        for path in (landing.path, accepted):
            Path(path).unlink(missing_ok=True)
        get_run_logger().info(
            "%d bars added, %d revised, %d unchanged; table version %d",
            merged.added, merged.revised, merged.unchanged, merged.version,
        )  # fmt: skip
        other_source = merged.warn_of_other_source(landing.symbol, from_file=landing.from_file)
        if warning := ". ".join(filter(None, (merged.warn_of_overtaking(landing.symbol), other_source))):
            get_run_logger().warning(in_words_of_the_form(warning))
        counts = {"bars added": merged.added, "revised": merged.revised, "unchanged": merged.unchanged}
        kept = {"bars stored": ref.rows, "first": f"{ref.first:%Y-%m-%d %H:%M}", "last": f"{ref.last:%Y-%m-%d %H:%M}"}
        rows = [{"what": name, "value": str(value)} for name, value in (counts | kept).items()]
        show_table("bars-stored", rows, f"{landing.series.name}, version {merged.version} of the table")
        return Stored(ref, merged, warning)


def source_unavailable(task: Any, run: Any, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect's signature
    """Return whether a task failed because its source did not answer: the only failure that a retry can fix."""
    return isinstance(state.result(raise_on_failure=False), SourceUnavailable)


def _first_to_fetch(source: SourceSpec, newest: datetime | None, as_of: datetime | None) -> datetime | None:
    """Return the open time from which an exchange is read; None: `backfill_from`, or the default before its clock."""
    delta = to_timedelta(source.series.delta)
    if newest is not None:
        return (newest if as_of is None else min(newest, as_utc(as_of))) - OVERLAP_BARS * delta
    if as_of is None or source.kind != "exchange" or source.backfill_from:
        return None
    return as_utc(as_of) - BACKFILL_BARS * delta


def _known(source: SourceSpec) -> "pd.DataFrame | None":
    """Return the stored bars to compare a fail-over exchange with; None where there is no fail-over."""
    return (
        open_workspace().bar_store.read_frame(source.series)
        if "," in source.exchange and source.kind == "exchange"
        else None
    )
