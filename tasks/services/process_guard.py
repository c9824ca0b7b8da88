"""Run a program and end it, with its descendants, when the process that started it is gone.

Run as `python -m tasks.services.process_guard MARK PROGRAM ...`. The guard starts the program, forwards SIGTERM and
SIGINT, and exits with the program's exit code. A supervisor that is killed with SIGKILL cannot end its children; the
guard notices that its parent is gone and ends them. Descendants carry MARK in their environment, so those that started
a session of their own are found too. If the guard itself is killed, Linux sends the program SIGTERM, and a supervisor
ends the marked processes before it restarts the service. One guard runs for each service, so it imports nothing of the
project, and psutil only when it has something to end: a guard needs about 13 MB.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

MARK_VARIABLE = "RISEORFALL_TETHER"
GRACE_SECONDS = 15.0
KILLED_SECONDS = 5.0  # a process that is stopped, or waits for a disk, ends later than its signal
POLL_SECONDS = 0.25
PR_SET_PDEATHSIG = 1  # of prctl(2): the signal that a process gets when the thread that started it ends


def find_marked(name: str, value: str) -> "list[psutil.Process]":
    """Return the processes, other than this one, whose environment contains `name=value`."""
    import psutil  # see the module's docstring

    own = os.getpid()
    return [
        process
        for process in psutil.process_iter(["environ"])  # None where the process is gone or belongs to another user
        if process.pid != own and (process.info["environ"] or {}).get(name) == value
    ]


def end_marked(name: str, value: str, grace_seconds: float = GRACE_SECONDS) -> int:
    """End the marked processes, with SIGTERM and after the grace period with SIGKILL; return how many there were."""
    found = find_marked(name, value)
    _send_signal(found, signal.SIGTERM)
    limit = time.monotonic() + grace_seconds
    while (remaining := find_marked(name, value)) and time.monotonic() < limit:
        time.sleep(POLL_SECONDS)
    if remaining:
        import psutil  # see the module's docstring

        _send_signal(remaining, signal.SIGKILL)
        psutil.wait_procs(remaining, timeout=KILLED_SECONDS)  # they hold their ports until they are gone
    return len(found)


def _send_signal(processes: "Sequence[psutil.Process]", number: signal.Signals) -> None:
    import psutil  # see the module's docstring

    for process in processes:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.send_signal(number)


def run_guarded(mark: str, command: Sequence[str], grace_seconds: float = GRACE_SECONDS) -> int:
    """Run a program until it ends, a signal arrives or the parent is gone; return its exit code."""
    parent = os.getppid()
    signals: list[int] = []
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda number, _: signals.append(number))
    # Set, not read: the program inherits it, and others still see the environment that the guard started with.
    os.environ[MARK_VARIABLE] = mark  # noqa: TID251 - see docs/decisions/0019
    program = subprocess.Popen(  # noqa: S603 - the supervisor's own command
        command,
        start_new_session=True,
        preexec_fn=_end_with_the_guard(),  # noqa: PLW1509 - the guard has one thread
    )
    while program.poll() is None and not signals and os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    if program.poll() is None:
        program.terminate()  # the program alone: it ends its own children in the right order
        with suppress(subprocess.TimeoutExpired):
            program.wait(grace_seconds)
    end_marked(MARK_VARIABLE, mark, grace_seconds=2.0)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, signal.SIGKILL)
    return program.wait()


def _end_with_the_guard() -> Callable[[], None] | None:
    """Return what the program runs before it starts, so that it does not outlive this process; None but on Linux."""
    if sys.platform != "linux":
        return None
    guard, prctl = os.getpid(), ctypes.CDLL(None).prctl  # looked up here: after a fork as little as possible runs

    def request_signal() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != guard:  # it was killed before the request
            os._exit(128 + signal.SIGTERM)

    return request_signal


if __name__ == "__main__":
    code = run_guarded(sys.argv[1], sys.argv[2:])
    sys.exit(code if code >= 0 else 128 - code)
