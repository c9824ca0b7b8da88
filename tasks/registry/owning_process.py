"""Name the process that something belongs to, and say whether that process is gone.

The name is `host pid start`, the start in seconds since 1970: a process id alone is used again after a while. A name of
another machine says nothing here, so such a process counts as alive.
"""

import os
import socket

STARTS_WITHIN_SECONDS = 5  # the kernel's start time moves with corrections of the clock; ids are not reused that fast


def own_process() -> str:
    """Return the name of this process."""
    import psutil  # imported here: the command line imports this module before it knows the command

    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.0f}"


def is_alive(process: str) -> bool:
    """Return whether a text names a process of this machine that runs."""
    return process.split()[:1] == [socket.gethostname()] and not is_gone(process)


def is_gone(process: str) -> bool:
    """Return whether a process of this machine has ended; False for text that is no name of a process."""
    import psutil  # imported here: see own_process

    match process.split():
        case [host, pid, start] if host == socket.gethostname() and pid.isdecimal() and start.isdecimal():
            try:
                found = psutil.Process(int(pid))
                ended: bool = found.status() == psutil.STATUS_ZOMBIE
                return ended or bool(abs(found.create_time() - int(start)) > STARTS_WITHIN_SECONDS)
            except psutil.NoSuchProcess:
                return True
    return False
