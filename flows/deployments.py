"""The one table of deployments: which flow runs when, with what, and how many at a time.

`riseorfall up` serves them; `riseorfall deployments` writes prefect.yaml, for work pools, from the same table.
Schedules are UTC. The traps: a schedule must stay on when the server of runs stops; a misspelt key in a deployment's
parameters must be refused here, because a run would find out only days later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.errors import SpecError
from model.presets import PRESETS, preset_for

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment

FOLDER = Path(__file__).parent
POOL = "riseorfall"
RECIPE = ("window", "folds", "network", "training", "promotion")  # what replay shares with retrain
Collision = Literal["ENQUEUE", "CANCEL_NEW"]
GRACE_SECONDS = 600  # a run that did not begin by then gives its place back: a dead one does not block


class ScheduleSpec(BaseModel):
    """When the deployments run, and what happens to a run that finds another one at work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ingest_cron: str = Field("2 * * * *", description="When newly closed bars are fetched (cron, UTC).")
    predict_cron: str = Field(
        "", description="When the champion predicts (cron, UTC); empty: 5 minutes after each close."
    )
    retrain_cron: str = Field("10 0 * * *", description="When the model is retrained (cron, UTC).")
    monitor_cron: str = Field("30 0 * * *", description="When the champion is looked after (cron, UTC).")
    collision: Collision = Field("ENQUEUE", description="A retrain that finds another one: waits, or is cancelled.")


@dataclass(frozen=True, slots=True)
class Plan:
    """One deployment.

    Attributes:
        name: of the flow and its file.
        cron: when it runs, UTC; empty: by hand.
        parameters: what it is given; the rest is the flow's default.
        collision: what becomes of a run beyond the first at a time; empty: any number at a time.
        tags: for filters in the UI.
        deployment: its name, where it is not the flow's.
    """

    name: str
    cron: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    collision: Collision | Literal[""] = ""
    tags: tuple[str, ...] = ()
    deployment: str = ""

    @property
    def deployed_as(self) -> str:
        """Return the name of the deployment."""
        return self.deployment or self.name

    @property
    def entrypoint(self) -> str:
        """Return file and function, as Prefect reads them."""
        return f"flows/{self.name}.py:{self.name}"

    @property
    def full_name(self) -> str:
        """Return flow and deployment."""
        return f"{self.name}/{self.deployed_as}"

    def load(self) -> "Flow[..., Any]":
        """Import the flow."""
        from importlib import import_module  # here: the flows import Prefect, 3 seconds

        flow: Flow[..., Any] = getattr(import_module(f"flows.{self.name}"), self.name)
        return flow


def plans(parameters: Mapping[str, Any] | None = None, spec: ScheduleSpec | None = None) -> tuple[Plan, ...]:
    """Return the table; flows whose file is not there are left out.

    Args:
        parameters: parameters of `retrain` that differ from its defaults (`source`, `training`, ...); the other flows
            take what they share.
        spec: when they run.
    """
    given, spec = dict(parameters or {}), spec or ScheduleSpec()
    source = dict(given.get("source", {}))
    series = {"symbol": source.get("symbol", "BTC-USD"), "interval": source.get("interval", "1d")}
    recipe = {name: given[name] for name in RECIPE if name in given}
    landing: dict[str, Any] = {name: given[name] for name in ("source", "check") if name in given}
    table = (
        Plan("ingest", spec.ingest_cron, landing, "CANCEL_NEW", ("bars",)),
        Plan("predict", spec.predict_cron or after_close(series["interval"]), series, "ENQUEUE", ("champion",)),
        Plan("retrain", spec.retrain_cron, given, spec.collision, ("training",)),
        Plan("retrain", tags=("training",), deployment="series"),  # for retrain_all: any number at a time
        *(_of_preset(interval, source) for interval in PRESETS if interval != series["interval"]),
        Plan("retrain_all", parameters={"sources": []}, tags=("series",)),
        Plan("monitor", spec.monitor_cron, series, "ENQUEUE", ("champion",)),
        Plan("rollback", "", series, "", ("champion",)),
        Plan("replay", "", recipe | series, tags=("training",)),
        Plan("tune", "", {name: recipe[name] for name in recipe if name != "promotion"} | series, tags=("training",)),
    )
    return tuple(plan for plan in table if (FOLDER / f"{plan.name}.py").is_file())


def _of_preset(interval: str, source: Mapping[str, Any]) -> Plan:
    """Return a retrain by hand whose form shows an interval's preset: a form sends every field, nothing is unsaid."""
    preset = preset_for(interval)
    specs = {"window": preset.window, "folds": preset.folds, "network": preset.network, "training": preset.training}
    exchange = dict(source) if source.get("kind") == "exchange" else {"symbol": source.get("symbol", "BTC-USD")}
    parameters = {name: spec.model_dump(mode="json") for name, spec in specs.items()}
    bars = exchange | {"kind": "exchange", "interval": interval}  # the sample and a file hold one interval
    return Plan("retrain", "", {"source": bars, **parameters}, "ENQUEUE", ("training",), f"retrain-{interval}")


def after_close(interval: str) -> str:
    """Return when bars of an interval have closed and come in, as cron: 5 minutes later; each close below an hour.

    >>> after_close("1d"), after_close("4h"), after_close("1h"), after_close("15m")
    ('5 0 * * *', '5 */4 * * *', '5 * * * *', '*/15 * * * *')
    """
    count, unit = interval[:-1], interval[-1]
    return {"d": "5 0 * * *", "h": f"5 {'*' if count == '1' else f'*/{count}'} * * *"}.get(unit, f"*/{count} * * * *")


def require_valid(flow: "Flow[..., Any]", parameters: Mapping[str, Any], where: str) -> None:
    """Raise SpecError where parameters are not what a flow takes: misspelt, out of range, of the wrong kind.

    What a flow requires may be missing from a deployment: a person fills it into the form.
    """
    from prefect.exceptions import ParameterTypeError
    from prefect.utilities.schema_tools import validate

    strange = sorted(set(parameters) - flow.parameters.properties.keys())
    if strange:
        known = ", ".join(flow.parameters.properties)
        raise SpecError(f"{where}: expected the parameters {known}; found {', '.join(strange)}")
    found = validate(dict(parameters), flow.parameters.model_dump_for_openapi(), ignore_required=True)
    if not found and set(flow.parameters.required) <= set(parameters):
        try:
            flow.validate_parameters(dict(parameters))
        except (ParameterTypeError, ValidationError, ValueError) as error:
            raise SpecError(f"{where}: {error}") from error
    if found:
        told = "; ".join(f"{'.'.join(map(str, each.absolute_path))}: {each.message}" for each in found)
        raise SpecError(f"{where}: {told}")


def served(plan: Plan) -> "RunnerDeployment":
    """Return a plan as a deployment that `up` serves.

    Raises:
        SpecError: its parameters are not the flow's.
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
    return flow.to_deployment(  # type: ignore[return-value]  # sync here: there is no event loop
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
    """Return `prefect.yaml` for a table: the same deployments, for work pools; what trains for the one with a GPU."""
    import yaml  # type: ignore[import-untyped]  # a dependency of Prefect and MLflow

    head = (
        "# For work pools: `prefect work-pool create --type process riseorfall`, then `prefect deploy --all`.\n"
        "# Written by `riseorfall deployments > prefect.yaml` from flows/deployments.py; `riseorfall up` serves them,\n"
        "# a test holds the two together. Times are UTC. RISEORFALL_CODE: the folder of the code on the worker.\n"
        "# A pool with a GPU: `riseorfall deployments --gpu-pool NAME` sends what trains there and tags it gpu.\n"
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
    """Load every entrypoint of a `prefect.yaml` and hold its parameters against the flow; return what was found.

    Raises:
        SpecError: an entrypoint that does not load, a key that is not known, a parameter that is not the flow's.
    """
    import yaml  # a dependency of Prefect and MLflow
    from prefect.flows import load_flow_from_entrypoint

    found = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"]:
        where = f"{path.name}, deployment {entry.get('name')}"
        _require_known(entry, KNOWN_KEYS, where)
        for schedule in entry.get("schedules") or []:
            _require_known(schedule, KNOWN_OF_SCHEDULE, f"{where}, schedules")
        if isinstance(entry.get("concurrency_limit"), dict):
            _require_known(entry["concurrency_limit"], KNOWN_OF_LIMIT, f"{where}, concurrency_limit")
        try:
            flow: Flow[..., Any] = load_flow_from_entrypoint(entry["entrypoint"], use_placeholder_flow=False)
        except Exception as error:
            raise SpecError(f"{where}: {entry['entrypoint']} does not load: {error}") from error
        require_valid(flow, entry.get("parameters") or {}, where)
        found.append(f"{entry['name']}: {entry['entrypoint']}")
    return found


KNOWN_KEYS = frozenset(
    {"name", "description", "entrypoint", "parameters", "schedules", "concurrency_limit", "tags", "work_pool",
     "enforce_parameter_schema", "version"}
)  # fmt: skip


KNOWN_OF_SCHEDULE = frozenset({"cron", "interval", "rrule", "timezone", "anchor_date", "active", "parameters", "slug"})
KNOWN_OF_LIMIT = frozenset({"limit", "collision_strategy", "grace_period_seconds"})


def _require_known(content: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    strange = sorted(set(content) - known)
    if strange:
        raise SpecError(f"{where}: expected the keys {', '.join(sorted(known))}; found {', '.join(strange)}")


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
