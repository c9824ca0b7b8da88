"""`riseorfall up`: a Prefect server, an MLflow server, a server of pages, and the deployments, on one machine.

Servers that are configured already are used instead of started. Everything listens on this machine only. What runs is
written to HOME/data/up.json for the other commands.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flows.deployments import ScheduleSpec, plans, require_valid
from tasks.services.file_server import HOST
from tasks.services.process_guard import end_marked
from tasks.services.supervisor import Part, Supervisor, choose_port, sole_supervisor, stop_on_signals
from tasks.settings import Settings

PREFECT_PORT, MLFLOW_PORT, FILES_PORT = 4200, 5000, 8900  # the usual ones; taken when free
MARK = "RISEORFALL_UP"  # environment variable of every process below an `up`, with the home as its value


def up(
    settings: Settings,
    parameters: Mapping[str, Any],
    spec: ScheduleSpec,
    ports: tuple[int, int, int],
    say: Callable[[str], None],
) -> None:
    """Start everything, print where it is, and keep it running until a signal comes.

    Args:
        settings: where.
        parameters: of `retrain`, as far as they differ from its defaults.
        spec: when the deployments run.
        ports: of Prefect, MLflow and the pages; 0 takes the usual one, or a free one.
        say: told what happens, a line at a time.

    Raises:
        AlreadyRunning: this home has an `up` already.
        NotStarted: a part did not come up.
        SpecError: the parameters are not those of the flows.
    """
    data = settings.root / "data"
    data.mkdir(parents=True, exist_ok=True)
    table = plans(parameters, spec)
    for plan in table:
        require_valid(plan.load(), plan.parameters, f"deployment {plan.name}")
    with sole_supervisor(settings.up_lock, settings.up_state):
        left = end_marked(MARK, str(settings.root))
        if left:
            say(f"ended {left} processes that an earlier `up` had left behind")
        environment, servers = _servers(settings, ports)
        serving = json.dumps({"parameters": parameters, "schedule": spec.model_dump()})
        keeper = Supervisor(data / "logs", environment, settings.up_state, say)
        with stop_on_signals(keeper.stopping):
            try:
                for part in servers:
                    keeper.start(part)
                last = f"{environment['PREFECT_API_URL']}/deployments/name/{table[-1].full_name}"
                keeper.start(Part("deployments", (sys.executable, "-m", "flows.deployment_runner", serving), last))
                _announce(say, environment, settings)
                keeper.watch()
            finally:
                say("stopping ...")
                keeper.stop()


def _servers(settings: Settings, ports: tuple[int, int, int]) -> tuple[dict[str, str], list[Part]]:
    """Return the environment of every part, and the servers that have to be started."""
    settings.announce()
    environment = dict(os.environ) | {"RISEORFALL_HOME": str(settings.root), MARK: str(settings.root)}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # 1.5 GB for what is not used
    environment |= {"PYTHONUNBUFFERED": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "NO_COLOR": "1"}
    parts, taken = [], []
    if not environment.get("PREFECT_API_URL"):
        port = choose_port(ports[0], PREFECT_PORT, "Prefect")
        taken.append(port)
        address = f"http://{HOST}:{port}"
        environment |= {"PREFECT_API_URL": f"{address}/api", "PREFECT_SERVER_UI_API_URL": f"{address}/api"}
        words: tuple[str, ...] = (
            sys.executable,
            "-m",
            "prefect",
            "server",
            "start",
            "--host",
            HOST,
            "--port",
            str(port),
        )
        parts.append(Part("Prefect", words, f"{address}/api/health", address))
    if not settings.mlflow_uri.startswith("http"):
        port = choose_port(ports[1], MLFLOW_PORT, "MLflow", taken)
        taken.append(port)
        address = f"http://{HOST}:{port}"
        parts.append(Part("MLflow", _mlflow_words(settings, port), f"{address}/health", address))
        environment |= {"MLFLOW_TRACKING_URI": address, "RISEORFALL_TRACKING_URI": address}
    if not settings.public_url:
        port = choose_port(ports[2], FILES_PORT, "pages", taken)
        address = f"http://{HOST}:{port}"
        words = (sys.executable, "-m", "tasks.services.file_server", str(settings.root / "data"), str(port))
        parts.append(Part("pages", words, f"{address}/", address))
        environment["RISEORFALL_PUBLIC_URL"] = address
    return environment, parts


def _mlflow_words(settings: Settings, port: int) -> tuple[str, ...]:
    """Return the command of the MLflow server: clients on this machine read and write the artifact files themselves."""
    artifacts = settings.root / "mlruns" / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    words = ("--backend-store-uri", settings.mlflow_uri, "--default-artifact-root", artifacts.as_uri())
    where = ("--no-serve-artifacts", "--host", HOST, "--port", str(port), "--workers", "1")
    return (sys.executable, "-m", "mlflow", "server", *words, *where)


def _announce(say: Callable[[str], None], environment: Mapping[str, str], settings: Settings) -> None:
    say(f"Prefect      {environment['PREFECT_API_URL'].removesuffix('/api')}")
    say(f"MLflow       {environment.get('MLFLOW_TRACKING_URI') or settings.mlflow_uri}")
    say(f"pages        {environment.get('RISEORFALL_PUBLIC_URL') or settings.public_url}")
    say(f"logs         {Path(settings.root / 'data' / 'logs')}")
    say("Ctrl-C stops everything; the schedules stay on for the next `riseorfall up`.")
