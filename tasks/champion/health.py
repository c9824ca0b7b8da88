"""Whether all is well with a series: champion's age, live score, bars' freshness, alarms, what runs next.

Plain, and quick: it reads the book of the monitor, the ledger and the bars, and asks a Prefect server only where an
`up` of this home runs or one is configured. It judges by the clock only what lives by it: a series from an exchange.
"""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from model.bars import Series
from model.errors import NoChampion, RiseOrFallError
from tasks.champion.commit_decision import sync_champion_alias
from tasks.services.supervisor import read_state
from tasks.settings import Settings
from tasks.store.decision_log import DecisionLog
from tasks.workspace import Workspace

QUIET_HOURS = 26.0  # as the dead-man automation
MAX_BARS_BEHIND = 3.0  # as the check of freshness
NEXT_RUNS = 50  # scheduled ones that are read; of each deployment the first is shown


class NotWell(RiseOrFallError):
    """`status --check` found something that a person should look after."""

    exit_code = 4


def health(series: Series, settings: Settings, now: datetime | None = None) -> dict[str, Any]:
    """Return what a person wants to know in the morning, ready for JSON; `alarms` is empty when all is well.

    Args:
        series: which.
        settings: where.
        now: the clock's when None.
    """
    moment = now or datetime.now(UTC)
    workspace = Workspace(settings, series)
    look = workspace.monitor_log.last(series.name)
    newest = workspace.bar_store.newest(series)
    closed = newest + timedelta(seconds=int(series.delta.astype("timedelta64[s]").astype(int))) if newest else None
    alarms = [f"{alarm.kind}: {alarm.message}" for alarm in look.alarms] if look else []
    found: dict[str, Any] = {"champion_age_days": None, "bars_age_hours": _hours(moment, closed), "live": {}}
    try:
        champion = sync_champion_alias(workspace).require(series.name)
    except NoChampion as error:
        alarms.append(str(error))
    else:
        found["champion_age_days"] = round((moment - champion.trained_until) / timedelta(days=1), 2)
        if workspace.runs.run_params(champion.run_id).get("source.kind") == "exchange":
            alarms += _clock_alarms(series, workspace.decision_log, closed, moment)
    if look:
        found["live"] = {"version": look.version, "watched_at": look.watched_at.isoformat(), **look.numbers}
    state = read_state(settings.up_lock, settings.up_state)
    found["up"] = {name: part["address"] for name, part in state["parts"].items()} if state else None
    found["next_runs"] = _next_runs(prefect_api(settings))
    found["alarms"] = alarms
    return found


def require_well(found: Mapping[str, Any]) -> None:
    """Raise NotWell where there are alarms."""
    if found["alarms"]:
        raise NotWell("; ".join(found["alarms"]))


def prefect_api(settings: Settings) -> str:
    """Return the address of the Prefect server to ask: the configured one, that of a running `up`, or none."""
    configured = os.environ.get("PREFECT_API_URL", "")
    state = None if configured else read_state(settings.up_lock, settings.up_state)
    return configured or (state["environment"].get("PREFECT_API_URL", "") if state else "")


def _clock_alarms(series: Series, log: DecisionLog, closed: datetime | None, now: datetime) -> list[str]:
    """Return what is overdue by the clock."""
    alarms = []
    rows = log.rows(series.name, last=1)
    quiet = _hours(now, rows[-1].decided_at) if rows else None
    if quiet is not None and quiet > QUIET_HOURS:
        alarms.append(f"quiet: the last retrain decided {quiet:.1f} hours ago; {QUIET_HOURS:g} are allowed")
    if closed is not None:
        seconds = float(series.delta.astype("timedelta64[s]").astype(int))
        behind = (now - closed).total_seconds() / seconds
        if behind > MAX_BARS_BEHIND:
            alarms.append(f"bars: the newest closed {behind:.1f} bars ago; {MAX_BARS_BEHIND:g} are allowed")
    return alarms


def _next_runs(api: str) -> list[dict[str, str]]:
    """Return the next scheduled runs, soonest first; none where no server answers."""
    if not api:
        return []
    body = {
        "sort": "EXPECTED_START_TIME_ASC",
        "limit": NEXT_RUNS,
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "deployments": {"tags": {"all_": ["riseorfall"]}},
    }
    try:
        runs = _ask(f"{api}/flow_runs/filter", body)
        deployments = _ask(f"{api}/deployments/filter", {})
    except (URLError, OSError, ValueError):
        return []
    names = {each["id"]: each["name"] for each in deployments}
    first: dict[str, dict[str, str]] = {}
    for run in runs:
        name = names.get(run["deployment_id"], run["name"])
        first.setdefault(name, {"name": name, "at": run["expected_start_time"]})
    return list(first.values())


def _ask(address: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    request = Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310 - the configured server
    with urlopen(request, timeout=5) as reply:  # noqa: S310 - the configured server
        found: list[dict[str, Any]] = json.load(reply)
    return found


def _hours(now: datetime, then: datetime | None) -> float | None:
    return None if then is None else round((now - then) / timedelta(hours=1), 2)
