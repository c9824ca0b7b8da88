"""Runs a Prefect worker on one work pool, and ends in MLflow what ended in Prefect without saying so.

A flow run whose process was killed says nothing to MLflow; Prefect's automation notices the missing heartbeat, and
here, once a minute, MLflow's runs of flow runs that are over are ended as well.
"""

import logging
import os
import signal
import subprocess
import sys
from threading import Event

from tasks.services.stale_runs import end_stale_mlflow_runs
from tasks.settings import Settings

log = logging.getLogger("worker")

LOOK_SECONDS = 60.0


def main() -> int:
    """Work until a signal comes; return the worker's exit code."""
    pool, limit = os.environ.get("WORK_POOL", "riseorfall"), os.environ.get("RUNS_AT_A_TIME", "2")
    words = ["prefect", "worker", "start", "--pool", pool, "--type", "process", "--limit", limit, "--with-healthcheck"]
    worker = subprocess.Popen(words)  # noqa: S603 - fixed words
    stopping = Event()

    def stop(number: int, _frame: object) -> None:
        stopping.set()
        worker.send_signal(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while worker.poll() is None:
        try:
            end_stale_mlflow_runs(Settings())
        except Exception as error:  # noqa: BLE001 - a server that is away comes back; the worker goes on
            log.warning("runs of MLflow that nobody ends: not looked at now: %s", type(error).__name__)
        try:
            worker.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    return 0 if stopping.is_set() else worker.returncode


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    sys.exit(main())
