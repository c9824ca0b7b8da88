"""Serves the deployments of `riseorfall up`: waits for scheduled and submitted runs, each in a process of its own.

Run as `python -m flows.deployment_runner JSON`: {"parameters": those of retrain, "spec": when they run}. Before it serves, it
marks the runs that an earlier `up` left behind as crashed, so that none holds a place, and installs the automations.
"""

import json
import logging
import sys

from flows.deployments import UpSpec, plans, served
from tasks.services.automations import install
from tasks.services.leftovers import mark_leftovers
from tasks.settings import Settings

RUNS_AT_A_TIME = 4  # a prediction must not wait behind a retrain and a replay


def main(told: str) -> None:
    """Serve until a signal comes."""
    from prefect import serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    given = json.loads(told)
    table = plans(given["parameters"], UpSpec(**given["spec"]))
    mark_leftovers([plan.full_name for plan in table], Settings())
    deployments = [served(plan) for plan in table]
    for deployment in deployments:
        deployment.apply()
    install([plan.full_name for plan in table])
    serve(*deployments, pause_on_shutdown=False, limit=RUNS_AT_A_TIME, print_starting_message=False)


if __name__ == "__main__":
    main(sys.argv[1])
