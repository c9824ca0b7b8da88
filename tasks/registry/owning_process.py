"""Name the process that something belongs to, and say whether that process is gone.

On Linux the name is `machine boot namespace pid start`, the start in clock ticks since boot: a process id alone is used
again after a while, in other containers too, and wall time moves when a clock is set. Elsewhere, and in version 0.1, it
is `host pid start`, the start in seconds since 1970. Nothing is known here about a process of another machine or
container, so it counts as alive.
"""

import hashlib
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

# Tag of an MLflow run: if the process is gone while the run is running, it was killed. MLflow's pages hide `mlflow.`.
PROCESS_TAG = "mlflow.riseorfall.process"
SHOWN_PROCESS_TAG = "process"  # the same of an older home, which MLflow's pages show
KERNEL = Path("/proc")
UNKNOWN = "-"  # machine without an id: a name of another boot may be that of another machine
STARTS_WITHIN_SECONDS = 5  # without /proc: start times move with corrections of the clock
MAX_AGE_SECONDS = 24 * 3600.0  # own choice: a name `host pid start` of a younger process is not acted on, on Linux


def own_process() -> str:
    """Return the name of this process."""
    place, pid = _place(), os.getpid()
    if place is not None:
        return f"{place} {pid} {_start_ticks(pid)}"
    import psutil  # imported here: the command line imports this module before it knows the command

    return f"{socket.gethostname()} {pid} {psutil.Process().create_time():.0f}"


def process_of(tags: Mapping[str, str]) -> str:
    """Return the process that the tags of an MLflow run name; empty for a run of version 0.1 or of others."""
    return tags.get(PROCESS_TAG) or tags.get(SHOWN_PROCESS_TAG, "")


def is_alive(process: str) -> bool:
    """Return whether a text names a process of this machine that runs."""
    return process.split()[:-2] == own_process().split()[:-2] and not is_gone(process)


def is_gone(process: str) -> bool:
    """Return whether a process of this machine has ended; False where that is not known, or for any other text."""
    place = _place()
    match process.split():
        case [machine, boot, namespace, pid, start] if place is not None and pid.isdecimal():
            our_machine, our_boot, our_namespace = place.split()
            if boot != our_boot:
                return machine == our_machine != UNKNOWN
            return namespace == our_namespace and _start_ticks(int(pid)) != start and not _is_hidden(int(pid))
        case [host, pid, start] if host == socket.gethostname() and pid.isdecimal() and start.isdecimal():
            if place is None:
                return _has_ended(int(pid), int(start))
            return time.time() - int(start) > MAX_AGE_SECONDS and not _exists(int(pid))
    return False


def _place() -> str | None:
    """Return `machine boot namespace` of this process, short because file names contain it; None without /proc."""
    try:
        boot = (KERNEL / "sys/kernel/random/boot_id").read_text(encoding="ascii")
        namespace = (KERNEL / "self/ns/pid").stat().st_ino
        (KERNEL / "self/stat").read_bytes()
    except OSError:
        return None
    machine = _machine()
    named = _short(f"{machine} {socket.gethostname()}") if machine else UNKNOWN
    return f"{named} {_short(boot.strip())} {namespace:x}"


def _machine() -> str:
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _start_ticks(pid: int) -> str:
    """Return the start of a process in clock ticks since boot; empty if it has ended or cannot be seen."""
    try:
        # The second field is a name in parentheses, which may contain any character.
        state, *fields = (KERNEL / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]


def _is_hidden(pid: int) -> bool:
    """Return whether a process exists that /proc does not show to this user."""
    return not (KERNEL / str(pid)).exists() and _exists(pid)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _has_ended(pid: int, start: int) -> bool:
    import psutil  # imported here: see own_process

    try:
        found = psutil.Process(pid)
        ended: bool = found.status() == psutil.STATUS_ZOMBIE
        return ended or bool(abs(found.create_time() - start) > STARTS_WITHIN_SECONDS)
    except psutil.NoSuchProcess:
        return True
