"""Choose the port of a service: the requested one, the usual one, or any free one; and keep others from ::1.

The servers listen on 127.0.0.1, but `localhost` is ::1 too, which a browser tries first. Another user who listens there
on the port of a server would get what is typed at http://localhost:PORT, and what the browser keeps for that address:
the password of Prefect's page.
"""

import errno
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from tasks.services.file_server import HOST
from tasks.services.supervisor import ServiceNotStarted

IPV6_HOST = "::1"


def choose_port(requested: int, usual: int, name: str, taken: Sequence[int] = ()) -> int:
    """Choose the port of a service.

    Args:
        requested: this port or none; 0: the usual port if it is free, else any free one.
        usual: the usual port of the service.
        name: of the service, for the error.
        taken: ports chosen for other services that have not started yet.

    Raises:
        ServiceNotStarted: the requested port is in use.
    """
    if requested:
        if requested in taken or not _is_free(requested):
            raise ServiceNotStarted(
                f"{name}: expected port {requested} to be free, found it in use. Choose another, or 0."
            )
        return requested
    if usual not in taken and _is_free(usual):
        return usual
    return free_port()


def free_port() -> int:
    """Return a port on which no process listens."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def keep_ipv6_free(ports: Iterable[int]) -> Iterator[None]:
    """Keep other processes from listening on some ports of ::1 inside the context.

    A socket that is bound and does not listen refuses connections, so a browser goes on to 127.0.0.1.
    """
    with ExitStack() as stack:
        for port in ports:
            with suppress(OSError):  # no IPv6 here
                stack.enter_context(_bound_to_ipv6(port))
        yield


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    try:
        _bound_to_ipv6(port).close()
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


def _bound_to_ipv6(port: int) -> socket.socket:
    """Return a socket that holds a port of ::1, which no other socket can take meanwhile.

    Raises:
        OSError: the port is in use, or the machine has no such address.
    """
    bound = socket.socket(socket.AF_INET6)
    try:
        bound.bind((IPV6_HOST, port))
    except OSError:
        bound.close()
        raise
    return bound
