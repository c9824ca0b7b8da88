"""Keeps programs running: starts them in order, restarts one that dies, and stops them all.

Knows commands, ports and health addresses, not what the programs do. Each program runs on a leash (`tasks.services.process_guard`), so
that none outlives this process, whatever ends it. One supervisor a home: the kernel drops its file lock with the
process, so no stale lock can block the next one.
"""

import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from model.errors import RiseOrFallError
from tasks.services.file_server import HOST

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 1.0, 60.0
STEADY_SECONDS = 60.0  # a program that ran this long has its delay forgotten
READY_SECONDS = 180.0  # Prefect and MLflow make their databases first, on a slow machine beside a training
LOOK_SECONDS = 0.25


class AlreadyRunning(RiseOrFallError):
    """Another `up` keeps this home; the message says where its parts are."""

    exit_code = 0


class NotStarted(RiseOrFallError):
    """A part did not come up."""


@dataclass(frozen=True, slots=True)
class Part:
    """A program to keep running.

    Attributes:
        name: what people call it.
        command: program and arguments.
        health_url: answers 200 once it is ready; empty: ready when started.
        address: where people find it; empty for a program without a page.
    """

    name: str
    command: tuple[str, ...]
    health_url: str = ""
    address: str = ""


@dataclass(slots=True)
class Kept:
    """A part, its process and how its restarts go."""

    part: Part
    process: "subprocess.Popen[bytes]"
    started: float
    restarts: int = 0
    delay: float = FIRST_DELAY_SECONDS
    due: float = 0.0


@dataclass(slots=True)
class Supervisor:
    """Runs parts until it is told to stop.

    Attributes:
        folder: where the parts' logs go.
        environment: what the parts find in theirs.
        state_path: file that says what runs, for other commands.
        say: told what happens, a line at a time.
    """

    folder: Path
    environment: Mapping[str, str]
    state_path: Path
    say: Callable[[str], None]
    kept: dict[str, Kept] = field(default_factory=dict)
    stopping: Event = field(default_factory=Event)

    def start(self, part: Part) -> None:
        """Start a part and wait until it answers.

        Raises:
            NotStarted: it ended, or did not answer in time.
        """
        self.kept[part.name] = Kept(part, self._launch(part), time.monotonic())
        limit = time.monotonic() + READY_SECONDS
        while part.health_url and not answers(part.health_url) and not self.stopping.is_set():
            if self.kept[part.name].process.poll() is not None or time.monotonic() > limit:
                raise NotStarted(
                    f"{part.name}: expected an answer at {part.health_url} within {READY_SECONDS:.0f} s, found none. "
                    f"Its last words: {last_words(self._log_path(part))} (whole in {self._log_path(part)})"
                )
            self.stopping.wait(LOOK_SECONDS)
        self.write_state()

    def watch(self) -> None:
        """Restart what dies, each time after a longer pause, until told to stop."""
        while not self.stopping.wait(LOOK_SECONDS):
            for kept in self.kept.values():
                self._look_after(kept)

    def stop(self) -> None:
        """Stop the parts, last started first; each has its own time to end."""
        for kept in reversed(self.kept.values()):
            if kept.process.poll() is None:
                kept.process.terminate()
                try:
                    kept.process.wait(30)
                except subprocess.TimeoutExpired:
                    kept.process.kill()
                    kept.process.wait()
        self.state_path.unlink(missing_ok=True)

    def write_state(self) -> None:
        """Write which parts run, with process and address."""
        state = {
            "pid": os.getpid(),
            "parts": {
                name: {"pid": kept.process.pid, "address": kept.part.address, "restarts": kept.restarts}
                for name, kept in self.kept.items()
            },
            "environment": {name: self.environment[name] for name in SHARED if name in self.environment},
            "written_at": datetime.now(UTC).isoformat(),
        }
        fresh = self.state_path.with_suffix(".new")
        fresh.write_text(json.dumps(state, indent=2), encoding="utf-8")
        fresh.replace(self.state_path)

    def _look_after(self, kept: Kept) -> None:
        now = time.monotonic()
        code = kept.process.poll()
        if code is None:
            if now - kept.started > STEADY_SECONDS:
                kept.delay = FIRST_DELAY_SECONDS
            return
        if not kept.due:
            kept.due = now + kept.delay
            words = last_words(self._log_path(kept.part))
            self.say(f"{kept.part.name} ended with {code}; again in {kept.delay:.0f} s. Its last words: {words}")
            kept.delay = min(2 * kept.delay, LONGEST_DELAY_SECONDS)
        elif now >= kept.due:
            kept.process, kept.started, kept.due = self._launch(kept.part), now, 0.0
            kept.restarts += 1
            self.write_state()

    def _launch(self, part: Part) -> "subprocess.Popen[bytes]":
        return launch(part, self.environment, self._log_path(part))

    def _log_path(self, part: Part) -> Path:
        return self.folder / f"{part.name.replace(' ', '-').lower()}.log"


def launch(part: Part, environment: Mapping[str, str], log_path: Path) -> "subprocess.Popen[bytes]":
    """Start a part on a leash; its output goes to its log file."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    mark = f"{os.getpid()}-{part.name}-{time.time_ns()}"
    with log_path.open("ab") as file:
        return subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, "-m", "tasks.services.process_guard", mark, *part.command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C is for whoever launched it: it knows the order
        )


SHARED = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "RISEORFALL_TRACKING_URI", "RISEORFALL_PUBLIC_URL")


@contextmanager
def sole_supervisor(lock_path: Path, state_path: Path) -> Iterator[None]:
    """Hold the lock of a home inside the context.

    Raises:
        AlreadyRunning: somebody else holds it.
    """
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with lock_path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(describe_state(read_state(lock_path, state_path), lock_path)) from None
        yield


def read_state(lock_path: Path, state_path: Path) -> dict[str, Any] | None:
    """Return what a living supervisor wrote about its parts; None when none lives, whatever files it left."""
    if not lock_path.exists() or not state_path.exists():
        return None
    with lock_path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            state: dict[str, Any] = json.loads(state_path.read_text(encoding="utf-8"))
            return state
    return None


def describe_state(state: Mapping[str, Any] | None, lock_path: Path) -> str:
    """Say what runs already, and whether it answers."""
    if state is None:
        return f"already starting: another `riseorfall up` holds {lock_path}"
    lines = [f"already running (process {state['pid']}):"]
    for name, part in state["parts"].items():
        where = f" at {part['address']}, {'answers' if answers(part['address']) else 'does not answer'}"
        lines.append(f"  {name}: process {part['pid']}{where if part['address'] else ''}")
    return "\n".join(lines)


@contextmanager
def stop_on_signals(stopping: Event) -> Iterator[None]:
    """Set the event on Ctrl-C and SIGTERM inside the context."""
    former = {
        sign: signal.signal(sign, lambda *_: stopping.set()) for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for sign, handler in former.items():
            signal.signal(sign, handler)


def answers(url: str) -> bool:
    """Say whether an address answers with 200 within two seconds."""
    try:
        with urlopen(url, timeout=2) as reply:  # noqa: S310 - our own http addresses
            return bool(reply.status == 200)  # noqa: PLR2004 - OK
    except (URLError, OSError, ValueError):
        return False


def choose_port(wanted: int, usual: int, name: str, taken: Sequence[int] = ()) -> int:
    """Return the wanted port; without one (0) the usual port if it is free, else any free one.

    Raises:
        NotStarted: the wanted port is taken.
    """
    if wanted:
        if wanted in taken or not _is_free(wanted):
            raise NotStarted(f"{name}: expected port {wanted} to be free, found it taken. Choose another, or none.")
        return wanted
    if usual not in taken and _is_free(usual):
        return usual
    return free_port()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def last_words(path: Path, count: int = 3) -> str:
    """Return the last lines of a log file, in one."""
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines() if path.exists() else []
    return " | ".join(line.strip() for line in lines[-count:]) or "none"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
