"""A leash for a program: what was started ends with whoever started it, however that one ends.

Run as `python -m tasks.services.process_guard MARK PROGRAM ...`. It starts the program, passes SIGTERM and SIGINT on, and leaves with
the program's exit code. When its own parent is gone - SIGKILL leaves nobody else to tidy up - it ends the program too.
Descendants bear MARK in their environment, so those that made a session of their own are found as well (Linux; on
other systems only the program's own group is ended). It imports nothing of the project, so it costs little memory.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

MARK_VARIABLE = "RISEORFALL_TETHER"
GRACE_SECONDS = 15.0
LOOK_SECONDS = 0.25


def marked(name: str, value: str) -> list[int]:
    """Return the processes, other than this one, whose environment holds `name=value`; none where /proc is absent."""
    wanted = f"{name}={value}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile, or somebody else's
            if int(folder.name) != os.getpid() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def end(processes: Sequence[int], sign: signal.Signals) -> None:
    """Send a signal to processes; those that are gone do not mind."""
    for process in processes:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, sign)


def end_marked(name: str, value: str, grace_seconds: float = GRACE_SECONDS) -> int:
    """End the marked processes, first politely, then for good, and return how many there were."""
    first = marked(name, value)
    end(first, signal.SIGTERM)
    limit = time.monotonic() + grace_seconds
    while (left := marked(name, value)) and time.monotonic() < limit:
        time.sleep(LOOK_SECONDS)
    end(left, signal.SIGKILL)
    return len(first)


def hold(mark: str, words: Sequence[str], grace_seconds: float = GRACE_SECONDS) -> int:
    """Run a program on the leash until it ends, a signal comes or the parent is gone; return its exit code."""
    parent = os.getppid()
    asked: list[int] = []
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda number, _: asked.append(number))
    program = subprocess.Popen(words, env=os.environ | {MARK_VARIABLE: mark}, start_new_session=True)  # noqa: S603 - our own words
    while program.poll() is None and not asked and os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    if program.poll() is None:
        # The program first, alone: it knows how to end its own children.
        end([program.pid], signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            program.wait(grace_seconds)
    end_marked(MARK_VARIABLE, mark, grace_seconds=2.0)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, signal.SIGKILL)
    return program.wait()


if __name__ == "__main__":
    code = hold(sys.argv[1], sys.argv[2:])
    sys.exit(code if code >= 0 else 128 - code)
