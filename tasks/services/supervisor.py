"""Keep programs running: start them in order, restart one that dies, and stop them all.

Knows commands, ports and health addresses, not what the programs do. Each program runs under a process guard
(`tasks.services.process_guard`), so that none outlives this process, however it ends. What a killed guard leaves behind
is ended before the restart, because it would hold the service's port. One supervisor for each home: the kernel releases
its file lock with the process, so a stale lock cannot block the next one.
"""

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, TextIO
from urllib.error import URLError
from urllib.request import Request, urlopen

from model.errors import RiseOrFallError
from tasks.registry.owning_process import is_alive, own_process
from tasks.services.process_guard import MARK_VARIABLE, end_marked
from tasks.services.server_password import basic_authentication

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 1.0, 60.0  # between restarts: doubled each time
STABLE_SECONDS = 60.0  # after this uptime the delay starts again at the first one
STARTUP_TIMEOUT_SECONDS = 180.0  # Prefect and MLflow create their databases first, maybe while a training runs
STOP_TIMEOUT_SECONDS = 30.0
LEFTOVER_GRACE_SECONDS = 10.0  # from SIGTERM to SIGKILL, for what a killed guard left
POLL_SECONDS = 0.25
LOCK_TIMEOUT_SECONDS = 3.0
SHARED_VARIABLES = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "RISEORFALL_TRACKING_URI", "RISEORFALL_PUBLIC_URL")


class AlreadyRunning(RiseOrFallError):
    """Another `up` runs for this home; the message lists its services."""

    exit_code = 0


class LockHeld(RiseOrFallError):
    """A process that is no `up` holds the lock of the home, or this user may not take it."""


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
            managed.process, managed.started_at, managed.restart_at = (
                self._launch(managed.service, managed.mark),
                now,
                0.0,
            )
            managed.restarts += 1
            self.write_state()

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
            [sys.executable, "-m", "tasks.services.process_guard", mark, *service.command],
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
def hold_home_lock(lock_path: Path, state_path: Path) -> Iterator[None]:
    """Hold the lock of a home inside the context; the file names the process that holds it.

    Raises:
        AlreadyRunning: another `up` holds it.
        LockHeld: a process that is no `up` holds it.
    """
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with _open_lock(lock_path) as file:
        limit = time.monotonic() + LOCK_TIMEOUT_SECONDS
        while not _is_locked_by_us(file):
            state, holder = read_state(lock_path, state_path), lock_path.read_text(encoding="utf-8").strip()
            if state is not None or is_alive(holder):
                raise AlreadyRunning(describe_state(state, lock_path))
            if time.monotonic() > limit:
                raise LockHeld(
                    f"{lock_path}: expected to lock it, but a process that is no `riseorfall up` holds it. Find it "
                    "with `fuser` or `lsof`, end it, then start `riseorfall up` again."
                )
            time.sleep(POLL_SECONDS)  # a command looks at the lock for a moment, or a new `up` writes its name
        file.truncate(0)
        file.write(own_process())
        file.flush()
        yield


def _open_lock(lock_path: Path) -> TextIO:
    """Open the lock of a home; only its owner may, because whoever can read a file can lock it.

    Raises:
        LockHeld: this user may not write to it.
    """
    try:
        file = lock_path.open("a", encoding="utf-8")
    except PermissionError as error:
        raise LockHeld(
            f"{lock_path}: expected a file that this user may write to, found: {error.strerror}. Start `riseorfall up` "
            "as the owner of the home, or correct the permissions of its files."
        ) from error
    with suppress(PermissionError):  # the home of another user
        os.fchmod(file.fileno(), 0o600)
    return file


def _is_locked_by_us(file: TextIO) -> bool:
    """Try to lock a file; return whether that succeeded."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_state(lock_path: Path, state_path: Path) -> dict[str, Any] | None:
    """Return the state that a running supervisor wrote; None if none runs, whatever files an earlier one left."""
    if not lock_path.exists() or not state_path.exists():
        return None
    try:
        with lock_path.open(encoding="utf-8") as file:  # a shared lock needs no more than reading
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _state(state_path)
    except PermissionError:  # the home of another user
        from psutil import pid_exists  # imported here: see owning_process

        state = _state(state_path)
        return state if pid_exists(state["pid"]) else None
    return None


def _state(state_path: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(state_path.read_text(encoding="utf-8"))
    return state


def describe_state(state: Mapping[str, Any] | None, lock_path: Path) -> str:
    """Describe the services of a running supervisor, and whether they answer."""
    if state is None:
        return f"already starting: another `riseorfall up` holds {lock_path}"
    lines = [f"already running (process {state['pid']}):"]
    for name, part in state["parts"].items():
        where = f" at {part['address']}, {'answers' if is_healthy(part['address']) else 'does not answer'}"
        lines.append(f"  {name}: process {part['pid']}{where if part['address'] else ''}")
    return "\n".join(lines)


@contextmanager
def stop_on_signals(stopping: Event) -> Iterator[None]:
    """Set the event on SIGINT (Ctrl-C), SIGTERM and SIGHUP inside the context."""
    former = {
        sign: signal.signal(sign, lambda *_: stopping.set()) for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
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
    except (URLError, OSError, ValueError):
        return False


def _is_ready(service: Service) -> bool:
    return not service.health_url or is_healthy(service.health_url, service.password)


def last_log_lines(path: Path, count: int = 3) -> str:
    """Return the last lines of a log file, joined to one line."""
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines() if path.exists() else []
    return " | ".join(line.strip() for line in lines[-count:]) or "none"
