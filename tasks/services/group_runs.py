"""Groups of retrains in Prefect: the runs of their series, the rest of a group whose process died, a table of results.

A group is one flow run; each of its series is a child run in the same process. When the process dies, the series that
was running is lost, and a new run of the deployment takes up those that had not started. Its idempotency key names the
run that it continues, so nothing is started twice. Each continuation is at least one series shorter; a group that dies
before its first series starts is repeated once; a continuation that fails is tried `ATTEMPTS` times.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed

from tasks.pages.prefect_artifacts import OUTCOMES, show_table_of_run
from tasks.sources.source_spec import SourceSpec

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

log = logging.getLogger(__name__)

GROUP = "group"  # tag of the deployment of groups, and so of its runs
MAX_SERIES = 200  # of a group: Prefect's largest page
PROCESS_GONE = "its process is gone; the other series of its group continue in another process"
NOT_STARTED = "Not started"
ATTEMPTS = 3  # own choice: to start a continuation, a minute apart; a server that is restarted answers by then
REST, REPEAT = "rest of", "repeat of"  # idempotency key of a continuation, before the id of the run that it continues
CONTINUES = re.compile(rf"^(?:{REST}|{REPEAT}) ([0-9a-f-]{{36}})$")


def group_name(sources: Sequence[SourceSpec]) -> str:
    """Return the name of a group's run.

    >>> group_name([SourceSpec(), SourceSpec(symbol="ETH-USD")])
    'retrain group: BTC-USD 1d and 1 more'
    """
    more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    return f"retrain group: {sources[0].symbol} {sources[0].interval}{more}"


def is_group(run: "FlowRun") -> bool:
    """Return whether a flow run is that of a group; its series have its tags too."""
    return GROUP in run.tags and run.deployment_id is not None and "sources" in run.parameters


def continue_after_crash(flow: Any, flow_run: "FlowRun", state: Any) -> None:  # noqa: ARG001 - named by Prefect
    """Continue a crashed group; a hook of its flow, called by the runner, the worker or the process itself."""
    with get_client(sync_client=True) as client:
        group = client.read_flow_run(flow_run.id)
        try:
            continue_group(client, group)
        except Exception as error:
            client.set_flow_run_state(group.id, Crashed(message=not_continued(state.message, error)), force=True)
            raise


def not_continued(message: str | None, error: Exception) -> str:
    """Return the message of a crashed group whose other series could not be started."""
    return f"{message or 'crashed'}; the series that had not started were not started: {error}"


class Continuations:
    """Continue crashed groups, each in a few attempts: one that cannot be continued does not stop the others."""

    def __init__(self) -> None:
        """Start with no attempt."""
        self._failures: Counter[UUID] = Counter()

    def attempt(self, client: "SyncPrefectClient", group: "FlowRun", message: str) -> str:
        """Continue a group; return the message of its state, or an empty text if it has to be tried again.

        Args:
            client: of the Prefect server.
            group: its run, which is not marked as crashed yet.
            message: why it crashed.
        """
        try:
            continue_group(client, group)
        except ObjectNotFound:  # the run was deleted
            raise
        except Exception as error:  # parameters of an earlier version, a server that refuses or is down
            self._failures[group.id] += 1
            tried = self._failures[group.id]
            log.exception("%s (%s) is not continued, attempt %d of %d", group.name, group.id, tried, ATTEMPTS)
            return not_continued(message, error) if tried >= ATTEMPTS else ""
        return message


def continue_group(client: "SyncPrefectClient", group: "FlowRun") -> str:
    """Mark the series that ran in a crashed group as crashed, start the others; return the new run's id, if any.

    It may be called again: nothing is started twice.
    """
    started = _series_runs(client, group)
    for run in started:
        if run.state is None or not run.state.is_final():
            client.set_flow_run_state(run.id, Crashed(message=PROCESS_GONE), force=True)
            log.info("%s (%s): %s", run.name, run.id, PROCESS_GONE)
    ran = {_source(run.parameters["source"]) for run in started}
    left = [each for each in _sources(group) if each not in ran]
    repeated = not started and str(group.idempotency_key).startswith(REPEAT)
    show_group(client, group)
    if not left or repeated or group.deployment_id is None:
        if repeated:
            log.error("%s (%s): two processes died before a series started; not started again", group.name, group.id)
        return ""
    try:
        run = client.create_flow_run_from_deployment(
            group.deployment_id,
            parameters=group.parameters | {"sources": [each.model_dump(mode="json") for each in left]},
            name=group_name(left),
            tags=group.tags,
            idempotency_key=f"{REST if started else REPEAT} {group.id}",
        )
    except ObjectNotFound:
        log.exception("%s (%s): its deployment is gone; %d series are not started", group.name, group.id, len(left))
        return ""
    log.info("%s (%s) continues with %d series as %s", group.name, group.id, len(left), run.id)
    return str(run.id)


def cancel_series(client: "SyncPrefectClient", group: "FlowRun") -> None:
    """Mark the series that ran in a cancelled group as cancelled; the others are not started."""
    for run in _series_runs(client, group):
        if run.state is None or not run.state.is_final():
            client.set_flow_run_state(run.id, Cancelled(), force=True)
    show_group(client, group)


def show_group(client: "SyncPrefectClient", group: "FlowRun") -> list[dict[str, str]]:
    """Add the table of a group's results to its run, those of the runs that it continues included; return its rows."""
    lineage = _lineage(client, group)
    runs = {_source(run.parameters["source"]): run for each in lineage for run in _series_runs(client, each)}
    rows = [_row(source, runs.get(source)) for source in _sources(lineage[0])]
    rows.sort(key=_is_complete)  # failures first, otherwise in the order of the list
    show_table_of_run(group.id, "decisions", rows, summary(rows))
    return rows


def incomplete(rows: Iterable[dict[str, str]]) -> list[str]:
    """Return the series that did not complete."""
    return [row["series"] for row in rows if not _is_complete(row)]


def summary(rows: Sequence[dict[str, str]]) -> str:
    """Return how many series completed, and which did not.

    >>> summary([{"series": "ETH-USD 1d", "decision": "Failed"}, {"series": "BTC-USD 1d", "decision": "Held"}])
    '1 of 2 series completed; not completed: ETH-USD 1d'
    """
    without = incomplete(rows)
    rest = f"; not completed: {', '.join(without)}" if without else ""
    return f"{len(rows) - len(without)} of {len(rows)} series completed{rest}"


def _is_complete(row: dict[str, str]) -> bool:
    return row["decision"] in OUTCOMES.values()


def _row(source: SourceSpec, run: "FlowRun | None") -> dict[str, str]:
    from prefect.utilities.urls import url_for

    row = {"series": f"{source.symbol} {source.interval}"}
    if run is None or run.state is None:
        return row | {"decision": NOT_STARTED, "reason": "", "run": ""}
    address = url_for(run) or str(run.id)
    return row | {"decision": run.state.name or "", "reason": run.state.message or "", "run": address}


def _lineage(client: "SyncPrefectClient", group: "FlowRun") -> list["FlowRun"]:
    """Return a group's run after those that it continues, oldest first."""
    found = [group]
    with suppress(ObjectNotFound):  # an older run was deleted
        while continued := CONTINUES.match(found[0].idempotency_key or ""):
            found.insert(0, client.read_flow_run(UUID(continued[1])))
    return found


def _series_runs(client: "SyncPrefectClient", group: "FlowRun") -> list["FlowRun"]:
    children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[group.id]))
    return client.read_flow_runs(flow_run_filter=children, sort=FlowRunSort.EXPECTED_START_TIME_ASC)


def _sources(group: "FlowRun") -> list[SourceSpec]:
    return list(dict.fromkeys(map(_source, group.parameters["sources"])))


def _source(parameter: Any) -> SourceSpec:
    return SourceSpec.model_validate(parameter)
