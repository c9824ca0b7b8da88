"""Check landed bars together with the stored ones; refused bars go to the quarantine.

Rules, texts and severities are in `data_checks/rule_definitions.py`. `check_bars` applies each rule twice: our mask
decides, Great Expectations repeats it and writes the Data Docs; if the two differ, that is a critical failure. A bar
that one rule refuses leaves the others usable: the run stops only at a failure of a stopping severity (`stop_on`). A
bar that was released from the quarantine by hand passes, and one that was removed by hand is refused, as long as the
source still gives the same values; otherwise the next ingest of the same file would undo it. Failures name the line of
the file.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from prefect import get_run_logger, task

from data_checks.bar_rules import part_of
from data_checks.check_report import CheckReport, CheckResult, require_passed
from data_checks.check_spec import CheckSpec
from data_checks.validate import check_bars
from model.bars import COLUMNS, Series
from model.errors import ChecksFailed
from model.plurals import counted
from tasks.console.progress import current_progress
from tasks.pages.prefect_artifacts import report_warning, show_links, show_page, show_table
from tasks.results import Checked, Landing
from tasks.services.events import emit_event_for
from tasks.services.form_wording import in_words_of_the_form
from tasks.settings import Settings
from tasks.sources.source_spec import SourceSpec, open_cross_check
from tasks.workspace import open_workspace

WHOLE_CELL = 62  # own choice, characters: Prefect cuts the table of checks off at the right where a cell has more

if TYPE_CHECKING:
    import pandas as pd


@task(name="check", task_run_name="check")
def check_landing(landing: Landing, source: SourceSpec, spec: CheckSpec) -> Checked:
    """Check landed bars, write the Data Docs, quarantine refused bars, and stop at a failure of a stopping severity.

    Raises:
        ChecksFailed: a check of a stopping severity failed. Refused bars of the landing are in the quarantine; the bar
            store is unchanged.
    """
    import pandas as pd

    run = current_progress()
    with run.step("check"):
        settings, store = Settings(), open_workspace().bar_store
        stored = store.read_frame(landing.series, as_of=landing.as_of)
        landed = pd.read_parquet(landing.path)
        if landing.from_file:
            landed = _without_parts(landed, stored, landing)
        second = open_cross_check(source)
        released, removed = store.decided_by_hand(landing.series)
        report = check_bars(
            _with_stored(_with_file_lines(landed, source), stored),
            landing.series,
            spec,
            landing.as_of,
            settings.docs_folder / landing.series.name,
            against=second.fetch().frame if second else None,
            released=released,
            removed=removed,
            last_is_whole=source.kind == "exchange" or landing.unfinished > 0 or _goes_on(stored, landed),
        )
        report = replace(report, page_url=settings.link(Path(report.page_url)) if report.page_url else "")
        refused = report.quarantined
        arrived = refused["timestamp"].isin(landed["timestamp"])
        to_keep = (
            refused if report.passed(spec) else refused[arrived]
        )  # bars that stop the run prove no stored one wrong
        if len(to_keep):
            kept_as = to_keep.assign(value=_values_with_lines(to_keep))
            store.quarantine(landing.series, kept_as, at=datetime.now(UTC), source=landing.layout["source"])
        get_run_logger().info("%s", report.lines()[0])
        for failure in report.failed():
            report_warning(in_words_of_the_form(f"{failure.rule}: {failure.message}"))
        _show(report, landing)
        try:
            require_passed(report, spec)
        except ChecksFailed as failed:
            emit_event_for("riseorfall.checks.failed", landing.series.name, str(failed))
            raise
        if warning := _still_stored(refused, stored, landing.series):
            report_warning(warning)
        kept = report.accepted[report.accepted["timestamp"].isin(landed["timestamp"])]
        accepted = Path(landing.path).with_suffix(".accepted.parquet")
        kept.to_parquet(accepted, index=False)
        run.report_line(f"{counted(len(report.accepted), 'bar')} accepted in all, {len(refused)} refused")
        summary = report.summary()
        return Checked(
            accepted=str(accepted),
            rows=len(report.accepted),
            refused=len(refused),
            refused_by=summary["quarantined_by_rule"],
            failed=tuple(summary["failed"]),
            gaps=len(report.gaps),
            docs=report.page_url,
        )


def _still_stored(refused: "pd.DataFrame", stored: "pd.DataFrame", series: Series) -> str:
    """Return a warning where refused bars are in the store, as under a stricter limit than before; else empty."""
    both = refused.merge(stored, on=list(COLUMNS))["timestamp"].drop_duplicates()
    if both.empty:
        return ""
    flags = f"{open_workspace(series).series_flags} --at {both.min().isoformat()} --reason TEXT"
    return (
        f"Stored before, and still used by models: {len(both)} of the refused bars, the first of "
        f"{both.min():%Y-%m-%d %H:%M}. If it is wrong, remove it: `riseorfall remove{flags}`"
    )


def _show(report: CheckReport, landing: Landing) -> None:
    """Show every rule, what failed and a link to the Data Docs in Prefect, before a failure ends the run."""
    refused = f"{counted(len(report.quarantined), 'bar')} refused"
    show_table("checks", check_rows(report.results), f"{landing.series.name}: {refused}")
    if report.failed():
        page = in_words_of_the_form(failed_page(report.results))
        show_page("failed-checks", page, f"{landing.series.name}: what was found, what to do")
    if report.page_url:
        show_links({"Data Docs": report.page_url})


def check_rows(results: Sequence[CheckResult]) -> list[dict[str, str]]:
    """Return the rows of the table of checks: rules that failed first, each with what it requires."""
    return [
        {
            "rule": each.rule,
            "result": "passed" if each.passed else f"failed: {each.severity}",
            "requires": shorten(each.required, WHOLE_CELL, placeholder=" ..."),
        }
        for each in sorted(results, key=lambda each: each.passed)
    ]


def failed_page(results: Sequence[CheckResult]) -> str:
    """Return as Markdown, which Prefect wraps, what was found where a rule failed, and what to do next."""
    return "\n".join(f"- **{each.rule}** ({each.severity}): {each.message}" for each in results if not each.passed)


def _with_file_lines(landed: "pd.DataFrame", source: SourceSpec) -> "pd.DataFrame":
    """Keep the line numbers of a file; an exchange's answer has none."""
    return landed.drop(columns="line") if source.kind == "exchange" else landed


def _values_with_lines(refused: "pd.DataFrame") -> list[str]:
    """Return the offending values as text, with the line of the file where it is known."""
    lines = refused["line"] if "line" in refused else [0] * len(refused)
    return [f"{value} (line {line})" if line else value for value, line in zip(refused["value"], lines, strict=True)]


def _goes_on(stored: "pd.DataFrame", landed: "pd.DataFrame") -> bool:
    """Return whether the last bar is a stored one."""
    return bool(len(stored) and (landed.empty or stored["timestamp"].iloc[-1] > landed["timestamp"].iloc[-1]))


def _without_parts(landed: "pd.DataFrame", stored: "pd.DataFrame", landing: Landing) -> "pd.DataFrame":
    """Return landed bars without a first or last one that is a part of the stored bar of its time.

    A file ends with a part bar where it was downloaded before that bar had closed; a later file had the whole one.
    """
    edges = [0] if landing.unfinished else [0, -1]  # the file has bars after the last landed one
    ends = landed[landed["timestamp"].isin(landed["timestamp"].iloc[edges])]
    both = ends.reset_index().merge(stored, on="timestamp", suffixes=("", "_stored"))
    values = list(COLUMNS[1:])
    is_part = part_of(both[values].to_numpy(), both[[f"{name}_stored" for name in values]].to_numpy())
    for part in both[is_part].itertuples():
        report_warning(
            f"{landing.layout['source']} line {part.line}: the bar of {part.timestamp:%Y-%m-%d %H:%M} covers a part of "
            f"the stored one (volume {part.volume:g} of {part.volume_stored:g}), which stays"
        )
    return landed[~landed.index.isin(both["index"][is_part])]


def _with_stored(landed: "pd.DataFrame", stored: "pd.DataFrame") -> "pd.DataFrame":
    """Return the landed bars and the stored bars of other times, oldest first; duplicates keep their order.

    The column `ingested` is true for the landed ones.
    """
    import pandas as pd

    if stored.empty:
        return landed
    others = stored[~stored["timestamp"].isin(landed["timestamp"])]
    if others.empty:
        return landed
    both = pd.concat([others.assign(ingested=False), landed.assign(ingested=True)], ignore_index=True)
    return both.sort_values("timestamp", kind="stable", ignore_index=True)
