"""Run a Prefect worker on one work pool, and end the MLflow runs of flow runs that are over.

A killed flow run cannot end its MLflow run. An automation in Prefect notices the missing heartbeat and marks the flow
run as crashed; this process checks once a minute and ends the MLflow run.
"""

import logging
import os
import signal
import subprocess
import sys
from threading import Event

from tasks.services.dead_runs import end_stale_mlflow_runs
from tasks.settings import Settings

log = logging.getLogger("worker")

POLL_SECONDS = 60.0


def main() -> int:
    """Run until a signal arrives; return the exit code of the worker."""
    pool, limit = os.environ.get("WORK_POOL", "riseorfall"), os.environ.get("RUNS_AT_A_TIME", "2")
    command = [
        "prefect",
        "worker",
        "start",
        "--pool",
        pool,
        "--type",
        "process",
        "--limit",
        limit,
        "--with-healthcheck",
    ]
    worker = subprocess.Popen(command)  # noqa: S603 - a fixed command
    stopping = Event()

    def stop(number: int, _frame: object) -> None:
        stopping.set()
        worker.send_signal(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while worker.poll() is None:
        try:
            end_stale_mlflow_runs(Settings())
        except Exception as error:  # noqa: BLE001 - the server may come back; the worker goes on
            log.warning("stale MLflow runs were not checked: %s", type(error).__name__)
        try:
            worker.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    return 0 if stopping.is_set() else worker.returncode


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    sys.exit(main())
