"""A real `riseorfall up` as a process of its own, and questions to its Prefect server."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from playwright.sync_api import Page

SMALL = ("--training.epochs", "2", "--folds.count", "2", "--folds.test-bars", "240")
SHADOWS = (
    "model",
    "tasks",
    "flows",
    "mlflow",
    "prefect",
    "numpy",
)  # modules that no process of `up` may take from here
DONE = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PATIENCE_SECONDS = 240
RETRAIN_SECONDS = 900  # of a retrain on two cores that others use as well
LATER = f"10 {(datetime.now(UTC).hour + 12) % 24} * * *"  # a run at midnight would be one more in the middle of a test
DAILY = ("predict", "retrain", "monitor", "housekeeping")
SCHEDULES = ["--schedule.ingest-cron=* * * * *", *(f"--schedule.{name}-cron={LATER}" for name in DAILY)]


def wait_for(what: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """Ask until the answer is true, and return it."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        answer = what()
        if answer:
            return answer
        time.sleep(1)
    raise AssertionError(f"not within {seconds} s: {what}")


def answer_of(
    address: str, body: Any = None, method: str | None = None, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """Post a body as JSON (get without one) and return status and text; status 0 where nobody listens."""
    content = None if body is None else json.dumps(body).encode()
    request = Request(address, content, {"Content-Type": "application/json"} | (headers or {}), method=method)
    try:
        with urlopen(request, timeout=PATIENCE_SECONDS) as reply:
            return reply.status, reply.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


@dataclass
class Up:
    """A running `up`."""

    home: Path
    process: "subprocess.Popen[bytes]"
    output: Path

    @property
    def state(self) -> dict[str, Any]:
        return json.loads((self.home / "data" / "up.json").read_text(encoding="utf-8"))

    def address(self, part: str) -> str:
        return str(self.state["parts"][part]["address"])

    @property
    def api(self) -> str:
        return f"{self.address('Prefect')}/api"

    @property
    def password(self) -> str:
        return (self.home / "data" / "up.password").read_text(encoding="utf-8").strip()

    @property
    def credentials(self) -> dict[str, str]:
        """The header that sends the password."""
        return {"Authorization": f"Basic {b64encode(self.password.encode()).decode()}"}

    def ask(
        self, path: str, body: dict[str, Any] | list[dict[str, Any]] | None = None, method: str | None = None
    ) -> Any:
        """Send a request to the Prefect server; an error answer comes back as (code, text).

        An error of the server is repeated: its SQLite database was locked, or all of its connections to it were in use.
        """
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | self.credentials
        request = Request(f"{self.api}{path}", content, headers, method=method)
        limit = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with urlopen(request, timeout=PATIENCE_SECONDS) as reply:
                    return json.loads(reply.read() or "null")
            except HTTPError as error:
                if error.code < HTTPStatus.INTERNAL_SERVER_ERROR or time.monotonic() > limit:
                    return error.code, error.read().decode()
                time.sleep(1)

    def deployment(self, name: str) -> dict[str, Any]:
        return dict(self.ask(f"/deployments/name/{name}/{name}"))

    def start(self, name: str, parameters: dict[str, Any] | None = None) -> Any:
        body = {"parameters": parameters or {}, "state": {"type": "SCHEDULED"}}
        return self.ask(f"/deployments/{self.deployment(name)['id']}/create_flow_run", body)

    def runs(self, name: str, **state: Any) -> list[dict[str, Any]]:
        body = {"deployments": {"name": {"any_": [name]}}, "sort": "EXPECTED_START_TIME_DESC"}
        if state:
            body["flow_runs"] = {"state": {"type": {"any_": list(state["types"])}}}
        return list(self.ask("/flow_runs/filter", body))

    def unscheduled_runs(self, name: str) -> set[str]:
        """The runs that somebody or an automation asked for; those that the schedule plans meanwhile are left out."""
        return {run["id"] for run in self.runs(name) if not run["auto_scheduled"]}

    def finished(self, run_id: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait for the end of a run."""

        def look() -> Any:
            run = self.ask(f"/flow_runs/{run_id}")
            assert isinstance(run, dict), run
            return run if run["state_type"] in DONE else None

        return dict(wait_for(look, seconds))


def launch(home: Path, *words: str) -> Up:
    """Start `up` and wait until it says that everything runs."""
    output = home / f"up-{time.time_ns()}.txt"
    home.mkdir(parents=True, exist_ok=True)
    for name in SHADOWS:
        (home / f"{name}.py").write_text("raise SystemExit('imported from the current folder')", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    with output.open("wb") as file:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("riseorfall"), "up", *SMALL, *words],
            env=environment | {"RISEORFALL_HOME": str(home)},
            stdout=file,
            stderr=file,
            cwd=home,
        )
    running = Up(home, process, output)
    wait_for(
        lambda: process.poll() is not None or "ready; Ctrl-C stops everything" in output.read_text(encoding="utf-8")
    )
    assert process.poll() is None, output.read_text(encoding="utf-8")
    wait_for(lambda: len(running.ask("/deployments/filter", {})) >= 5)
    return running


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def submit(page: "Page") -> dict[str, Any]:
    """Press Submit in a form of either UI, and return the run that the server created.

    An error of the server is repeated: its SQLite database was locked.
    """
    for _ in range(3):
        with page.expect_response(re.compile("/create_flow_run$")) as created:
            page.get_by_role("button", name="Submit").click()
        if created.value.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            break
        page.wait_for_timeout(3000)
    run: dict[str, Any] = created.value.json()
    return run
