"""Lock files with flock, also those of another user and those on a disk on the network.

Such a disk grants an exclusive lock only on a file that is open for writing, and a shared one only for reading. The
kernel releases a lock with the last process that has the file open. Caution: whoever can read a file can lock it.
"""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

NO_WRITING = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS})  # of a disk that has none


def open_to_lock(path: Path, *, create: bool = False) -> TextIO:
    """Open a file for reading and writing, or for reading where this user may not write."""
    try:
        return path.open("a+" if create else "r+", encoding="utf-8")
    except OSError as error:
        if error.errno not in NO_WRITING:
            raise
        return path.open(encoding="utf-8")


@contextmanager
def hold_file(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file inside the context, after the process that holds it now.

    There is no lock in a home that this user may only read, and on a disk without locks.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            fcntl.flock(stack.enter_context(open_to_lock(path, create=True)), fcntl.LOCK_EX)
        yield


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
