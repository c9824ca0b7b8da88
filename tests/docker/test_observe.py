"""The Grafana dashboard shows metrics that exist, and Prometheus reads addresses that the compose file has."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tasks.services.flow_run_metrics import FlowRunCollector
from tasks.serving.service_metrics import RequestMetrics, StateCollector, state_page
from tasks.settings import Settings

ROOT = Path(__file__).parents[2] / "docker"
BOARD = json.loads((ROOT / "observe" / "dashboard.json").read_text(encoding="utf-8"))
EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of all metrics, as Prometheus stores them."""
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    pages = [RequestMetrics(lambda: None).page(), state_page(StateCollector(settings), FlowRunCollector(settings))]
    types = re.findall(r"# TYPE (\S+) (\S+)", "".join(page.decode() for page, _ in pages))
    return {name for name, _ in types} | {f"{name}_bucket" for name, kind in types if kind == "histogram"}


def test_the_dashboard_has_panels() -> None:
    assert len(EXPRESSIONS) > 10


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_panel_asks_for_metrics_that_exist(expression: str, names: set[str]) -> None:
    used = set(re.findall(r"riseorfall_\w+", expression))
    assert used
    assert used <= names


def test_no_two_panels_overlap() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in BOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24  # columns of Grafana's grid


def test_prometheus_reads_services_of_the_compose_file() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    jobs = yaml.safe_load((ROOT / "observe" / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    hosts = [target.split(":")[0] for job in jobs for each in job["static_configs"] for target in each["targets"]]
    assert hosts == ["metrics", "predict"]
    for host in hosts:
        assert set(services[host]["networks"]) & set(services["prometheus"]["networks"])
