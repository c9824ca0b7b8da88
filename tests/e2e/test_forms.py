"""The forms of both UIs of a real `up`, filled in as a person does: a quick retrain, a promotion that is approved."""

import re
from contextlib import suppress

import pytest
from kept_pictures import picture
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from running_up import RETRAIN_SECONDS, Up, answer_of, submit, wait_for

pytestmark = pytest.mark.e2e

UIS = {"V1": "", "V2": "/v2"}


def field(page: Page, ui: str, title: str) -> Locator:
    """Return the input with a title: V1 does not tie its labels to their inputs."""
    if ui == "V2":
        return page.get_by_label(title, exact=True)
    label = page.locator(".p-label__label", has_text=re.compile(f"^{re.escape(title)}"))
    return page.locator(".p-label", has=label).last.locator("input, textarea").first


def open_form(up: Up, page: Page, ui: str, deployment: str) -> None:
    found = up.ask(f"/deployments/name/{deployment}")
    page.goto(f"{up.address('Prefect')}{UIS[ui]}/deployments/deployment/{found['id']}/run")
    expect(page.get_by_role("button", name="Submit")).to_be_visible()
    expect(page.get_by_text("Parameters", exact=True).first).to_be_visible()


@pytest.fixture(scope="module")
def quick(up: Up, signed_in: BrowserContext) -> dict:
    """A retrain that was started in the quick form of the V1 UI, with another number of epochs and a name."""
    page = signed_in.new_page()
    open_form(up, page, "V1", "retrain/quick")
    assert page.locator(".schema-form-property__label").all_inner_texts() == [
        "Source kind", "Symbol", "Interval", "Path or exchange", "Epochs", "Seed",
    ]  # fmt: skip
    field(page, "V1", "Run Name").fill("first of two")
    field(page, "V1", "Epochs").fill("1")
    run = submit(page)
    page.close()
    assert (run["parameters"]["epochs"], run["parameters"]["source_kind"]) == (1, "sample")
    return up.finished(run["id"], RETRAIN_SECONDS)


@pytest.fixture(scope="module")
def again(up: Up, signed_in: BrowserContext, quick: dict) -> dict:
    """A second one in the V2 UI, with another seed and the name that the form generates."""
    assert quick["state_type"] == "COMPLETED", quick["state"]
    page = signed_in.new_page()
    open_form(up, page, "V2", "retrain/quick")
    page.set_viewport_size({"width": 1280, "height": 1120})
    picture(page, "prefect-quick")
    field(page, "V2", "Epochs").fill("1")
    field(page, "V2", "Seed").fill("8")
    run = submit(page)
    page.close()
    return up.finished(run["id"], RETRAIN_SECONDS)


def test_the_address_that_up_prints_opens_a_ui_that_lists_the_deployments(up: Up, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(up.address("Prefect"))
    page.get_by_placeholder("admin:pass").fill(up.password)
    page.get_by_role("button", name="Login").click()
    page.get_by_role("link", name="Deployments").first.click()
    for name in ("quick", "hourly", "promote", "lift_hold", "explain", "audit"):
        expect(page.get_by_role("link", name=name, exact=True).first).to_be_visible()
    page.close()


def test_a_quick_retrain_keeps_its_name_and_takes_the_rest_from_the_scheduled_one(up: Up, quick: dict) -> None:
    assert quick["state_type"] == "COMPLETED", quick["state"]
    assert (quick["name"], quick["state"]["name"]) == ("first of two", "Promoted")
    assert quick["state"]["message"].startswith("promote version 1: log loss difference")
    asked = {"flow_runs": {"id": {"any_": [quick["id"]]}}}
    names = {"train fold 1 of 2", "train fold 2 of 2", "fit final model", "check", "promote"}  # `up` has 2 folds
    wait_for(lambda: names <= {each["name"] for each in up.ask("/task_runs/filter", asked)})  # stored with a delay
    logs = up.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": [quick["id"]]}}, "limit": 200})
    assert not [each["message"] for each in logs if "Finished in state Completed" in each["message"]]
    assert [each for each in logs if each["level"] == 30]  # what the data checks warn of


def test_a_generated_name_becomes_one_that_says_what_ran(again: dict) -> None:
    assert again["state_type"] == "COMPLETED", again["state"]
    assert again["name"].startswith("retrain BTC-USD 1d: v")
    assert again["state"]["name"] in {"Promoted", "Held"}


def test_a_refusal_is_one_sentence_about_the_field(up: Up, page: Page) -> None:
    open_form(up, page, "V2", "retrain/quick")
    field(page, "V2", "Path or exchange").fill("/no/such.csv")
    run = up.finished(submit(page)["id"])
    assert (run["state"]["name"], run["state"]["message"]) == (
        "Failed",
        "source sample: expected no file, found `path_or_exchange` /no/such.csv; add `source_kind` csv to read it",
    )
    logs = wait_for(lambda: up.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}}))
    assert not [each for each in logs if "Traceback" in each["message"]]
    page.goto(f"{up.address('Prefect')}/v2/runs/flow-run/{run['id']}")
    expect(page.get_by_text("expected no file, found").first).to_be_visible()


@pytest.mark.parametrize("ui", UIS)
def test_the_form_of_a_panel_shows_its_fields_and_refuses_a_home_of_one_series(up: Up, page: Page, ui: str) -> None:
    open_form(up, page, ui, "retrain_panel/retrain_panel")
    page.set_viewport_size({"width": 1280, "height": 1120})
    for title in ("Panel", "Window", "Training", "Folds", "Network", "Promotion"):
        expect(page.get_by_text(f"{title} (Optional)", exact=True).first).to_be_visible()
    if ui == "V1":
        picture(page, "prefect-panel")
    run = up.finished(submit(page)["id"])
    assert run["state"]["name"] == "Failed"
    assert "expected at least 2 series" in run["state"]["message"]


@pytest.mark.parametrize("ui", UIS)
def test_the_full_form_starts_with_the_source_and_refuses_a_value_out_of_range(up: Up, page: Page, ui: str) -> None:
    before = up.unscheduled_runs("retrain")
    open_form(up, page, ui, "retrain/retrain")
    titles = ("Source", "Window", "Training", "Folds", "Network", "Promotion", "Data checks")
    boxes = [page.get_by_text(f"{title} (Optional)", exact=True).first.bounding_box() for title in titles]
    places = [box["y"] for box in boxes if box]
    assert (len(places), places) == (len(titles), sorted(places))
    assert page.get_by_text(re.compile(r"^\w*(Spec|Rule) \(Optional\)")).count() == 0  # no name of a class
    field(page, ui, "Epochs (Optional)").fill("100000")
    page.get_by_role("button", name="Submit").click()
    if ui == "V1":
        expect(page.get_by_text("100000 is greater than the maximum of 10000").first).to_be_visible()
    else:
        shown = field(page, ui, "Epochs (Optional)").evaluate("field => field.validationMessage")
        assert "less than or equal to 10000" in shown
    assert up.unscheduled_runs("retrain") == before


def is_paused(up: Up, run: dict) -> bool:
    return bool(up.ask(f"/flow_runs/{run['id']}")["state_type"] == "PAUSED")


def resume(page: Page, up: Up, ui: str, run: dict, *, approve: bool) -> None:
    """Answer a paused run, and again if it stays paused, as a person does.

    Prefect loses an answer if something else writes to its SQLite database between its read and its write.
    """
    for _ in range(3):
        if is_paused(up, run):
            answer_form(page, up, ui, run, approve=approve)
        with suppress(AssertionError):
            wait_for(lambda: not is_paused(up, run), seconds=90)  # a write waits for a locked database up to 60 s
            return


def answer_form(page: Page, up: Up, ui: str, run: dict, *, approve: bool) -> None:
    page.goto(f"{up.address('Prefect')}{UIS[ui]}/runs/flow-run/{run['id']}")
    if ui == "V1":
        page.get_by_role("button", name="Resume").click()
    else:
        page.locator("button[aria-haspopup=menu]").first.click()
        page.get_by_role("menuitem", name="Resume").click()
    dialog = page.get_by_role("dialog") if ui == "V2" else page.locator(".p-modal").first
    expect(dialog.get_by_text(re.compile("Make version . the champion, in place of .")).first).to_be_visible()
    if approve:
        dialog.get_by_role("switch").first.click()
        dialog.locator("textarea").last.fill("looks right")
        picture(page, "prefect-approval")
    dialog.get_by_role("button", name=re.compile("^(Submit|Resume)")).last.click()


def champion(up: Up) -> str:
    place = "/api/2.0/mlflow/registered-models/alias?name=BTC-USD-1d&alias=champion"
    code, text = answer_of(f"{up.address('MLflow')}{place}")
    assert code == 200, text
    return str(re.search(r'"version":\s*"(\d+)"', text)[1])  # type: ignore[index]


@pytest.mark.parametrize(("ui", "approve"), [("V1", False), ("V2", True)], ids=["declined in V1", "approved in V2"])
def test_a_forced_promotion_waits_for_a_person(up: Up, page: Page, again: dict, ui: str, *, approve: bool) -> None:
    assert again["state_type"] == "COMPLETED"
    before = champion(up)
    other = "1" if before == "2" else "2"
    open_form(up, page, ui, "promote/promote")
    field(page, ui, "Version").fill(other)
    field(page, ui, "Reason (Optional)").fill("to see both")
    page.get_by_role("switch").first.click()  # Force
    run = submit(page)
    wait_for(lambda: is_paused(up, run))
    assert champion(up) == before
    resume(page, up, ui, run, approve=approve)
    ended = up.finished(run["id"])
    assert ended["state"]["name"] == ("Promoted" if approve else "Declined"), ended["state"]
    assert champion(up) == (other if approve else before)


def test_a_prediction_is_explained_and_the_champion_audited(up: Up, page: Page, again: dict) -> None:
    assert again["state_type"] == "COMPLETED"
    runs = {name: up.finished(up.start(name)["id"]) for name in ("explain", "audit")}
    assert {name: run["state"]["name"] for name, run in runs.items()} == {"explain": "Completed", "audit": "Completed"}
    found = up.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [runs["explain"]["id"]]}}})
    link = next(re.search(r"\((http[^)]+)\)", each["data"])[1] for each in found if each["key"] == "explanation-page")  # type: ignore[index]
    page.goto(link)
    expect(page.get_by_text(re.compile(r"BTC-USD 1d: why P\(rise\) is")).first).to_be_visible()
    table = up.ask("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [runs["audit"]["id"]]}}})
    assert "LOOK-AHEAD" not in next(each["data"] for each in table if each["key"] == "audit")
