"""Checks run in Great Expectations: the report, the pages, and checks that raise."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data_checks import apply_rules, validate
from data_checks.apply_rules import RuleFinding
from data_checks.check_report import CheckReport, require_passed
from data_checks.check_spec import CheckSpec
from data_checks.great_expectations_run import Outcome, Validation
from data_checks.offline_data_docs import describe_status, list_run, listed_runs
from data_checks.rule_definitions import BAR_RULES, WINDOW_RULES
from data_checks.validate import check_bars, check_windows
from model.bars import Bars, Series
from model.errors import ChecksFailed, SpecError
from model.windows import Windows, WindowSpec, cut_windows

AS_OF = datetime(2020, 10, 27, tzinfo=UTC)
WINDOW = WindowSpec(lookback_bars=10, horizon_bars=2)


@pytest.fixture(scope="session")
def spoilt() -> pd.DataFrame:
    """Bars that violate most rules, each in one or two rows of its own."""
    rng = np.random.default_rng(3)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 300)))
    opened = np.r_[100.0, close[:-1]]
    times = pd.date_range("2020-01-01", periods=300, freq="D", tz="UTC")
    frame = pd.DataFrame(
        {
            "timestamp": times,
            "open": opened,
            "high": np.maximum(opened, close) * 1.005,
            "low": np.minimum(opened, close) * 0.995,
            "close": close,
            "volume": rng.uniform(80, 120, 300),
        }
    )
    frame.loc[10, "close"] = -1.0
    frame.loc[20, "high"] = 1.0
    frame.loc[30, "volume"] = -5.0
    frame.loc[40, "open"] = np.nan
    frame.loc[50, "low"] = 0.06
    frame.loc[60, "timestamp"] += pd.Timedelta(hours=7)
    copy = frame.iloc[[70]]
    contradiction = frame.iloc[[80]].assign(close=frame["open"][80] * 1.001)
    return pd.concat([frame[:71], copy, frame[71:81], contradiction, frame[81:]], ignore_index=True)


@pytest.fixture(scope="session")
def report(spoilt: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> CheckReport:
    second = spoilt.assign(timestamp=spoilt["timestamp"] + pd.Timedelta(days=1))
    docs = tmp_path_factory.mktemp("docs")
    return check_bars(spoilt, Series("BTC-USD", "1d"), CheckSpec(), AS_OF, docs, against=second)


def test_great_expectations_confirms_every_rule(report: CheckReport) -> None:
    assert not [result for result in report.results if "disagree" in result.observed or "raised" in result.observed]
    assert [result.rule for result in report.results] == [rule.name for rule in BAR_RULES]
    assert {result.rule: result.unexpected for result in report.failed()} == {
        "unreal_price": 1,
        "contradicting_price": 1,
        "unreal_volume": 1,
        "undecided_double": 2,
        "absent_price": 1,
        "lesser_double": 1,
        "absurd_tick": 1,
        "off_grid": 1,
        "too_many_refused": 8,
        "gap": 7,
        "second_series": 1,
    }


def test_refused_bars_keep_their_rule_severity_and_value(report: CheckReport) -> None:
    kept = report.quarantined.set_index("rule")
    assert kept.loc["unreal_price", ["severity", "value"]].tolist() == ["critical", "close -1"]
    assert kept.loc["absurd_tick", ["severity", "value"]].tolist() == ["warning", "low 0.06"]
    assert kept.loc["unreal_price", "timestamp"] == pd.Timestamp("2020-01-11", tz="UTC")
    assert len(report.quarantined) == 9
    assert len(report.accepted) == 293
    assert report.accepted["timestamp"].is_monotonic_increasing
    assert not set(report.accepted["timestamp"]) & set(kept.drop(index="lesser_double")["timestamp"])
    assert report.gaps["missing_bars"].tolist() == [1] * 7


def test_a_failure_names_expected_found_place_and_remedy(report: CheckReport) -> None:
    with pytest.raises(ChecksFailed) as raised:
        require_passed(report, CheckSpec())
    message = str(raised.value)
    assert raised.value.exit_code == 3
    assert "expected: each price is positive and finite; found 1 of 302 bars, first close -1" in message
    assert "(BTC-USD 1d, first at 2020-01-11)" in message
    assert "--check.tolerate unreal_price" in message
    assert "dates look 1 day early" in message
    assert "absurd_tick" not in message
    assert report.page_url in message


def test_a_summary_is_json_and_its_lines_name_each_failure(report: CheckReport) -> None:
    summary = json.loads(json.dumps(report.summary()))
    assert summary["quarantined_by_rule"]["undecided_double"] == 2
    assert {entry["rule"] for entry in summary["failed"]} == {result.rule for result in report.failed()}
    assert report.lines()[0] == "BTC-USD 1d: 293 bars accepted, 9 refused, 7 gaps"
    assert len(report.lines()) == 1 + len(report.failed())
    single = replace(report, accepted=report.accepted[:1], gaps=report.gaps[:1])
    assert single.lines()[0] == "BTC-USD 1d: 1 bar accepted, 9 refused, 1 gap"


def test_the_pages_are_readable_and_load_nothing(report: CheckReport) -> None:
    page = Path(report.page_url).read_text(encoding="utf-8")
    assert "Each price is positive and finite" in page
    assert "badge-danger" in page
    assert "2020-01-11" in page
    assert "dates look 1 day early" in page
    assert "Rendering failed" not in page
    assert re.search(r"Status:</span> failed: \d+ critical failures and \d+ warnings? stopped the run", page)
    assert "No bar was removed by hand (<code>riseorfall remove</code>)." in page
    index = Path(report.docs_url)
    assert Path(report.page_url).relative_to(index.parent).as_posix() in index.read_text(encoding="utf-8")
    for written in index.parent.rglob("*.html"):
        text = written.read_text(encoding="utf-8")
        assert 'src="http' not in text
        assert '<link rel="stylesheet" href="http' not in text
    assert (index.parent / "latest.html").exists()


@pytest.mark.e2e
def test_each_run_has_a_page_and_the_index_lists_the_newest_first(
    bars: pd.DataFrame, series: Series, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = check_bars(bars, series, CheckSpec(), AS_OF, tmp_path)
    second = check_bars(bars, series, CheckSpec(), AS_OF, tmp_path)
    assert first.page_url != second.page_url
    assert "Status:</span> passed\n" in Path(first.page_url).read_text(encoding="utf-8")
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    pages = [Path(each.page_url).relative_to(tmp_path).as_posix() for each in (second, first)]
    assert index.index(pages[0]) < index.index(pages[1])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("critical", "warnings", "notes", "stopped", "status"),
    [
        (0, 0, 0, False, "passed"),
        (0, 4, 0, False, "passed: the run went on with 4 warnings"),
        (0, 1, 2, False, "passed: the run went on with 1 warning and 2 notes"),
        (0, 4, 0, True, "failed: 4 warnings stopped the run"),
        (1, 0, 1, True, "failed: 1 critical failure and 1 note stopped the run"),
    ],
)
def test_the_status_of_a_page_says_what_the_checks_mean_for_the_run(
    critical: int, warnings: int, notes: int, *, stopped: bool, status: str
) -> None:
    assert describe_status({"critical": critical, "warning": warnings, "info": notes}, stopped=stopped) == status


def test_the_index_says_whether_failed_rules_stopped_the_run(tmp_path: Path) -> None:
    run = {"page": "p.html", "suite": "bars", "run": "r", "rules": 23, "checked_at": "2026-11-27"}
    badge = '<span class="badge badge-{}">{}</span>'.format
    four, critical = badge("warning", "4 warnings"), badge("danger", "1 critical failure")
    cross, check = '<i class="fas fa-times"></i> ', '<i class="fas fa-check-circle"></i> '
    for failures, more, shown in (
        ({"critical": 0, "warning": 4, "info": 0}, {"stopped": False}, f"passed with {four}"),
        ({"critical": 0, "warning": 4, "info": 0}, {"stopped": True}, f"{cross}stopped the run: {four}"),
        ({"critical": 0, "warning": 0, "info": 0}, {"stopped": False}, f"{check}passed"),
        ({"critical": 1, "warning": 4, "info": 0}, {}, f"{cross}stopped the run: {critical}{four}"),  # of 0.1
        ({"critical": 0, "warning": 4, "info": 0}, {}, f"passed with {four}"),
    ):
        list_run(tmp_path, {**run, "failures": failures, **more})
        newest = (tmp_path / "index.html").read_text(encoding="utf-8").split("<tbody>")[1].split("</tr>")[0]
        assert newest.endswith(f"<td>23</td><td>{shown}</td>")


@pytest.mark.parametrize(("stop_on", "stopped"), [("critical", False), ("warning", True)])
def test_warnings_stop_a_run_that_stops_on_warnings(
    bars: pd.DataFrame, series: Series, tmp_path: Path, stop_on: str, *, stopped: bool
) -> None:
    spec = CheckSpec.model_validate({"stop_on": stop_on})
    report = check_bars(bars.drop(index=[50]), series, spec, AS_OF, tmp_path)  # a gap
    status = "failed: 1 warning stopped the run" if stopped else "passed: the run went on with 1 warning"
    assert f"Status:</span> {status}\n" in Path(report.page_url).read_text(encoding="utf-8")
    assert [run["stopped"] for run in listed_runs(tmp_path)] == [stopped]
    assert report.passed(spec) is not stopped


def test_good_bars_pass_without_pages(bars: pd.DataFrame, series: Series) -> None:
    report = check_bars(bars, series, CheckSpec(stop_on="warning"), AS_OF)
    require_passed(report, CheckSpec(stop_on="warning"))
    assert report.failed() == ()
    assert (report.docs_url, report.page_url) == ("", "")
    assert report.accepted["close"].tolist() == bars["close"].tolist()


def test_a_tolerated_rule_quarantines_and_no_longer_stops(bars: pd.DataFrame, series: Series) -> None:
    bars.loc[10, "close"] = -1.0
    spec = CheckSpec(tolerate=("unreal_price",))
    report = check_bars(bars, series, spec)
    require_passed(report, spec)
    assert report.quarantined[["rule", "severity"]].to_numpy().tolist() == [["unreal_price", "warning"]]
    with pytest.raises(ChecksFailed, match="unreal_price"):
        require_passed(report, CheckSpec(stop_on="warning"))


def test_removed_bars_are_not_compared_with_a_second_series(bars: pd.DataFrame, series: Series) -> None:
    """Sixty days of three hundred are dated a day late, until a person removes them."""
    ours = bars.copy()
    ours.loc[100:159, "timestamp"] += pd.Timedelta("1D")
    for removed, agrees in ((None, False), (ours[100:160], True)):
        report = check_bars(ours, series, CheckSpec(), AS_OF, against=bars, removed=removed)
        assert ("second_series" in {result.rule for result in report.failed()}) != agrees


def test_no_bars_fail_clearly(bars: pd.DataFrame, series: Series, tmp_path: Path) -> None:
    report = check_bars(bars[:0], series, CheckSpec(), AS_OF, tmp_path)
    with pytest.raises(ChecksFailed, match="enough_bars: expected: the checks leave at least 200 bars; found 0 bars"):
        require_passed(report, CheckSpec())


def test_a_missing_column_or_time_is_named(bars: pd.DataFrame, series: Series) -> None:
    with pytest.raises(SpecError, match="missing close"):
        check_bars(bars.drop(columns="close"), series, CheckSpec())
    bars.loc[5, "timestamp"] = pd.NaT
    with pytest.raises(SpecError, match="found none in bar 5"):
        check_bars(bars, series, CheckSpec())


def test_bars_without_a_volume_column_pass(bars: pd.DataFrame, series: Series) -> None:
    assert check_bars(bars.drop(columns="volume"), series, CheckSpec()).failed() == ()


def test_failures_and_refused_bars_name_the_line_of_the_file(bars: pd.DataFrame, series: Series) -> None:
    bars.loc[10, "low"] = 0.06
    bars.loc[100:, ["open", "high", "low", "close"]] *= 3
    report = check_bars(bars.assign(line=np.arange(300, 0, -1) + 2).astype({"line": "Float64"}), series, CheckSpec())
    messages = {result.rule: result.message for result in report.failed()}
    assert "(BTC-USD 1d, first at 2020-01-11, line 292)" in messages["absurd_tick"]
    assert "(BTC-USD 1d, first at 2020-04-10, line 202)" in messages["price_jump"]
    assert "line 292" in messages["gap"]  # the gap is where that bar was refused
    assert report.quarantined["line"].tolist() == [292]
    stored = bars.assign(line=pd.array([pd.NA, *range(1, 300)], "Int64"))
    stored.loc[0, "low"] = 0.01
    by_rule = {result.rule: result.message for result in check_bars(stored, series, CheckSpec()).failed()}
    assert "first at 2020-01-01)" in by_rule["absurd_tick"]


def test_a_released_bar_passes_as_long_as_its_values_are_the_same(bars: pd.DataFrame, series: Series) -> None:
    bars.loc[20, "low"] = 0.06
    released = bars.iloc[[10, 20]].assign(rule="absurd_tick")
    report = check_bars(bars, series, CheckSpec(), released=released)
    assert report.failed() == ()
    assert len(report.accepted) == 300
    bars.loc[10, "close"] = -1.0
    released = bars.iloc[[10, 20]]
    hopeless = check_bars(bars, series, CheckSpec(), released=released)  # a price of -1 is unusable even if released
    assert hopeless.quarantined["rule"].tolist() == ["unreal_price"]
    bars.loc[10, "close"] = bars["open"][10]
    bars.loc[20, "low"] = 0.07
    again = check_bars(bars, series, CheckSpec(), released=released)
    assert again.quarantined["value"].tolist() == ["low 0.07"]


def test_a_release_settles_a_doubled_day(bars: pd.DataFrame, series: Series) -> None:
    part = bars.iloc[[50]].assign(high=bars["open"][50], low=bars["open"][50], close=bars["open"][50], volume=1.5)
    doubled = pd.concat([bars[:50], part, part, bars[50:]])
    report = check_bars(doubled, series, CheckSpec(), released=part)
    assert [result.rule for result in report.failed()] == ["lesser_double"]
    assert len(report.accepted) == 300
    assert report.accepted["volume"][50] == 1.5
    assert sorted(report.quarantined["volume"].tolist()) == sorted([1.5, bars["volume"][50]])
    other = bars.iloc[[50]].assign(close=bars["open"][50] * 1.001, volume=np.nan)
    undecided = check_bars(pd.concat([bars[:50], other, bars[50:]]), series, CheckSpec(), released=other)
    assert undecided.accepted["close"][50] == other["close"].iloc[0]
    assert undecided.quarantined["rule"].tolist() == ["lesser_double"]


@pytest.mark.parametrize("price", [1e-12, 1e12, 4.6e18, 200.0])
@pytest.mark.parametrize("day", [0, 150, 299])
def test_a_price_far_from_its_neighbours_is_refused(price: float, day: int, bars: pd.DataFrame, series: Series) -> None:
    bars[["open", "high", "low", "close"]] *= 8000 / bars["close"].median()
    bars.loc[day, ["open", "high", "low", "close"]] = price
    report = check_bars(bars, series, CheckSpec())
    assert report.quarantined["rule"].tolist() == (["absurd_price"] if price != 200.0 else [])
    if price != 200.0:  # a fortieth is a jump to look at
        assert report.quarantined["value"].tolist() == [f"prices {price:.10g} to {price:.10g}"]
        assert report.passed(CheckSpec())


def test_a_lasting_change_of_the_level_is_accepted(bars: pd.DataFrame, series: Series) -> None:
    bars.loc[289:, ["open", "high", "low", "close"]] /= 1000  # eleven bars at the new level
    assert check_bars(bars, series, CheckSpec()).quarantined.empty
    bars.loc[:, ["open", "high", "low", "close"]] *= np.geomspace(1, 1e6, 300)[:, None]
    assert check_bars(bars, series, CheckSpec()).quarantined.empty


@pytest.mark.parametrize("factor", [1000, 1 / 1000])
@pytest.mark.parametrize(("first", "length"), [(0, 1), (0, 10), (1, 4), (150, 1), (150, 2), (150, 10), (285, 9)])
def test_each_bar_of_a_block_at_another_level_is_refused(
    first: int, length: int, factor: float, bars: pd.DataFrame, series: Series
) -> None:
    bars.loc[first : first + length - 1, ["open", "high", "low", "close"]] *= factor
    report = check_bars(bars, series, CheckSpec())
    assert set(report.quarantined["rule"]) == {"absurd_price"}
    refused = report.quarantined["timestamp"].dt.tz_localize(None).tolist()
    assert refused == bars["timestamp"][first : first + length].tolist()


def test_what_ends_with_the_series_may_be_a_lasting_change(bars: pd.DataFrame, series: Series) -> None:
    """Of ten bars at the new level the first is refused: it is accepted with the eleventh."""
    bars.loc[290:, ["open", "high", "low", "close"]] *= 1000
    report = check_bars(bars, series, CheckSpec())
    assert report.quarantined["timestamp"].dt.tz_localize(None).tolist() == [bars["timestamp"][290]]


def test_two_wrong_blocks_leave_the_bars_between_them(bars: pd.DataFrame, series: Series) -> None:
    bars.loc[[150, 151, 154, 155, 156], ["open", "high", "low", "close"]] *= 1000
    refused = check_bars(bars, series, CheckSpec()).quarantined["timestamp"].dt.tz_localize(None).tolist()
    assert refused == bars["timestamp"][[150, 151, 154, 155, 156]].tolist()


@pytest.mark.parametrize("scale", [1e-14, 1e-8, 1e9, 1e12])
def test_a_series_of_any_scale_is_accepted(scale: float, bars: pd.DataFrame, series: Series) -> None:
    """1e-14 is BABYDOGE in bitcoins, 1e9 a bitcoin in rupiah."""
    bars[["open", "high", "low", "close"]] *= scale
    report = check_bars(bars, series, CheckSpec())
    assert report.quarantined.empty
    assert report.passed(CheckSpec())


def test_a_removed_bar_is_refused_as_long_as_its_values_are_the_same(bars: pd.DataFrame, series: Series) -> None:
    removed = bars.iloc[[10, 20]]
    report = check_bars(pd.concat([bars[:20], bars[20:21], bars[20:]]), series, CheckSpec(), removed=removed)
    assert report.quarantined["rule"].tolist() == ["removed_bar"] * 3
    assert len(report.accepted) == 298
    (failure,) = [result for result in report.failed() if result.rule == "removed_bar"]
    assert "found 3 of 301 bars" in failure.message
    assert "`riseorfall release` accepts them again" in failure.message
    assert report.passed(CheckSpec())
    assert check_bars(bars, series, CheckSpec(max_quarantined_share=0), removed=removed).passed(CheckSpec())
    bars.loc[10, "volume"] += 1
    assert check_bars(bars, series, CheckSpec(), removed=removed).quarantined["timestamp"].tolist() == [
        pd.Timestamp(bars["timestamp"][20], tz="UTC")
    ]


@pytest.fixture
def broken_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that works in our own run and raises in Great Expectations."""
    runs = iter([True])
    works = apply_rules._ROW_RULES["absurd_tick"]

    def works_once(batch: pd.DataFrame, limits: dict[str, Any]) -> Any:
        if next(runs, False):
            return works(batch, limits)
        raise ZeroDivisionError("the rule broke")

    monkeypatch.setitem(apply_rules._ROW_RULES, "absurd_tick", works_once)


@pytest.mark.usefixtures("broken_rule")
def test_a_check_that_raises_is_a_critical_failure_and_its_page_renders(
    bars: pd.DataFrame, series: Series, tmp_path: Path
) -> None:
    report = check_bars(bars, series, CheckSpec(), AS_OF, tmp_path)
    (result,) = report.failed()
    assert (result.rule, result.severity) == ("absurd_tick", "critical")
    assert "the rule broke" in result.message
    assert not report.passed(CheckSpec())
    assert "the rule broke" in Path(report.page_url).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        (Outcome(success=True, unexpected=0, broken=""), ""),
        (Outcome(success=True, unexpected=None, broken=""), ""),
        (Outcome(success=False, unexpected=3, broken=""), "two runs of the rule disagree: 3 by Great Expectations, 0"),
        (Outcome(success=False, unexpected=None, broken="no provider"), "the check raised: no provider"),
        (None, "Great Expectations returned no result for it"),
    ],
)
def test_what_great_expectations_does_not_confirm_is_a_problem(outcome: Outcome | None, problem: str) -> None:
    assert validate._disagreement(RuleFinding(passed=True, unexpected=0, observed="none"), outcome).startswith(problem)


def test_good_windows_pass(walk_bars: Bars, gappy_bars: Bars, series: Series, tmp_path: Path) -> None:
    for source in (walk_bars, gappy_bars):
        report = check_windows(cut_windows(source, WINDOW), WINDOW, series, CheckSpec(), tmp_path)
        assert report.failed() == ()
        assert [result.rule for result in report.results] == [rule.name for rule in WINDOW_RULES]
    assert "No window crosses a gap" in Path(report.page_url).read_text(encoding="utf-8")


def test_bad_windows_are_reported(gappy_bars: Bars, series: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "validate_batch", lambda *_: Validation({}, "", ""))
    monkeypatch.setattr(validate, "_disagreement", lambda *_: "")

    def failures(windows: Windows, window: WindowSpec = WINDOW) -> set[str]:
        report = check_windows(windows, window, series, CheckSpec())
        return {result.rule for result in report.failed()}

    good = cut_windows(gappy_bars, WINDOW)
    wrong_ends = np.arange(9, len(gappy_bars) - 2, dtype=np.int64)  # as if there were no gap
    closes = gappy_bars.closed_at
    crossing = Windows(
        interval="1d",
        features=good.features,
        ends=wrong_ends,
        labels=np.resize(np.array([0, 1], dtype=np.int8), len(wrong_ends)),
        decided_at=closes[wrong_ends],
        resolved_at=closes[wrong_ends] + 2 * gappy_bars.delta,
        last_moves=np.zeros(len(wrong_ends), dtype=np.int8),
        label_moves=np.zeros(len(wrong_ends)),
        lookback_bars=10,
    )
    assert failures(crossing) == {"window_gap"}
    assert failures(good, WindowSpec(lookback_bars=10, horizon_bars=3)) == {"label_time"}
    assert failures(good.take(np.arange(20))) == {"enough_windows"}
    assert failures(good.take(good.labels == 1)) >= {"both_labels", "rise_share"}
    features = good.features.copy()
    features[100, 0] = np.nan
    nonfinite = replace(good, features=features)
    assert failures(nonfinite) == {"finite_features"}


def test_importing_the_checks_imports_no_great_expectations() -> None:
    code = "import data_checks.validate, sys; sys.exit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
