"""A real `riseorfall up` for each file of tests, in a home of its own, on free ports, and a real browser."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from running_up import PATIENCE_SECONDS, SCHEDULES, Up, free_ports, launch

expect.set_options(timeout=PATIENCE_SECONDS * 1000)

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of this folder in one go, in the order of the files: a file has one `up`, whose bars grow."""
    here = Path(__file__).parent
    ours = [item for item in items if item.path.is_relative_to(here)]
    others = [item for item in items if not item.path.is_relative_to(here)]
    first = next((place for place, item in enumerate(items) if item in ours), 0)
    in_order = sorted(ours, key=lambda item: (item.path, item.reportinfo()[1]))
    items[:] = [*others[:first], *in_order, *others[first:]]


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return dict(zip(("--prefect-port", "--mlflow-port", "--files-port"), free_ports(3), strict=True))


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]) -> Iterator[Up]:
    """One `up` on ports of its own, whose bars are fetched every minute; stopped by SIGTERM at the end."""
    words = [word for name, port in ports.items() for word in (name, str(port))]
    running = launch(tmp_path_factory.mktemp("up"), *words, *SCHEDULES)
    yield running
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(PATIENCE_SECONDS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        opened.on("context", lambda context: context.set_default_timeout(PATIENCE_SECONDS * 1000))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def signed_in(up: Up, browser: Browser) -> BrowserContext:
    """A browser in which somebody has typed the password that `up --show-password` prints, once."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    command = [Path(sys.executable).with_name("riseorfall"), "up", "--show-password"]
    environment = os.environ | {"RISEORFALL_HOME": str(up.home)}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    page = context.new_page()
    page.goto(up.address("Prefect"))
    page.get_by_placeholder("admin:pass").fill(shown.stdout.strip())
    page.get_by_role("button", name="Login").click()
    page.get_by_role("link", name="Deployments").first.wait_for()
    page.close()
    return context


@pytest.fixture
def page(signed_in: BrowserContext) -> Iterator[Page]:
    opened = signed_in.new_page()
    yield opened
    opened.close()
