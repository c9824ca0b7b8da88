"""The monitor as a task: a thin cover over `tasks/champion/champion_monitor.py` that shows what was found and emits events."""

from datetime import datetime
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from model.bars import Series
from model.errors import UnsoundModel
from model.monitor_alarms import MonitorSpec
from tasks.champion.champion_monitor import MonitorResult, monitor_champion
from tasks.console.progress import current_progress
from tasks.pages.prefect_artifacts import artifact_key, show_links, show_table
from tasks.results import Monitoring
from tasks.services.events import EventName, emit_event_for
from tasks.settings import Settings

EVENTS: dict[str, EventName] = {
    "degraded": "riseorfall.champion.degraded",
    "drifted": "riseorfall.champion.drifted",
    "stale": "riseorfall.champion.stale",
    "missing": "riseorfall.predictions.missing",
}


@task(name="monitor")
def watch(symbol: str, interval: str, spec: MonitorSpec, as_of: datetime | None) -> Monitoring:
    """Look at the champion, show what was found, and emit an event for each alarm that is new."""
    with current_progress().step("monitor"):
        settings, series = Settings(), Series(symbol, interval)
        try:
            watched = monitor_champion(series, settings, spec, as_of)
        except UnsoundModel as error:
            emit_event_for("riseorfall.champion.broken", series.name, str(error))
            raise
        look, key = watched.look, artifact_key(f"monitor {series.name}")
        show_table(key, watched.rows(), f"Champion version {look.version} of {series.name}")
        picture = settings.link(watched.picture)
        create_markdown_artifact(page(watched, picture), key=f"{key}-page", description="How the champion fares")
        show_links({"Monitor picture": picture})
        for alarm in watched.raised:
            get_run_logger().warning("%s: %s", alarm.kind, alarm.message)
            emit_event_for(EVENTS[alarm.kind], series.name, alarm.message, version=look.version)
        told = tuple(f"{alarm.kind}: {alarm.message}" for alarm in look.alarms)
        return Monitoring(look.version, dict(look.numbers), told, look.raised)


def page(watched: MonitorResult, picture: str) -> str:
    """Word one look as markdown."""
    look = watched.look
    lines: list[Any] = [f"# Champion version {look.version} of {look.series_name}", ""]
    for alarm in look.alarms:
        state = "new" if alarm.kind in look.raised else "raised before"
        lines.append(f"- **{alarm.kind}** ({state}): {alarm.message}")
    lines += [f"- not judged: {note}" for note in watched.notes]
    if not look.alarms:
        lines.append("No alarm.")
    return "\n".join([*lines, "", f"![live score, evidence, drift]({picture})", ""])
