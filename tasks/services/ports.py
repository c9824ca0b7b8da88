"""Choose the port of a service: the requested one, the usual one, or any free one."""

import socket
from collections.abc import Sequence

from tasks.services.file_server import HOST
from tasks.services.supervisor import ServiceNotStarted


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


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
