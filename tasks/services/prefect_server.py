"""The Prefect server that a run from a shell talks to: a configured one, that of a running `up`, or a temporary one.

Prefect starts a temporary one by itself, but only when the flow begins, and loads the whole server into the run's own
process to do so. Here it starts beside the imports, on a leash: it ends with the run, however that one ends.
"""

import atexit
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.services.file_server import HOST
from tasks.services.supervisor import (
    LOOK_SECONDS,
    READY_SECONDS,
    SHARED,
    NotStarted,
    Part,
    answers,
    free_port,
    last_words,
    launch,
    read_state,
)
from tasks.settings import Settings

# As Prefect marks its own temporary servers: no pages, and none of the services that schedule or end other runs.
BARE = {"PREFECT_UI_ENABLED": "false", "PREFECT__SERVER_EPHEMERAL": "1"}


@contextmanager
def local_server() -> Iterator[None]:
    """Start a temporary server while the body runs, and leave once it answers; nothing where one is there already.

    Raises:
        NotStarted: it ended, or did not answer in time.
    """
    settings = Settings()
    use_server(settings)
    from prefect.settings import get_current_settings

    if get_current_settings().api.url:
        yield
        return
    log_path = settings.log_folder / "prefect-temporary.log"
    part = _temporary_server()
    process = launch(part, os.environ | BARE, log_path)
    atexit.register(process.terminate)  # the leash sees to the rest, and nobody waits for it
    yield
    limit = time.monotonic() + READY_SECONDS
    while not answers(part.health_url):
        if process.poll() is not None or time.monotonic() > limit:
            raise NotStarted(
                f"Prefect: expected an answer at {part.health_url} within {READY_SECONDS:.0f} s, found none. "
                f"Its last words: {last_words(log_path)} (whole in {log_path})"
            )
        time.sleep(LOOK_SECONDS)
    os.environ["PREFECT_API_URL"] = part.address
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


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


def _temporary_server() -> Part:
    """The bare server, without its pages and without the command line that would load them."""
    port = free_port()
    address, where = f"http://{HOST}:{port}/api", ("--host", HOST, "--port", str(port))
    app = ("--factory", "prefect.server.api.server:create_app", "--lifespan", "on", "--log-level", "error")
    return Part("Prefect", (sys.executable, "-m", "uvicorn", *app, *where), f"{address}/health", address)
