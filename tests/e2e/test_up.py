"""The two UIs in a browser against a real `up`: the form, a run and what it shows, MLflow, restarts, alarms."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pytest
from kept_pictures import picture
from planted import plant_degradation, plant_drift
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from receiver import Receiver
from running_up import (
    PATIENCE_SECONDS,
    RETRAIN_SECONDS,
    SCHEDULES,
    Up,
    answer_of,
    free_ports,
    launch,
    submit,
    wait_for,
)

from model.bars import Series
from model.presets import HOURLY
from tasks.store.bar_store import BarStore

pytestmark = pytest.mark.e2e

SAVE_BLOCK = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock
CustomWebhookNotificationBlock(
    name="ours", url=sys.argv[1], json_data={"title": "{{subject}}", "text": "{{body}}"}
).save("riseorfall", overwrite=True)
"""  # as docs/operations.md says it
SAVE_WEBHOOK = """
import sys
from prefect.blocks.webhook import Webhook
Webhook(url=sys.argv[1]).save("riseorfall-predictions", overwrite=True)
"""  # the same


def open_form(up: Up, page: Page, deployment: str = "retrain", epochs: int = 2) -> None:
    found = up.ask(f"/deployments/name/retrain/{deployment}")
    page.goto(f"{up.address('Prefect')}/v2/deployments/deployment/{found['id']}/run")
    shown = page.get_by_label("Epochs (Optional)")
    expect(shown).to_have_value(str(epochs))


@pytest.fixture(scope="module")
def retrained(up: Up, signed_in: BrowserContext) -> dict:
    """A run of `retrain` that was filled in and submitted in the form."""
    page = signed_in.new_page()
    open_form(up, page)
    page.get_by_label("Run Name").fill("by-hand")
    page.get_by_label("Epochs (Optional)").fill("3")
    run = submit(page)
    page.close()
    assert run["parameters"]["training"]["epochs"] == 3
    return up.finished(run["id"], RETRAIN_SECONDS)


def test_the_link_that_up_prints_lists_the_deployments_that_retrain(up: Up, page: Page) -> None:
    """Of all deployments by name, `retrain` is on the second page."""
    link = re.search(r"^retrain now +(\S+)", up.output.read_text(encoding="utf-8"), re.MULTILINE)
    assert link
    page.goto(link[1])

    def listed(name: str) -> Locator:
        return page.locator(f'a[href="/v2/deployments/deployment/{up.ask(f"/deployments/name/{name}")["id"]}"]')

    for name in ("retrain/quick", "retrain/retrain"):
        expect(listed(name)).to_be_visible()
    expect(listed("audit/audit")).to_have_count(0)


def test_the_form_shows_descriptions_defaults_and_menus(up: Up, page: Page) -> None:
    open_form(up, page)
    expect(page.get_by_text("Bars in a window")).to_be_visible()
    expect(page.get_by_label("Lookback Bars (Optional)")).to_have_value("30")
    page.get_by_role("button").filter(has_text="cnn_lstm").click()
    expect(page.get_by_role("option", name="tcn", exact=True)).to_be_visible()


def test_the_form_of_hourly_bars_shows_their_preset(up: Up, page: Page) -> None:
    open_form(up, page, "hourly", HOURLY.training.epochs)
    expect(page.get_by_label("Lookback Bars (Optional)")).to_have_value("24")
    expect(page.get_by_label("Batch Size (Optional)")).to_have_value("1024")
    expect(page.get_by_label("Test Bars (Optional)")).to_have_value("10000")


def test_a_value_out_of_range_starts_nothing(up: Up, page: Page) -> None:
    asked_for = up.unscheduled_runs("retrain")
    open_form(up, page)
    page.get_by_label("Epochs (Optional)").fill("100000")
    page.get_by_role("button", name="Submit").click()
    said = page.get_by_label("Epochs (Optional)").evaluate("field => field.validationMessage")
    assert "less than or equal to 10000" in said
    assert up.unscheduled_runs("retrain") == asked_for


def test_the_submitted_run_completes_and_keeps_its_name(retrained: dict) -> None:
    assert retrained["state_type"] == "COMPLETED", retrained["state"]
    assert retrained["name"] == "by-hand"


def test_the_run_shows_progress_tables_decision_and_links_that_open(up: Up, page: Page, retrained: dict) -> None:
    found = up.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [retrained["id"]]}}})
    by_key = {artifact["key"]: artifact for artifact in found}
    assert {"progress", "decision", "metrics", "checks", "mlflow-run", "data-docs"} <= by_key.keys()
    assert float(by_key["progress"]["data"]) == 100
    assert by_key["decision"]["data"].startswith("# Promoted: version 1")
    page.goto(f"{up.address('Prefect')}/v2/runs/flow-run/{retrained['id']}?tab=Artifacts")
    for key in ("decision", "metrics", "checks"):
        expect(page.get_by_text(key, exact=False).first).to_be_visible()
    page.set_viewport_size({"width": 1280, "height": 1500})
    picture(page, "prefect-run", wait_seconds=10)
    for key in ("mlflow-run", "data-docs"):
        link = re.search(r"\((http[^)]+)\)", by_key[key]["data"])
        assert link
        answer = page.goto(link[1])
        assert answer
        assert answer.ok
    expect(page.get_by_text("BTC-USD-1d").first).to_be_visible()


@pytest.mark.usefixtures("retrained")
def test_mlflow_opens_the_runs_with_our_columns_in_a_browser_that_has_never_been_there(
    up: Up, browser: Browser
) -> None:
    """At version 0.1 `/` was an introduction to language models, and an experiment opened on its (empty) traces."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(up.address("MLflow"))
    expect(page).to_have_url(re.compile(r"#/experiments/\d+/runs\?workflowType=machine_learning&viewStateShareKey="))
    expect(page.get_by_text("2019-10-17 v1 promoted").first).to_be_visible()
    for column in ("headline/log_loss", "headline/vs_base_rate", "headline/p_value", "champion_after"):
        expect(page.get_by_role("columnheader", name=column, exact=True).first).to_be_visible()
    expect(page.get_by_role("gridcell", name="version 1", exact=True).first).to_be_visible()
    expect(page.get_by_text("Ask a question")).to_have_count(0)  # the assistant's panel covers a third of the page
    picture(page, "mlflow-runs", wait_seconds=10)
    row = page.locator(".ag-row .ag-selection-checkbox input").first  # until 0.2 no run could be selected
    row.click()
    expect(row).to_be_checked()
    expect(page.get_by_role("button", name="Compare")).to_be_visible()
    experiment = re.search(r"#/experiments/\d+", page.url)
    assert experiment
    page.goto(f"{up.address('MLflow')}/#/experiments")
    page.goto(f"{up.address('MLflow')}/{experiment[0]}")  # as a click on its name in the list of experiments
    expect(page).to_have_url(re.compile("/runs"))
    expect(page.get_by_text("2019-10-17 v1 promoted").first).to_be_visible()
    page.close()


def test_mlflow_shows_the_run_its_curves_and_the_champion(up: Up, page: Page, retrained: dict) -> None:
    found = up.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [retrained["id"]]}}})
    link = next(re.search(r"\((http[^)]+)\)", each["data"])[1] for each in found if each["key"] == "mlflow-run")
    page.goto(link)
    expect(page.get_by_role("heading", name="2019-10-17 v1 promoted")).to_be_visible()
    expect(page.get_by_text("BTC-USD-1d bars").first).to_be_visible()
    expect(page.get_by_text(re.compile("log loss difference")).first).to_be_visible()
    expect(page.get_by_text("headline/vs_base_rate", exact=True)).to_be_visible()
    picture(page, "mlflow-run", wait_seconds=10)
    page.goto(link.replace("?", "/model-metrics?"))
    page.get_by_placeholder("Search metric charts").fill("vs_base_rate")
    expect(page.get_by_text("vs_base_rate_low", exact=True).first).to_be_visible()
    page.goto(link)
    page.get_by_text("fold 1 of 2").click()
    page.get_by_text("Model metrics").click()
    page.get_by_placeholder("Search metric charts").fill("log_loss")
    expect(page.get_by_text("validation_log_loss").first).to_be_visible()
    picture(page, "mlflow-curves", wait_seconds=10)
    page.goto(f"{up.address('MLflow')}/#/models/BTC-USD-1d")
    expect(page.get_by_text("@ champion").first).to_be_visible()
    expect(page.get_by_text("P(rise) of BTC-USD 1d").first).to_be_visible()
    picture(page, "mlflow-model", wait_seconds=10)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"training": {"epochs": 100_000}}, "greater than the maximum"),
        ({"training": {"epochz": 3}}, "epochz"),
        ({"source": {"interval": "7d"}}, "is not one of"),
    ],
)
def test_the_server_refuses_what_the_flow_does_not_take(up: Up, parameters: dict, reason: str) -> None:
    code, text = up.start("retrain", parameters)
    assert code in (409, 422)
    assert reason in text


def test_an_unknown_symbol_fails_before_the_first_step(up: Up) -> None:
    run = up.finished(up.start("retrain", {"source": {"symbol": "BTC-EUR"}})["id"])
    assert run["state_type"] == "FAILED"
    assert "expected BTC-USD at 1d, found BTC-EUR" in run["state"]["message"]
    assert up.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}}) == []


def test_predictions_are_stored_and_monitored(up: Up, retrained: dict) -> None:
    assert retrained["state_type"] == "COMPLETED"
    for name in ("predict", "monitor"):
        run = up.finished(up.start(name)["id"])
        assert run["state_type"] == "COMPLETED", run["state"]
        assert run["name"] == f"{name} BTC-USD 1d"


@pytest.mark.usefixtures("retrained")
@pytest.mark.parametrize(
    ("device", "width", "height", "scheme"), [("desktop", 1280, 1500, "light"), ("phone", 390, 2600, "dark")]
)
def test_dashboard_report_and_data_docs_of_a_real_retrain_fit_a_desktop_and_a_phone(
    up: Up, browser: Browser, device: str, width: int, height: int, scheme: Literal["light", "dark"]
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{up.address('pages')}/")
    page.locator("#chart-1.js-plotly-plot").wait_for()
    expect(page.get_by_text("Next runs (UTC)")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    picture(page, f"dashboard-{device}", full_page=True)
    page.get_by_role("link", name="report of the champion").click()
    expect(page.get_by_role("heading", name="BTC-USD 1d, version 1")).to_be_visible()
    page.locator("#chart-1.js-plotly-plot").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": width, "height": height})
    picture(page, f"report-{device}")
    page.set_viewport_size({"width": width, "height": 900})
    page.get_by_role("link", name="All checks, in the Data Docs").click()
    expect(page.get_by_text("BTC-USD-1d").first).to_be_visible()
    if device == "desktop":
        picture(page, "data-docs")
    context.close()


def test_predictions_and_failed_runs_reach_the_blocks(up: Up, retrained: dict) -> None:
    assert retrained["state_type"] == "COMPLETED"
    with Receiver() as notices, Receiver() as predictions:
        environment = os.environ | {"PREFECT_API_URL": up.api, "RISEORFALL_HOME": str(up.home)}
        with_password = environment | {"PREFECT_API_AUTH_STRING": up.password}
        for code, receiver in ((SAVE_BLOCK, notices), (SAVE_WEBHOOK, predictions)):
            subprocess.run([sys.executable, "-c", code, receiver.address], env=with_password, check=True)
        subprocess.run([Path(sys.executable).with_name("riseorfall"), "automations"], env=environment, check=True)
        wait_for_automations(up)  # the server has read the new ones when it acts on one that is newer
        assert up.finished(up.start("predict")["id"])["state_type"] == "COMPLETED"
        assert up.finished(up.start("predict", {"symbol": "NONE-USD"})["id"])["state_type"] == "FAILED"
        (sent,) = wait_for(lambda: predictions.heard)
        assert sent["series_name"] == "BTC-USD-1d"
        assert 0 < sent["probability"] < 1
        assert sent["decided_at"].startswith("2019-10-17")
        failed = wait_for(lambda: [each for each in notices.heard if "Failed" in each["title"]])
        assert "NONE-USD" in "".join(each["text"] for each in failed)


def mlflow_bad(rows: list[dict]) -> dict[str, tuple[dict, str]]:
    """Return questions that MLflow's server must refuse, each with a part of the reason."""

    def last(**changed: object) -> dict:
        return {"dataframe_records": [*rows[:-1], {**rows[-1], **changed}]}

    return {
        "no bars": ({}, "dataframe_records"),
        "no close": ({"dataframe_records": [{"timestamp": each["timestamp"], "open": 1.0} for each in rows]}, "close"),
        "price as text": (last(close="much"), "close"),
        "negative price": (last(low=-3.0), "expected prices above 0"),
        "high below low": (last(high=1.0), "low <= open, close <= high"),
        "no time": (last(timestamp="yesterday"), "yesterday"),
        "newest first": ({"dataframe_records": rows[::-1]}, "oldest first"),
        "too few": ({"dataframe_records": rows[:3]}, "at least 30 bars in a row"),
    }


def test_mlflow_serves_the_champion_and_refuses_what_is_no_question(up: Up, retrained: dict) -> None:
    assert retrained["state_type"] == "COMPLETED"
    frame = BarStore(str(up.home / "data" / "tables")).read_frame(Series("BTC-USD", "1d")).tail(40)
    rows = frame.assign(timestamp=frame["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")).to_dict("records")
    (port,) = free_ports(1)
    where = os.environ | {
        "MLFLOW_TRACKING_URI": up.address("MLflow"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # mlflow starts uvicorn by its name
    }
    words = ["mlflow", "models", "serve", "-m", "models:/BTC-USD-1d@champion", "--env-manager", "local", "--port"]
    with (up.home / "mlflow-serve.txt").open("wb") as log:
        serving = subprocess.Popen([*words, str(port)], env=where, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: answer_of(f"http://127.0.0.1:{port}/ping")[0] == 200)
        code, text = answer_of(f"http://127.0.0.1:{port}/invocations", {"dataframe_records": rows})
        assert code == 200, text
        told = json.loads(text)["predictions"]
        assert (len(told), told[-1]["decided_at"]) == (11, "2019-10-17T00:00:00Z")
        for name, (body, reason) in mlflow_bad(rows).items():
            code, text = answer_of(f"http://127.0.0.1:{port}/invocations", body)
            assert (code, reason in text) == (400, True), f"{name}: {code} {text}"
    finally:
        os.killpg(serving.pid, signal.SIGTERM)  # and the uvicorn that it started
        serving.wait(PATIENCE_SECONDS)


def events(up: Up, name: str) -> list[dict]:
    return up.ask("/events/filter", {"filter": {"event": {"name": [name]}}})["events"]


def monitored(up: Up) -> str:
    """Run the monitor and return its page; the planted bars leave the champion old, which is not what is looked for."""
    run = up.finished(up.start("monitor", {"spec": {"max_champion_age_days": 1000}})["id"])
    assert run["state_type"] == "COMPLETED", run["state"]
    found = up.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    return next(each["data"] for each in found if each["key"] == "monitor-btc-usd-1d-page")


def wait_for_automations(up: Up) -> None:
    """Wait until the server has acted on every event so far: a later event of its own automation was acted on."""
    event = f"test.{uuid4()}"
    trigger = {"type": "event", "posture": "Reactive", "expect": [event], "threshold": 1, "within": 0}
    made = up.ask("/automations/", {"name": event, "trigger": trigger, "actions": [{"type": "do-nothing"}]})
    resource = f"prefect.automation.{made['id']}"

    def acted_on() -> bool:  # an automation that the server has not loaded yet misses the event: emit it again
        sent = {"id": str(uuid4()), "event": event, "occurred": datetime.now(UTC).isoformat(), "payload": {}}
        up.ask("/events", [sent | {"resource": {"prefect.resource.id": event}, "related": []}])
        done = events(up, "prefect.automation.action.executed")
        return any(each["resource"]["prefect.resource.id"] == resource for each in done)

    wait_for(acted_on)
    up.ask(f"/automations/{made['id']}", method="DELETE")


def one_retrain_follows(up: Up, before: set[str]) -> None:
    """Wait for the retrain that an alarm starts; a further alarm at once starts none."""
    started = wait_for(lambda: up.unscheduled_runs("retrain") - before)
    script = (
        "from tasks.services.events import emit_event_for\n"
        "emit_event_for('riseorfall.champion.broken', 'BTC-USD-1d', 'planted')\n"
    )
    environment = os.environ | {"PREFECT_API_URL": up.api, "PREFECT_API_AUTH_STRING": up.password}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert up.finished(started.pop(), RETRAIN_SECONDS)["state_type"] == "COMPLETED"
    wait_for(lambda: events(up, "riseorfall.champion.broken"))
    wait_for_automations(up)
    assert len(up.unscheduled_runs("retrain") - before) == 1


def test_planted_drift_is_told_once_and_starts_one_retrain(up: Up, retrained: dict) -> None:
    assert retrained["state_type"] == "COMPLETED"
    before = up.unscheduled_runs("retrain")
    plant_drift(up.home)
    assert "**drifted** (new)" in monitored(up)
    one_retrain_follows(up, before)
    assert "**drifted** (raised before)" in monitored(up)
    assert len(events(up, "riseorfall.champion.drifted")) == 1


def test_planted_degradation_is_told_to_the_block_and_starts_one_retrain(up: Up, retrained: dict) -> None:
    """The automation is installed anew, by its command, so that its cool-down begins anew."""
    assert retrained["state_type"] == "COMPLETED"
    for automation in up.ask("/automations/filter", {}):
        up.ask(f"/automations/{automation['id']}", method="DELETE")
    with Receiver() as receiver:
        environment = os.environ | {"PREFECT_API_URL": up.api, "RISEORFALL_HOME": str(up.home)}
        with_password = environment | {"PREFECT_API_AUTH_STRING": up.password}
        subprocess.run([sys.executable, "-c", SAVE_BLOCK, receiver.address], env=with_password, check=True)
        command = Path(sys.executable).with_name("riseorfall")
        subprocess.run([command, "automations"], env=environment, check=True)
        before = up.unscheduled_runs("retrain")
        plant_degradation(up.home)
        assert "**degraded** (new)" in monitored(up)
        one_retrain_follows(up, before)
        assert "**degraded**" not in monitored(up)  # the evidence counts anew
        assert len(events(up, "riseorfall.champion.degraded")) == 1
        (told,) = [each for each in wait_for(lambda: receiver.heard) if "degraded" in each["title"]]
        assert told["text"].startswith("BTC-USD-1d: ")


def test_up_twice_says_what_runs(up: Up) -> None:
    command = [Path(sys.executable).with_name("riseorfall"), "up"]
    environment = os.environ | {"RISEORFALL_HOME": str(up.home)}

    def said() -> str:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stderr

    assert "already running" in said()
    wait_for(lambda: f"{up.address('Prefect')}, answers" in said())  # a busy server answers too late


def test_a_part_that_dies_is_started_again(up: Up) -> None:
    os.kill(up.state["parts"]["pages"]["pid"], signal.SIGKILL)
    wait_for(lambda: up.state["parts"]["pages"]["restarts"] == 1)


def test_after_sigkill_the_interrupted_run_is_marked_and_the_schedule_goes_on(
    up: Up, ports: dict[str, int], page: Page
) -> None:
    wait_for(lambda: up.runs("ingest", types=["COMPLETED"]))  # the minute's schedule fires
    long = up.start("retrain", {"training": {"epochs": 10_000, "patience": 1000}})
    wait_for(lambda: up.ask(f"/flow_runs/{long['id']}")["state_type"] == "RUNNING")
    up.process.kill()
    up.process.wait()
    words = [word for name, port in ports.items() for word in (name, str(port))]
    password = up.password
    again = launch(up.home, *words, *SCHEDULES)
    up.process, up.output = again.process, again.output
    assert up.password == password
    open_form(up, page)  # without a second login
    marked = wait_for(lambda: (run := up.ask(f"/flow_runs/{long['id']}"))["state_type"] == "CRASHED" and run)
    assert "interrupted" in marked["state"]["message"]
    assert [schedule["active"] for schedule in up.deployment("retrain")["schedules"]] == [True]
    since = time.time()
    wait_for(lambda: [r for r in up.runs("ingest", types=["COMPLETED"]) if _ended(r) > since])
    queued = up.start("retrain", {"training": {"epochs": 10_000, "patience": 1000}})  # its place is free again
    wait_for(lambda: up.ask(f"/flow_runs/{queued['id']}")["state_type"] == "RUNNING")


def _ended(run: dict) -> float:
    return datetime.fromisoformat(run["end_time"]).timestamp() if run["end_time"] else 0.0
