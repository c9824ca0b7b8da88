"""The two UIs in a browser against a real `up`: the form, a run and what it shows, MLflow, restarts, alarms."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from running_up import Up, launch, wait_for

pytestmark = pytest.mark.e2e
expect.set_options(timeout=30_000)

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
KEEP_PICTURES = bool(os.environ.get("RISEORFALL_KEEP_PICTURES"))


def picture(page: Page, name: str) -> None:
    if KEEP_PICTURES:
        page.screenshot(path=PICTURES / f"{name}.png")


def open_form(up: Up, page: Page) -> None:
    page.goto(f"{up.address('Prefect')}/v2/deployments/deployment/{up.deployment('retrain')['id']}/run")
    expect(page.get_by_label("Epochs (Optional)")).to_have_value(
        "2", timeout=120_000
    )  # the first page of a cold server


@pytest.fixture(scope="module")
def retrained(up: Up, browser) -> dict:  # noqa: ANN001 - playwright's
    """A run of `retrain` that was filled in and submitted in the form."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)
    open_form(up, page)
    page.get_by_label("Run Name").fill("by-hand")
    page.get_by_label("Epochs (Optional)").fill("3")
    page.get_by_label("Epochs (Optional)").scroll_into_view_if_needed()
    picture(page, "prefect-form")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile(r"/(flow-run|deployment)"))
    runs = wait_for(lambda: [run for run in up.runs("retrain") if run["parameters"]["training"]["epochs"] == 3])
    page.close()
    return up.finished(runs[0]["id"])


def test_the_form_shows_descriptions_defaults_and_menus(up: Up, page: Page) -> None:
    open_form(up, page)
    expect(page.get_by_text("Bars a window shows")).to_be_visible()
    expect(page.get_by_label("Lookback Bars (Optional)")).to_have_value("30")
    page.get_by_role("button").filter(has_text="cnn_lstm").click()
    expect(page.get_by_role("option", name="tcn", exact=True)).to_be_visible()


def asked_for_by_hand(up: Up) -> set[str]:
    """Return the retrains that somebody asked for; those that the schedule plans meanwhile are not among them."""
    return {run["id"] for run in up.runs("retrain") if not run["auto_scheduled"]}


def test_a_value_out_of_range_starts_nothing(up: Up, page: Page) -> None:
    asked_for = asked_for_by_hand(up)
    open_form(up, page)
    page.get_by_label("Epochs (Optional)").fill("100000")
    page.get_by_role("button", name="Submit").click()
    said = page.get_by_label("Epochs (Optional)").evaluate("field => field.validationMessage")
    assert "less than or equal to 10000" in said
    assert asked_for_by_hand(up) == asked_for


def test_the_submitted_run_completes_and_is_named_after_what_it_did(retrained: dict) -> None:
    assert retrained["state_type"] == "COMPLETED", retrained["state"]
    assert retrained["name"] == "retrain BTC-USD 1d"


def test_the_run_shows_progress_tables_decision_and_links_that_open(up: Up, page: Page, retrained: dict) -> None:
    found = up.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [retrained["id"]]}}})
    by_key = {artifact["key"]: artifact for artifact in found}
    assert {"progress", "decision", "metrics", "checks", "mlflow-run", "data-docs", "final-fit"} <= by_key.keys()
    assert float(by_key["progress"]["data"]) == 100
    assert "promote" in by_key["decision"]["data"]
    page.goto(f"{up.address('Prefect')}/v2/runs/flow-run/{retrained['id']}?tab=Artifacts")
    for key in ("decision", "metrics", "checks"):
        expect(page.get_by_text(key, exact=False).first).to_be_visible()
    page.set_viewport_size({"width": 1280, "height": 1500})
    page.wait_for_timeout(1000)
    picture(page, "prefect-run")
    for key in ("mlflow-run", "data-docs"):
        link = re.search(r"\((http[^)]+)\)", by_key[key]["data"])
        assert link
        answer = page.goto(link[1])
        assert answer
        assert answer.ok
    expect(page.get_by_text("BTC-USD-1d").first).to_be_visible()


def test_mlflow_shows_the_run_its_curves_and_the_champion(up: Up, page: Page, retrained: dict) -> None:
    found = up.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [retrained["id"]]}}})
    link = next(re.search(r"\((http[^)]+)\)", each["data"])[1] for each in found if each["key"] == "mlflow-run")
    page.goto(up.address("MLflow"))
    page.get_by_text("Model training").first.click()
    page.goto(link)
    expect(page.get_by_text("BTC-USD-1d bars").first).to_be_visible()
    expect(page.get_by_text(re.compile("^promote: sound")).first).to_be_visible()
    page.get_by_role("button", name="Close").first.click()  # a panel of questions covers a third of the page
    picture(page, "mlflow-run")
    page.goto(f"{link}/model-metrics")
    page.get_by_placeholder("Search metric charts").fill("log_loss")
    expect(page.get_by_text("log_loss_high").first).to_be_visible()
    page.goto(link)
    page.get_by_text("fold 1 of 2").click()
    page.get_by_text("Model metrics").click()
    expect(page.get_by_text("learning_rate").first).to_be_visible()
    page.goto(f"{up.address('MLflow')}/#/models/BTC-USD-1d")
    expect(page.get_by_text("@ champion").first).to_be_visible()
    picture(page, "mlflow-model")


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


def test_predictions_are_stored_and_monitored(up: Up, retrained: dict) -> None:
    assert retrained["state_type"] == "COMPLETED"
    for name in ("predict", "monitor"):
        run = up.finished(up.start(name)["id"])
        assert run["state_type"] == "COMPLETED", run["state"]
        assert run["name"] == f"{name} BTC-USD 1d"


def test_two_alarms_start_one_retrain(up: Up, retrained: dict) -> None:
    assert retrained["state_type"] == "COMPLETED"
    before = {run["id"] for run in up.runs("retrain")}
    told = (
        "from tasks.events import tell\n"
        "for number in range(2):\n"
        "    tell('riseorfall.champion.drifted', 'BTC-USD-1d', f'planted {number}')\n"
    )
    subprocess.run([sys.executable, "-c", told], env=os.environ | {"PREFECT_API_URL": up.api}, check=True)

    def fresh() -> list[dict]:
        return [run for run in up.runs("retrain") if run["id"] not in before and not run["auto_scheduled"]]

    started = wait_for(fresh, 90)
    time.sleep(15)  # time for a second one, if there were one
    assert len(fresh()) == 1
    assert up.finished(started[0]["id"])["state_type"] == "COMPLETED"


def test_up_twice_says_what_runs(up: Up) -> None:
    command = Path(sys.executable).with_name("riseorfall")
    done = subprocess.run(
        [command, "up"], env=os.environ | {"RISEORFALL_HOME": str(up.home)}, capture_output=True, text=True, check=False
    )
    assert "already running" in done.stderr
    assert f"{up.address('Prefect')}, answers" in done.stderr


def test_a_part_that_dies_is_started_again(up: Up) -> None:
    os.kill(up.state["parts"]["pages"]["pid"], signal.SIGKILL)
    wait_for(lambda: up.state["parts"]["pages"]["restarts"] == 1, 30)


def test_after_sigkill_the_interrupted_run_is_marked_and_the_schedule_goes_on(up: Up, ports: dict[str, int]) -> None:
    wait_for(lambda: up.runs("ingest", types=["COMPLETED"]), 150)  # the minute's schedule fires
    long = up.start("retrain", {"training": {"epochs": 10_000, "patience": 1000}})
    wait_for(lambda: up.ask(f"/flow_runs/{long['id']}")["state_type"] == "RUNNING")
    up.process.kill()
    up.process.wait()
    words = [word for name, port in ports.items() for word in (name, str(port))]
    again = launch(up.home, *words, "--when.ingest-cron", "* * * * *")
    up.process, up.output = again.process, again.output
    marked = wait_for(lambda: (run := up.ask(f"/flow_runs/{long['id']}"))["state_type"] == "CRASHED" and run, 60)
    assert "interrupted" in marked["state"]["message"]
    assert [schedule["active"] for schedule in up.deployment("retrain")["schedules"]] == [True]
    since = time.time()
    wait_for(lambda: [r for r in up.runs("ingest", types=["COMPLETED"]) if _ended(r) > since], 150)
    queued = up.start("retrain", {"training": {"epochs": 10_000, "patience": 1000}})  # its place is free again
    wait_for(lambda: up.ask(f"/flow_runs/{queued['id']}")["state_type"] == "RUNNING")


def _ended(run: dict) -> float:
    from datetime import datetime

    return datetime.fromisoformat(run["end_time"]).timestamp() if run["end_time"] else 0.0
