"""Running parts of `up` and the next scheduled runs, from the Prefect server in use."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, pairwise
from typing import Any
from urllib.request import Request, urlopen

from model.bars import PANEL, Series
from tasks.champion.series_alarms import Pauses
from tasks.services.server_password import basic_authentication, read_password
from tasks.services.up_lock import read_state
from tasks.settings import Settings
from tasks.sources.source_spec import SourceSpec

OUR_DEPLOYMENTS = {"deployments": {"tags": {"all_": ["riseorfall"]}}}  # a shared server has others
DEFAULT = SourceSpec().series  # of a deployment whose parameters name none
OF_ALL_SERIES = ("retrain_all", "retrain_group")  # deployments whose series are a list of parameters
RETRAINS, MONITORS = ("retrain", "retrain_all", "retrain_group"), ("monitor",)  # flows
MOST_TIMES = 1_000  # own choice: scheduled times that are compared; a year of a daily schedule
PAGE_SIZE = 200  # the most that Prefect returns at once
RUNS_AT_ONCE = 50  # own choice: a small service has fewer, and Prefect describes each in some kilobytes


def service_status(settings: Settings) -> dict[str, Any]:
    """Return the addresses of a running `up` (None without one) and the next scheduled runs, ready for JSON."""
    state = read_state(settings.up_lock, settings.up_state)
    return {
        "up": {name: part["address"] for name, part in state["parts"].items()} if state else None,
        "next_runs": _next_runs(settings),
    }


def is_scheduled(series: str, next_runs: Sequence[Mapping[str, str]]) -> bool:
    """Return whether one of the next scheduled runs is for a series, such as `BTC-USD 1d`."""
    return any(run["name"] in OF_ALL_SERIES or run["series"] == series for run in next_runs)


def scheduled_pauses(settings: Settings) -> dict[str, Pauses]:
    """Return the longest time between two scheduled retrains, and between two runs of the monitor, by name of series.

    Without a server, or of a series without an active schedule, nothing is known.
    """
    try:
        retrains, monitors = (_pauses(settings, flows) for flows in (RETRAINS, MONITORS))
    except (OSError, ValueError):
        return {}
    daily = Pauses()
    return {
        series: Pauses(retrains.get(series, daily.retrain), monitors.get(series, daily.monitor))
        for series in {*retrains, *monitors}
    }


def _pauses(settings: Settings, flows: Sequence[str]) -> dict[str, timedelta]:
    """Return the longest time between two scheduled runs of some flows by name of series."""
    found: dict[str, timedelta] = {}
    query = {**OUR_DEPLOYMENTS, "flows": {"name": {"any_": list(flows)}}}
    for deployment in read_deployments(settings, query):
        for each in deployment["schedules"]:
            pause = longest_pause(each["schedule"])
            if pause is not None and each["active"] and not deployment["paused"]:
                for series in _series_names(deployment["parameters"] | (each.get("parameters") or {})):
                    found[series] = min(pause, found.get(series, pause))
    return found


def _series_names(parameters: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the series that a run of a deployment with these parameters is for, but not of templates."""
    sources = parameters.get("sources")
    for source in [parameters.get("source") or parameters] if sources is None else sources:
        symbol, interval = source.get("symbol", DEFAULT.symbol), source.get("interval", DEFAULT.interval)
        if isinstance(symbol, str) and isinstance(interval, str):
            yield Series(symbol, interval).name


def longest_pause(schedule: Mapping[str, Any]) -> timedelta | None:
    """Return the longest time between two runs of a schedule of Prefect; None where it is not known.

    >>> [longest_pause(each) for each in ({"cron": "10 0 * * 1-5"}, {"interval": 3600.0}, {"rrule": "FREQ=DAILY"})]
    [datetime.timedelta(days=3), datetime.timedelta(seconds=3600), None]
    """
    if "interval" in schedule:
        return timedelta(seconds=float(schedule["interval"]))
    return _longest_pause_of_cron(str(schedule["cron"])) if "cron" in schedule else None


@cache
def _longest_pause_of_cron(cron: str) -> timedelta | None:
    from cronsim import CronSim, CronSimError  # imported here: a command without a server needs none

    try:
        times = list(islice(CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC)), MOST_TIMES))
    except CronSimError:  # Prefect knows a few more forms, such as @daily
        return None
    return max((later - earlier for earlier, later in pairwise(times)), default=None)


def with_local_registry(settings: Settings) -> Settings:
    """Return settings that open MLflow's database of this home directly, if it is in use through the server of `up`."""
    state = read_state(settings.up_lock, settings.up_state)
    server = state["parts"].get("MLflow", {}).get("address") if state else None
    if server is None or server != settings.mlflow_uri:
        return settings
    return settings.model_copy(update={"tracking_uri": settings.home_database_uri})


def prefect_api(settings: Settings) -> str:
    """Return the address of the Prefect server: the configured one, that of a running `up`, or an empty text."""
    if settings.prefect_api_url:
        return settings.prefect_api_url
    state = read_state(settings.up_lock, settings.up_state)
    return str(state["environment"].get("PREFECT_API_URL", "")) if state else ""


def _password(state: Mapping[str, Any] | None, settings: Settings) -> str:
    """Return the password of the Prefect server: the configured one, or that of the home for the server of its `up`."""
    if state and "Prefect" in state["parts"] and state["environment"]["PREFECT_API_URL"] == prefect_api(settings):
        return read_password(settings.up_password)
    return settings.prefect_password


def query_prefect(settings: Settings, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the reply of the Prefect server in use to a POST; empty without a server.

    Raises:
        OSError: it cannot be reached, or refuses (URLError).
        ValueError: the reply is no JSON.
    """
    api = prefect_api(settings)
    if not api:
        return []
    password = _password(read_state(settings.up_lock, settings.up_state), settings)
    headers = {"Content-Type": "application/json"} | basic_authentication(password)
    request = Request(f"{api}/{path}", json.dumps(body).encode(), headers)  # noqa: S310 - the configured server
    with urlopen(request, timeout=5) as reply:  # noqa: S310 - the configured server
        found: list[dict[str, Any]] = json.load(reply)
    return found


def read_deployments(settings: Settings, query: Mapping[str, Any] = OUR_DEPLOYMENTS) -> list[dict[str, Any]]:
    """Return all deployments that a query finds; raises as `query_prefect` does."""
    found: list[dict[str, Any]] = []
    while True:
        page = query_prefect(settings, "deployments/filter", {**query, "limit": PAGE_SIZE, "offset": len(found)})
        found += page
        if len(page) < PAGE_SIZE:
            return found


def _next_runs(settings: Settings) -> list[dict[str, str]]:
    """Return the next scheduled run of each deployment and series, soonest first; none if no server answers.

    `series` is the series that the run is for, such as `BTC-USD 1d`; empty for all series.
    """
    try:
        deployments = read_deployments(settings)
        known = {each["id"]: each for each in deployments}
        first: dict[tuple[str, str], dict[str, str]] = {}
        for run in _scheduled_runs(settings, deployments):
            deployment = known.get(run["deployment_id"], {"name": run["name"]})
            name, series = deployment["name"], _series_text(run.get("parameters") or {}, deployment)
            found = {"name": name, "at": run["expected_start_time"], "series": series}
            first.setdefault((run["deployment_id"] or name, series), found)
    except (OSError, ValueError):
        return []
    return sorted(first.values(), key=lambda run: run["at"])


def _scheduled_runs(settings: Settings, deployments: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield scheduled runs, at least the first of each active schedule; each is read while others are still unknown.

    A schedule of five minutes alone has more runs on the server than one reply holds, all before the next daily one. So
    deployments whose next runs are known are left out of the next question.
    """
    by_id = {deployment["id"]: deployment for deployment in deployments}
    unknown = {
        deployment["id"]: {
            _series_text(deployment["parameters"] | (each.get("parameters") or {}), deployment)
            for each in deployment.get("schedules", ())
            if each["active"]
        }
        for deployment in deployments
        if not deployment.get("paused")
    }
    unknown = {deployment: series for deployment, series in unknown.items() if series}
    known: list[str] = []
    offset = 0
    while True:
        runs = query_prefect(
            settings,
            "flow_runs/filter",
            {
                "sort": "EXPECTED_START_TIME_ASC",
                "limit": RUNS_AT_ONCE,
                "offset": offset,
                "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
                "deployments": OUR_DEPLOYMENTS["deployments"] | ({"id": {"not_any_": known}} if known else {}),
            },
        )
        yield from runs
        for run in runs:
            series = _series_text(run.get("parameters") or {}, by_id.get(run["deployment_id"], {}))
            unknown.get(run["deployment_id"], set()).discard(series)
        found = [deployment for deployment, series in unknown.items() if not series]
        if len(runs) < RUNS_AT_ONCE or len(found) == len(unknown):
            return
        offset = offset + RUNS_AT_ONCE if found == known else 0
        known = found


def _series_text(parameters: Mapping[str, Any], deployment: Mapping[str, Any]) -> str:
    """Return symbol and interval of the series that a run is for; empty if it is for none, or for several.

    A run without these parameters is for the series in the defaults of its flow, whose form the deployment describes.
    """
    source = parameters.get("source") or parameters
    fields = (deployment.get("parameter_openapi_schema") or {}).get("properties", {}).keys()
    if "panel" in fields:
        symbol = PANEL
    elif source.get("symbol") or fields & {"source", "symbol"}:
        symbol = source.get("symbol") or DEFAULT.symbol
    else:
        return ""
    return f"{symbol} {source.get('interval', DEFAULT.interval)}"


def run_forms(settings: Settings) -> dict[str, str]:
    """Return the address of the form that starts a run, by deployment; none if no server answers.

    In the V2 UI: before the password is typed, V1 shows an error for each of its requests.
    """
    try:
        deployments = read_deployments(settings)
    except (OSError, ValueError):
        return {}
    ui = prefect_api(settings).removesuffix("/api")
    return {each["name"]: f"{ui}/v2/deployments/deployment/{each['id']}/run" for each in deployments}
