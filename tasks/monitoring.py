"""Monitor the champion, show the result in Prefect and emit an event for each new alarm.

The monitor itself is `tasks/champion/champion_monitor.py`, of a panel `tasks/champion/panel_monitor.py`.
"""

from datetime import datetime
from typing import Any

from prefect import get_run_logger, task

from model.bars import Series
from model.monitor_alarms import MonitorSpec
from tasks.champion.champion_monitor import MonitorResult
from tasks.champion.panel_monitor import monitor_series
from tasks.console.progress import current_progress
from tasks.pages.prefect_artifacts import artifact_key, show_links, show_page, show_table
from tasks.results import Monitoring
from tasks.services.events import EventName, broken_champion_reported, emit_event_for
from tasks.settings import Settings
from tasks.workspace import require_stored

EVENTS: dict[str, EventName] = {
    "degraded": "riseorfall.champion.degraded",
    "drifted": "riseorfall.champion.drifted",
    "stale": "riseorfall.champion.stale",
    "missing": "riseorfall.predictions.missing",
}


@task(name="monitor", task_run_name="monitor")
def run_monitor(symbol: str, interval: str, spec: MonitorSpec, as_of: datetime | None) -> Monitoring:
    """Monitor the champion, show the result, and emit an event for each new alarm."""
    with current_progress().step("monitor"):
        settings, series = Settings(), Series(symbol, interval)
        if not series.is_panel:
            require_stored(series)
        with broken_champion_reported(series.name):
            result = monitor_series(series, settings, spec, as_of)
        entry, key = result.entry, artifact_key(f"monitor {series.name}")
        show_table(key, result.rows(), f"Champion version {entry.version} of {series.name}")
        picture = settings.link(result.picture)
        show_page(f"{key}-page", page(result, picture), "State of the champion")
        show_links({"Monitor picture": picture})
        for alarm in result.raised:
            get_run_logger().warning("%s: %s", alarm.kind, alarm.message)
        emit_alarms(result)
        alarms = tuple(f"{alarm.kind}: {alarm.message}" for alarm in entry.alarms)
        return Monitoring(entry.version, dict(entry.numbers), alarms, entry.raised)


def emit_alarms(result: MonitorResult) -> None:
    """Emit an event for each alarm that a run of the monitor raised; later runs do not raise them within a week."""
    for alarm in result.raised:
        emit_event_for(EVENTS[alarm.kind], result.entry.series_name, alarm.message, version=result.entry.version)


def page(result: MonitorResult, picture: str) -> str:
    """Return a monitor result as Markdown."""
    entry = result.entry
    lines: list[Any] = [f"# Champion version {entry.version} of {entry.series_name}", ""]
    for alarm in entry.alarms:
        state = "new" if alarm.kind in entry.raised else "raised before"
        lines.append(f"- **{alarm.kind}** ({state}): {alarm.message}")
    lines += [f"- not evaluated: {note}" for note in result.notes]
    if not entry.alarms:
        lines.append("No alarm.")
    return "\n".join([*lines, "", f"![live score, evidence, drift]({picture})", ""])
