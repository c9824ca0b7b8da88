"""Serve the metrics of all stored series and of the flow runs to Prometheus, inside the containers' network."""

import time

from prometheus_client import start_http_server
from prometheus_client.core import REGISTRY

from tasks.services.flow_run_metrics import FlowRunCollector
from tasks.services.scheduled_runs import scheduled_pauses
from tasks.serving.service_metrics import StateCollector
from tasks.settings import Settings

PORT = 9464


def main() -> None:
    """Serve until the container stops."""
    settings = Settings()
    settings.announce()
    REGISTRY.register(StateCollector(settings, scheduled_pauses))
    REGISTRY.register(FlowRunCollector(settings))
    start_http_server(PORT)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
