"""Emit events about a series to Prefect, where automations react to them.

The names are an interface: automations of users refer to them. The resource of an event is the series,
`riseorfall.series.BTC-USD-1d`; its payload holds the text for people in `message`. If no server answers, the event is
lost and a warning logged; the decision log and the monitor log keep what matters.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from model.errors import UnsoundModel, UntrustedModel
from tasks.store.decision_log import LoggedDecision

EventName = Literal[
    "riseorfall.champion.degraded",
    "riseorfall.champion.drifted",
    "riseorfall.champion.stale",
    "riseorfall.champion.broken",
    "riseorfall.champion.found-broken",
    "riseorfall.predictions.missing",
    "riseorfall.predicted",
    "riseorfall.promoted",
    "riseorfall.held",
    "riseorfall.rejected",
    "riseorfall.unchanged",
    "riseorfall.rolled-back",
    "riseorfall.hold-lifted",
    "riseorfall.checks.failed",
]
RETRAIN_ON: tuple[EventName, ...] = (
    "riseorfall.champion.degraded",
    "riseorfall.champion.drifted",
    "riseorfall.champion.stale",
    "riseorfall.champion.broken",
)
NOTIFY_ON: tuple[EventName, ...] = (
    *RETRAIN_ON,
    "riseorfall.champion.found-broken",  # by a retrain, or files that differ: another retrain would not help
    "riseorfall.predictions.missing",
    "riseorfall.checks.failed",
    "riseorfall.promoted",
    "riseorfall.held",
    "riseorfall.rejected",
    "riseorfall.rolled-back",
    "riseorfall.hold-lifted",
)
DECISION_EVENTS: tuple[EventName, ...] = (
    "riseorfall.promoted",
    "riseorfall.held",
    "riseorfall.rejected",
    "riseorfall.unchanged",
)

log = logging.getLogger(__name__)


def emit_event_for(name: EventName, series_name: str, message: str, /, **payload: Any) -> None:
    """Emit an event about a series; log a warning if it cannot be sent."""
    from prefect.events import emit_event  # takes 3 seconds; the modules that raise alarms work without it

    resource = {"prefect.resource.id": series_resource(series_name), "prefect.resource.name": series_name}
    try:
        emit_event(event=name, resource=resource, payload={"message": message, **payload})
    except Exception as error:  # noqa: BLE001 - a lost event must not undo what it reports
        log.warning("event %s of %s was not sent: %s", name, series_name, error)


@contextmanager
def broken_champion_reported(series_name: str) -> Iterator[None]:
    """Emit an event if the champion cannot be used inside the context; the error continues.

    Damage starts a retrain, which replaces the champion; files that are not the recorded ones do not.
    """
    try:
        yield
    except UnsoundModel as error:
        emit_event_for("riseorfall.champion.broken", series_name, str(error))
        raise
    except UntrustedModel as error:
        emit_event_for("riseorfall.champion.found-broken", series_name, str(error))
        raise


def announce(row: LoggedDecision) -> str:
    """Emit the event of a person's decision, and return its message."""
    message = f"{row.action} version {row.version}, champion {row.champion_after or 'none'}: {'; '.join(row.reasons)}"
    emit_event_for(
        decision_event(row.action), row.series_name, message, version=row.version, champion=row.champion_after
    )
    return message


def series_resource(series_name: str) -> str:
    """Return the resource id of a series."""
    return f"riseorfall.series.{series_name}"


def decision_event(action: str) -> EventName:
    """Return the name of the event for an action of the decision log."""
    names: dict[str, EventName] = {
        "promote": "riseorfall.promoted",
        "hold": "riseorfall.held",
        "reject": "riseorfall.rejected",
        "unchanged": "riseorfall.unchanged",
        "rollback": "riseorfall.rolled-back",
        "lift": "riseorfall.hold-lifted",
    }
    return names[action]
