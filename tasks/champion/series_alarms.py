"""Health of a series: age of the champion and of the bars, live score, alarms. `series_status.py` says what there is.

Quick: it reads the monitor log, the decision log and the bars. Clock-based alarms apply only to series from an
exchange: a file ends in the past. What is scheduled is known to `tasks/services/`, not here: callers pass it on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from model.bars import Series
from model.errors import NoChampion, RiseOrFallError, UnsoundModel, UntrustedModel
from model.freshness import ForecastSpec
from model.monitor_alarms import MonitorSpec
from model.times import to_timedelta
from tasks.champion.commit_decision import read_champion
from tasks.champion.panel_of_series import predicted_series, predicting_panel
from tasks.registry.model_registry import Version
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision
from tasks.store.monitor_log import MonitorEntry
from tasks.workspace import Workspace

HOUR = timedelta(hours=1)
SLACK = timedelta(hours=2)  # own choice: a scheduled run may start late and takes its time
MAX_BARS_BEHIND = ForecastSpec().max_bars_behind  # beyond it `predict` refuses to predict


@dataclass(frozen=True, slots=True)
class Pauses:
    """Longest time between two scheduled runs: of the retrain of a series, and of its monitor."""

    retrain: timedelta = timedelta(days=1)
    monitor: timedelta = timedelta(days=1)


class Unhealthy(RiseOrFallError):
    """`status --check` found an alarm."""

    exit_code = 4


def series_health(
    series: Series, settings: Settings, now: datetime | None = None, pauses: Pauses = Pauses()
) -> dict[str, Any]:
    """Return ages, live score and alarms of a series, ready for JSON; `alarms` is empty when all is well.

    Args:
        series: symbol and interval.
        settings: addresses of tables and MLflow.
        now: the clock if None.
        pauses: as scheduled; every day if the schedule is not known.
    """
    moment = now or datetime.now(UTC)
    workspace = Workspace(settings, series)
    entry = workspace.monitor_log.last(series.name, moment)
    members = predicted_series(workspace)
    closed_at = _newest_close(workspace, members)
    alarms = [f"{alarm.kind}: {alarm.message}" for alarm in entry.alarms] if entry else []
    found: dict[str, Any] = {"champion_age_days": None, "bars_age_hours": _hours(moment, closed_at), "live": {}}
    found["bars_closed_at"] = closed_at.isoformat() if closed_at else None
    found["champion_trained_until"] = None
    found["live_source"], found["source"], found["predicted_by"] = False, "", ""
    try:
        champion = read_champion(workspace).require(workspace)
    except (NoChampion, UnsoundModel) as error:
        found["predicted_by"] = predicting_panel(series, settings) if isinstance(error, NoChampion) else ""
        if not found["predicted_by"]:
            alarms.append(str(error))
    else:
        absent = workspace.registry.absent_files(champion.version)
        if absent:
            alarms.append(
                f"champion: version {champion.version} cannot predict, it lacks {', '.join(absent)}. "
                "Run `riseorfall doctor`"
            )
        elif workspace.settings.has_local_registry:  # from a server all files would have to be fetched
            try:
                workspace.registry.read_version(champion.version)
            except UntrustedModel as error:
                alarms.append(f"champion: {error}")
        found["champion_trained_until"] = champion.trained_until.isoformat()
        found["champion_age_days"] = (moment - champion.trained_until) / timedelta(days=1)
        params = workspace.runs.run_params(champion.run_id)
        found["source"] = "panel" if series.is_panel else params.get("source.kind", "")
        fetched = series.is_panel and workspace.bar_store.has_exchange_bars(members)
        found["live_source"] = found["source"] == "exchange" or fetched
        alarms += _absence_alarms(series, closed_at)
        if found["live_source"] and series.is_panel:  # it has no schedule
            alarms += _stale_alarms(champion, moment)
        elif found["live_source"]:
            decisions = workspace.decision_log.rows(series.name)
            alarms += _clock_alarms(decisions, series, closed_at, moment, pauses.retrain + SLACK)
            limit = pauses.monitor + SLACK
            alarms += _monitor_alarms(entry, champion, decisions, moment, limit, workspace.series_flags)
    alarms += [
        f"decisions: version {number} has served predictions, and the decision log has no decision about it. "
        "Run `riseorfall doctor`"
        for number in workspace.registry.history.served_without_decision()
    ]
    if entry:
        found["live"] = {"version": entry.version, "watched_at": entry.watched_at.isoformat(), **entry.numbers}
    found["alarms"] = alarms
    return found


def _newest_close(workspace: Workspace, members: Sequence[Series]) -> datetime | None:
    """Return the newest close of some series of one interval; None without bars."""
    newest = [opened_at for each in members if (opened_at := workspace.bar_store.newest(each))]
    return max(newest) + to_timedelta(members[0].delta) if newest else None


def _absence_alarms(series: Series, closed_at: datetime | None) -> list[str]:
    """Return an alarm where a champion has no bars, also those of a file: it cannot predict."""
    absent = f"bars: none of {series.symbol} {series.interval} are stored; `predict` needs them"
    return [absent] if closed_at is None else []


def require_healthy(found: Mapping[str, Any]) -> None:
    """Raise Unhealthy if there are alarms."""
    if found["alarms"]:
        raise Unhealthy("; ".join(found["alarms"]))


def _clock_alarms(
    decisions: Sequence[LoggedDecision], series: Series, closed_at: datetime | None, now: datetime, limit: timedelta
) -> list[str]:
    """Return alarms for a late retrain, whatever a person decided since, and for late bars."""
    alarms = []
    newest_first = reversed(decisions)  # a home of ten years has thousands
    retrain = next((row for row in newest_first if row.is_about_challenger or row.action == "unchanged"), None)
    if retrain and now - retrain.decided_at > limit:
        quiet = _hours(now, retrain.decided_at)
        alarms.append(f"quiet: the last retrain decided {quiet:.1f} hours ago; limit {limit / HOUR:g}")
    if closed_at is not None:
        behind = (now - closed_at) / to_timedelta(series.delta)
        if behind > MAX_BARS_BEHIND:
            alarms.append(f"bars: the newest closed {behind:.1f} bars ago; limit {MAX_BARS_BEHIND:g}")
    return alarms


def _monitor_alarms(
    entry: MonitorEntry | None,
    champion: Version,
    decisions: Sequence[LoggedDecision],
    now: datetime,
    limit: timedelta,
    flags: str,
) -> list[str]:
    """Return alarms for a monitor that does not run, and for what it would have reported about the champion's age."""
    since = entry.watched_at if entry else decisions[0].decided_at if decisions else now
    if now - since <= limit:
        return []
    ran = f"ran last {_hours(now, since):.1f} hours ago" if entry else "never ran"
    alarms = [f"monitor: it {ran}; limit {limit / HOUR:g}. Run `riseorfall monitor{flags}`, or `riseorfall up`"]
    reported = entry is not None and any(alarm.kind == "stale" for alarm in entry.alarms)
    return alarms if reported else alarms + _stale_alarms(champion, now)


def _stale_alarms(champion: Version, now: datetime) -> list[str]:
    """Return an alarm for a champion that is too old."""
    age, limit = (now - champion.trained_until) / timedelta(days=1), MonitorSpec().max_champion_age_days
    return [f"stale: the champion's newest training bar is {age:.0f} days old; limit {limit:g}"] if age > limit else []


def _hours(now: datetime, then: datetime | None) -> float | None:
    return None if then is None else (now - then) / HOUR
