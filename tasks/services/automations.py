"""Install the automations: actions of the Prefect server on an event, or when an event is missing for too long.

`riseorfall up` installs them, and so does `riseorfall automations` on any Prefect server; installing again changes
nothing. The trigger implements the cool-down: it acts on the first alarm, then ignores alarms until the time is over.
A notification block named `riseorfall` receives alarms, decisions and failed runs; a webhook block named
`riseorfall-predictions` receives each prediction.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from model.bars import Series
from tasks.champion.series_alarms import SLACK, Pauses
from tasks.services.events import DECISION_EVENTS, NOTIFY_ON, RETRAIN_ON, series_resource
from tasks.services.scheduled_runs import longest_pause

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore, EventTrigger

log = logging.getLogger(__name__)

COOL_DOWN = timedelta(days=3)  # between two retrains started by alarms; the daily ones go on
BLOCK = "riseorfall"
WEBHOOK = "riseorfall-predictions"
RETRAIN, QUIET, NOTIFY, FAILED, PREDICTED = (
    "riseorfall: retrain on alarm",
    "riseorfall: report a missing retrain",
    "riseorfall: notify about alarms",
    "riseorfall: notify about failed runs",
    "riseorfall: send predictions",
)
NAMES_OF_0_1 = {QUIET: "riseorfall: a day without a retrain", NOTIFY: "riseorfall: tell alarms"}
SUBJECT, BODY = "riseorfall: {{ event.event }}", "{{ event.resource.name }}: {{ event.payload.message }}"
FAILED_SUBJECT = "riseorfall: run {{ flow_run.name }} {{ flow_run.state.name }}"
FAILED_BODY = "{{ flow_run.state.message }} {{ flow_run|ui_url }}"


def install(deployments: Sequence[str], cool_down: timedelta = COOL_DOWN) -> list[str]:
    """Install the automations whose deployment or notification block exists, and return their names.

    Args:
        deployments: `flow/deployment` names that exist on the server.
        cool_down: time in which alarms start one retrain only.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        block = _block(client, BLOCK)
        wanted = []
        if "retrain/retrain" in deployments:
            wanted.append(_retrain_on_alarm(client, cool_down))
        if "monitor/monitor" in deployments:
            max_quiet = _longest_pause(client, deployments) + SLACK
            wanted.append(_report_missing_retrain(client, max_quiet, block))
        if block is not None:
            wanted += [_notify_about_alarms(block), _notify_about_failed_runs(block)]
        if (webhook := _block(client, WEBHOOK)) is not None:
            wanted.append(_send_predictions(webhook))
        for automation in wanted:
            _put(client, automation)
    return [automation.name for automation in wanted]


def _retrain_on_alarm(client: "SyncPrefectClient", cool_down: timedelta) -> "AutomationCore":
    from prefect.events.actions import RunDeployment
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    deployment = client.read_deployment_by_name("retrain/retrain")
    return AutomationCore(
        name=RETRAIN,
        description="Starts one retrain when the champion is degraded, drifted, stale or broken.",
        trigger=EventTrigger(
            expect=set(RETRAIN_ON),
            match={"prefect.resource.id": _resource(deployment.parameters.get("source") or {})},
            posture=Posture.Reactive,
            threshold=1,
            within=cool_down,
        ),
        actions=[RunDeployment(deployment_id=deployment.id)],
    )


def _report_missing_retrain(client: "SyncPrefectClient", max_quiet: timedelta, block: Any) -> "AutomationCore":
    from prefect.events.actions import RunDeployment, SendNotification
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    deployment = client.read_deployment_by_name("monitor/monitor")
    actions: list[Any] = [RunDeployment(deployment_id=deployment.id)]
    if block is not None:
        message = f"riseorfall: no retrain decision within {max_quiet}"
        actions.append(SendNotification(block_document_id=block.id, subject=message, body=message))
    return AutomationCore(
        name=QUIET,
        description=f"Runs the monitor, which reports the missing retrain, after {max_quiet} without a decision.",
        trigger=EventTrigger(
            expect=set(DECISION_EVENTS),
            match={"prefect.resource.id": _resource(deployment.parameters)},
            posture=Posture.Proactive,
            threshold=1,
            within=max_quiet,
        ),
        actions=actions,
    )


def _longest_pause(client: "SyncPrefectClient", deployments: Sequence[str]) -> timedelta:
    """Return the longest time between two scheduled retrains; that of a daily one where there is no schedule."""
    name = "retrain/retrain"
    schedules = client.read_deployment_by_name(name).schedules if name in deployments else []
    known = [longest_pause(each.schedule.model_dump(mode="json")) for each in schedules if each.active]
    return min((pause for pause in known if pause is not None), default=Pauses().retrain)


def _notify_about_alarms(block: Any) -> "AutomationCore":
    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import AutomationCore

    return AutomationCore(
        name=NOTIFY,
        description=f"Sends every alarm and every decision except `unchanged` to the notification block {BLOCK}.",
        trigger=_at_each(NOTIFY_ON, "riseorfall.series.*"),
        actions=[SendNotification(block_document_id=block.id, subject=SUBJECT, body=BODY)],
    )


def _notify_about_failed_runs(block: Any) -> "AutomationCore":
    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import AutomationCore

    return AutomationCore(
        name=FAILED,
        description=f"Sends every failed or crashed run of riseorfall to the notification block {BLOCK}.",
        trigger=_at_each(
            {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            "prefect.flow-run.*",
            match_related={"prefect.resource.id": "prefect.tag.riseorfall", "prefect.resource.role": "tag"},
        ),
        actions=[SendNotification(block_document_id=block.id, subject=FAILED_SUBJECT, body=FAILED_BODY)],
    )


def _send_predictions(webhook: Any) -> "AutomationCore":
    from prefect.events.actions import CallWebhook
    from prefect.events.schemas.automations import AutomationCore

    return AutomationCore(
        name=PREDICTED,
        description=f"Posts each prediction of the champion to the webhook block {WEBHOOK}.",
        trigger=_at_each({"riseorfall.predicted"}, "riseorfall.series.*"),
        actions=[CallWebhook(block_document_id=webhook.id, payload="{{ event.payload|tojson }}")],
    )


def _at_each(events: Collection[str], resource: str, **related: Any) -> "EventTrigger":
    """Return a trigger that acts on each event about a resource."""
    from prefect.events.schemas.automations import EventTrigger, Posture  # imported here: it takes 3 seconds

    return EventTrigger(
        expect=set(events),
        match={"prefect.resource.id": resource},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
        **related,
    )


def _resource(parameters: Mapping[str, Any]) -> str:
    """Return the resource id of a deployment's series: an alarm about another series must not retrain this one."""
    return series_resource(Series(parameters.get("symbol", "BTC-USD"), parameters.get("interval", "1d")).name)


def _block(client: "SyncPrefectClient", name: str) -> Any:
    """Return the block of a name; None if there is none."""
    named = [block for block in client.read_block_documents() if block.name == name]
    return named[0] if named else None


def _put(client: "SyncPrefectClient", automation: "AutomationCore") -> None:
    """Create or update an automation; one that has not changed keeps its timer.

    One that version 0.1 installed is renamed by the update, so that its timer and its `enabled` survive.
    """
    present = client.read_automations_by_name(automation.name)
    if automation.name in NAMES_OF_0_1:
        present += client.read_automations_by_name(NAMES_OF_0_1[automation.name])
    for duplicate in present[1:]:
        client.delete_automation(duplicate.id)
    if not present:
        client.create_automation(automation)
        return
    if _definition(present[0]) != _definition(automation):
        client.update_automation(present[0].id, automation.model_copy(update={"enabled": present[0].enabled}))


def _definition(automation: "AutomationCore") -> dict[str, Any]:
    """Return what defines the automation, without the ids that the server gave to its parts.

    A person may have given it a trigger of another kind, without these fields.
    """
    content = automation.model_dump(mode="json", include={"name", "description", "trigger", "actions"})
    trigger = {name: content["trigger"].get(name) for name in ("type", "match", "posture", "threshold", "within")}
    return {**content, "trigger": trigger | {"expect": sorted(content["trigger"].get("expect") or ())}}
