"""The dashboard in a browser, against the page server of `up`: what it shows, zoom, reload, dark mode, a phone."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from running_up import PATIENCE_SECONDS, answer_of, free_ports, wait_for
from synthetic_bars import random_walk
from tiny_home import SERIES, tiny_home

from model.report_charts import reliability_chart
from model.times import to_datetime
from tasks.pages.html_page import Page as HtmlPage
from tasks.pages.html_page import table, value_with_note
from tasks.pages.report_evidence import TRADING_HEAD
from tasks.pages.written_pages import write_page
from tasks.settings import Settings, process_environment
from tasks.store.decision_log import LoggedDecision
from tasks.store.prediction_log import new_prediction
from tasks.workspace import Workspace

pytestmark = pytest.mark.e2e

BARS = random_walk(400, seed=3)
CLOSE = to_datetime(BARS.closed_at[-1])
FITS = "[...document.querySelectorAll('.scroll')].every(each => each.scrollWidth <= each.clientWidth)"
PAPER_WIDTH = 718  # A4 at 96 pixels an inch, less margins of 1 cm
ZOOMED = "() => document.querySelector('#chart-1').layout.xaxis.range.map(String)"


@dataclass
class Pages:
    """A home whose pages are served."""

    settings: Settings
    address: str

    def predict(self, place: int, probability: float) -> None:
        row = new_prediction(SERIES.name, SERIES, 1, BARS.closed_at[place], "1", probability, CLOSE)
        assert Workspace(self.settings, SERIES).prediction_log.store(row)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        settings = tiny_home(tmp_path_factory.mktemp("pages"), BARS, len(BARS) - 3)
        registry = Workspace(settings, SERIES).registry
        run_id, files = registry.version("1").run_id, {"1": registry.read_version("1").digests()}
        row = LoggedDecision(run_id, CLOSE - timedelta(days=3), SERIES.name, SERIES.symbol, SERIES.interval, "promote",
                             "1", None, "1", ("log loss vs. the base rate",), run_id=run_id, files=files)  # fmt: skip
        Workspace(settings, SERIES).decision_log.append(row)
        report, record = HtmlPage("a report"), registry.read_version("1").record()
        row = ("long or short", value_with_note("+1,234.5%", "[-99.9%, +1,234.5%]"), "+1,234.5%",
               value_with_note("-1.23", "[-10.20, 12.00]"), "0.97", "-56.7%", "1,234 x", "100%",
               value_with_note("-123 bps", "[-1234, 1234]"))  # fmt: skip
        report.lead(table(TRADING_HEAD, [row]), report.chart(reliability_chart(record), "a chart"))
        write_page(settings, SERIES.name, f"{run_id}.html", report.html())
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "flows.page_runner", str(port)]
        store, seen = f"sqlite:///{settings.root}/mlruns/mlflow.db", "http://127.0.0.1:5000"
        environment = process_environment(
            RISEORFALL_HOME=str(settings.root), MLFLOW_BACKEND_STORE_URI=store, RISEORFALL_MLFLOW_URL=seen
        )
        server = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2])
        found = Pages(settings, f"http://127.0.0.1:{port}")
        found.predict(-2, 0.42)
        wait_for(lambda: answer_of(f"{found.address}/health")[0] == 200)
        yield found
        server.terminate()
        server.wait(PATIENCE_SECONDS)


@pytest.fixture
def opened(pages: Pages, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The dashboard in a browser; an error of a script fails the test."""
    width, scheme = getattr(request, "param", (1280, "light"))
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{pages.address}/")
    page.locator("#chart-1.js-plotly-plot").wait_for()
    yield page
    context.close()
    assert not errors


@pytest.mark.parametrize("opened", [(390, "light"), (1280, "dark"), (390, "dark")], indirect=True)
def test_it_fits_a_phone_and_follows_the_scheme(opened: Page) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.evaluate(FITS)
    assert opened.locator("[data-name=stored]").count() == 1
    dark = opened.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    paper, ink = (opened.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    drawn = opened.locator("#chart-1 .x2tick text").first.evaluate("text => getComputedStyle(text).fill")
    assert (sum(map(int, paper[4:-1].split(", "))) < 200) == dark
    assert drawn == ink  # the chart's text is in the page's colour
    opened.emulate_media(color_scheme="light")
    light = opened.locator("#chart-1 .x2tick text").first
    expect(light).to_have_css("fill", "rgb(34, 34, 34)")


def test_the_report_of_a_decision_opens(opened: Page) -> None:
    opened.get_by_role("link", name="report", exact=True).click()
    expect(opened.get_by_role("heading", name="a report")).to_be_visible()
    assert opened.evaluate(FITS)  # the widest table of a report, on a desktop
    opened.get_by_role("link", name="Dashboard").click()
    expect(opened.get_by_role("heading", name="riseorfall")).to_be_visible()


@pytest.mark.parametrize("name", ["dashboard", "report"])
def test_a_printed_page_has_no_navigation_and_fits_the_paper(opened: Page, name: str) -> None:
    if name == "report":
        opened.get_by_role("link", name="report", exact=True).click()
        opened.locator("#chart-1.js-plotly-plot").wait_for()
    opened.emulate_media(media="print")
    opened.set_viewport_size({"width": PAPER_WIDTH, "height": 1000})
    assert opened.locator("nav, .home, .tools").count() > 0
    for each in opened.locator("nav, .home, .tools").all():
        expect(each).to_be_hidden()
    opened.wait_for_function("document.documentElement.scrollWidth <= innerWidth")  # plotly draws its charts again


def test_a_report_outside_the_page_server_shows_no_link_to_the_dashboard(pages: Pages, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(next((pages.settings.root / "data" / "reports" / SERIES.name).glob("*.html")).as_uri())
    page.locator("#chart-1.js-plotly-plot").wait_for()
    expect(page.get_by_role("link", name="Dashboard", include_hidden=True)).to_have_count(1)
    expect(page.get_by_role("link", name="Dashboard")).to_have_count(0)
    page.close()


def test_buttons_zoom_by_keyboard_and_the_price_axis_follows(opened: Page) -> None:
    before = opened.evaluate("() => document.querySelector('#chart-1').layout.yaxis.range.map(Number)")
    opened.get_by_role("button", name="1 month").focus()
    opened.keyboard.press("Enter")
    first, last = opened.evaluate(ZOOMED)
    newest = BARS.closed_at[-1]
    assert (first[:10], last[:10]) == (str(newest - 30 * BARS.delta)[:10], str(newest)[:10])
    expect(opened.get_by_role("button", name="1 month")).to_have_attribute("aria-pressed", "true")
    after = opened.evaluate("() => document.querySelector('#chart-1').layout.yaxis.range.map(Number)")
    close = BARS.column("close")[-31:]
    assert after[1] - after[0] == pytest.approx(1.12 * (close.max() - close.min()), rel=1e-3)
    assert after[1] - after[0] < before[1] - before[0]
    opened.get_by_role("button", name="zoom in").click()
    closer = opened.evaluate(ZOOMED)
    assert first < closer[0] < closer[1] < last
    opened.get_by_role("button", name="all").click()
    assert opened.evaluate(ZOOMED)[0] < first


def test_a_reload_shows_what_is_new_and_keeps_zoom_and_open_parts(opened: Page, pages: Pages) -> None:
    opened.get_by_role("button", name="3 months").click()
    opened.get_by_text("All reports (1)").click()
    zoomed = opened.evaluate(ZOOMED)
    assert "53.7%" not in opened.content()
    pages.predict(-1, 0.537)
    wait_for(lambda: "53.7%" in answer_of(f"{pages.address}/")[1])  # the server writes the page again after 15 s
    opened.evaluate("reload()")
    expect(opened.get_by_text("53.7%").first).to_be_visible()
    assert opened.evaluate(ZOOMED) == zoomed
    expect(opened.locator("details")).to_have_attribute("open", "")
    names = json.loads(
        opened.evaluate("JSON.stringify(document.querySelector('#chart-1').data.map(each => each.name))")
    )
    assert "live, outcome unknown" in names


def test_without_a_connection_the_page_stays_and_says_so(opened: Page) -> None:
    opened.context.set_offline(True)
    opened.evaluate("reload()")
    expect(opened.get_by_text("no connection since then")).to_be_visible()
    opened.context.set_offline(False)
    opened.evaluate("reload()")
    expect(opened.get_by_text("no connection since then")).not_to_be_visible()


def test_without_plotly_the_picture_stays(pages: Pages, browser: Browser) -> None:
    page = browser.new_page()
    page.route("**/plotly-*.js", lambda route: route.abort())
    page.goto(f"{pages.address}/")
    assert page.locator("#chart-1 > svg path").count() > 3
    expect(page.get_by_role("button", name="1 month")).not_to_be_visible()
    page.close()


def test_a_table_that_goes_on_at_the_right_has_a_shade_there(browser: Browser) -> None:
    """Until its end is reached; and a long name of a column takes two lines on a phone, not four."""
    report, cells = HtmlPage("a report"), ("ADA-USD", "200", "54.5%", *["0.6972"] * 6)
    head = ("series", "windows", "share of label 1", *(f"log loss {k}" for k in range(6)))
    report.lead(table(head, [cells] * 4), table(("series", "windows"), [cells[:2]] * 4))
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.set_content(report.html())
    wide, narrow = page.locator(".scroll").all()
    assert (is_shaded(wide), is_shaded(narrow)) == (True, False)
    wide.evaluate("each => { each.scrollLeft = 9999 }")
    assert not is_shaded(wide)
    name = page.locator("th", has_text="share of label 1")
    lines = name.evaluate("each => each.clientHeight / parseFloat(getComputedStyle(each).lineHeight)")
    assert lines < 3  # two lines and the padding
    page.close()


def is_shaded(place: Locator) -> bool:
    """Return whether the right edge of a table is darker than its white paper, between two lines of a row."""
    picture = Image.open(BytesIO(place.screenshot())).convert("L")
    return min(picture.getpixel((picture.width - 2, y)) for y in range(4, 14)) < 220
