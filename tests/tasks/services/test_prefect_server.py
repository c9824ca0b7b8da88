"""The temporary Prefect server of a run from a shell."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running_up import PATIENCE_SECONDS, answer_of, wait_for

from tasks.services.supervisor import is_healthy

pytestmark = pytest.mark.e2e

RUN = """
import sys, time
from tasks.settings import Settings
Settings().announce()
from tasks.services.prefect_server import local_server
with local_server():
    from prefect import flow
@flow
def small():
    return 42
assert small() == 42
from prefect.settings import get_current_settings
print("at", get_current_settings().api.url, sum(name.startswith("prefect.server") for name in sys.modules), flush=True)
if "wait" in sys.argv:
    time.sleep(600)
"""


@contextmanager
def run(home: Path, *words: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run a flow in a process of its own; hand out the process, and where its server is."""
    (home / "data").mkdir()
    unconfigured = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with subprocess.Popen(
        [sys.executable, "-c", RUN, *words],
        env=unconfigured | {"RISEORFALL_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        line = next((each.split() for each in process.stdout if each.startswith("at ")), None)
        assert line, f"ended with {process.wait()}"
        assert line[2] == "0", "the server was loaded into the run's own process"
        try:
            yield process, line[1]
        finally:
            process.kill()  # a test that fails does not wait for the run


def ends(address: str) -> None:
    """Wait until nobody answers there any more."""
    limit = time.monotonic() + PATIENCE_SECONDS
    while is_healthy(f"{address}/health") and time.monotonic() < limit:
        time.sleep(0.2)
    assert not is_healthy(f"{address}/health")


def test_a_run_brings_a_server_that_ends_with_it(tmp_path: Path) -> None:
    with run(tmp_path) as (process, address):
        assert process.wait(PATIENCE_SECONDS) == 0
    ends(address)


def test_other_users_and_web_pages_are_refused(tmp_path: Path) -> None:
    """Whoever could post to it would have a shell: a flow run can name a program to run."""
    with run(tmp_path, "wait") as (_, address):
        filtered = f"{address}/flow_runs/filter"
        assert answer_of(filtered, {})[0] == 401
        code, _ = answer_of(
            filtered, None, "OPTIONS", {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        )
        assert code == 400
    ends(address)


def test_a_killed_run_leaves_no_server(tmp_path: Path) -> None:
    with run(tmp_path, "wait") as (process, address):
        wait_for(lambda: is_healthy(f"{address}/health"))
        process.send_signal(signal.SIGKILL)
    ends(address)
