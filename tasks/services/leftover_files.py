"""Files that a killed run leaves behind: landed bars and temporary folders.

A landing file is named by its run. Each process of the command line has one temporary folder, named by the process, in
which its libraries create theirs; it is deleted at the exit, or by a later run if the process was killed.
"""

import atexit
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from tasks.registry.owning_process import is_gone, own_process
from tasks.settings import Settings, set_environment

log = logging.getLogger(__name__)

PREFIX, SEPARATOR = "riseorfall-", "+"
LANDING_SECONDS = 24 * 3600.0  # own choice: a run that is not known to have ended may still need its landing file


def use_own_temporary_folder() -> None:
    """Create this process's temporary folder, which it and its children use; do nothing where that is impossible."""
    with suppress(OSError):  # a full or read-only disk must not end a command that only reads
        name = SEPARATOR.join(own_process().split())
        if Path(tempfile.gettempdir()).name.startswith(f"{PREFIX}{name}{SEPARATOR}"):
            return  # a group of retrains asks once for each series
        folder = tempfile.mkdtemp(prefix=f"{PREFIX}{name}{SEPARATOR}", dir=_base())
        tempfile.tempdir = folder
        set_environment({"TMPDIR": folder}, replace=True)
        atexit.register(_remove_at_exit, folder, os.getpid())


def remove_temporary_folders() -> list[Path]:
    """Delete the temporary folders of processes that are gone; return them."""
    found = [
        path
        for path in _base().glob(f"{PREFIX}*")
        if is_gone(" ".join(path.name.removeprefix(PREFIX).split(SEPARATOR)[:-1]))
    ]
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
        log.info("deleted %s: its process is gone", path)
    return found


def remove_landing_files(settings: Settings, ended: Collection[str]) -> list[Path]:
    """Delete the landing files of ended runs, and those older than a day; return them.

    Args:
        settings: the home.
        ended: ids of runs that are known to have ended.
    """
    oldest = time.time() - LANDING_SECONDS
    found = []
    for path in sorted(settings.landing_folder.glob("*.parquet")):
        with suppress(FileNotFoundError):  # its run has just deleted it
            if path.name.partition(".")[0] in ended or path.stat().st_mtime < oldest:
                found.append(path)
    for path in found:
        path.unlink(missing_ok=True)
        log.info("deleted %s: its run has ended", path)
    return found


def _base() -> Path:
    """Return the folder of temporary folders, also in a process whose own folder is inside it."""
    current = Path(tempfile.gettempdir())
    return current.parent if current.name.startswith(PREFIX) else current


def _remove_at_exit(folder: str, pid: int) -> None:
    if os.getpid() == pid:  # not in a fork
        shutil.rmtree(folder, ignore_errors=True)
