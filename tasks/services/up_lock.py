"""One `up` for each home: the lock that it holds, and what another one says that finds it held.

The kernel releases the lock with the process, so a stale lock cannot block the next one.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from model.errors import RiseOrFallError
from tasks.registry.owning_process import is_alive, own_process
from tasks.services.supervisor import is_healthy

LOCK_TIMEOUT_SECONDS = 3.0
POLL_SECONDS = 0.25


class AlreadyRunning(RiseOrFallError):
    """Another `up` runs for this home; the message lists its services."""

    exit_code = 0


class LockHeld(RiseOrFallError):
    """A process that is no `up` holds the lock of the home, or this user may not take it."""


@contextmanager
def hold_home_lock(lock_path: Path, state_path: Path) -> Iterator[None]:
    """Hold the lock of a home inside the context; the file names the process that holds it.

    Raises:
        AlreadyRunning: another `up` holds it.
        LockHeld: a process that is no `up` holds it.
    """
    with keep_up_out(lock_path, state_path) as file:
        file.truncate(0)
        file.write(own_process())
        file.flush()
        yield


@contextmanager
def keep_up_out(lock_path: Path, state_path: Path) -> Iterator[TextIO]:
    """Hold the lock of a home inside the context without being its `up`, for a repair; yield the file.

    Raises:
        AlreadyRunning: an `up` holds it, maybe one that is still starting.
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
                    f"{lock_path}: expected to lock it, but a process that is no `riseorfall up` holds it, such as "
                    "`riseorfall doctor --repair` or `restore`. Wait for it, or find it with `fuser` or `lsof` and end "
                    "it, then repeat."
                )
            time.sleep(POLL_SECONDS)  # a command looks at the lock for a moment, or a new `up` writes its name
        state_path.unlink(missing_ok=True)  # of an `up` that was killed: others may listen at its addresses by now
        yield file


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
