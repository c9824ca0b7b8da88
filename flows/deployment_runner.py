"""Serve the deployments of `riseorfall up`: wait for scheduled and submitted runs, each in a process of its own.

Run as `python -m flows.deployment_runner JSON` with {"parameters": those of retrain, "schedule": a ScheduleSpec,
"own_server": whether `up` started the Prefect server}. Before it serves, it removes deployments that were renamed and
installs the automations; what a person paused in Prefect stays paused, and schedules that a person added stay. On the
server of `up` it also marks the runs that an earlier `up` left running as crashed, so that none keeps its place in the
queue, and while it serves those that no process executes any more. On a configured server other machines may serve
deployments of the same names: their runs are not touched.
"""

import json
import logging
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from threading import Event, Thread
from typing import TYPE_CHECKING

from flows.deployments import RENAMED, ScheduleSpec, plans, served
from tasks.services.automations import install
from tasks.services.dead_runs import (
    clean_up_after_dead_runs,
    end_flow_runs_without_process,
    end_runs_of_earlier_up,
)
from tasks.services.module_runner import module_command
from tasks.settings import Settings

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

log = logging.getLogger(__name__)

POLL_SECONDS = 60.0
FLOW_RUN_COMMAND = shlex.join(module_command("prefect.engine"))
MAX_CONCURRENT_RUNS = 4  # so that a prediction does not wait behind a retrain and a replay


def main(configuration: str) -> None:
    """Serve until a signal arrives."""
    from prefect import serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    content = json.loads(configuration)
    table = plans(content["parameters"], ScheduleSpec(**content["schedule"]))
    names = [plan.full_name for plan in table]
    if content["own_server"]:
        end_runs_of_earlier_up(names, Settings())
    clean_up_after_dead_runs(Settings())
    deployments = [served(plan) for plan in table]
    keep_schedules(deployments)
    for deployment in deployments:
        deployment.apply()
    _remove(RENAMED)
    install(names)
    if content["own_server"]:
        Thread(target=keep_runs_true, args=(names, Event()), daemon=True).start()
    start_runs_by(FLOW_RUN_COMMAND)
    serve(*deployments, pause_on_shutdown=False, limit=MAX_CONCURRENT_RUNS, print_starting_message=False)


def start_runs_by(command: str) -> None:
    """Let Prefect's runner start each flow run by a command; `serve` has no option for it."""
    from prefect.runner import runner

    try:
        from prefect.runner._starter_engine import EngineCommandStarter
    except ImportError:  # of a later Prefect, which may have moved it
        log.warning("flow runs may import modules from the current folder: this Prefect starts them by its own command")
        return
    runner.EngineCommandStarter = partial(EngineCommandStarter, command=command)  # type: ignore[assignment, attr-defined]


def keep_runs_true(names: Sequence[str], stopping: Event) -> None:
    """End, once a minute, the runs that no process executes: one that is stuck would block its deployment."""
    while not stopping.wait(POLL_SECONDS):
        try:
            end_flow_runs_without_process(names)
        except Exception as error:  # noqa: BLE001 - the server may come back
            log.warning("runs without a process were not looked for: %s", error)


def keep_schedules(deployments: Sequence["RunnerDeployment"]) -> None:
    """Let what a person paused in Prefect stay paused, and keep added schedules; to install would undo both.

    On a deployment that `up` schedules too, a schedule counts as added if it has parameters, such as a symbol.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        for deployment in deployments:
            try:
                present = client.read_deployment_by_name(f"{deployment.flow_name}/{deployment.name}")
            except ObjectNotFound:
                continue
            deployment.paused = present.paused
            ours = list(deployment.schedules or ())
            added = [each for each in present.schedules if each.parameters or not ours]
            former = [each for each in present.schedules if each not in added]
            is_off = bool(former) and not any(each.active for each in former)
            for schedule in ours:
                schedule.active = not is_off
            kept = (each.model_dump(include={"schedule", "active", "parameters", "slug"}) for each in added)
            if every := [*ours, *(DeploymentScheduleCreate(**each) for each in kept)]:
                deployment.schedules = every  # none at all must stay unset: Prefect refuses None
            if ours and (present.paused or is_off):
                log.warning("%s/%s is paused in Prefect, and stays so", deployment.flow_name, deployment.name)


def _remove(names: Sequence[str]) -> None:
    """Remove deployments that an earlier version installed under names that nothing serves any more."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        for name in names:
            with suppress(ObjectNotFound):
                client.delete_deployment(client.read_deployment_by_name(name).id)


if __name__ == "__main__":
    main(sys.argv[1])
