"""Serve the deployments of `riseorfall up`: wait for scheduled and submitted runs, each in a process of its own.

Run as `python -m flows.deployment_runner JSON` with {"parameters": those of retrain, "schedule": a ScheduleSpec}.
Before it serves, it marks the runs that an earlier `up` left running as crashed, so that none keeps its place in the
queue, and installs the automations.
"""

import json
import logging
import sys

from flows.deployments import ScheduleSpec, plans, served
from tasks.services.automations import install
from tasks.services.stale_runs import end_runs_of_earlier_up
from tasks.settings import Settings

MAX_CONCURRENT_RUNS = 4  # so that a prediction does not wait behind a retrain and a replay


def main(configuration: str) -> None:
    """Serve until a signal arrives."""
    from prefect import serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    content = json.loads(configuration)
    table = plans(content["parameters"], ScheduleSpec(**content["schedule"]))
    names = [plan.full_name for plan in table]
    end_runs_of_earlier_up(names, Settings())
    deployments = [served(plan) for plan in table]
    for deployment in deployments:
        deployment.apply()
    install(names)
    serve(*deployments, pause_on_shutdown=False, limit=MAX_CONCURRENT_RUNS, print_starting_message=False)


if __name__ == "__main__":
    main(sys.argv[1])
