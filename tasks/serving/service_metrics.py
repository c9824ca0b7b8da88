"""Metrics in the Prometheus text format: the state of each stored series, and the requests that `serve` answered.

The state is read from bars, registry, decision log and monitor log when it is asked for, at most every
`REFRESH_SECONDS`; a store that cannot be read is a metric (`riseorfall_state_readable` 0), not an error. Knows no
Prefect: `tasks/services/flow_run_metrics.py` adds the flow runs. Ages are in seconds, losses in nats.
"""

import logging
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model.bars import Series
from tasks.champion.series_alarms import Pauses, series_health
from tasks.settings import Settings
from tasks.store.decision_log import Action
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger(__name__)

REFRESH_SECONDS = 15.0  # own choice: Prometheus reads every 15 to 60 s
SECONDS_PER_DAY = 86_400.0
SECONDS_PER_HOUR = 3_600.0
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ANSWERS = {"/predict": (200, 422, 500, 503), "/health": (200, 500, 503)}  # path of `serve` -> statuses

LIVE = {  # number of the monitor -> metric, description
    "live_predictions": ("live_predictions", "Champion's predictions that have an outcome"),
    "live_log_loss": ("live_log_loss", "Mean log loss of the champion's predictions that have an outcome, nats"),
    "base_rate_log_loss": ("live_base_rate_log_loss", "Mean log loss of the base rate on the same bars, nats"),
    "live_accuracy": ("live_accuracy", "Accuracy of the champion's predictions that have an outcome"),
    "missing": ("missing_predictions", "Recent decisions without a prediction in time"),
    "late": ("late_predictions", "Recent decisions with a late prediction only"),
}
E_PROCESSES = {  # process -> numbers of the monitor: e-value, threshold
    "version": ("evidence", "evidence_threshold"),
    "service": ("service_evidence", "service_threshold"),
}


class StateCollector(Collector):
    """Champion, bars, decisions and live score of each stored series, read on demand."""

    def __init__(
        self, settings: Settings, scheduled_pauses: Callable[[Settings], Mapping[str, Pauses]] = lambda _: {}
    ) -> None:
        """Set the stores; nothing is read yet.

        Args:
            settings: addresses of the stores.
            scheduled_pauses: returns the longest time between scheduled runs by name of series, for the alarms; a day
                of a series that it does not name.
        """
        self._settings = settings
        self._scheduled_pauses = scheduled_pauses
        self._metrics: list[Metric] = []
        self._read_at = float("-inf")
        self._lock = Lock()  # of several requests at once one reads

    def describe(self) -> Iterator[Metric]:
        """Return nothing, so that registering the collector reads no store."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Return the metrics, read again where they are older than `REFRESH_SECONDS`."""
        with self._lock:
            if time.monotonic() - self._read_at > REFRESH_SECONDS:
                self._metrics = self._read()
                self._read_at = time.monotonic()
            return iter(self._metrics)

    def _read(self) -> list[Metric]:
        readable = GaugeMetricFamily(
            "riseorfall_state_readable", "1 if bars and registry of the series can be read, else 0", labels=["series"]
        )
        families = _Families()
        try:
            stored, pauses = Workspace(self._settings).listed_series(), self._scheduled_pauses(self._settings)
        except Exception:  # of deltalake, pyarrow, MLflow or the system
            log.exception("metrics: the stored series cannot be read")
            readable.add_metric([""], 0)
            return [readable]
        for series in stored:
            try:
                families.add(series, self._settings, datetime.now(UTC), pauses.get(series.name, Pauses()))
            except Exception:
                log.exception("metrics: %s cannot be read", series.name)
                readable.add_metric([series.name], 0)
            else:
                readable.add_metric([series.name], 1)
        return [readable, *families.all()]


class _Families:
    """Metric families that several series fill."""

    def __init__(self) -> None:
        def gauge(name: str, description: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"riseorfall_{name}", description, labels=["series", *labels])

        self.champion_age = gauge("champion_age_seconds", "Seconds since the end of the champion's training bars")
        self.bars_age = gauge("bars_age_seconds", "Seconds since the newest stored bar closed")
        self.champion = gauge("champion_version_info", "Version of the champion", "version")
        self.alarms = gauge("alarms", "Alarms of `riseorfall status`")
        self.live = {number: gauge(name, description, "version") for number, (name, description) in LIVE.items()}
        self.e_value = gauge("e_value", "Evidence that predictions are worse than the version's record", "process")
        self.threshold = gauge("e_value_threshold", "E-value that raises an alarm", "process")
        self.decided = gauge("last_decision_timestamp_seconds", "Unix time of the newest decision")
        self.decisions = CounterMetricFamily(
            "riseorfall_decisions", "Decisions in the decision log", labels=["series", "action"]
        )

    def add(self, series: Series, settings: Settings, now: datetime, pauses: Pauses) -> None:
        """Read one series."""
        health, name = series_health(series, settings, now, pauses), series.name
        rows = Workspace(settings, series).decision_log.rows(name)
        if health["champion_age_days"] is not None:
            self.champion_age.add_metric([name], health["champion_age_days"] * SECONDS_PER_DAY)
        if health["bars_age_hours"] is not None:
            self.bars_age.add_metric([name], health["bars_age_hours"] * SECONDS_PER_HOUR)
        self.alarms.add_metric([name], len(health["alarms"]))
        live = health["live"]
        for number, family in self.live.items():
            if number in live:
                family.add_metric([name, live["version"]], live[number])
        for process, (value, threshold) in E_PROCESSES.items():
            if value in live:
                self.e_value.add_metric([name, process], live[value])
                self.threshold.add_metric([name, process], live[threshold])
        counts = Tally(row.action for row in rows)
        for action in get_args(Action):  # 0 too: PromQL's increase() does not count a first value
            self.decisions.add_metric([name, action], counts[action])
        if rows:
            self.decided.add_metric([name], rows[-1].decided_at.timestamp())
            if rows[-1].champion_after is not None:
                self.champion.add_metric([name, rows[-1].champion_after], 1)

    def all(self) -> list[Metric]:
        """Return every family."""
        single = (self.champion_age, self.bars_age, self.champion, self.alarms, self.e_value, self.threshold)
        return [*single, self.decided, self.decisions, *self.live.values()]


class RequestMetrics:
    """Requests of one web application: number, status, duration; and the version that answers them."""

    def __init__(self, served: Callable[[], tuple[str, datetime] | None]) -> None:
        """Create the metrics in a registry of their own.

        Args:
            served: returns the version in memory and the end of its training bars; None without one.
        """
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "riseorfall_requests", "Requests answered", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "riseorfall_request_seconds",
            "Response time, seconds",
            ["path"],
            buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )
        for path, statuses in ANSWERS.items():  # 0 from the start: PromQL's rate() does not count a first value
            self._seconds.labels(path)
            for status in statuses:
                self._requests.labels(path, str(status))
        self._registry.register(_Served(served))

    async def measure(self, request: "Request", call_next: Any) -> "Response":
        """Answer a request, and count it; paths that the application does not have count as one."""
        started = time.perf_counter()
        status = 500  # what the server answers to an exception
        try:
            response: Response = await call_next(request)
            status = response.status_code
            return response
        finally:
            route = request.scope.get("route")
            path = route.path if route else "other"
            self._requests.labels(path, str(status)).inc()
            self._seconds.labels(path).observe(time.perf_counter() - started)

    def page(self) -> tuple[bytes, str]:
        """Return the metrics as text, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _Served(Collector):
    """The version that a REST server has in memory."""

    def __init__(self, served: Callable[[], tuple[str, datetime] | None]) -> None:
        self._served = served

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("riseorfall_served_version_info", "The version in memory", labels=["version"])
        age = GaugeMetricFamily(
            "riseorfall_served_age_seconds", "Seconds since the end of the training bars of the version in memory"
        )
        if served := self._served():
            version, trained_until = served
            info.add_metric([version], 1)
            age.add_metric([], (datetime.now(UTC) - trained_until).total_seconds())
        return iter((info, age))


def state_page(*collectors: Collector) -> tuple[bytes, str]:
    """Return the metrics of collectors as text, and its content type."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry), CONTENT_TYPE_LATEST
