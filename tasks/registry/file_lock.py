"""Lock files with flock, also those of another user and those on a disk on the network.

Such a disk grants an exclusive lock only on a file that is open for writing, and a shared one only for reading. The
kernel releases a lock with the last process that has the file open. Whoever can read a file can lock it: files that are
created to be locked can be opened only by users who may write to their folder.
"""

import errno
import fcntl
import logging
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from model.errors import StoreUnavailable

log = logging.getLogger(__name__)

WAIT_SECONDS = 300  # creating a database takes seconds, a minute on a loaded machine
NOTICE_SECONDS = 2
POLL_SECONDS = 0.1
WRITE_BITS = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH  # one bit above each is that for reading
NO_WRITING = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS})  # of a disk that has none


def open_to_lock(path: Path, *, create: bool = False) -> TextIO:
    """Open a file for reading and writing, or for reading where this user may not write."""
    if create:
        restrict_to_writers(path)
    try:
        return path.open("a+" if create else "r+", encoding="utf-8")
    except OSError as error:
        if error.errno not in NO_WRITING:
            raise
        return path.open(encoding="utf-8")


def restrict_to_writers(path: Path) -> None:
    """Create a file if it is absent; let nobody open it who may not write to its folder, whatever the umask is."""
    with suppress(OSError):  # read-only, or of another user, whose file it stays
        path.touch(mode=stat.S_IRUSR | stat.S_IWUSR)
        writers = path.parent.stat().st_mode & WRITE_BITS
        path.chmod(writers | writers << 1)


@contextmanager
def hold_file(path: Path, give_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold an exclusive lock on a file inside the context, after the process that holds it now.

    There is no lock in a home that this user may only read, and on a disk without locks.

    Args:
        path: of the file; created if absent.
        give_up: called while the lock is held by another process; true: go on without it.

    Raises:
        StoreUnavailable: another process held it for `WAIT_SECONDS`.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            _wait_for(stack.enter_context(open_to_lock(path, create=True)), give_up)
        yield


def _wait_for(file: TextIO, give_up: Callable[[], bool]) -> None:
    began, waits = time.monotonic(), False
    while not give_up():
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            waited = time.monotonic() - began
        if waited > WAIT_SECONDS:
            raise StoreUnavailable(
                f"{file.name}: expected the process that holds it to finish within {WAIT_SECONDS} seconds, found it "
                "still held. Wait for that process, or end it, and repeat."
            )
        if waited > NOTICE_SECONDS and not waits:
            log.warning("waiting for another process, which holds %s", file.name)
            waits = True
        time.sleep(POLL_SECONDS)


def is_held(path: Path) -> bool:
    """Return whether a process holds a lock on a file; one that cannot be examined counts as held."""
    try:
        with open_to_lock(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:  # held, or not readable
        return error.errno not in NO_LOCKS
    return False
