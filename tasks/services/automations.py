"""Automations: what the Prefect server does by itself when something is told, or when nothing is told for too long.

Installed by `riseorfall up`, and by `riseorfall automations` for a server of your own; a second time changes nothing.
The cool-down is the trigger's own: it acts at the first alarm, then waits out the rest of its time. A notification
block named `riseorfall`, where there is one, is told of every alarm.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from model.bars import Series
from tasks.services.events import DECISION_EVENTS, NOTIFY_ON, RETRAIN_ON, series_resource

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

log = logging.getLogger(__name__)

COOL_DOWN = timedelta(days=3)  # between two retrains that alarms start; the daily ones go on
DEAD_MAN = timedelta(hours=26)  # a day and two hours: the daily retrain may be late, and takes its time
BLOCK = "riseorfall"
RETRAIN, QUIET, NOTIFY = (
    "riseorfall: retrain on alarm",
    "riseorfall: a day without a retrain",
    "riseorfall: tell alarms",
)
SUBJECT, BODY = "riseorfall: {{ event.event }}", "{{ event.resource.name }}: {{ event.payload.message }}"


def install(deployments: Sequence[str], cool_down: timedelta = COOL_DOWN, dead_man: timedelta = DEAD_MAN) -> list[str]:
    """Install what can be installed, and return the names.

    Args:
        deployments: `flow/deployment` names that exist on the server.
        cool_down: time in which alarms start one retrain.
        dead_man: time without a decision after which the monitor reports.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        block = _block(client)
        wanted = []
        if "retrain/retrain" in deployments:
            wanted.append(_retrain_on_alarm(client, cool_down))
        if "monitor/monitor" in deployments:
            wanted.append(_report_quiet_day(client, dead_man, block))
        if block is not None:
            wanted.append(_tell_alarms(block))
        for automation in wanted:
            _put(client, automation)
    return [automation.name for automation in wanted]


def _retrain_on_alarm(client: "SyncPrefectClient", cool_down: timedelta) -> "AutomationCore":
    from prefect.events.actions import RunDeployment
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    deployment = client.read_deployment_by_name("retrain/retrain")
    return AutomationCore(
        name=RETRAIN,
        description="Starts one retrain when the champion degraded, drifted, is stale or broken.",
        trigger=EventTrigger(
            expect=set(RETRAIN_ON),
            match={"prefect.resource.id": _resource(deployment.parameters.get("source") or {})},
            posture=Posture.Reactive,
            threshold=1,
            within=cool_down,
        ),
        actions=[RunDeployment(deployment_id=deployment.id)],
    )


def _report_quiet_day(client: "SyncPrefectClient", dead_man: timedelta, block: Any) -> "AutomationCore":
    from prefect.events.actions import RunDeployment, SendNotification
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    deployment = client.read_deployment_by_name("monitor/monitor")
    actions: list[Any] = [RunDeployment(deployment_id=deployment.id)]
    if block is not None:
        said = f"riseorfall: no retrain came to a decision within {dead_man}"
        actions.append(SendNotification(block_document_id=block.id, subject=said, body=said))
    return AutomationCore(
        name=QUIET,
        description="Runs the monitor, which reports the missing retrain, when a day passes without a decision.",
        trigger=EventTrigger(
            expect=set(DECISION_EVENTS),
            match={"prefect.resource.id": _resource(deployment.parameters)},
            posture=Posture.Proactive,
            threshold=1,
            within=dead_man,
        ),
        actions=actions,
    )


def _tell_alarms(block: Any) -> "AutomationCore":
    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=NOTIFY,
        description=f"Tells the notification block {BLOCK} of every alarm.",
        trigger=EventTrigger(
            expect=set(NOTIFY_ON),
            match={"prefect.resource.id": "riseorfall.series.*"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[SendNotification(block_document_id=block.id, subject=SUBJECT, body=BODY)],
    )


def _resource(told: Mapping[str, Any]) -> str:
    """Return the series that a deployment is for: an alarm of another one must not retrain this one."""
    return series_resource(Series(told.get("symbol", "BTC-USD"), told.get("interval", "1d")).name)


def _block(client: "SyncPrefectClient") -> Any:
    """Return the notification block named `riseorfall`; None where there is none."""
    named = [block for block in client.read_block_documents() if block.name == BLOCK]
    return named[0] if named else None


def _put(client: "SyncPrefectClient", automation: "AutomationCore") -> None:
    """Create an automation, or replace the one of its name; one that is the same already keeps its clock."""
    present = client.read_automations_by_name(automation.name)
    for double in present[1:]:
        client.delete_automation(double.id)
    if not present:
        client.create_automation(automation)
        return
    if _essence(present[0]) != _essence(automation):
        client.update_automation(present[0].id, automation.model_copy(update={"enabled": present[0].enabled}))


def _essence(automation: "AutomationCore") -> dict[str, Any]:
    """Return what makes it the same automation: not ids that the server gave to its parts."""
    told = automation.model_dump(mode="json", include={"description", "trigger", "actions"})
    trigger = {name: told["trigger"][name] for name in ("match", "posture", "threshold", "within")}
    return {**told, "trigger": trigger | {"expect": sorted(told["trigger"]["expect"])}}
