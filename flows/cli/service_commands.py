"""Commands that run or configure services: up, serve, deployments, automations."""

import sys
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from data_checks.check_spec import CheckSpec
from flows.cli.option_panels import (
    AbstentionFlags,
    CheckFlags,
    FoldFlags,
    NetworkFlags,
    PromotionFlags,
    SourceFlags,
    TrainingFlags,
    WindowFlags,
)
from flows.cli.series_options import DEFAULT_SERIES, SeriesOptions
from flows.cli.terminal_session import load_settings, print_text, quiet_libraries
from flows.deployments import ScheduleSpec
from model.abstention import AbstentionSpec
from model.errors import SpecError
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.presets import preset_for, with_preset
from model.promotion_rule import PromotionRule
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.settings import Settings
from tasks.sources.source_spec import SourceSpec, require_readable

LARGEST_PORT = 65_535
Port = Annotated[int, Parameter(validator=Number(gte=1, lte=LARGEST_PORT))]
PortOrAny = Annotated[int, Parameter(validator=Number(gte=0, lte=LARGEST_PORT))]


def up(
    *,
    source: SourceFlags = SourceSpec(),
    check: CheckFlags = CheckSpec(),
    window: WindowFlags = WindowSpec(),
    folds: FoldFlags = FoldSpec(),
    network: NetworkFlags = NetworkSpec(),
    training: TrainingFlags = TrainingSpec(),
    promotion: PromotionFlags = PromotionRule(),
    abstention: AbstentionFlags = AbstentionSpec(),
    schedule: ScheduleSpec = ScheduleSpec(),
    prefect_port: PortOrAny = 0,
    mlflow_port: PortOrAny = 0,
    files_port: PortOrAny = 0,
    show_password: bool = False,
) -> None:
    """Run unattended on this machine: a Prefect server, an MLflow server, pages, and every flow on its schedule.

    Specs become the parameters of the scheduled flows; without any, the bundled sample is retrained.

    Parameters
    ----------
    prefect_port
        Port of the Prefect server; 0: 4200, or a free one.
    mlflow_port
        Port of the MLflow server; 0: 5000, or a free one.
    files_port
        Port of Data Docs, reports and pictures; 0: 8900, or a free one.
    show_password
        Print the password of the servers, as Prefect's page asks for it (user:password), and start nothing.
    """
    from flows.up import up as run_services
    from tasks.console.command_output import show_lines

    if show_password:
        print_text(f"{_password(load_settings())}\n")
        if sys.stdout.isatty():  # a script gets the password only
            sys.stderr.write("Type the whole line, `admin:` included, into the one field of Prefect's page.\n")
        return
    chosen = with_preset(
        preset_for(source.interval), window, folds, network, training
    )  # the forms show and send every field
    specs = {
        "source": source, "check": check, "window": chosen.window, "folds": chosen.folds, "network": chosen.network,
        "training": chosen.training, "promotion": promotion, "abstention": abstention,
    }  # fmt: skip
    # A value that was set may equal the spec's default, which is not that of the interval's preset.
    parameters = {name: spec.model_dump(mode="json") for name, spec in specs.items() if spec.model_fields_set}
    require_readable(source)
    ports = (prefect_port, mlflow_port, files_port)
    run_services(load_settings(), parameters, schedule, ports, lambda line: show_lines([line]))


def _password(settings: Settings) -> str:
    """Return the password of this home's servers.

    Raises:
        SpecError: there is none.
    """
    from tasks.services.server_password import read_password

    password = read_password(settings.up_password)
    if not password:
        raise SpecError(
            f"up: expected the password of the servers in {settings.up_password}, readable by its owner only, found "
            "none. Start `riseorfall up` first; it creates the file."
        )
    return password


def serve(*, options: SeriesOptions = DEFAULT_SERIES, host: str = "127.0.0.1", port: Port = 8000) -> None:
    """Serve the champion over REST: POST /predict with bars, GET /health, /metrics, /docs.

    Parameters
    ----------
    host
        Address to listen on; there is no authentication, so keep it local or behind a proxy.
    port
        Port to listen on.
    """
    from tasks.console.command_output import show_lines
    from tasks.serving.rest_server import serve as serve_champion

    serve_champion(options.series, load_settings(), host, port, lambda line: show_lines([line]))


def deployments(*, check: str = "", pool: str = "riseorfall", gpu_pool: str = "") -> None:
    """Print prefect.yaml for work pools, or validate one against the flows.

    Parameters
    ----------
    check
        Path of a prefect.yaml to validate: entrypoints, parameters and keys.
    pool
        Work pool that runs the flows.
    gpu_pool
        Work pool for the flows that train, tagged gpu; default: the other pool.
    """
    from pathlib import Path

    from flows.deployments import check_yaml, plans, yaml_text

    with quiet_libraries():
        text = "\n".join(check_yaml(Path(check))) + "\n" if check else yaml_text(plans(), pool, gpu_pool)
    print_text(text)


def automations() -> None:
    """Install the automations on the Prefect server in use: retrain on alarm, report a missing retrain.

    With the notification block `riseorfall` also alarms and failed runs; with the webhook block
    `riseorfall-predictions` also predictions.
    """
    from tasks.console.command_output import show_lines
    from tasks.services.prefect_server import use_server
    from tasks.services.scheduled_runs import prefect_api

    settings = load_settings()
    if not prefect_api(settings):
        raise SpecError(
            "automations: expected a Prefect server, found none. Set PREFECT_API_URL, or start `riseorfall up`."
        )
    use_server(settings)
    from flows.deployments import plans
    from tasks.services.automations import install

    show_lines([f"installed: {name}" for name in install([plan.full_name for plan in plans()])])
