"""The dashboard shows what the stores hold, of every series, and what it cannot read hides nothing else."""

import json
import re
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

import numpy as np
import pytest
from copied_home import copy_home
from panel_home import coins, home_of_panel, store_coins
from synthetic_bars import random_walk
from tiny_home import SERIES, tiny_home, tiny_version

from flows.page_runner import Cached, dashboard
from model.bars import Series
from model.times import to_datetime
from tasks.pages.dashboard_content import (
    DashboardReader,
    SeriesContent,
    no_record,
    unreadable_content,
)
from tasks.pages.dashboard_page import dashboard_page
from tasks.pages.number_format import price_text
from tasks.services.file_server import file_server
from tasks.settings import Settings
from tasks.store.decision_log import Action, LoggedDecision, champion_since
from tasks.store.monitor_log import MonitorEntry
from tasks.store.prediction_log import new_prediction
from tasks.workspace import Workspace

BARS = random_walk(400, seed=3)
CLOSE = to_datetime(BARS.closed_at[-1])
DAY = timedelta(days=1)
SERIES_TEXT = f"{SERIES.symbol} {SERIES.interval}"
HOSTILE = '<script src="https://evil.example/x.js"></script><img src=x onerror=alert(1)>'
LIVE = {
    "live_predictions": 20.0, "live_log_loss": 0.6911, "live_log_loss_low": 0.6722, "live_log_loss_high": 0.7133,
    "base_rate_log_loss": 0.6931, "evidence": 1.5, "evidence_threshold": 40.0, "live_accuracy": 0.5,
}  # fmt: skip


def decision(
    number: int, action: Action, version: str, after: str, reason: str = "why", **numbers: float
) -> LoggedDecision:
    return LoggedDecision(
        decision_id=f"run-{number}",
        decided_at=CLOSE - DAY * (10 - number),
        series_name=SERIES.name,
        symbol=SERIES.symbol,
        interval=SERIES.interval,
        action=action,
        version=version,
        champion_before=None,
        champion_after=after,
        reasons=(reason, "soundness"),
        numbers={name.replace("__", "."): value for name, value in numbers.items()},
        run_id=f"run-{number}",
    )


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with a champion, two decisions with one report, three predictions and a monitor run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        home = tmp_path_factory.mktemp("home")
        found = tiny_home(home, BARS, len(BARS) - 3)
        workspace = Workspace(found, SERIES)
        compared = {"base_rate__difference": -0.0016, "base_rate__low": -0.0065, "base_rate__high": 0.0032}
        first = decision(1, "promote", "1", "1", base_rate__n=300.0, **compared)
        files = {"1": workspace.registry.read_version("1").digests()}
        workspace.decision_log.append(replace(first, files=files))
        workspace.decision_log.append(decision(2, "hold", "2", "1", HOSTILE))
        report = found.report_path(SERIES.name, "run-1")
        report.parent.mkdir(parents=True)
        report.write_text("report", encoding="utf-8")
        workspace.prediction_log.store_all(
            [
                new_prediction(SERIES.name, SERIES, 1, BARS.closed_at[place], "1", probability, CLOSE)
                for place, probability in ((-3, 0.61), (-2, 0.42), (-1, 0.537))
            ]
        )
        workspace.monitor_log.write(MonitorEntry(SERIES.name, CLOSE, "1", LIVE, (), ()))
        yield found


@pytest.fixture(scope="module")
def content(settings: Settings) -> SeriesContent:
    (found,) = DashboardReader(settings).read()
    return found


@pytest.fixture(scope="module")
def page(content: SeriesContent) -> str:
    return written([content])


def test_a_page_looks_at_no_file_for_each_decision_of_ten_years(
    settings: Settings, content: SeriesContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Workspace(settings, SERIES).decision_log.rows(SERIES.name)
    many = [replace(rows[1], decision_id=f"run-{n}", run_id=f"run-{n}") for n in range(100, 600)]
    looked: list[Path] = []
    true = Path.stat
    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", lambda path, **named: looked.append(path) or true(path, **named))
        found = DashboardReader(settings)._reports(SERIES, [*rows, *many])
    assert len(looked) < 50
    assert found == content.reports
    assert [path for _, path in found] == [f"reports/{SERIES.name}/run-1.html"]


FORMS = {"lift_hold": "http://p.example/lift/run", "retrain": "http://p.example/retrain/run"}


def written(content: list[SeriesContent], links: dict[str, str] | None = None, series: str = SERIES_TEXT) -> str:
    runs = [
        {"name": "predict", "at": "2026-11-27T00:10:00Z", "series": series},
        {"name": "housekeeping", "at": "2026-11-27T03:10:00Z", "series": ""},
        {"name": "retrain", "at": "2026-11-27T04:20:00Z", "series": series},
    ]
    return dashboard_page(
        content, links or {"MLflow": "http://127.0.0.1:5000"}, runs, datetime(2026, 11, 26, 20, tzinfo=UTC), FORMS
    )


def body(page: str) -> str:
    """Return what a reader sees: the page without scripts and style."""
    return re.sub(r"<(script|style|svg)\b.*?</\1>", "", page, flags=re.DOTALL)


def tile(page: str, name: str) -> tuple[str, str]:
    found = re.search(
        rf'class="name">{re.escape(name)}</div><div class="value">(.*?)</div><div class="note">(.*?)</div>', page
    )
    assert found, name
    return found[1], found[2]


def test_many_series_are_rows_with_alarms_first_and_each_has_a_page_of_its_own(content: SeriesContent) -> None:
    many = [replace(content, series=Series(f"COIN{number}-USD", "1d")) for number in range(13)]
    many[7] = replace(many[7], problem="its registry is damaged")
    page = written(many)
    rows = re.findall(r"<tr>.*?</tr>", page, flags=re.DOTALL)
    assert len(rows) == 1 + 13
    assert "COIN7-USD 1d" in rows[1]
    assert "its registry is damaged" in rows[1]
    assert 'href="?series=COIN0-USD-1d"' in rows[2]
    assert "53.7%" in rows[2]  # the newest prediction
    assert "-0.0016" in rows[2]
    assert 'class="chart"' not in page
    one = dashboard_page(many[:1], {}, [], datetime(2026, 11, 26, 20, tzinfo=UTC), of_one=True)
    assert 'class="chart"' in one
    assert 'href="./"' in one
    assert 'class="chart"' in written(many[:12])


def test_a_page_of_one_series_is_served_and_an_unknown_name_shows_all(settings: Settings) -> None:
    pages = dashboard(settings)
    assert "all series" in pages(SERIES.name)
    assert pages("../../etc") == pages("")
    assert "all series" not in pages("")


def test_tiles_show_champion_prediction_and_live_score_with_their_evidence(page: str) -> None:
    value, note = tile(page, "Champion")
    assert value == "version 1"
    assert note.startswith(
        f"since {CLOSE - 9 * DAY:%Y-%m-%d %H:%M} UTC, trained until {CLOSE - 3 * DAY:%Y-%m-%d %H:%M}"
    )
    value, note = tile(page, "Next prediction, P(rise)")
    assert value == "53.7%"
    later, now = (f"{moment:%Y-%m-%d %H:%M} UTC" for moment in (CLOSE + DAY, CLOSE))
    assert note == f"that the close at {later} is above the close at {now}; version 1"
    assert tile(page, "Live log loss") == ("0.6911", "[0.6722, 0.7133] vs. base rate 0.6931; n = 20")
    assert tile(page, "Evidence of decay")[0] == "1.5"
    assert "alarm at 40" in tile(page, "Evidence of decay")[1]
    assert tile(page, "Out-of-sample vs. base rate") == (
        "-0.0016", "log loss (lower is better), [-0.0065, +0.0032], n = 300: no significant difference"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("p_value", "finding"),
    [
        (0.23, "no significant difference (corrected p = 0.230)"),
        (0.04, "significantly better (corrected p = 0.040)"),
        (float("nan"), "better"),
    ],
)
def test_the_finding_of_a_record_goes_by_the_corrected_p_value(
    content: SeriesContent, p_value: float, finding: str
) -> None:
    """Where the run has none, as those of version 0.1, it goes by the interval."""
    numbers = dict(content.compared.numbers) | {"base_rate.high": -0.0001}
    found = replace(content, compared=replace(content.compared, numbers=numbers), corrected_p=p_value)
    note = tile(written([found]), "Out-of-sample vs. base rate")[1]
    assert note == f"log loss (lower is better), [-0.0065, -0.0001], n = 300: {finding}"


def test_a_champion_by_force_shows_the_comparison_that_held_it(settings: Settings, tmp_path: Path) -> None:
    own = Settings(home=copy_home(settings.home, tmp_path / "home"), tracking_uri="", store="", public_url="")
    log = Workspace(own, SERIES).decision_log
    log.append(replace(decision(3, "promote", "1", "1"), forced=True, rule="forced"))
    (found,) = DashboardReader(own).read()
    assert tile(written([found]), "Out-of-sample vs. base rate") == (
        "-0.0016", "log loss (lower is better), [-0.0065, +0.0032], n = 300: no significant difference"
    )  # fmt: skip


def test_only_the_record_of_the_present_champion_is_kept(settings: Settings, tmp_path: Path) -> None:
    """One of a panel takes megabytes, and the page server runs for years."""
    own = Settings(home=copy_home(settings.home, tmp_path / "home"), tracking_uri="", store="", public_url="")
    workspace, reader = Workspace(own, SERIES), DashboardReader(own)
    reader.read()
    assert set(reader.records) == {(SERIES.name, "1")}
    number = tiny_version(workspace, BARS, len(BARS) - 2)
    run_id = workspace.registry.version(number).run_id
    workspace.decision_log.append(replace(decision(3, "promote", number, number), run_id=run_id))
    reader.read()
    assert set(reader.records) == {(SERIES.name, number)}


def test_the_corrected_p_value_of_the_champions_run_is_read(settings: Settings, tmp_path: Path) -> None:
    own = Settings(home=copy_home(settings.home, tmp_path / "home"), tracking_uri="", store="", public_url="")
    (found,) = DashboardReader(own).read()
    assert np.isnan(found.corrected_p)
    run_id = Workspace(own, SERIES).registry.version("1").run_id
    file = own.root / "mlruns" / "artifacts" / SERIES.name / run_id / "artifacts" / "evaluation" / "details.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"p_values_corrected": {"base_rate_difference": 0.23}}), encoding="utf-8")
    (found,) = DashboardReader(own).read()
    assert (found.corrected_p, found.problem) == (0.23, "")
    for damaged in ("{", "{}", "[]"):
        file.write_text(damaged, encoding="utf-8")
        (found,) = DashboardReader(own).read()
        assert np.isnan(found.corrected_p)
        assert (found.problem, bool(found.mlflow_runs)) == ("", True)


def test_a_prediction_with_an_outcome_is_not_called_the_next_one(content: SeriesContent) -> None:
    labels = np.ones(len(content.predictions), dtype=np.int8)
    page = written([replace(content, predictions=replace(content.predictions, labels=labels))])
    value, note = tile(page, "Newest prediction, P(rise)")
    assert (value, note.rsplit("; ", 1)[1]) == ("53.7%", "actual: rise")


def test_a_prediction_names_its_version_as_the_champion_of_its_time_only_where_another_one_is_champion_now(
    content: SeriesContent,
) -> None:
    note = tile(written([content]), "Next prediction, P(rise)")[1]
    assert note.endswith("; version 1")
    later = replace(content, champion=replace(content.champion, version="4"))
    note = tile(written([later]), "Next prediction, P(rise)")[1]
    assert note.endswith("; made by version 1, the champion at that time")


def test_every_reason_of_a_decision_is_on_the_page_with_its_mark(content: SeriesContent) -> None:
    reasons = ("not worse than the base rate", "not worse than the champion", "sane")
    promoted = replace(decision(1, "promote", "1", "1"), reasons=reasons, marks=("passed",) * 3)
    held = replace(decision(2, "hold", "2", "1"), reasons=("worse",), marks=("failed",))
    shown = " ".join(body(written([replace(content, decisions=(held, promoted))])).split())
    newest, older = shown.split('class="badge promote"')
    assert '<li><span class="mark failed">✗ failed</span> worse</li>' in newest
    assert "<details>" not in newest.split("<ol")[1]
    assert '<details><summary><span class="mark passed">✓ passed</span> not worse than the base rate' in older
    assert "(+2&nbsp;more)" in older
    against = replace(promoted, forced=True, marks=("failed", "failed", "passed"))
    assert "(+2&nbsp;more, 1&nbsp;failed)" in body(written([replace(content, decisions=(held, against))]))
    for reason in reasons[1:]:
        assert f'<li><span class="mark passed">✓ passed</span> {reason}</li>' in older


def test_refused_bars_are_counted_at_the_top_and_listed_with_value_and_rule(settings: Settings, tmp_path: Path) -> None:
    own = Settings(home=copy_home(settings.home, tmp_path / "home"), tracking_uri="", store="", public_url="")
    (bare,) = DashboardReader(own).read()
    assert (bare.refused, bare.refused_count) == ([], 0)
    assert "refused bar" not in body(written([bare]))
    store, frame = Workspace(own).bar_store, BARS.frame().iloc[5:58]
    refused = frame.assign(rule="absurd_tick", severity="warning", value=[f"low 0.{n:02d}" for n in range(len(frame))])
    store.quarantine(SERIES, refused, at=CLOSE, source=HOSTILE)
    store.release(SERIES, [to_datetime(BARS.opened_at[57])], "it is real", released_at=CLOSE)
    (found,) = DashboardReader(own).read()
    page = body(written([found]))
    assert f'<a href="#refused-{SERIES.name}" rel="noreferrer">52 refused bars</a>' in page
    listed = page.split(f'<div id="refused-{SERIES.name}">')[1].split("</table>")[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", each) for each in re.findall(r"<tr>(.*?)</tr>", listed, re.DOTALL)]
    assert rows[0] == ["bar opened at (UTC)", "rule", "value", "source"]
    assert rows[1][:3] == [f"{to_datetime(BARS.opened_at[56]):%Y-%m-%d %H:%M}", "absurd_tick", "low 0.51"]
    assert len(rows) == 1 + 50
    assert "The newest 50 are shown. <code>riseorfall release</code> accepts a bar." in page
    assert page.count("<img") == 0


def test_refused_bars_of_a_series_without_a_model_are_listed_below_their_table(content: SeriesContent) -> None:
    row = ("2019-10-03 00:00", "absurd_tick", "low 0.06", "a.csv")
    bare = replace(content, champion=None, decisions=(), predictions=unreadable_content(SERIES, "").predictions,
                   refused=[row], refused_count=1)  # fmt: skip
    page = written([bare], series="")
    assert f"<summary>Refused bars of {SERIES_TEXT} (1)</summary>" in page
    assert ">low 0.06</td>" in page


def test_a_retrain_can_be_started_from_the_page_whatever_is_stored(content: SeriesContent) -> None:
    forms, now = {"quick": "http://p.example/quick/run"}, datetime(2026, 11, 26, 20, tzinfo=UTC)
    expected = '<a href="http://p.example/quick/run" rel="noreferrer">Retrain now (a form of Prefect)</a>'
    for shown, of_one in (([], False), ([content], False), ([content], True)):
        assert expected in dashboard_page(shown, {}, [], now, forms, of_one=of_one)
    assert "Retrain now" not in dashboard_page([content], {}, [], now, {})  # Prefect does not answer


def test_the_data_docs_of_a_series_are_linked_where_there_are_any(settings: Settings, page: str) -> None:
    assert ">data checks</a>" not in page
    index = settings.docs_folder / SERIES.name / "index.html"
    index.parent.mkdir(parents=True)
    index.write_text("checks", encoding="utf-8")
    (found,) = DashboardReader(settings).read()
    assert f'<a href="docs/{SERIES.name}/index.html" rel="noreferrer">data checks</a>' in written([found])


def test_the_live_log_loss_of_few_predictions_has_no_interval(content: SeriesContent) -> None:
    one = LIVE | {"live_predictions": 19.0, "version": "1", "watched_at": "2019-02-05T00:00:00"}
    page = written([replace(content, health=dict(content.health) | {"live": one})])
    assert tile(page, "Live log loss") == ("0.6911", "interval from 20 outcomes on; vs. base rate 0.6931; n = 19")


def test_the_caption_of_the_chart_counts_live_and_late_predictions(page: str, content: SeriesContent) -> None:
    found = content.predictions
    newest = replace(found, **{each.name: getattr(found, each.name)[-1:] for each in fields(found)})
    assert found.late == (True, True, False)
    assert "of the champion, 1 live prediction, 2 late predictions; colour" in page
    assert "of the champion, 1 live prediction; colour" in written([replace(content, predictions=newest)])


def test_the_chart_holds_the_stored_rows(page: str, settings: Settings) -> None:
    (text,) = re.findall(r'id="chart-1-json">(.*?)</script>', page, flags=re.DOTALL)
    traces = {trace["name"]: trace for trace in json.loads(text)["data"]}
    record = Workspace(settings, SERIES).registry.read_version("1").record()
    for label, name in ((1, "out-of-sample, rise"), (0, "out-of-sample, fall")):
        np.testing.assert_allclose(traces[name]["y"], record.probabilities[record.labels == label], rtol=1e-6)
        assert traces[name]["x"] == [str(at)[:19] for at in record.decided_at[record.labels == label]]
    first = int(np.searchsorted(BARS.closed_at, record.decided_at[0]))
    np.testing.assert_allclose(traces["close"]["y"], BARS.column("close")[first:], rtol=1e-6)
    assert traces["live, outcome unknown"]["y"] == [0.537]
    rises = BARS.column("close")[-2:] > BARS.column("close")[-3:-1]
    late = {"rise": [], "fall": []}
    for probability, rise in zip((0.61, 0.42), rises, strict=True):
        late["rise" if rise else "fall"].append(probability)
    for name, expected in late.items():
        assert traces.get(f"late, {name}", {"y": []})["y"] == expected


def test_predictions_are_listed_with_their_outcome_and_whether_they_were_late(page: str) -> None:
    rows = re.findall(r'<tr><th scope="row"[^>]*>(.*?)</th>(.*?)</tr>', body(page).replace("\n", ""))
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", rest) for _, rest in rows]
    assert [each[1] for each in cells] == ["53.7%", "42.0%", "61.0%"]
    assert [each[0] for each in cells] == [f"{CLOSE + DAY * ahead:%Y-%m-%d %H:%M}" for ahead in (1, 0, -1)]
    rose = BARS.column("close")[-1] > BARS.column("close")[-2]
    assert cells[0][3] == "not known yet"
    assert cells[1][2:4] == ["fall", "rise\u00a0✗\u00a0wrong" if rose else "fall\u00a0✓\u00a0right"]
    assert [each[-1] for each in cells] == ["in\u00a0time", "late", "late"]  # stored at the newest close
    assert 0 < page.index('class="tiles"') < page.index("Last predictions</h3>") < page.index('id="chart-1"')


def test_of_bars_that_end_no_outcome_is_awaited(content: SeriesContent) -> None:
    page = written([replace(content, health={**content.health, "source": "sample"})])
    assert "unknown: the bars end here" in page
    assert "not known yet" not in body(page)


@pytest.mark.parametrize(
    ("source", "ending"),
    [
        ("sample", "; historical: no later bars are fetched"),
        ("exchange", " UTC"),
        ("", " UTC"),  # without a champion: that of the bars of an exchange may have been held
    ],
)
def test_only_the_sample_is_said_to_end(content: SeriesContent, source: str, ending: str) -> None:
    health = {**content.health, "source": source, "live_source": source == "exchange"}
    found = replace(content, champion=content.champion if source else None, health=health)
    assert tile(written([found]), "Newest close")[1].endswith(ending)


@pytest.mark.parametrize("of", [SERIES_TEXT, "SOL-USD 1h"])
def test_tiles_promise_a_scheduled_run_only_to_a_scheduled_series(content: SeriesContent, of: str) -> None:
    health = {**content.health, "source": "csv"}
    page = written([replace(content, health=health, predictions=unreadable_content(SERIES, "").predictions)], series=of)
    by_hand = f"<code>riseorfall predict --symbol {SERIES.symbol} --interval {SERIES.interval}</code>"
    next_prediction, newest_close = tile(page, "Next prediction")[1], tile(page, "Newest close")[1]
    if of == SERIES_TEXT:
        assert next_prediction == "the flow predict stores one for each closed bar"
        assert newest_close.endswith("; from a file; read again by the next ingest")
    else:
        assert next_prediction == f"not scheduled: {by_hand} stores one"
        assert newest_close.endswith("; from a file; no schedule reads it again")


def test_a_hold_besides_the_rule_reads_as_a_sentence(content: SeriesContent) -> None:
    row = replace(content.decisions[0], reasons=("the same network as champion version 1",), marks=("held",))
    assert '<span class="mark held">\u2013 held:</span> the same network' in written(
        [replace(content, decisions=[row])]
    )


def test_a_series_links_its_runs_in_mlflow_with_our_columns_and_the_report_of_its_champion(
    content: SeriesContent, settings: Settings
) -> None:
    (found,) = DashboardReader(settings.model_copy(update={"mlflow_url": "http://mlflow.example/"})).read()
    number = Workspace(settings, SERIES).runs.experiment_id()
    address = (
        f"http://mlflow.example/#/experiments/{number}/runs?workflowType=machine_learning&viewStateShareKey=riseorfall"
    )
    assert found.mlflow_runs == address
    page = written([found])
    assert f'<a href="{address.replace("&", "&amp;")}" rel="noreferrer">MLflow runs</a>' in page
    assert f'<a href="reports/{SERIES.name}/run-1.html" rel="noreferrer">report of the champion</a>' in page
    assert "report of the champion" not in written([replace(found, reports=())])
    assert "MLflow runs" not in written([content])  # MLflow has no address here


def test_the_link_to_the_runs_creates_no_experiment(settings: Settings) -> None:
    runs = Workspace(settings, Series("ETH-USD", "1d")).runs
    assert runs.path_of_runs() == ""
    assert runs.client.get_experiment_by_name("ETH-USD-1d") is None


def test_a_scheduled_series_without_bars_is_shown_with_its_first_retrain(content: SeriesContent) -> None:
    page = written([content], series="ETH-USD 1d")
    assert '<h2 id="part-2">ETH-USD 1d</h2>' in page
    assert "ETH-USD 1d: no bars yet. The first retrain is at 04:20 UTC on 2026-11-27." in page
    assert f'<a href="{FORMS["retrain"]}" rel="noreferrer">retrain, in Prefect</a>' in page
    assert "no bars yet" not in written([content])
    assert (
        "Next runs (UTC): ETH-USD 1d: predict 2026-11-27 00:10, retrain 2026-11-27 04:20; housekeeping 2026-11-27 03:10"
    ) in page


def test_a_hold_is_shown_until_it_is_lifted(settings: Settings, tmp_path: Path) -> None:
    own = Settings(home=copy_home(settings.home, tmp_path / "home"), tracking_uri="", store="", public_url="")
    workspace = Workspace(own, SERIES)
    second = tiny_version(workspace, BARS, 390)
    workspace.runs.log_values(workspace.registry.version(second).run_id, tags={"recipe": "abc123"})
    log = workspace.decision_log
    rows = (decision(3, "promote", second, second), decision(4, "rollback", "1", "1"), decision(5, "lift", second, "1"))
    log.append(replace(rows[0], files={second: workspace.registry.read_version(second).digests()}))
    log.append(replace(rows[1], champion_before=second, forced_reason="strange probabilities"))
    page = written(DashboardReader(own).read())
    shown = " ".join(unescape(re.sub("<[^>]*>", "", page)).split())
    assert (
        f"The recipe of version {second} (digest abc123, its seed included) is on hold since the rollback of that "
        f"version on {rows[1].decided_at:%Y-%m-%d} (strange probabilities): other recipes and seeds may be promoted, "
        'this one after a person has lifted the hold by riseorfall rollback --lift --reason "...", or by riseorfall '
        'promote --version N --force --reason "..." with a version N of that recipe, or by the form lift_hold in '
        "Prefect."
    ) in shown
    assert f'<a href="{FORMS["lift_hold"]}" rel="noreferrer">the form lift_hold in Prefect</a>' in page
    log.append(rows[2])
    page = written(DashboardReader(own).read())
    assert "is on hold since" not in page
    assert re.search(rf"· hold lifted:</span>\s*<strong>version {second}</strong>", page)


def test_decisions_show_the_deciding_reason_and_link_the_report_that_exists(page: str) -> None:
    assert page.index(" hold</span>") < page.index("✓ promote</span>")
    assert (
        page.count(f'href="reports/{SERIES.name}/run-1.html"') == 3
    )  # of the champion, at the decision, and in the list of all
    assert "run-2.html" not in page
    assert "<summary>All reports (1)</summary>" in page


def test_outside_text_is_escaped_and_addresses_of_other_schemes_are_no_links(content: SeriesContent) -> None:
    page = written([replace(content, problem=HOSTILE)], {"MLflow": "javascript:alert(1)"})
    assert '<script src="https://evil' not in page
    assert body(page).count("<img") == 0
    assert body(page).count("&lt;img src=x") == 2  # the reason and the problem
    assert 'href="javascript' not in page


def test_the_page_is_accessible_and_has_a_dark_style(page: str) -> None:
    shown = body(page)
    assert not re.findall(r"<th(?! scope=)[ >]", shown)
    assert re.findall(r'class="chart" id="chart-1"[^>]*role="img" aria-labelledby="chart-1-caption"', shown)
    assert '<meta name="color-scheme" content="light dark">' in page
    assert "prefers-color-scheme: dark" in page
    assert 'data-reload-seconds="60"' in page
    names = re.findall(r'data-live="([^"]*)"', page)
    assert len(names) == len(set(names)) == 10
    buttons = re.findall(r"<button[^>]*data-(?:factor|shift)[^>]*>", shown)
    assert buttons
    assert all(re.search(r'aria-label="[a-z ]+"', button) for button in buttons)


def test_no_undefined_number_is_shown_at_any_stage(content: SeriesContent) -> None:
    health = {"alarms": ["monitor: it never ran"], "live": {}, "live_source": True}
    fresh = replace(content, champion=None, since=None, compared=None, record=no_record(),
                    decisions=(), reports=(), health=health)  # fmt: skip
    for each in (content, fresh):
        assert not re.findall(r"\b(?:nan|NaN|None(?! yet)|inf)\b", body(written([each])))
    page = written([fresh])
    assert tile(page, "Champion")[0] == "none yet"
    assert tile(page, "Live log loss") == ("none yet", "the monitor has not run yet")
    assert "<strong>Alarm</strong> monitor: it never ran" in page


def test_without_a_series_the_page_says_what_comes_next(tmp_path: Path) -> None:
    assert DashboardReader(Settings(home=tmp_path, tracking_uri="", store="", public_url="")).read() == []
    page = written([], series="")
    assert "No series has bars yet" in page
    assert "predict 2026-11-27 00:10" in page
    assert "plotly" not in body(page)


def test_several_series_are_shown_and_a_registry_that_cannot_be_read_hides_no_bars(
    settings: Settings, tmp_path: Path
) -> None:
    own = Settings(home=copy_home(settings.home, tmp_path / "home"), tracking_uri="", store="", public_url="")
    second = Series("ETH-USD", "1d")
    Workspace(own).bar_store.merge(second, BARS.frame(), {"source": "test"}, merged_at=CLOSE)
    lost = Settings(home=own.home, tracking_uri=f"sqlite:///{tmp_path}/lost/none.db", store="", public_url="")
    for chosen, champion in ((own, "version 1"), (lost, "unknown")):
        content = DashboardReader(chosen).read()
        assert [each.series for each in content] == [SERIES, second]
        page = written(content)
        assert ('<a href="#part-2">Series without a model of their own</a>' in page) == (chosen is own)
        assert page.count('class="chart"') == (1 if chosen == own else 2)  # bars alone are a row, a problem is shown
        assert tile(page, "Champion")[0] == champion
        assert bool(content[0].problem) == (chosen is lost)


def test_a_series_whose_bars_are_damaged_hides_no_other(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = Settings(home=copy_home(settings.home, tmp_path / "home"), tracking_uri="", store="", public_url="")
    second = Series("AAA-USD", "1d")  # read before the sound one
    Workspace(own).bar_store.merge(second, BARS.frame(), {"source": "test"}, merged_at=CLOSE)
    files = list((own.root / "data").rglob("symbol=AAA-USD/**/*.parquet"))
    assert files
    for file in files:
        file.write_bytes(b"PAR1 damaged PAR1")
    content = DashboardReader(own).read()
    assert [(each.series, bool(each.problem), len(each.bars)) for each in content] == [
        (second, True, 0),
        (SERIES, False, len(BARS)),
    ]
    sound, damaged = written(content).split('id="part-2"')  # the series with a champion comes first
    assert (tile(damaged, "Champion")[0], tile(damaged, "Newest bar")[0]) == ("unknown", "unknown")
    assert "<strong>Alarm</strong>" in damaged
    assert tile(sound, "Champion")[0] == "version 1"
    assert tile(sound, "Next prediction, P(rise)")[0] == "53.7%"
    assert "the dashboard cannot read series AAA-USD-1d" in caplog.text


def test_series_with_bars_only_are_rows_below_the_champion_of_their_panel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    own = home_of_panel(tmp_path / "home")
    store_coins(own, {"AAA-USD": random_walk(1234, seed=7)})  # the panel was not trained on it
    page = written(DashboardReader(own).read(), series="")
    titles = re.findall(r'<h2 id="part-\d+">(.*?)</h2>', page)
    assert titles == ["PANEL 1d", "Series without a model of their own"]
    _, others = body(page).split('id="part-2"')
    assert 'class="tile"' not in others
    assert 'class="chart"' not in others
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", others, re.DOTALL)]
    closed = f"{coins()['BTC-USD'].closed_at[-1].astype('datetime64[m]').item():%Y-%m-%d %H:%M}"
    found = {row[0]: (row[1], row[2], row[4]) for row in rows[1:]}
    assert found["AAA-USD 1d"] == ("1,234", "2021-05-19 00:00", "no champion yet")
    assert found["ADA-USD 1d"] == ("239", closed, "by the champion of PANEL-1d")  # a bar is missing
    assert list(found) == ["AAA-USD 1d", "ADA-USD 1d", "BTC-USD 1d", "ETH-USD 1d"]
    remedy = "riseorfall retrain --source.kind KIND --source.symbol AAA-USD --source.interval 1d"
    assert re.findall(r"<strong>Alarm</strong> (.*?)</li>", page) == [
        f"AAA-USD-1d: expected a champion, found none. Run <code>{remedy}</code> first."
    ]


def test_a_series_with_a_decision_stands_between_those_with_a_champion_and_those_with_bars(
    content: SeriesContent,
) -> None:
    held = replace(content, series=Series("HELD-USD", "1d"), champion=None)
    bare = replace(
        held, series=Series("BARE-USD", "1d"), decisions=(), predictions=unreadable_content(SERIES, "").predictions
    )
    page = written([bare, held, content], series="")
    titles = re.findall(r'<h2 id="part-\d+">(.*?)</h2>', page)
    assert titles == [SERIES_TEXT, "HELD-USD 1d", "Series without a model of their own"]


def test_a_chart_without_predictions_is_the_close_with_its_dates(content: SeriesContent) -> None:
    empty = unreadable_content(SERIES, "").predictions
    page = written([replace(content, champion=None, record=no_record(), predictions=empty)])
    assert f"Close of {SERIES_TEXT}. <span>No predictions yet.</span>" in page
    (text,) = re.findall(r'id="chart-1-json">(.*?)</script>', page, flags=re.DOTALL)
    chart = json.loads(text)
    assert [trace["name"] for trace in chart["data"]] == ["close"]
    assert "yaxis2" not in chart["layout"]
    assert chart["layout"]["xaxis"].get("showticklabels") is not False
    assert chart["layout"]["height"] < 300
    labels = re.findall(r'text-anchor="middle">([^<]*)</text>', page)
    assert any(label.startswith("2018") for label in labels)


def test_prices_are_plain_numbers() -> None:
    for price, text in ((60_123.5, "60,123.5"), (1_234_567.8, "1,234,568"), (0.0000123, "0.0000123"), (0.3, "0.3")):
        assert price_text(price) == text


def test_a_champion_is_champion_since_the_decision_that_changed_it() -> None:
    rows = [
        decision(1, "promote", "1", "1"),
        decision(2, "promote", "2", "2"),
        decision(3, "rollback", "1", "1"),
        decision(4, "hold", "3", "1"),
    ]
    assert champion_since(rows) == rows[2]
    assert champion_since([]) is None


def served(tmp_path: Path, root_page: object, path: str = "/") -> str:
    (tmp_path / "reports").mkdir()
    server = file_server(tmp_path, 0, root_page)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        with urlopen(f"{address}/health", timeout=10) as reply:
            assert reply.read() == b"ok"
        with urlopen(address + path, timeout=10) as reply:
            return reply.read().decode()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_page_server_shows_the_page_at_its_root(tmp_path: Path) -> None:
    assert served(tmp_path, "<p>the dashboard of {}</p>".format) == "<p>the dashboard of </p>"


def test_the_page_server_passes_the_series_on(tmp_path: Path) -> None:
    assert served(tmp_path, str, "/?series=BTC%2FUSD-1d&series=other") == "BTC/USD-1d"


def test_a_page_that_cannot_be_written_leaves_the_list_of_folders(tmp_path: Path) -> None:
    def fail(_: str) -> str:
        raise OSError("the store is down")

    assert '<a href="reports/">reports</a>' in served(tmp_path, fail)


def test_a_page_that_takes_long_is_written_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("flows.page_runner.time.monotonic", lambda: now[0])

    def write() -> int:
        now[0] += 10  # seconds of writing: a fifth of 50
        return int(now[0])

    page = Cached(write)
    assert page() == 110
    now[0] += 49
    assert page() == 110
    now[0] += 2
    assert page() == 171


def test_a_page_is_written_once_for_those_who_ask_at_about_the_same_time() -> None:
    written_pages = []
    page = Cached(lambda: written_pages.append(1) or f"page {len(written_pages)}")
    threads = [Thread(target=page) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert page() == "page 1"
    page.written_at -= 60
    assert page() == "page 2"
