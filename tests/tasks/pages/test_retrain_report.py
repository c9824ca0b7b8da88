"""The report shows the decision and its evidence, loads the chart script alone, and escapes everything from outside."""

import base64
import gzip
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from synthetic_bars import random_walk
from synthetic_records import coin_labels, daily_record, forecast, loud_forecast

from model.abstention import AbstentionSpec, OpinionScores, score_abstention
from model.bars import Series
from model.baseline_comparison import compare_forecasts, measure_skill
from model.baselines import BASELINES
from model.bootstrap import Interval, bootstrap_intervals
from model.calibration_error import perfectly_calibrated_error
from model.correction_for_looks import Looks
from model.evaluation import BUY_AND_HOLD, NETWORK, Evaluation
from model.explanation import ActivationMap, Attribution, Explanation, GateMap
from model.metrics import confusion_matrix
from model.recipe import Recipe
from model.record import Record
from model.scores_by_period import by_seed, periods_by_fold, periods_by_year
from model.trading import TradingSpec
from model.trading_policies import NEVER, Band
from model.trading_policy_comparison import PolicyComparison, PolicyResult
from model.training import Epoch, TrainingSpec
from tasks.champion.live_comparison import LiveComparison
from tasks.pages.champion_explanation import WrittenExplanation
from tasks.pages.explanation_page import Explained, explanation_parts
from tasks.pages.html_page import (
    Page,
    chart_script_name,
    decision_banner,
    facts,
    folded,
    link,
    paragraph,
    preformatted,
    table,
    tiles,
)
from tasks.pages.number_format import p_value_text
from tasks.pages.report_evidence import strategy_return
from tasks.pages.report_gathering import failed_checks, lineage
from tasks.pages.report_inputs import DataFacts, Lineage, ReportContent
from tasks.pages.retrain_report import report_page
from tasks.pages.written_pages import write_page
from tasks.results import Retrain
from tasks.settings import Settings
from tasks.store.bars_ref import BarsRef

HOSTILE = '<script src="https://evil.example/x.js"></script><img src=x onerror=alert(1)>'
LOOKBACK = 12


def explained(label: int = -1) -> Explained:
    """Return an explanation with hand-written numbers."""
    rng = np.random.default_rng(1)
    bars = random_walk(LOOKBACK, seed=2)
    shares = np.zeros((LOOKBACK, 4))
    shares[7, 3], shares[2, 0] = 0.03, -0.01
    maps = {name: rng.random((LOOKBACK, 5)) for name in ("input gate", "forget gate", "output gate")}
    states = {name: rng.normal(size=(LOOKBACK, 5)) for name in ("cell state", "hidden state")}
    explanation = Explanation(
        kind="cnn_lstm",
        features=("open", "high", "low", "close"),
        window=bars.ohlcv[:, :4],
        scaled=rng.normal(size=(LOOKBACK, 4)),
        filters=rng.normal(size=(4, 4, 6)),
        activations=(ActivationMap("conv_1", rng.normal(size=(LOOKBACK, 6)), 1, 2),),
        gates=(GateMap("lstm", maps | states),),
        attribution=Attribution(shares, 0.53, 0.51, 1e-6, 128),
        lacks=("A network of kind cnn has no recurrent layer.",),
    )
    return Explained(explanation, bars.opened_at, bars.closed_at[-1], label, in_sample=label >= 0, probability=0.53)


def evaluation_of(record: Record) -> Evaluation:
    baselines = {name: loud_forecast(record.labels, seed=k, spread=0.03) for k, name in enumerate(BASELINES)}
    forecasts = {NETWORK: record.probabilities, **baselines}
    confusion = confusion_matrix(record.labels, record.probabilities)
    figures = {
        "net_return": 0.5, "gross_return": 0.6, "max_drawdown": 0.2, "turnover": 30.0, "exposure": 0.4,
        "sharpe": 1.0, "sharpe_low": -0.2, "sharpe_high": 2.0,
        "break_even_bps": 21.4, "break_even_bps_low": -8.2, "break_even_bps_high": 50.9,
    }  # fmt: skip
    return Evaluation(
        windows=len(record),
        first="2017-06-01T00:00:00Z",
        last="2018-01-01T00:00:00Z",
        numbers={
            name: bootstrap_intervals(record.labels, given, 1, repetitions=50) for name, given in forecasts.items()
        },
        confusion=(tuple(confusion[0].tolist()), tuple(confusion[1].tolist())),
        calibration_error=0.0421,
        skill=measure_skill(record, baselines, 1),
        trading={"long_flat": figures, "long_short": figures, BUY_AND_HOLD: figures},
        abstention=abstention_of(record),
    )


def abstention_of(record: Record) -> dict[str, OpinionScores]:
    ranks = 1 - np.random.default_rng(4).random(len(record))
    moves = np.where((record.probabilities > 0.5) == (record.labels == 1), 20.0, -20.0)
    return score_abstention(AbstentionSpec(opinion_share=0.2), record, ranks, np.full(len(record), 0.5), moves, seed=1)


@pytest.fixture(scope="module")
def content() -> ReportContent:
    labels = coin_labels(200, seed=1)
    record = daily_record(labels, forecast(labels, 0.6, seed=2), folds=2)
    base_rate = np.full(200, 0.5)
    history = [Epoch(n, 0.70, 0.5, 0.69 + 0.01 * n, 0.5, 0.001, 0.1) for n in (1, 2, 3)]
    line = np.cumprod(np.full(200, 1.001))
    return ReportContent(
        version="17",
        action="hold",
        reasons=(("failed", "worse than the champion by 0.1234"), ("passed", HOSTILE)),
        champions=("16", "16"),
        decided_at="2026-11-24 16:00 UTC",
        recipe=Recipe(),
        evaluation=evaluation_of(record),
        champion=compare_forecasts(record, base_rate, 1),
        record=record,
        close=np.linspace(100, 200, 200),
        closed_at=record.resolved_at,
        costs=TradingSpec(),
        equity={"long_flat": line, "long_short": line, BUY_AND_HOLD: line},
        periods=(*periods_by_fold(record, base_rate, 1), *periods_by_year(record, base_rate, 1)),
        histories=[history, history],
        explained=explained(),
        calibrator="none",
        data=DataFacts(
            facts={"Source": f"bars {HOSTILE}.csv"},
            layout={"order": HOSTILE},
            failed=[("absurd_tick", "warning", "no `low`", f"1 bar {HOSTILE}", HOSTILE)],
            quarantined=[("2017-04-15", "absurd_tick", "warning", HOSTILE, HOSTILE)],
            quarantined_count=1,
            docs="javascript:alert(1)",
        ),
        lineage=Lineage({"Bars": "table version 3, SHA-256 abc", "Table": HOSTILE}, {"source.path": HOSTILE}),
        links={"MLflow run": "http://127.0.0.1:5000/#/run", "this page": "file:///tmp/x.html"},
    )


def test_the_interval_of_a_net_return_knows_a_total_loss(content: ReportContent) -> None:
    """Nothing is left on the last ten of 200 bars: most resamples hold the loss, and no division fails."""
    curve = np.concatenate([content.equity["long_flat"][:190], np.zeros(10)])
    lost = strategy_return(replace(content, equity={**content.equity, "long_flat": curve}), "long_flat")
    assert lost.low == -1.0


def test_champion_and_shadows_are_shown_on_live_decisions(content: ReportContent, text: str) -> None:
    assert "Live predictions" not in text
    live = (
        LiveComparison("16", True, 41, 0.6911, 0.6933, -0.0022, -0.0051, 0.0007),
        LiveComparison("15", False, 3, 0.71, 0.70, 0.01, None, None),
    )
    shown = without_scripts(report_page(replace(content, live=live)))
    assert "Live predictions" in shown
    for part in ("16 (champion)", "0.6911", "0.6933", "-0.0022", "-0.0051", "+0.0007", "15 (shadow)", "+0.0100"):
        assert part in shown


@pytest.fixture(scope="module")
def text(content: ReportContent) -> str:
    return report_page(content)


def without_scripts(text: str) -> str:
    """Return the page without code and the charts' numbers."""
    return re.sub(
        r"<script(?: type=\"application/gzip\" id=\"chart-\d+-json\")?>.*?</script>", "", text, flags=re.DOTALL
    )


def chart_numbers(text: str, number: int) -> dict[str, Any]:
    """Return what plotly draws, as the page's script unpacks it."""
    (packed,) = re.findall(rf'<script type="application/gzip" id="chart-{number}-json">(.*?)</script>', text)
    chart: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed)))
    return chart


def test_decision_and_reasons_come_first(text: str) -> None:
    places = [text.index(part) for part in ("Held: the champion stayed", "worse than the champion by 0.1234",
                                             "network&#39;s log loss is", "<nav aria-label", ">Skill</h2>",
                                             ">Trading</h2>", ">Data</h2>", ">Lineage</h2>")]  # fmt: skip
    assert places == sorted(places)
    assert "Champion before: 16; after: 16. This is the state at that time" in text
    assert "What to do: nothing after a single hold" in text
    assert "<code>riseorfall promote --symbol" in text


def test_a_first_version_that_is_held_leaves_no_champion(content: ReportContent) -> None:
    text = report_page(replace(content, champions=("none", "none")))
    assert "Held: there is no champion yet (decided on" in text
    assert "the champion stayed" not in text


def test_each_clause_is_marked_and_the_decision_is_dated(text: str, content: ReportContent) -> None:
    assert '<span class="mark failed">✗ failed</span> worse than the champion by 0.1234' in text
    assert text.count('<span class="mark passed">✓ passed</span>') == 1
    assert "Held: the champion stayed (decided on 2026-11-24 16:00 UTC)." in text
    promoted = report_page(replace(content, action="promote", champions=("16", "17")))
    assert "Promoted (decided on 2026-11-24 16:00 UTC)." in promoted
    assert not re.findall(r"champion now\.(?! )|is the champion", promoted.replace("show the champion now.", ""))


def test_a_report_says_which_windows_baselines_left_out(text: str, content: ReportContent) -> None:
    note = "Logistic regression and gradient boosting learned from the newest 5 windows of a fold, of up to 9."
    capped = report_page(replace(content, evaluation=replace(content.evaluation, baselines_note=note)))
    assert f"200 windows. {note}</p>" in capped
    assert "200 windows.</p>" in text


def test_break_even_costs_have_their_interval_and_the_assumed_costs(text: str, content: ReportContent) -> None:
    assert '<div class="value">21 bps</div><div class="note">[-8, 51]; assumed 15 bps</div>' in text
    assert text.count("21 bps<small>[-8, 51]</small>") == 2  # of both ways of trading, not of buy and hold
    idle = content.evaluation.trading["long_flat"] | dict.fromkeys(
        ("break_even_bps", "break_even_bps_low", "break_even_bps_high"), float("nan")
    )
    trading = content.evaluation.trading | {"long_flat": idle}
    page = without_scripts(report_page(replace(content, evaluation=replace(content.evaluation, trading=trading))))
    assert '<div class="value">undefined</div><div class="note">nothing was traded</div>' in page
    assert not re.findall(r"\bnan\b", page)


def test_numbers_are_the_evaluations(text: str, content: ReportContent) -> None:
    found = content.evaluation
    for name in (NETWORK, *BASELINES):
        interval = found.numbers[name]["log_loss"]
        assert f"{interval.value:.4f}<small>[{interval.low:.4f}, {interval.high:.4f}]</small>" in text
    assert found.skill.pesaran_timmermann.reading in text
    assert f"{found.skill.power[0.53]:.0%} for a true accuracy of 53%" in text
    assert "Expected calibration error 0.042" in text
    assert "Costs of 10 bps and slippage of 5 bps" in text
    assert "[-0.20, 2.00], includes 0: the return may be chance" in text
    assert '<th scope="row">fold 1<small>' in text
    assert '<th scope="row">2017<small>' in text
    assert "the champion</th>" in text


def test_opinions_have_their_share_coverage_and_guarantee(text: str, content: ReportContent) -> None:
    page = text[text.index(">Abstention</h2>") : text.index(">Trading</h2>")]
    share = content.evaluation.abstention["share"]
    assert f"{share.opinions} ({share.opinions / 200:.1%})<small>0.0% to 25.4%</small>" in page
    assert "<small>at least 92.0%</small>" in page  # 95 % less (0.1 / 0.02 + 0.95) / 200
    assert f"{share.accuracy.value:.1%}<small>" in page
    assert f"{2 * share.accuracy.value * 20 - 20:+.1f}<small>" in page  # 20 bps where right, -20 where wrong
    none = replace(share, opinions=0, share=0.0, accuracy=Interval(np.nan, np.nan, np.nan))
    empty = replace(content.evaluation, abstention=content.evaluation.abstention | {"share": none})
    shown = without_scripts(report_page(replace(content, evaluation=empty)))
    assert "0 (0.0%)" in shown
    assert not re.findall(r"\bnan\b", shown)


def policies(chosen: str) -> PolicyComparison:
    """Return hand-written results: the no-trade band never traded."""
    figures = {
        "gross_return": 0.612, "net_return": 0.345, "turnover": 123.0, "exposure": 0.4, "deflated_sharpe": 0.87,
        "break_even_bps": 31.0, "break_even_bps_low": -4.0, "break_even_bps_high": 66.0,
        "sharpe": 1.25, "sharpe_low": 0.25, "sharpe_high": 2.25,
        "exposure_return": 0.111, "timing_return": 0.222, "timing_return_low": -0.333, "timing_return_high": 0.444,
    }  # fmt: skip
    idle = dict.fromkeys(figures, 0.0) | dict.fromkeys(
        ("break_even_bps", "break_even_bps_low", "break_even_bps_high"), float("nan")
    )
    theirs = {name: value for name, value in figures.items() if name != "deflated_sharpe"}
    curve = tuple(0.6 - 0.01 * cost for cost in range(21))
    return PolicyComparison(
        TradingSpec.model_validate({"policy": chosen, "costs": "perpetual_taker"}),
        {
            "sign": PolicyResult(figures, curve, ()),
            "threshold": PolicyResult(figures, curve, (Band(0.04, 0.0), Band(0.08, -0.08))),
            "no_trade_band": PolicyResult(idle, (0.0,) * 21, (NEVER, NEVER)),
            **{
                f"{policy}_by_gradient_boosting": PolicyResult(theirs, curve, bands)
                for policy, bands in (
                    ("sign", ()),
                    ("threshold", (Band(0.03, 0.0),) * 2),
                    ("no_trade_band", (NEVER,) * 2),
                )
            },
        },
        12,
        0.278,
    )


@pytest.mark.parametrize("chosen", ["sign", pytest.param("threshold", marks=pytest.mark.e2e)])
def test_every_policy_is_one_row_and_one_line_of_a_chart(chosen: str, content: ReportContent) -> None:
    compared = replace(content.evaluation, policies=policies(chosen))
    costs = TradingSpec.model_validate({"policy": chosen})
    written = report_page(replace(content, evaluation=compared, costs=costs))
    page = without_scripts(written)
    names = {"sign": "sign", "threshold": "threshold", "no_trade_band": "no-trade band"}
    count = len(re.findall(r"id=\"chart-\d+-json\"", written))
    drawn = {trace.get("name") for each in range(1, count + 1) for trace in chart_numbers(written, each)["data"]}
    for name, shown in names.items():
        note = f"<small>network{', chosen' if name == chosen else ''}</small>"
        (row,) = re.findall(rf'<th scope="row"[^>]*>{shown}{note}</th>(.*?)</tr>', page, flags=re.DOTALL)
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
        if name == "no_trade_band":
            assert cells[4] == "undefined<small>nothing was traded</small>"
        else:
            assert cells == [
                "+61.2%", "+34.5%", "123 x", "40%", "31 bps<small>[-4, 66]</small>", "1.25<small>[0.25, 2.25]</small>",
                "0.87", "+11%", "+22%<small>[-33%, +44%]</small>",
            ]  # fmt: skip
        assert shown in drawn
        (row,) = re.findall(rf"{shown}<small>gradient boosting</small></th>(.*?)</tr>", page, flags=re.DOTALL)
        assert re.findall(r"<td[^>]*>(.*?)</td>", row)[6] == "none"
        assert (f"{shown}, gradient boosting" in drawn) == (name == chosen)
    assert "enter above 53.0%, leave at 50.0%" in page
    assert "At 10 bps per side" in page
    assert "12 trials" in page
    assert "enter above 58.0%, leave at 42.0%" in page
    assert page.count("never trades") == 4
    assert ("policy: threshold." in page) == (chosen == "threshold")
    assert not re.findall(r"\bnan\b", page)


def test_a_report_of_an_evaluation_without_policies_lacks_only_their_part(text: str) -> None:
    assert "no-trade band" not in text
    assert "break-even cost per side" in text


def test_only_the_shared_chart_script_is_loaded(text: str) -> None:
    page = without_scripts(text)
    loaded = re.findall(r"<(?:script|link|img|iframe|object|embed|source|video|audio|base)\b[^>]*>", page)
    assert loaded == [f'<script src="../{chart_script_name()}">']
    assert "connect-src &#39;none&#39;" in page
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page
    assert re.findall(r'(?:src|href)="(\w+:[^"]*)', page) == ["http://127.0.0.1:5000/#/run", "file:///tmp/x.html"]


def test_what_comes_from_outside_is_only_text(text: str) -> None:
    page = without_scripts(text)
    assert "evil.example" in page
    assert '<script src="https' not in text
    assert "<img" not in page
    assert "&lt;script src=&#34;https://evil.example/x.js&#34;&gt;" in page
    assert 'href="javascript' not in page


def test_every_chart_has_its_numbers_and_a_picture_for_pages_without_plotly(text: str) -> None:
    assert "plotly.js v" not in text
    charts = re.findall(r'<div class="chart" id="(chart-\d+)"', text)
    assert len(charts) >= 10
    assert re.findall(r'<div class="chart"[^>]*role="img" aria-labelledby="(.*?)-caption"[^>]*><svg', text) == charts
    assert len(text) < 250_000  # bytes; with the numbers as they are 380,000, with plotly's script 5 MB
    assert [f"{chart}-json" in text for chart in charts] == [True] * len(charts)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text


def test_tables_scroll_within_their_own_box(text: str) -> None:
    boxes = re.findall(r'<div class="scroll(?: stacked)?" tabindex="0"><table>', text)
    assert text.count("<table>") == len(boxes) > 5


def test_without_a_champion_there_is_no_row_for_it(content: ReportContent) -> None:
    page = report_page(replace(content, champion=None, champions=("none", "17"), action="promote"))
    assert "Promoted (decided on" in page
    assert "the champion</th>" not in page


def test_calibration_and_seeds_are_shown_where_the_recipe_has_them(content: ReportContent, text: str) -> None:
    assert "The probabilities are the network&#39;s own: the recipe has no calibration." in text
    assert "Sensitivity to the seed" not in text
    record = content.record
    seeds = by_seed(record, {7: record.probabilities, 8: np.full(len(record), 0.5)})
    page = report_page(
        replace(
            content,
            recipe=Recipe(training=TrainingSpec(calibration="temperature")),
            calibrator="temperature 1.37",
            evaluation=replace(content.evaluation, seeds=seeds),
        )
    )
    assert "Version 17 uses the newest fold&#39;s: temperature 1.37." in page
    assert f"of 2 seeds differ by {abs(content_loss(content) - np.log(2)):.4f} in log loss" in page
    assert re.search(r'<th scope="row">seed 8</th>\s*<td class="number">0.6931<small>', page)


def content_loss(content: ReportContent) -> float:
    return float(content.evaluation.numbers[NETWORK]["log_loss"].value)


def test_the_served_probability_is_shown_with_the_explained_networks_own() -> None:
    page = Page("why")
    page.lead(*explanation_parts(page, replace(explained(), probability=0.61)))
    text = without_scripts(page.html())
    assert "<dt>P(rise)</dt><dd>61.00%; outcome" in text
    assert "<dt>P(rise) of the explained network</dt><dd>53.00% (cnn_lstm)</dd>" in text
    page = Page("equal")
    page.lead(*explanation_parts(page, explained()))
    assert "of the explained network" not in page.html()


def test_an_explanation_lists_the_largest_contributions_and_what_the_network_lacks() -> None:
    page = Page("why")
    found = explained(label=1)
    page.lead(*explanation_parts(page, found))
    text = without_scripts(page.html())
    assert found.strongest(2) == [7, 2]
    assert "a rise followed" in text
    assert "In-sample: the network was trained on this window" in text
    assert "A network of kind cnn has no recurrent layer." in text
    assert "Forget gate." in text
    assert "Gates and states of the LSTM" in text
    assert "bars t - 1 to t + 2" in text
    assert text.index("+3.000 pp") < text.index("-1.000 pp")
    assert re.findall(r'<th scope="col"[^>]*>(.*?)</th>', text) == [
        "bar opened at", "contribution", *(f"of {name}<small>its value</small>" for name in found.explanation.features)
    ]  # fmt: skip
    close = f"+3.000 pp<small>{found.explanation.window[7, 3]:,.6g}</small>"
    assert f'<td class="number">{close}</td>' in text


def test_an_explanation_as_plain_values() -> None:
    found = WrittenExplanation(Series("BTC-USD", "1d"), "3", explained(), Path("page.html")).to_dict()
    assert found["outcome"] is None
    assert len(found["bars"]) == LOOKBACK
    assert found["bars"][7]["added_by"] == {"open": 0.0, "high": 0.0, "low": 0.0, "close": 0.03}
    assert found["strongest"][0] == found["bars"][7]["opened_at"] == "2018-01-08T00:00:00+00:00"
    assert found["network_probability"] - found["flat_probability"] == pytest.approx(0.02)
    assert found["probability"] == 0.53


HOSTILE_ESCAPED = (
    "&lt;script src=&#34;https://evil.example/x.js&#34;&gt;&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;"
)


@pytest.mark.parametrize(
    "part",
    [
        paragraph(HOSTILE),
        table((HOSTILE, "b"), [(HOSTILE, 1)]),
        facts({HOSTILE: HOSTILE}),
        tiles([(HOSTILE, HOSTILE, HOSTILE)]),
        folded(HOSTILE, paragraph("text")),
        preformatted({"value": HOSTILE}),
        decision_banner("hold", HOSTILE, [(HOSTILE, HOSTILE)], HOSTILE),
        link(HOSTILE, "https://a.example/"),
        link("text", HOSTILE),
    ],
)
def test_every_part_of_a_page_escapes_text(part: str) -> None:
    assert "<script" not in part
    assert "<img" not in part
    assert "&lt;script" in part
    assert "&lt;img" in part


def test_a_title_a_section_and_a_decision_kind_are_escaped() -> None:
    page = Page(HOSTILE, HOSTILE)
    page.section(HOSTILE, decision_banner('"><script>', "", [], ""))
    text = page.html()
    assert "<script" not in text
    assert text.count(HOSTILE_ESCAPED) == 4  # tab, heading, subtitle, section
    assert 'class="decision &#34;&gt;&lt;script&gt;"' in text


@pytest.mark.parametrize("reload_seconds", [0, 60])
def test_a_chart_cannot_end_its_script_element(reload_seconds: int) -> None:
    import plotly.graph_objects as go

    page = Page("chart", reload_seconds=reload_seconds)
    page.lead(page.chart(go.Figure(go.Scatter(x=[1], y=[HOSTILE], mode="markers")), "caption"))
    (embedded,) = re.findall(r'id="chart-1-json">(.*?)</script>', page.html(), flags=re.DOTALL)
    assert "<" not in embedded
    numbers = json.loads(embedded) if reload_seconds else chart_numbers(page.html(), 1)
    assert numbers["data"][0]["y"] == [HOSTILE]


def test_a_page_is_written_with_one_script_for_all_pages(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, tracking_uri="", store="", public_url="")
    for series, name in (("BTC-USD-1d", "a.html"), ("BTC-USD-1d", "b.html"), ("ETH-USD-1h", "c.html")):
        path = write_page(settings, series, name, "text")
        script = path.parent / f"../{chart_script_name()}"  # as the page names it
        assert script.stat().st_size > 4_000_000
        assert script.stat().st_mode & 0o777 == 0o644
    written = [path.name for path in (tmp_path / "data" / "reports").rglob("*") if path.is_file()]
    assert sorted(written) == ["a.html", "b.html", "c.html", chart_script_name()]


def test_the_link_to_the_dashboard_is_hidden_until_the_page_server_shows_the_page(text: str) -> None:
    assert text.count('<p class="home" hidden><a href="../../">Dashboard</a></p>') == 1
    dashboard = Page("riseorfall", scripts="reports", reload_seconds=60)
    assert 'class="home"' not in dashboard.html()


def test_the_lineage_names_the_table_without_its_folder() -> None:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    ref = BarsRef("/home/ann/data/tables/bars", "BTC-USD", "1d", 7, "abc", 10, at, at)
    final = SimpleNamespace(device="CPU", epochs=3, trained_until=at, seconds=1.0)
    result = SimpleNamespace(windows=SimpleNamespace(bars=ref), final=final, run_id="run-1")
    found = lineage(cast("Retrain", result), Recipe(), "BTC-USD-1d version 1", {}, {})
    assert found.facts["Bars"] == "version 7 of the table bars, SHA-256 abc"
    assert not any("/home/ann" in str(value) for value in found.facts.values())


def test_links_have_known_schemes_only() -> None:
    assert link("x", 'https://a.example/"onload="y').count('"') == 4
    assert link("x", "javascript:alert(1)") == "x: javascript:alert(1)"
    assert link("x", "") == "x"


def test_the_net_return_and_the_calibration_error_have_something_to_compare_with(
    content: ReportContent, text: str
) -> None:
    curve = content.equity["long_flat"]
    bound = f"{curve[-1] - 1:+.0%}"  # every bar of this curve grows by the same share: no spread
    note = f"[{bound}, {bound}]; buy and hold +50.0%"
    assert f'<div class="value">+50.0%</div><div class="note">{note}</div>' in text
    noise = perfectly_calibrated_error(content.record, content.recipe.training.seed)
    assert f'<div class="note">perfectly calibrated: {noise:.3f}</div>' in text
    assert f"would show {noise:.3f} on 200 windows" in text


def test_significance_is_corrected_for_tests_and_recipes(content: ReportContent) -> None:
    seen = replace(content.evaluation, looks=Looks(7, 3))
    page = without_scripts(report_page(replace(content, evaluation=seen)))
    assert "These test bars were scored 7 times, with 3 recipes." in page
    assert (
        "Holm-adjusted for the 10 tests of both tables and multiplied by the number of recipes tried on these" in page
    )
    skill = seen.skill
    raw = sorted([skill.pesaran_timmermann.p_value, skill.majority.p_value,
                  *(each.difference.p_value for each in skill.baselines.values()),
                  *(each.mcnemar.p_value for each in skill.baselines.values())])  # fmt: skip
    rank = raw.index(skill.pesaran_timmermann.p_value)
    by_hand = min(1.0, 3 * max((10 - place) * p_value for place, p_value in enumerate(raw[: rank + 1])))
    assert seen.corrected()["pesaran_timmermann"] == pytest.approx(by_hand)
    assert f"{p_value_text(skill.pesaran_timmermann.p_value)}<small>corrected {p_value_text(by_hand)}</small>" in page


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("recipes", "finding", "shade"),
    [(1, "is significantly better", "#0072b2"), (1_000, "does not differ significantly from it", "#222222")],
)
def test_significantly_better_goes_by_the_corrected_p_value(
    content: ReportContent, recipes: int, finding: str, shade: str
) -> None:
    """The interval excludes 0 in both cases; a thousand recipes tried make the same difference no evidence."""
    labels = coin_labels(600, seed=1)
    record = daily_record(labels, forecast(labels, 0.65, seed=2), folds=2)
    seen = replace(evaluation_of(record), looks=Looks(recipes, recipes))
    baseline = seen.best_baseline()
    found, corrected = seen.skill.baselines[baseline].difference, seen.corrected()[f"{baseline}_difference"]
    assert found.high < 0
    assert (corrected <= 0.05) == (recipes == 1)
    whole = report_page(replace(content, evaluation=seen))
    page = without_scripts(whole)
    p_value = p_value_text(corrected, "= ").replace("<", "&lt;")
    assert f"the network {finding} (corrected p {p_value})." in page
    counted = f"corrected for 10 tests, {recipes} recipe{'' if recipes == 1 else 's'}"
    assert page.count(f"p-value<small>{counted}</small>") == 2
    chart = chart_numbers(whole, 1)["data"][0]
    assert chart["marker"]["color"][chart["y"].index(baseline.replace("_", " "))] == shade


def test_the_deflated_sharpe_ratio_is_shown_and_explained(content: ReportContent) -> None:
    figures = content.evaluation.after_looks(Looks(7, 3), {"long_flat": 0.973, "long_short": 0.41})
    page = without_scripts(report_page(replace(content, evaluation=figures)))
    assert '<td class="number">0.97</td>' in page
    assert '<td class="number">0.41</td>' in page
    assert "3 recipes were tried on these bars. The deflated Sharpe ratio is the probability" in page
    assert "Of long or flat it is 0.97 (reaches 0.95). It is one-sided" in page


@pytest.mark.e2e
def test_evidence_that_the_correction_removes_is_called_none(content: ReportContent) -> None:
    labels = content.record.labels
    found = evaluation_of(daily_record(labels, forecast(labels, 0.65, seed=2), folds=2))
    alone, searched = (
        without_scripts(report_page(replace(content, evaluation=replace(found, looks=looks))))
        for looks in (Looks(1, 1), Looks(1_000_000, 1_000_000))
    )
    assert "There is evidence of directional skill" in alone
    assert "There is no evidence of directional skill" in searched
    assert "these test bars were scored 1000000 times, with 1000000 recipes" in searched


def test_the_standard_terms_are_used(text: str) -> None:
    page = without_scripts(text)
    for term in ("Confusion matrix (actual x predicted)", "Equity curve", "maximum drawdown", "vs. base rate",
                 "out-of-sample", "Expected calibration error", "Holm-adjusted", "early stopping"):  # fmt: skip
        assert term in page
    assert not re.findall(r"\b(?:told|said|asked|unseen|rival|beside|luck)\b", page)


def test_a_failed_check_states_its_finding_once(text: str) -> None:
    listed = without_scripts(text).split("Failed checks</h3>")[1].split("</table>")[0]
    assert re.findall(r'<th scope="col">(.*?)</th>', listed) == ["rule", "severity", "requires", "found", "what to do"]
    assert listed.count(">1 bar ") == 1
    assert "no <code>low</code>" in listed


def test_the_facts_of_the_data_take_a_failed_check_apart() -> None:
    failed = {
        "rule": "gap", "severity": "warning", "required": "No bar is missing", "observed": "1 bar missing in 1 gap",
        "first_at": "2019-10-03", "advice": "nothing", "message": "expected ...; found 1 bar missing in 1 gap",
    }  # fmt: skip
    assert failed_checks([failed, failed | {"first_at": ""}]) == [
        ("gap", "warning", "No bar is missing", "1 bar missing in 1 gap (first at 2019-10-03)", "nothing"),
        ("gap", "warning", "No bar is missing", "1 bar missing in 1 gap", "nothing"),
    ]
