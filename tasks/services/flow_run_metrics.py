"""Metrics of flow runs, from the Prefect server in use: how many ended in each state, and how long the newest took."""

from collections import Counter as Tally
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tasks.services.scheduled_runs import OUR_DEPLOYMENTS, PAGE_SIZE, query_prefect, read_deployments
from tasks.settings import Settings

MAX_PAGES = 20  # own choice: `up` with bars of 5 minutes ends 600 runs a day


class FlowRunCollector(Collector):
    """Flow runs of the last day, by deployment."""

    def __init__(self, settings: Settings) -> None:
        """Set the Prefect server; nothing is read yet."""
        self._settings = settings

    def describe(self) -> Iterator[Metric]:
        """Return nothing, so that registering the collector asks no server."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read the metrics; empty if no server answers."""
        return iter(self._read(datetime.now(UTC)))

    def _read(self, now: datetime) -> list[Metric]:
        try:
            runs = self._ended_runs(now - timedelta(days=1))
            deployments = read_deployments(self._settings)
        except (OSError, ValueError):
            return []
        names = {each["id"]: each["name"] for each in deployments}
        count = GaugeMetricFamily(
            "riseorfall_flow_runs", "Flow runs that ended in the last day", labels=["deployment", "state"]
        )
        seconds = GaugeMetricFamily(
            "riseorfall_flow_run_seconds", "Duration of the newest flow run that ended", labels=["deployment"]
        )
        known = [(names[run["deployment_id"]], run) for run in runs if run["deployment_id"] in names]
        for (name, state), number in sorted(Tally((name, run["state_type"]) for name, run in known).items()):
            count.add_metric([name, state.lower()], number)
        newest: dict[str, float] = {}
        for name, run in known:
            newest.setdefault(name, run["total_run_time"])
        for name, duration in sorted(newest.items()):
            seconds.add_metric([name], duration)
        return [count, seconds]

    def _ended_runs(self, since: datetime) -> list[dict[str, Any]]:
        """Return the runs of our deployments that ended since a time, newest first."""
        found: list[dict[str, Any]] = []
        for page in range(MAX_PAGES):
            query = {
                "sort": "END_TIME_DESC",
                "limit": PAGE_SIZE,
                "offset": page * PAGE_SIZE,
                "flow_runs": {"end_time": {"after_": since.isoformat()}},
                **OUR_DEPLOYMENTS,
            }
            runs = query_prefect(self._settings, "flow_runs/filter", query)
            found += runs
            if len(runs) < PAGE_SIZE:
                break
        return found
