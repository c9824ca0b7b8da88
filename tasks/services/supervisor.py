"""Keep programs running: start them in order, restart one that dies, and stop them all.

Knows commands, ports and health addresses, not what the programs do. Each program runs under a process guard
(`tasks.services.process_guard`), so that none outlives this process, however it ends. What a killed guard leaves behind
is ended before the restart, because it would hold the service's port. `up_lock.py` allows one supervisor for each home.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from threading import Event
from urllib.error import URLError
from urllib.request import Request, urlopen

from model.errors import RiseOrFallError
from tasks.services.process_guard import MARK_VARIABLE, end_marked
from tasks.services.server_password import basic_authentication

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 1.0, 60.0  # between restarts: doubled each time
STABLE_SECONDS = 60.0  # after this uptime the delay starts again at the first one
STARTUP_TIMEOUT_SECONDS = 180.0  # Prefect and MLflow create their databases first, maybe while a training runs
STOP_TIMEOUT_SECONDS = 30.0
LEFTOVER_GRACE_SECONDS = 10.0  # from SIGTERM to SIGKILL, for what a killed guard left
POLL_SECONDS = 0.25
SHARED_VARIABLES = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "RISEORFALL_TRACKING_URI", "RISEORFALL_PUBLIC_URL")


class ServiceNotStarted(RiseOrFallError):
    """A service did not start."""


@dataclass(frozen=True, slots=True)
class Service:
    """A program to keep running.

    Attributes:
        name: shown to people.
        command: program and arguments.
        health_url: returns 200 once the service is ready; empty: ready when started.
        address: shown to people; empty for a program without a page.
        password: `user:password` that the health check sends; empty: none.
    """

    name: str
    command: tuple[str, ...]
    health_url: str = ""
    address: str = ""
    password: str = field(default="", repr=False)


@dataclass(slots=True)
class ManagedProcess:
    """The process of a service, and the state of its restarts; times are those of the monotonic clock.

    `mark` is in the environment of the service and of everything that it starts.
    """

    service: Service
    mark: str
    process: "subprocess.Popen[bytes]"
    started_at: float
    restarts: int = 0
    delay_seconds: float = FIRST_DELAY_SECONDS
    restart_at: float = 0.0


@dataclass(slots=True)
class Supervisor:
    """Start services, restart those that die, and stop them.

    Attributes:
        log_folder: of the services' log files.
        environment: of the services.
        state_path: file that lists what runs, for other commands.
        report: receives one line of text for each event.
    """

    log_folder: Path
    environment: Mapping[str, str]
    state_path: Path
    report: Callable[[str], None]
    processes: dict[str, ManagedProcess] = field(default_factory=dict)
    stopping: Event = field(default_factory=Event)

    def start(self, service: Service) -> None:
        """Start a service and wait until its health check succeeds; do nothing once `stopping` is set.

        Raises:
            ServiceNotStarted: it exited, or was not healthy in time.
        """
        if self.stopping.is_set():
            return
        self.report(f"starting {service.name} ...")
        mark = new_mark(service)
        managed = ManagedProcess(service, mark, self._launch(service, mark), time.monotonic())
        self.processes[service.name] = managed
        limit = time.monotonic() + STARTUP_TIMEOUT_SECONDS
        while not _is_ready(service) and not self.stopping.is_set():
            if managed.process.poll() is not None or time.monotonic() > limit:
                raise ServiceNotStarted(describe_failed_start(service, self._log_path(service)))
            self.stopping.wait(POLL_SECONDS)
        self.write_state()

    def run_until_stopped(self) -> None:
        """Restart services that die, each time after a longer delay, until `stopping` is set."""
        while not self.stopping.wait(POLL_SECONDS):
            for managed in self.processes.values():
                self._restart_if_dead(managed)

    def stop(self) -> None:
        """Stop the services in reverse order; kill one that does not end in time."""
        for managed in reversed(self.processes.values()):
            if managed.process.poll() is None:
                managed.process.terminate()
                try:
                    managed.process.wait(STOP_TIMEOUT_SECONDS)
                except subprocess.TimeoutExpired:
                    managed.process.kill()
                    managed.process.wait()
            end_marked(
                MARK_VARIABLE, managed.mark, LEFTOVER_GRACE_SECONDS
            )  # of a guard that was killed; nothing otherwise
        self.state_path.unlink(missing_ok=True)

    def write_state(self) -> None:
        """Write process and address of each service."""
        state = {
            "pid": os.getpid(),
            "parts": {
                name: {"pid": managed.process.pid, "address": managed.service.address, "restarts": managed.restarts}
                for name, managed in self.processes.items()
            },
            "environment": {name: self.environment[name] for name in SHARED_VARIABLES if name in self.environment},
            "written_at": datetime.now(UTC).isoformat(),
        }
        fresh = self.state_path.with_suffix(".new")
        fresh.write_text(json.dumps(state, indent=2), encoding="utf-8")
        fresh.replace(self.state_path)

    def _restart_if_dead(self, managed: ManagedProcess) -> None:
        now = time.monotonic()
        code = managed.process.poll()
        if code is None:
            if now - managed.started_at > STABLE_SECONDS:
                managed.delay_seconds = FIRST_DELAY_SECONDS
            return
        if not managed.restart_at:
            end_marked(
                MARK_VARIABLE, managed.mark, LEFTOVER_GRACE_SECONDS
            )  # if the guard was killed: they hold the port
            managed.restart_at = now + managed.delay_seconds
            self.report(
                f"{managed.service.name} exited with code {code}; restart in {managed.delay_seconds:.0f} s. "
                f"End of its log: {last_log_lines(self._log_path(managed.service))}"
            )
            managed.delay_seconds = min(2 * managed.delay_seconds, MAX_DELAY_SECONDS)
        elif now >= managed.restart_at:
            try:
                managed.process = self._launch(managed.service, managed.mark)
            except OSError as error:  # no memory or no place for its log: a later attempt may succeed
                managed.restart_at = now + managed.delay_seconds
                managed.delay_seconds = min(2 * managed.delay_seconds, MAX_DELAY_SECONDS)
                log.warning("%s could not be started: %s", managed.service.name, error)
                return
            managed.started_at, managed.restart_at = now, 0.0
            managed.restarts += 1
            try:
                self.write_state()
            except OSError as error:  # a full disk; the services go on
                log.warning("%s was not written: %s", self.state_path, error)

    def _launch(self, service: Service, mark: str) -> "subprocess.Popen[bytes]":
        return launch(service, self.environment, self._log_path(service), mark)

    def _log_path(self, service: Service) -> Path:
        return self.log_folder / f"{service.name.replace(' ', '-').lower()}.log"


def new_mark(service: Service) -> str:
    """Return a mark for the processes of a service that no other service has."""
    return f"{os.getpid()}-{service.name}-{time.time_ns()}"


def launch(service: Service, environment: Mapping[str, str], log_path: Path, mark: str) -> "subprocess.Popen[bytes]":
    """Start a service under a process guard that gives it the mark; its output goes to the log file."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as file:
        return subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-P", "-m", "tasks.services.process_guard", mark, *service.command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C reaches the supervisor only, which stops the services in order
        )


def describe_failed_start(service: Service, log_path: Path) -> str:
    """Describe a service that did not start: what was expected, and the end of its log."""
    return (
        f"{service.name}: expected an answer at {service.health_url} within {STARTUP_TIMEOUT_SECONDS:.0f} s, found "
        f"none. End of its log: {last_log_lines(log_path)} (all of it: {log_path})"
    )


@contextmanager
def stop_on_signals(stopping: Event) -> Iterator[None]:
    """Set the event on SIGINT (Ctrl-C), SIGTERM and SIGHUP inside the context; an ignored SIGHUP stays so (nohup)."""
    signs = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signs.append(signal.SIGHUP)
    former = {sign: signal.signal(sign, lambda *_: stopping.set()) for sign in signs}
    try:
        yield
    finally:
        for sign, handler in former.items():
            signal.signal(sign, handler)


def is_healthy(url: str, password: str = "") -> bool:
    """Return whether an address responds with 200 within two seconds."""
    try:
        request = Request(url, headers=basic_authentication(password))  # noqa: S310 - our own http addresses
        with urlopen(request, timeout=2) as reply:  # noqa: S310 - our own http addresses
            return bool(reply.status == 200)  # noqa: PLR2004 - HTTP OK
    except (URLError, OSError, ValueError, HTTPException):
        return False


def _is_ready(service: Service) -> bool:
    return not service.health_url or is_healthy(service.health_url, service.password)


def last_log_lines(path: Path, count: int = 3) -> str:
    """Return the last lines of a log file, joined to one line."""
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines() if path.exists() else []
    return " | ".join(line.strip() for line in lines[-count:]) or "none"
