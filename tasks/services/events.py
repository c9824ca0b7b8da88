"""Events: what happened to a series, told to Prefect, where automations may act on it.

The names are part of the interface. An event's resource is the series, `riseorfall.series.BTC-USD-1d`; its payload
says in `message` what a person should read. Where no server answers, the event is lost with a line in the log: what
counts stands in the ledger and in the table of alarms.
"""

import logging
from typing import Any, Literal

EventName = Literal[
    "riseorfall.champion.degraded",
    "riseorfall.champion.drifted",
    "riseorfall.champion.stale",
    "riseorfall.champion.broken",
    "riseorfall.champion.found-broken",
    "riseorfall.predictions.missing",
    "riseorfall.promoted",
    "riseorfall.held",
    "riseorfall.rejected",
    "riseorfall.rolled-back",
    "riseorfall.checks.failed",
]
RETRAIN_ON: tuple[EventName, ...] = (
    "riseorfall.champion.degraded",
    "riseorfall.champion.drifted",
    "riseorfall.champion.stale",
    "riseorfall.champion.broken",
)
TOLD_ON: tuple[EventName, ...] = (  # what a person should hear of; found-broken: by a retrain, which starts no other
    *RETRAIN_ON,
    "riseorfall.champion.found-broken",
    "riseorfall.predictions.missing",
    "riseorfall.checks.failed",
    "riseorfall.rejected",
)
DECIDED: tuple[EventName, ...] = ("riseorfall.promoted", "riseorfall.held", "riseorfall.rejected")

log = logging.getLogger(__name__)


def tell(name: EventName, series_name: str, message: str, **payload: Any) -> None:
    """Emit an event about a series."""
    from prefect.events import emit_event  # here: Prefect takes 3 seconds, and alarms are judged without it

    resource = {"prefect.resource.id": series_resource(series_name), "prefect.resource.name": series_name}
    try:
        emit_event(event=name, resource=resource, payload={"message": message, **payload})
    except Exception as error:  # noqa: BLE001 - an event that is lost must not undo what it tells of
        log.warning("event %s of %s was not sent: %s", name, series_name, error)


def series_resource(series_name: str) -> str:
    """Return the resource id of a series."""
    return f"riseorfall.series.{series_name}"


def decided(action: str) -> EventName:
    """Return the event of a decision."""
    names: dict[str, EventName] = {
        "promote": "riseorfall.promoted",
        "hold": "riseorfall.held",
        "reject": "riseorfall.rejected",
        "rollback": "riseorfall.rolled-back",
    }
    return names[action]
