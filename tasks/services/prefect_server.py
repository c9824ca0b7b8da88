"""Choose the Prefect server of a run from a shell: a configured one, that of a running `up`, or a temporary one.

Prefect can start a temporary server itself, but does so only when the flow starts, and loads the whole server into the
process of the run. Here it starts while the imports run, under a process guard, which ends it with the run. Other
users of this machine reach it as well, so it has a password, which nobody but the run and its server knows.
"""

import atexit
import importlib
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Thread

from tasks.registry.file_lock import hold_file
from tasks.services.file_server import HOST
from tasks.services.module_runner import module_command
from tasks.services.ports import free_port
from tasks.services.server_password import (
    new_password,
    prefect_client_variables,
    prefect_server_variables,
    read_password,
    variables_of_up,
)
from tasks.services.supervisor import (
    POLL_SECONDS,
    SHARED_VARIABLES,
    STARTUP_TIMEOUT_SECONDS,
    Service,
    ServiceNotStarted,
    describe_failed_start,
    is_healthy,
    launch,
    new_mark,
)
from tasks.services.up_lock import read_state
from tasks.settings import Settings, process_environment, set_environment

# As Prefect configures its own temporary servers: no pages, no services that schedule or end other runs. No
# origin is allowed.
BARE = {"PREFECT_UI_ENABLED": "false", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ""}


@contextmanager
def local_server(meanwhile: Iterable[str] = ()) -> Iterator[None]:
    """Start a temporary server, run the body meanwhile, and wait until it answers; do nothing if there is a server.

    Args:
        meanwhile: modules to import after the body for as long as the server does not answer.

    Raises:
        ServiceNotStarted: it exited, or did not answer in time after the body.
    """
    settings = Settings()
    use_server(settings)
    from prefect.settings import get_current_settings

    if get_current_settings().api.url:
        yield
        return
    log_path = settings.log_folder / "prefect-temporary.log"
    service, password = temporary_server(), new_password()
    environment = process_environment(**BARE, **prefect_server_variables(password))
    with first_start(settings):
        process = launch(service, environment, log_path, new_mark(service))
        atexit.register(process.terminate)  # the guard ends the server; the run does not wait for it
        answers = Event()
        Thread(target=ask_until_answer, args=(service, process, answers), daemon=True).start()
        yield
        limit, modules = time.monotonic() + STARTUP_TIMEOUT_SECONDS, iter(meanwhile)
        while not answers.is_set():
            if process.poll() is not None or time.monotonic() > limit:
                raise ServiceNotStarted(describe_failed_start(service, log_path))
            module = next(modules, None)
            if module is None:
                answers.wait(POLL_SECONDS)
            else:
                importlib.import_module(module)
    set_environment({"PREFECT_API_URL": service.address, **prefect_client_variables(password)}, replace=True)
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


def ask_until_answer(service: Service, process: "subprocess.Popen[bytes]", answers: Event) -> None:
    """Ask a service until it answers or has ended; Prefect's builds its routes for its first answer, in 0.5 s."""
    while process.poll() is None:
        if is_healthy(service.health_url):
            answers.set()
            return
        time.sleep(POLL_SECONDS)


@contextmanager
def first_start(settings: Settings, give_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Let the first server of a home start inside the context, while others wait: it creates Prefect's database.

    Of two servers that create it at once one fails. A server of a home that has the database starts at once, and so
    does one with a database elsewhere.

    Args:
        settings: of the home.
        give_up: called while another server starts; true: do not wait for it.
    """
    if settings.has_prefect_database_elsewhere:
        yield
        return
    home = settings.prefect_home
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(hold_file(home / "first_start.lock", give_up))
        if (home / "prefect.db").exists():
            stack.close()
        yield


def use_server(settings: Settings) -> None:
    """Use the servers of a running `up` of this home, with its password; do nothing if other servers are configured.

    Call it before Prefect is imported, which reads the environment once.
    """
    state = read_state(settings.up_lock, settings.up_state)
    api = state["environment"].get("PREFECT_API_URL") if state else None
    if state is None or not api or settings.prefect_api_url not in {"", api}:
        return
    set_environment({name: state["environment"][name] for name in SHARED_VARIABLES if name in state["environment"]})
    password = read_password(settings.up_password)
    if password:
        set_environment(variables_of_up(state, Settings().mlflow_uri, password), replace=True)


def temporary_server() -> Service:
    """Return the server without its pages, started without the command line that would load them."""
    port = free_port()
    address, where = f"http://{HOST}:{port}/api", ("--host", HOST, "--port", str(port))
    app = ("--factory", "prefect.server.api.server:create_app", "--lifespan", "on", "--log-level", "error")
    return Service("Prefect", module_command("uvicorn", *app, *where), f"{address}/ready", address)
