"""Serve the pages of `riseorfall up`: the dashboard at `/`, metrics, reports, Data Docs and pictures of the monitor.

Run as `python -m flows.page_runner PORT`. A local MLflow database behind the server of `up` is read as a file, which
loads no MLflow. The dashboard is written when somebody looks at it, at most every `FRESH_SECONDS`, and more
seldom where that takes long.
"""

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from threading import Lock
from typing import Generic, TypeVar

from tasks.pages.dashboard_content import DashboardReader
from tasks.pages.dashboard_page import dashboard_page
from tasks.pages.written_pages import write_chart_script
from tasks.services.file_server import file_server
from tasks.services.flow_run_metrics import FlowRunCollector
from tasks.services.scheduled_runs import prefect_api, run_forms, scheduled_pauses, service_status
from tasks.serving.service_metrics import StateCollector, state_page
from tasks.settings import Settings
from tasks.workspace import Workspace

Content = TypeVar("Content")

FRESH_SECONDS = 15.0
MOST_LOAD = 0.2  # own choice: share of the time that is spent on writing a page, however many series it shows


@dataclass
class Cached(Generic[Content]):
    """A page that is written anew when it is requested and old; threads that request it meanwhile wait for it.

    Attributes:
        write: writes it.
        page: as written last.
        written_at: when, by the monotonic clock.
        seconds: how long it took.
    """

    write: Callable[[], Content]
    page: Content | None = None
    written_at: float = 0.0
    seconds: float = 0.0
    lock: Lock = field(default_factory=Lock)

    def __call__(self) -> Content:
        """Return the page."""
        with self.lock:
            began = time.monotonic()
            if self.page is None or began - self.written_at > max(FRESH_SECONDS, self.seconds / MOST_LOAD):
                self.page, self.written_at = self.write(), time.monotonic()
                self.seconds = self.written_at - began
            return self.page


def dashboard(settings: Settings) -> Callable[[str], str]:
    """Return a function that returns the dashboard of a series, or with an empty name that of all, as HTML."""
    reader = DashboardReader(settings)
    pages: dict[str, Cached[str]] = {}

    def write(name: str) -> str:
        write_chart_script(settings.reports_folder)
        services = service_status(settings)
        links = {
            "Prefect (runs, schedules, forms)": prefect_api(settings).removesuffix("/api"),
            "MLflow (experiments, versions)": settings.mlflow_url or settings.tracking_uri,
        }
        forms = run_forms(settings)
        return dashboard_page(
            reader.read(name), links, services["next_runs"], datetime.now(UTC), forms, of_one=bool(name)
        )

    def page(name: str) -> str:
        known = {series.name for series in Workspace(settings).listed_series()} if name else set()
        chosen = name if name in known else ""
        return pages.setdefault(chosen, Cached(partial(write, chosen)))()

    return page


def main(port: int) -> None:
    """Serve until a signal arrives."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    seen = Settings()
    store, address = seen.served_store or seen.mlflow_uri, seen.mlflow_url or seen.mlflow_uri
    settings = Settings(tracking_uri=store, mlflow_url=address)
    collectors = (StateCollector(settings, scheduled_pauses), FlowRunCollector(settings))
    metrics = Cached(partial(state_page, *collectors))
    file_server(settings.data_folder, port, dashboard(settings), metrics).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
