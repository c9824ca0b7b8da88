"""Which other processes write to a home: `doctor --repair` and `restore` refuse to run while there is one.

A command that writes holds a lock on its log file until it and its children have ended; a run that was started in any
other way is found by the process that its MLflow run names. `up` has a lock of its own, in `tasks/services/`.
"""

import fcntl
from contextlib import suppress
from pathlib import Path
from typing import IO

from tasks.registry.file_lock import is_held
from tasks.registry.local_database import LocalDatabase
from tasks.registry.owning_process import is_alive, own_process
from tasks.settings import Settings

COMMAND_LOGS = "[0-9]*T[0-9]*-[0-9]*.log"  # of commands: time and process; those of servers have fixed names


def hold_home(log_file: IO[str]) -> None:
    """Let a command count as one that writes, until its log file is closed."""
    with suppress(OSError):  # a disk without locks
        fcntl.flock(log_file, fcntl.LOCK_SH)  # waits while another process looks, see is_held


def live_writers(settings: Settings, own_log: Path | None = None) -> list[str]:
    """Return a description of each other process that writes to the home.

    Args:
        settings: of the home.
        own_log: log file by which the caller holds the home itself: of two that hold it first and look second, both see
            the other.
    """
    logs = sorted(set(settings.log_folder.glob(COMMAND_LOGS)) - {own_log})
    return [*(f"a command with the log {path}" for path in logs if is_held(path)), *_writers_of_database(settings)]


def _writers_of_database(settings: Settings) -> list[str]:
    database = LocalDatabase(settings.mlflow_uri)
    if database.is_locked():  # which runs there are may not be readable
        return [f"a process that locks {settings.local_database}"]
    processes = database.running_processes() or {}
    alive = (run_id for run_id, process in processes.items() if process != own_process() and is_alive(process))
    return [f"MLflow run {run_id}" for run_id in alive]
