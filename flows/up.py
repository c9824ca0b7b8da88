"""`riseorfall up`: run a Prefect server, an MLflow server, a page server and the deployments on one machine.

A server that is already configured is used instead of started. Everything listens on this machine only; Prefect, and
writes to MLflow, need the home's password, which the processes of `up` and the other commands send by themselves. The
addresses and processes are written to HOME/data/up.json for the other commands.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any
from urllib.parse import urlsplit

from flows.deployments import ScheduleSpec, plans, require_valid, require_valid_crons
from tasks.repair.registry_damage import require_registry
from tasks.services.file_server import HOST
from tasks.services.module_runner import module_command
from tasks.services.ports import choose_port, keep_ipv6_free
from tasks.services.prefect_server import first_start
from tasks.services.process_guard import end_marked
from tasks.services.server_password import ensure_password, mlflow_client_variables, prefect_server_variables
from tasks.services.supervisor import Service, Supervisor, stop_on_signals
from tasks.services.up_lock import hold_home_lock
from tasks.settings import LOCAL_NAMES, Settings, process_environment

PREFECT_PORT, MLFLOW_PORT, FILES_PORT = 4200, 5000, 8900  # the usual ones, used if free
PREFECT = "Prefect"  # service
RETRAINS = "/v2/deployments?flowOrDeploymentName=retrain"  # all deployments of Prefect's list stand on three pages
MARK = "RISEORFALL_UP"  # environment variable of every process that an `up` starts; its value is the home


def up(
    settings: Settings,
    parameters: Mapping[str, Any],
    schedule: ScheduleSpec,
    ports: tuple[int, int, int],
    report: Callable[[str], None],
) -> None:
    """Start every service, report the addresses, and keep the services running until a signal arrives.

    Args:
        settings: folders and addresses.
        parameters: of `retrain`, where they differ from its defaults.
        schedule: when the deployments run.
        ports: of Prefect, MLflow and the pages; 0 takes the usual one, or a free one.
        report: receives one line of text for each event.

    Raises:
        AlreadyRunning: an `up` runs for this home.
        ServiceNotStarted: a service did not start.
        DamagedHome: MLflow's database is gone or damaged.
        SpecError: the parameters do not match those of the flows, or a cron schedule is none.
    """
    require_valid_crons(schedule)
    data = settings.data_folder
    data.mkdir(parents=True, exist_ok=True)
    require_registry(settings)  # MLflow's server would create an absent database
    report("loading the flows ...")
    table = plans(parameters, schedule)
    for plan in table:
        require_valid(plan.load(), plan.parameters, f"deployment {plan.name}")
    with hold_home_lock(settings.up_lock, settings.up_state):
        orphaned = end_marked(MARK, str(settings.root))
        if orphaned:
            report(f"ended {orphaned} processes of an earlier `up`")
        environment, servers = _plan_servers(settings, ports)
        own_server = any(server.name == PREFECT for server in servers)
        configuration = json.dumps(
            {"parameters": parameters, "schedule": schedule.model_dump(), "own_server": own_server}
        )
        supervisor = Supervisor(data / "logs", environment, settings.up_state, report)
        stopping = supervisor.stopping.is_set
        ports_in_use = [urlsplit(server.address).port or 0 for server in servers]
        with stop_on_signals(supervisor.stopping), keep_ipv6_free(ports_in_use):
            try:
                for server in servers:
                    with first_start(settings, stopping) if server.name == PREFECT else nullcontext():
                        supervisor.start(server)
                last = f"{environment['PREFECT_API_URL']}/deployments/name/{table[-1].full_name}"
                supervisor.start(
                    Service(
                        "deployments",
                        module_command("flows.deployment_runner", configuration),
                        last,
                        password=environment.get("PREFECT_API_AUTH_STRING", ""),
                    )
                )
                _report_addresses(report, environment, settings)
                supervisor.run_until_stopped()
            finally:
                report("stopping ...")
                supervisor.stop()


def _plan_servers(settings: Settings, ports: tuple[int, int, int]) -> tuple[dict[str, str], list[Service]]:
    """Return the environment of every service, and the servers to start."""
    settings.announce()
    environment = process_environment() | {"RISEORFALL_HOME": str(settings.root), MARK: str(settings.root)}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # saves 1.5 GB; job execution is not used
    environment |= {"PYTHONUNBUFFERED": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "NO_COLOR": "1"}
    servers, taken = [], []
    password = ensure_password(settings.up_password)
    if not environment.get("PREFECT_API_URL"):
        port = choose_port(ports[0], PREFECT_PORT, "Prefect")
        taken.append(port)
        address = f"http://{HOST}:{port}"
        environment["PREFECT_API_URL"] = f"{address}/api"
        environment.setdefault("PREFECT_SERVER_UI_API_URL", f"{address}/api")  # a browser's way, maybe by a proxy
        environment |= prefect_server_variables(password)
        # Prefect deletes old events by itself, flow runs that ended 90 days ago and their logs only with this.
        environment.setdefault("PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED", "events,flow_runs")
        # Prefect writes each state of a task run in a transaction of its own; a page shows them two seconds later so.
        environment.setdefault("PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE", "100")
        environment.setdefault("PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL", "2")
        environment.setdefault(
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS", ",".join(f"http://{name}:{port}" for name in LOCAL_NAMES)
        )
        command = module_command("prefect", "server", "start", "--host", HOST, "--port", str(port))
        servers.append(Service(PREFECT, command, f"{address}/api/health", address))
    environment.pop("MLFLOW_BACKEND_STORE_URI", None)
    if not settings.mlflow_uri.startswith("http"):
        environment["MLFLOW_BACKEND_STORE_URI"] = settings.mlflow_uri  # see Settings.served_store
        port = choose_port(ports[1], MLFLOW_PORT, "MLflow", taken)
        taken.append(port)
        address = f"http://{HOST}:{port}"
        servers.append(Service("MLflow", _mlflow_command(settings, port), f"{address}/health", address))
        environment |= {"MLFLOW_TRACKING_URI": address, "RISEORFALL_TRACKING_URI": address}
        environment |= mlflow_client_variables(password)
        # MLflow's own list of hosts has patterns such as `10.*`, which names like 10.example.org match as well.
        environment.setdefault("MLFLOW_SERVER_ALLOWED_HOSTS", ",".join(f"{name}:*" for name in LOCAL_NAMES))
    if not settings.public_url:
        port = choose_port(ports[2], FILES_PORT, "pages", taken)
        address = f"http://{HOST}:{port}"
        command = module_command("flows.page_runner", str(port))
        servers.append(Service("pages", command, f"{address}/health", address))
        environment["RISEORFALL_PUBLIC_URL"] = address
    return environment, servers


def _mlflow_command(settings: Settings, port: int) -> tuple[str, ...]:
    """Return the command of the MLflow server; clients on this machine read and write artifact files directly.

    It waits for a command that creates the database meanwhile.
    """
    artifacts = settings.artifact_folder
    artifacts.mkdir(parents=True, exist_ok=True)
    options = ("--default-artifact-root", artifacts.as_uri(), "--no-serve-artifacts", "--host", HOST)
    program = ("tasks.services.mlflow_server", "--app-name", "riseorfall")
    return module_command(*program, *options, "--port", str(port), "--workers", "1")


def _report_addresses(report: Callable[[str], None], environment: Mapping[str, str], settings: Settings) -> None:
    prefect = environment["PREFECT_API_URL"].removesuffix("/api")
    report(f"Prefect      {prefect}")
    report(f"retrain now  {prefect}{RETRAINS} (quick: six fields; retrain: all)")
    report(f"MLflow       {environment.get('MLFLOW_TRACKING_URI') or settings.mlflow_uri}")
    report(f"pages        {environment.get('RISEORFALL_PUBLIC_URL') or settings.public_url}")
    report("password     riseorfall up --show-password (Prefect asks once: type all of it)")
    report(f"logs         {settings.log_folder}")
    report("ready; Ctrl-C stops everything until the next `riseorfall up`")
