"""Who can reach a real `up`: other users of the machine, web pages of other origins, and its own user."""

import os
import re
import stat
import subprocess
import sys
from base64 import b64encode
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect
from running_up import PATIENCE_SECONDS, Up, answer_of, wait_for

pytestmark = pytest.mark.e2e

WRONG = {"Authorization": f"Basic {b64encode(b'admin:wrong').decode()}"}


def preflight(address: str, origin: str) -> str | None:
    """Send the request that precedes a PATCH from a page of that origin; return the origin that the server allows."""
    headers = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
    headers |= {"Access-Control-Request-Headers": "content-type"}
    place = urlsplit(address)
    connection = HTTPConnection(place.netloc, timeout=PATIENCE_SECONDS)
    connection.request("OPTIONS", place.path, headers=headers)
    reply = connection.getresponse()
    connection.close()
    return reply.getheader("Access-Control-Allow-Origin")


def test_without_the_password_prefect_changes_and_starts_nothing(up: Up, tmp_path: Path) -> None:
    """With pull steps of one's own a deployment is a shell: at version 0.1 any user and any web page had it."""
    assert stat.S_IMODE((up.home / "data" / "up.password").stat().st_mode) == 0o600
    before, runs = up.deployment("monitor"), up.unscheduled_runs("monitor")
    address = f"{up.api}/deployments/{before['id']}"
    steps = [{"prefect.deployments.steps.run_shell_script": {"script": f"touch {tmp_path}/planted"}}]
    for headers in ({}, WRONG):
        assert answer_of(address, {"pull_steps": steps}, "PATCH", headers)[0] == 401
        assert answer_of(f"{address}/create_flow_run", {}, headers=headers)[0] == 401
    assert up.deployment("monitor")["pull_steps"] == before["pull_steps"]
    assert up.unscheduled_runs("monitor") == runs


def test_pages_of_other_origins_and_foreign_hosts_are_refused(up: Up) -> None:
    prefect, mlflow, pages = (up.address(part) for part in ("Prefect", "MLflow", "pages"))
    patched = f"{up.api}/deployments/{up.deployment('monitor')['id']}"
    assert preflight(patched, "http://evil.example") is None
    assert preflight(patched, "http://localhost:1") is None
    assert preflight(patched, prefect) == prefect
    for host in ("evil.example", "10.evil.example"):  # MLflow's own list has the pattern 10.*
        assert answer_of(f"{mlflow}/", headers={"Host": host})[0] == 403
        assert answer_of(f"{pages}/", headers={"Host": host})[0] == 403
    created = f"{mlflow}/api/2.0/mlflow/registered-models/create"
    for origin in ("http://evil.example", pages):
        assert preflight(created, "http://evil.example") is None
        assert answer_of(created, {"name": "theirs"}, headers=up.credentials | {"Origin": origin})[0] == 403


def test_without_the_password_mlflow_is_read_only(up: Up) -> None:
    api = f"{up.address('MLflow')}/api/2.0/mlflow"
    assert answer_of(f"{api}/registered-models/create", {"name": "ours"}, headers=up.credentials)[0] == 200
    for headers in ({}, WRONG):
        assert answer_of(f"{api}/registered-models/get?name=ours", headers=headers)[0] == 200
        assert answer_of(f"{api}/runs/search", {"experiment_ids": ["0"]}, headers=headers)[0] == 200
        assert answer_of(f"{api}/registered-models/delete", {"name": "ours"}, "DELETE", headers)[0] == 401
        assert answer_of(f"{api}/experiments/create", {"name": "theirs"}, headers=headers)[0] == 401
    assert answer_of(f"{api}/registered-models/delete", {"name": "ours"}, "DELETE", up.credentials)[0] == 200


def test_a_new_browser_needs_the_password(up: Up, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{up.address('Prefect')}/v2/deployments")
    page.get_by_placeholder("admin:pass").fill("admin:wrong")
    page.get_by_role("button", name="Login").click()
    expect(page.get_by_text("Invalid credentials")).to_be_visible()
    page.close()


def test_a_form_of_the_dashboard_opens_after_the_password_without_an_error_before_it(up: Up, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    link = page.get_by_role("link", name="Retrain now")
    wait_for(lambda: page.goto(up.address("pages")) and link.count())  # without the link where Prefect answers too late
    link.click()
    password = page.get_by_placeholder("admin:pass")
    expect(password).to_be_visible()
    for error in ("Authentication failed", "Something went wrong"):
        expect(page.get_by_text(error)).to_have_count(0)
    password.fill(up.password)
    page.get_by_role("button", name="Login").click()
    expect(page.get_by_role("button", name="Submit")).to_be_visible()
    expect(page.get_by_label("Path or exchange", exact=True)).to_be_visible()
    context.close()


def test_a_run_from_the_shell_uses_the_servers_without_a_password_typed(up: Up) -> None:
    command = Path(sys.executable).with_name("riseorfall")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    environment |= {"RISEORFALL_HOME": str(up.home)}
    by_hand = {"flow_runs": {"deployment_id": {"is_null_": True}, "state": {"type": {"any_": ["COMPLETED"]}}}}
    before = {run["id"] for run in up.ask("/flow_runs/filter", by_hand)}
    subprocess.run([command, "ingest"], env=environment, check=True)
    assert len({run["id"] for run in up.ask("/flow_runs/filter", by_hand)} - before) == 1

    def status() -> str:
        return subprocess.run([command, "status"], env=environment, capture_output=True, text=True, check=True).stdout

    wait_for(lambda: re.search(r"^next: .* ingest$", status(), re.MULTILINE))  # a busy server answers too late
