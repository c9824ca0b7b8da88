"""A real `riseorfall up` in a home of its own, on free ports, and a real browser."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from running_up import PATIENCE_SECONDS, Up, free_ports, launch

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of this folder in the order of the file: they share one `up`, whose bars grow as they run."""
    here = Path(__file__).parent
    places = [place for place, item in enumerate(items) if item.path.is_relative_to(here)]
    in_order = sorted((items[place] for place in places), key=lambda item: (item.path, item.reportinfo()[1]))
    for place, item in zip(places, in_order, strict=True):
        items[place] = item


@pytest.fixture(scope="session")
def ports() -> dict[str, int]:
    return dict(zip(("--prefect-port", "--mlflow-port", "--files-port"), free_ports(3), strict=True))


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]) -> Iterator[Up]:
    """One `up` on ports of its own, whose bars are fetched every minute; stopped by SIGTERM at the end."""
    words = [word for name, port in ports.items() for word in (name, str(port))]
    running = launch(tmp_path_factory.mktemp("up"), *words, "--schedule.ingest-cron", "* * * * *")
    yield running
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(PATIENCE_SECONDS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(PATIENCE_SECONDS * 1000)
    yield opened
    opened.close()
