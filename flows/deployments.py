"""The table of deployments: for each flow its schedule, parameters and concurrency limit.

`riseorfall up` serves them; `riseorfall deployments` writes prefect.yaml, for work pools, from the same table.
Schedules are UTC. The traps: a schedule must stay active when the process that serves it stops; a misspelt key in the
parameters must be refused here, because otherwise the first run, maybe days later, would find it.
"""

from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.errors import SpecError
from model.presets import PANEL_PRESETS, PRESETS, Preset, panel_preset_for, preset_for
from tasks.sources.source_spec import SourceSpec

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment

FOLDER = Path(__file__).parent
POOL = "riseorfall"
MOST_BYTES = 1_000_000  # of a prefect.yaml that is checked; ours has 15,000
DEPLOYMENT_OF = {"1h": "hourly"}  # interval with a preset -> its deployment of `retrain`
# Interval with a preset -> its deployment of `retrain_panel`; `quick` must stay on the first page of ten, by name.
PANEL_DEPLOYMENT_OF = {"1h": "retrain_panel_hourly", "1d": "retrain_panel_daily"}
RENAMED = ("retrain/retrain-1h",)  # of 0.1; `up` removes them
RECIPE = ("window", "folds", "network", "training", "promotion")  # parameters that replay shares with retrain
Collision = Literal["ENQUEUE", "CANCEL_NEW"]
SHORTEST_MINUTES = 5  # a bar in which `ingest` and then `predict` can run before the next close
GRACE_SECONDS = 600  # a run that has not started by then frees its place, so that a dead one does not block


class ScheduleSpec(BaseModel):
    """When the deployments run, and what happens to a run while another one of its deployment is running."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ingest_cron: str = Field(
        "",
        description="When newly closed bars are ingested (cron, UTC); empty: 2 minutes after each full hour; for bars "
        "shorter than 1h, 1 minute after each close.",
    )
    predict_cron: str = Field(
        "",
        description="When the champion predicts (cron, UTC); empty: 5 minutes after each close; for bars shorter than "
        "1h, 3 minutes.",
    )
    retrain_cron: str = Field("10 0 * * *", description="When the model is retrained (cron, UTC).")
    monitor_cron: str = Field("30 0 * * *", description="When the champion is monitored (cron, UTC).")
    housekeeping_cron: str = Field("45 1 * * *", description="When old files and runs are deleted (cron, UTC).")
    collision: Collision = Field(
        "ENQUEUE",
        description="A retrain that starts while another one runs: waits (ENQUEUE), or is cancelled (CANCEL_NEW).",
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """One deployment.

    Attributes:
        name: of the flow.
        cron: schedule, UTC; empty: started by hand.
        parameters: those that differ from the flow's defaults.
        collision: what happens to a second concurrent run; empty: no concurrency limit.
        tags: for filters in the UI.
        deployment: name of the deployment, if it differs from the name of the flow.
        function: name of function and file, if they differ from the name of the flow.
    """

    name: str
    cron: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    collision: Collision | Literal[""] = ""
    tags: tuple[str, ...] = ()
    deployment: str = ""
    function: str = ""

    @property
    def deployed_as(self) -> str:
        """Return the name of the deployment."""
        return self.deployment or self.name

    @property
    def entrypoint(self) -> str:
        """Return file and function in Prefect's notation."""
        return f"flows/{self._function}.py:{self._function}"

    @property
    def full_name(self) -> str:
        """Return `flow/deployment`."""
        return f"{self.name}/{self.deployed_as}"

    def load(self) -> "Flow[..., Any]":
        """Import the flow."""
        from importlib import import_module  # the flows import Prefect, which takes 3 seconds

        flow: Flow[..., Any] = getattr(import_module(f"flows.{self._function}"), self._function)
        return flow

    @property
    def _function(self) -> str:
        return self.function or self.name


def plans(parameters: Mapping[str, Any] | None = None, schedule: ScheduleSpec | None = None) -> tuple[Plan, ...]:
    """Return the table of deployments.

    Args:
        parameters: parameters of `retrain` that differ from its defaults (`source`, `training`, ...); the other flows
            get those that they share with it.
        schedule: when they run.

    Raises:
        SpecError: a cron schedule is left empty, and the interval is too short to derive it.
    """
    given, schedule = dict(parameters or {}), schedule or ScheduleSpec()
    source = dict(given.get("source", {}))
    series = {"symbol": source.get("symbol", "BTC-USD"), "interval": source.get("interval", "1d")}
    ingest, predict = schedule.ingest_cron, schedule.predict_cron
    if not (ingest and predict):
        derived = after_close(series["interval"])
        ingest, predict = ingest or derived[0], predict or derived[1]
    recipe = {name: given[name] for name in RECIPE if name in given}
    ingestion: dict[str, Any] = {name: given[name] for name in ("source", "check") if name in given}
    return (
        Plan("ingest", ingest, ingestion, "CANCEL_NEW", ("bars",)),
        Plan("predict", predict, series, "ENQUEUE", ("champion",)),
        Plan("retrain", schedule.retrain_cron, given, schedule.collision, ("training",)),
        Plan("retrain", "", _short_form(given), "ENQUEUE", ("training",), "quick", "quick"),
        Plan("retrain", tags=("training",), deployment="series"),  # for retrain_all: no concurrency limit
        Plan("retrain_group", tags=("training", "group")),  # the same
        *(_retrain_with_preset(interval, source) for interval in PRESETS if interval != series["interval"]),
        _retrain_panel(series["interval"], ""),
        *(_retrain_panel(each, PANEL_DEPLOYMENT_OF[each]) for each in PANEL_PRESETS if each != series["interval"]),
        Plan("retrain_all", parameters={"sources": []}, tags=("series",)),
        Plan("monitor", schedule.monitor_cron, series, "ENQUEUE", ("champion",)),
        Plan("housekeeping", schedule.housekeeping_cron, {}, "CANCEL_NEW", ("upkeep",)),
        Plan("promote", "", series, tags=("champion",)),
        Plan("rollback", "", series, tags=("champion",)),
        Plan("lift_hold", "", series, tags=("champion",)),
        Plan("explain", "", series, tags=("champion",)),
        Plan("audit", "", series, tags=("champion",)),
        Plan("release", "", series, tags=("bars",)),
        Plan("remove", "", series, tags=("bars",)),
        Plan("replay", "", recipe | series, tags=("training",)),
        Plan("tune", "", {name: recipe[name] for name in recipe if name != "promotion"} | series, tags=("training",)),
    )


def _short_form(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the short form of a retrain, as the scheduled one has them."""
    source = SourceSpec.model_validate(given.get("source", {}))
    training = preset_for(source.interval).training.model_copy(update=dict(given.get("training", {})))
    return {
        "source_kind": source.kind,
        "symbol": source.symbol,
        "interval": source.interval,
        "path_or_exchange": source.exchange if source.kind == "exchange" else source.path,
        "epochs": training.epochs,
        "seed": training.seed,
    }


def _preset_form(preset: Preset) -> dict[str, Any]:
    """Return the specs of a preset, as a form shows them; a form sends every field."""
    specs = {"window": preset.window, "folds": preset.folds, "network": preset.network, "training": preset.training}
    return {name: spec.model_dump(mode="json") for name, spec in specs.items()}


def _retrain_with_preset(interval: str, source: Mapping[str, Any]) -> Plan:
    """Return a retrain started by hand whose form shows the preset of an interval; a form sends every field."""
    exchange = dict(source) if source.get("kind") == "exchange" else {"symbol": source.get("symbol", "BTC-USD")}
    bars = exchange | {"kind": "exchange", "interval": interval}  # the bundled sample and a file have one interval only
    return Plan(
        "retrain",
        "",
        {"source": bars, **_preset_form(preset_for(interval))},
        "ENQUEUE",
        ("training",),
        DEPLOYMENT_OF[interval],
    )


def _retrain_panel(interval: str, deployment: str) -> Plan:
    """Return a retrain of a panel, started by hand, whose form shows the preset of panels of the interval."""
    form = {"interval": interval, **_preset_form(panel_preset_for(interval))}
    return Plan("retrain_panel", "", form, "ENQUEUE", ("training", "panel"), deployment)


def after_close(interval: str) -> tuple[str, str]:
    """Return the cron schedules of `ingest` and `predict`, so that both run between two closes of an interval.

    `predict` reads stored bars, so that it must follow `ingest`; from the next close on a prediction is late.

    Raises:
        SpecError: the next bar closes before both have run.

    >>> after_close("1d"), after_close("4h"), after_close("15m")
    (('2 * * * *', '5 0 * * *'), ('2 * * * *', '5 */4 * * *'), ('1,16,31,46 * * * *', '3,18,33,48 * * * *'))
    """
    count, unit = int(interval[:-1]), interval[-1]
    if unit != "m":
        hours = {"1h": "*", "1d": "0"}.get(interval, f"*/{count}")
        return "2 * * * *", f"5 {hours} * * *"
    if count < SHORTEST_MINUTES:
        raise SpecError(
            f"schedule: expected bars of {SHORTEST_MINUTES}m or longer, found {interval}: the next bar closes before "
            "`ingest` and `predict` have run. Choose a longer interval, or set --schedule.ingest-cron and "
            "--schedule.predict-cron; predictions after the next close are marked late and are no evidence."
        )
    ingest, predict = (",".join(map(str, range(minute, 60, count))) for minute in (1, 3))  # 2 minutes for `ingest`
    return f"{ingest} * * * *", f"{predict} * * * *"


def require_valid(flow: "Flow[..., Any]", parameters: Mapping[str, Any], where: str) -> None:
    """Raise SpecError if parameters do not match the flow: misspelt, out of range, of the wrong type.

    A required parameter may be missing from a deployment: the form asks for it.
    """
    from prefect.exceptions import ParameterTypeError
    from prefect.utilities.schema_tools import validate

    unknown = sorted(set(parameters) - flow.parameters.properties.keys())
    if unknown:
        known = ", ".join(flow.parameters.properties)
        raise SpecError(f"{where}: expected the parameters {known}; found {', '.join(unknown)}")
    found = validate(dict(parameters), flow.parameters.model_dump_for_openapi(), ignore_required=True)
    if not found and set(flow.parameters.required) <= set(parameters):
        try:
            flow.validate_parameters(dict(parameters))
        except (ParameterTypeError, ValidationError, ValueError) as error:
            raise SpecError(f"{where}: {error}") from error
    if found:
        problems = "; ".join(f"{'.'.join(map(str, each.absolute_path))}: {each.message}" for each in found)
        raise SpecError(f"{where}: {problems}")


def require_valid_crons(schedule: ScheduleSpec) -> None:
    """Raise SpecError if a cron schedule is none that Prefect runs; an empty one is derived, or runs nothing."""
    for name, cron in schedule.model_dump().items():
        if name.endswith("_cron") and cron:
            _require_cron(cron, "UTC", f"--schedule.{name.replace('_', '-')}")


def _require_cron(cron: str, timezone: str, where: str) -> None:
    """Raise SpecError unless Prefect accepts the schedule and its time zone, and it has a next time."""
    from prefect._vendor.croniter.croniter import CroniterError, croniter  # computes the times of runs
    from prefect.client.schemas.schedules import CronSchedule

    try:
        CronSchedule(cron=cron, timezone=timezone)
        croniter(cron).get_next()  # type: ignore[no-untyped-call]
    except (ValidationError, CroniterError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise SpecError(
            f'{where}: expected minute, hour, day, month and weekday, such as "10 0 * * *" for 00:10 each day, and an '
            f'IANA time zone; found "{cron}" in {timezone} ({reason})'
        ) from error


def served(plan: Plan) -> "RunnerDeployment":
    """Return the deployment of a plan, for `up` to serve.

    Raises:
        SpecError: its parameters do not match the flow.
    """
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.schedules import Cron
    from prefect.types.entrypoint import EntrypointType

    flow = plan.load()
    require_valid(flow, plan.parameters, f"deployment {plan.name}")
    limit = ConcurrencyLimitConfig(
        limit=1,
        collision_strategy=ConcurrencyLimitStrategy(plan.collision or "ENQUEUE"),
        grace_period_seconds=GRACE_SECONDS,
    )
    return flow.to_deployment(  # type: ignore[return-value]  # not a coroutine: there is no event loop
        name=plan.deployed_as,
        schedules=[Cron(plan.cron, timezone="UTC")] if plan.cron else None,
        paused=False,
        parameters=dict(plan.parameters),
        concurrency_limit=limit if plan.collision else None,
        description=_first_line(flow),
        tags=["riseorfall", *plan.tags],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def yaml_text(table: Sequence[Plan], pool: str = POOL, gpu_pool: str = "") -> str:
    """Return `prefect.yaml` for work pools; the flows that train go to the GPU pool if there is one."""
    import yaml  # type: ignore[import-untyped]  # a dependency of Prefect and MLflow

    head = (
        "# For work pools: `prefect work-pool create --type process riseorfall`, then `prefect deploy --all`.\n"
        "# Generated from flows/deployments.py by `riseorfall deployments > prefect.yaml`; a test compares the two.\n"
        "# `riseorfall up` serves the same deployments. Times are UTC. RISEORFALL_CODE: code folder of a worker.\n"
        "# GPU pool: `riseorfall deployments --gpu-pool NAME` sends the flows that train there and tags them gpu.\n"
    )
    content = {
        "name": "riseorfall",
        "prefect-version": ">=3.9",
        "build": None,
        "push": None,
        "pull": [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $RISEORFALL_CODE }}"}}],
        "deployments": [_entry(plan, pool, gpu_pool) for plan in table],
    }
    return head + str(yaml.safe_dump(content, sort_keys=False, width=120))


def check_yaml(path: Path) -> list[str]:
    """Load every entrypoint of a `prefect.yaml`, validate its parameters, and return one line for each.

    Entrypoints are relative to the folder of the code, as on a worker; the working directory does not matter.

    Raises:
        SpecError: the file cannot be read or lists no deployments, an entrypoint does not load, a key is unknown, or a
            parameter does not match the flow.
    """
    import yaml  # a dependency of Prefect and MLflow
    from prefect.flows import load_flow_from_entrypoint

    from tasks.registry.unreachable_store import regular_content

    try:
        entries = yaml.safe_load(regular_content(path, MOST_BYTES))["deployments"]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise SpecError(f"{path}: expected a file in YAML with `deployments`, found none ({problem})") from error
    found = []
    for entry in entries:
        where = f"{path.name}, deployment {entry.get('name')}"
        _require_known_keys(entry, DEPLOYMENT_KEYS, where)
        for schedule in entry.get("schedules") or []:
            _require_known_keys(schedule, SCHEDULE_KEYS, f"{where}, schedules")
            if "cron" in schedule:
                _require_cron(str(schedule["cron"]), str(schedule.get("timezone") or "UTC"), f"{where}, schedules")
        if isinstance(entry.get("concurrency_limit"), dict):
            _require_known_keys(entry["concurrency_limit"], LIMIT_KEYS, f"{where}, concurrency_limit")
        try:
            with chdir(FOLDER.parent):
                flow: Flow[..., Any] = load_flow_from_entrypoint(entry["entrypoint"], use_placeholder_flow=False)
        except Exception as error:
            raise SpecError(f"{where}: {entry['entrypoint']} does not load: {error}") from error
        require_valid(flow, entry.get("parameters") or {}, where)
        found.append(f"{entry['name']}: {entry['entrypoint']}")
    return found


DEPLOYMENT_KEYS = frozenset(
    {"name", "description", "entrypoint", "parameters", "schedules", "concurrency_limit", "tags", "work_pool",
     "enforce_parameter_schema", "version"}
)  # fmt: skip


SCHEDULE_KEYS = frozenset({"cron", "interval", "rrule", "timezone", "anchor_date", "active", "parameters", "slug"})
LIMIT_KEYS = frozenset({"limit", "collision_strategy", "grace_period_seconds"})


def _require_known_keys(content: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    unknown = sorted(set(content) - known)
    if unknown:
        raise SpecError(f"{where}: expected the keys {', '.join(sorted(known))}; found {', '.join(unknown)}")


def _entry(plan: Plan, pool: str, gpu_pool: str) -> dict[str, Any]:
    on_gpu = bool(gpu_pool) and "training" in plan.tags
    entry: dict[str, Any] = {
        "name": plan.deployed_as,
        "description": _first_line(plan.load()),
        "entrypoint": plan.entrypoint,
        "tags": ["riseorfall", *plan.tags, *(("gpu",) if on_gpu else ())],
        "parameters": dict(plan.parameters),
        "enforce_parameter_schema": True,
        "work_pool": {"name": gpu_pool if on_gpu else pool},
    }
    if plan.cron:
        entry["schedules"] = [{"cron": plan.cron, "timezone": "UTC", "active": True}]
    if plan.collision:
        entry["concurrency_limit"] = {
            "limit": 1,
            "collision_strategy": plan.collision,
            "grace_period_seconds": GRACE_SECONDS,
        }
    return entry


def _first_line(flow: "Flow[..., Any]") -> str:
    return (flow.fn.__doc__ or "").strip().splitlines()[0]
