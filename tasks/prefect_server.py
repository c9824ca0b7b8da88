"""The Prefect server that a run from a shell talks to: a configured one, that of a running `up`, or a temporary one.

Prefect starts a temporary one by itself, but only when the flow begins; here it starts beside the imports, which
takes its seconds off the run.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from tasks.settings import Settings
from tasks.supervisor import SHARED, read_state

STARTUP_SECONDS = 180  # on a machine that does much else; Prefect's own limit is 20


@contextmanager
def local_server() -> Iterator[None]:
    """Start a temporary server while the body runs, and leave once it answers; nothing where one is there already."""
    use_server(Settings())
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    if get_current_settings().api.url:
        yield
        return
    # A start that gave up would leave its process behind, and the flow would start a second one.
    starter = Thread(target=SubprocessASGIServer().start, args=(STARTUP_SECONDS,), name="prefect-server")
    starter.start()
    try:
        yield
    finally:
        starter.join()


def use_server(settings: Settings) -> None:
    """Let this process talk to the servers of a running `up` of this home; nothing where others are configured.

    It must run before Prefect is imported, which reads the environment once.
    """
    state = None if os.environ.get("PREFECT_API_URL") else read_state(settings.up_lock, settings.up_state)
    if state is None or "PREFECT_API_URL" not in state["environment"]:
        return
    for name in SHARED:
        if name in state["environment"]:
            os.environ.setdefault(name, state["environment"][name])
