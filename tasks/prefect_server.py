"""The Prefect server that a flow run from a shell talks to, where none is configured.

Prefect starts a temporary one by itself, but only when the flow begins; here it starts beside the imports, which
takes its seconds off the run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread


@contextmanager
def local_server() -> Iterator[None]:
    """Start a temporary server while the body runs, and leave once it answers; nothing where one is configured."""
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    if get_current_settings().api.url:
        yield
        return
    starter = Thread(target=SubprocessASGIServer().start, name="prefect-server")
    starter.start()
    try:
        yield
    finally:
        starter.join()
