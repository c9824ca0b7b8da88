"""A real `riseorfall up` in a home of its own, on free ports, and a real browser."""

import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from running_up import Up, free_ports, launch

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run",
)  # fmt: skip


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
        running.process.wait(90)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(60_000)
    yield opened
    opened.close()
