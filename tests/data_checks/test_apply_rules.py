"""Which rule refuses which bars, and the findings for the series as a whole."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data_checks.apply_rules import ACCEPTED, RuleResults, accepted_bars, apply_bar_rules, gap_list
from data_checks.check_spec import CheckSpec
from data_checks.offending_values import time_text
from data_checks.rule_definitions import BAR_RULES, NEVER_RELEASED, WINDOW_RULES, Suite, applicable_rules

SERIES_RULES = [rule.name for rule in BAR_RULES if not rule.columns]


def results_of(
    bars: pd.DataFrame, as_of: str | None = None, interval: str = "1d", *, last_is_whole: bool = False, **limits: Any
) -> RuleResults:
    spec = CheckSpec(**limits)
    rules = applicable_rules(with_clock=as_of is not None, with_second_series=False)
    more = {"interval": interval, "as_of": as_of, "last_is_whole": last_is_whole, "comparison": None}
    filled = spec.model_dump(mode="json") | more
    return apply_bar_rules(bars.reset_index(drop=True), Suite("bars", rules, filled, ()))


def failed(applied: RuleResults) -> set[str]:
    return {name for name, finding in applied.findings.items() if not finding.passed}


def refused(applied: RuleResults) -> dict[int, tuple[str, str]]:
    bars = applied.refused()
    return dict(zip(bars.index.tolist(), zip(bars["rule"], bars["value"], strict=True), strict=True))


def test_one_bar_is_no_bars() -> None:
    one = dict.fromkeys(("min_bars", "max_age_bars", "max_flat_bars", "min_windows", "horizon_bars", "as_of"), 1)
    texts = {rule.name: rule.statement(one) for rule in (*BAR_RULES, *WINDOW_RULES) if ":bar" in rule.expected}
    assert texts == {
        "enough_bars": "The checks leave at least 1 bar",
        "stale": "The newest bar closed at most 1 bar before 1",
        "flat_run": "At most 1 bar in a row without price range and volume",
        "label_time": "Each label is resolved 1 bar after its decision",
    }
    (stale,) = (rule for rule in BAR_RULES if rule.name == "stale")
    assert "at most 2.5 bars before" in stale.statement(one | {"max_age_bars": 2.5})
    assert "at most 3 bars before" in stale.statement(one | {"max_age_bars": 3.0})


def test_which_failures_stop_a_run_and_which_bars_go_to_the_quarantine() -> None:
    """As in docs/one-retrain.md; every other failure is a warning."""
    by_severity: dict[str, set[str]] = {"critical": set(), "warning": set(), "info": set()}
    for rule in (*BAR_RULES, *WINDOW_RULES):
        by_severity[rule.severity].add(rule.name)
    assert by_severity["critical"] == {
        "unreal_price", "contradicting_price", "unreal_volume", "too_many_refused", "enough_bars", "second_series",
        "enough_windows", "finite_features", "window_gap", "label_time", "both_labels",
    }  # fmt: skip
    assert by_severity["info"] == {"unfinished_bar", "unknown_volume", "clock_phase"}
    assert {rule.name for rule in BAR_RULES if rule.quarantines} == {
        "removed_bar", "unreal_price", "contradicting_price", "unreal_volume", "undecided_double", "absent_price",
        "lesser_double", "absurd_tick", "off_grid", "absurd_price", "part_bar",
    }  # fmt: skip
    assert set(NEVER_RELEASED) == {"unreal_price", "unreal_volume", "absent_price", "off_grid"}


def test_quiet_bars_break_no_rule(bars: pd.DataFrame) -> None:
    applied = results_of(bars, "2020-10-27")
    assert failed(applied) == set()
    assert (applied.batch["verdict"] == ACCEPTED).all()


def test_each_bad_bar_is_refused_under_its_rule_with_its_value(bars: pd.DataFrame) -> None:
    bars.loc[10, "close"] = -1.0
    bars.loc[20, "high"] = 1.0
    bars.loc[30, "volume"] = -5.0
    bars.loc[40, "open"] = np.nan
    bars.loc[50, "low"] = 0.06
    bars.loc[60, "timestamp"] += np.timedelta64(7, "h")
    applied = results_of(bars)
    found = refused(applied)
    assert {row: rule for row, (rule, _) in found.items()} == {
        10: "unreal_price",
        20: "contradicting_price",
        30: "unreal_volume",
        40: "absent_price",
        50: "absurd_tick",
        60: "off_grid",
    }
    assert found[10][1] == "close -1"
    assert found[20][1].startswith("high 1 under ")
    assert found[30][1] == "volume -5"
    assert found[40][1] == "open absent"
    assert found[50][1] == "low 0.06"
    assert found[60][1] == "opened 2020-03-01 07:00"
    assert failed(applied) == {*(rule for rule, _ in found.values()), "gap"}
    assert applied.findings["gap"].unexpected == 6
    assert str(applied.findings["unreal_price"].first_at) == "2020-01-11T00:00:00.000000"


def test_of_a_duplicated_day_the_partial_row_is_refused_and_no_gap_appears(bars: pd.DataFrame) -> None:
    part = bars.iloc[[50]].assign(high=bars["open"][50], low=bars["open"][50], close=bars["open"][50], volume=1.5)
    applied = results_of(pd.concat([bars[:50], part, bars[50:]]))
    assert refused(applied) == {50: ("lesser_double", "volume 1.5")}
    assert failed(applied) == {"lesser_double"}


def test_contradicting_rows_of_one_day_are_both_refused(bars: pd.DataFrame) -> None:
    other = bars.iloc[[50]].assign(close=bars["open"][50] * 1.001)
    applied = results_of(pd.concat([bars[:50], other, bars[50:]]))
    first, second = bars["open"][50] * 1.001, bars["close"][50]
    assert refused(applied) == {
        50: ("undecided_double", f"close {first:.10g} vs. {second:.10g}"),
        51: ("undecided_double", f"close {second:.10g} vs. {first:.10g}"),
    }
    assert applied.findings["undecided_double"].observed == f"2 of 301 bars, first close {first:.10g} vs. {second:.10g}"
    assert failed(applied) == {"undecided_double", "gap"}
    assert all(rule.severity == "warning" for rule in BAR_RULES if rule.name in failed(applied))


def test_an_unfinished_bar_is_dropped_but_not_refused(bars: pd.DataFrame) -> None:
    applied = results_of(bars, "2020-10-26 05:00")
    assert refused(applied) == {}
    assert failed(applied) == {"unfinished_bar"}
    assert len(accepted_bars(applied.batch)[0]) == 299


def test_bars_of_the_future_are_dropped_but_not_refused(bars: pd.DataFrame) -> None:
    applied = results_of(bars, "2020-10-23 05:00")
    assert refused(applied) == {}
    assert len(accepted_bars(applied.batch)[0]) == 296
    assert failed(applied) == {"future_bar", "unfinished_bar"}


@pytest.mark.parametrize("as_of", ["2020-10-27", None, "2020-12-01"])
def test_a_small_last_bar_is_a_part_bar_unless_the_source_goes_on(bars: pd.DataFrame, as_of: str | None) -> None:
    """A file ends with a part bar where it was downloaded during that bar, however long ago."""
    bars.loc[299, ["high", "low", "close", "volume"]] = *[bars["open"][299]] * 3, 3.0
    assert refused(results_of(bars, as_of)) == {299: ("part_bar", "volume 3")}
    assert refused(results_of(bars, as_of, last_is_whole=True)) == {}
    later = bars.iloc[299:].assign(timestamp=bars["timestamp"][299] + pd.Timedelta("1D"))
    found = refused(results_of(pd.concat([bars, later]), "2020-10-27"))  # the later one has not closed
    assert found == {}


def test_limits_of_count_and_age_are_met_when_they_are_reached(bars: pd.DataFrame) -> None:
    """300 bars, of which the last closes on 2020-10-27."""
    assert "enough_bars" not in failed(results_of(bars, min_bars=300))
    assert results_of(bars, min_bars=302).findings["enough_bars"].unexpected == 2
    assert "stale" not in failed(results_of(bars, "2020-10-30", max_age_bars=3))
    assert "stale" in failed(results_of(bars, "2020-10-30 00:01", max_age_bars=3))


def test_too_many_refused_bars_fail_the_series(bars: pd.DataFrame) -> None:
    bars.loc[:6, "low"] = 0.06
    assert "too_many_refused" in failed(results_of(bars))
    assert "too_many_refused" not in failed(results_of(bars, max_quarantined_share=0.03))


@pytest.mark.parametrize(
    ("stored", "read", "bad", "passes"),
    [
        (3000, 51, 4, True),  # 2 % of 200: one to four bad ticks do not stop a daily ingest
        (3000, 51, 5, False),  # 0.16 % of all bars
        (3000, 1, 1, True),
        (3000, 300, 6, True),
        (3000, 300, 7, False),
        (0, 300, 6, True),  # a first ingest
        (0, 300, 7, False),
        (0, 100, 3, False),  # 3 % of all bars
    ],
)
def test_too_many_refused_bars_of_one_ingest_fail_it_however_many_are_stored(
    quiet: Callable[[int], pd.DataFrame], stored: int, read: int, bad: int, *, passes: bool
) -> None:
    bars = quiet(stored + read).assign(ingested=np.arange(stored + read) >= stored)
    bars.loc[stored : stored + bad - 1, "low"] = 0.06
    finding = results_of(bars).findings["too_many_refused"]
    assert (finding.passed, finding.unexpected) == (passes, bad)
    if (stored, bad) == (3000, 5):
        assert finding.observed == "5 of 3051 bars (0.16%), 5 of 51 read by this ingest (9.80%)"


def test_too_many_refused_stored_bars_fail_the_ingest_of_good_ones(quiet: Callable[[int], pd.DataFrame]) -> None:
    """As where a file of another time zone outnumbers the stored bars, which are then off the grid."""
    bars = quiet(600).assign(ingested=np.arange(600) >= 250)
    bars.loc[:12, "low"] = 0.06
    assert "too_many_refused" in failed(results_of(bars))


def test_a_file_appended_to_itself_loses_no_bar(bars: pd.DataFrame) -> None:
    applied = results_of(pd.concat([bars, bars]))
    assert failed(applied) == {"lesser_double", "running_back"}
    times, ohlcv = accepted_bars(applied.batch)
    assert (times == bars["timestamp"].to_numpy()).all()
    assert (ohlcv == bars.iloc[:, 1:].to_numpy()).all()


def test_accepted_bars_are_sorted(bars: pd.DataFrame) -> None:
    applied = results_of(bars[::-1])
    assert failed(applied) == {"running_back"}
    assert (accepted_bars(applied.batch)[0] == bars["timestamp"].to_numpy()).all()


def test_gaps_are_listed(bars: pd.DataFrame) -> None:
    gone = bars.drop(index=[10, 11, 12, 100])
    applied = results_of(gone)
    assert applied.findings["gap"].observed == "4 bars missing in 2 gaps, the longest of 3 bars after 2020-01-10"
    gone.loc[50, "low"] = -1.0  # the source has it; it is refused
    found = results_of(gone).findings["gap"]
    assert found.observed == ("5 bars missing in 3 gaps (1 refused, 4 absent), the longest of 3 bars after 2020-01-10")
    assert results_of(bars.drop(index=100)).findings["gap"].observed == "1 bar missing in 1 gap after 2020-04-09"
    gaps = gap_list(accepted_bars(applied.batch)[0], np.timedelta64(1, "D"))
    assert gaps["missing_bars"].tolist() == [3, 1]
    assert time_text(gaps["first_after"][0]) == "2020-01-14"


def test_stale_short_jumping_flat_and_misaligned_series_are_reported(bars: pd.DataFrame) -> None:
    assert failed(results_of(bars, "2020-10-31 12:00")) == {"stale"}
    assert failed(results_of(bars[:50])) == {"enough_bars"}
    jumping = bars.copy()
    jumping.loc[100:, ["open", "high", "low", "close"]] *= 3
    assert failed(results_of(jumping)) == {"price_jump"}
    flat = bars.copy()
    flat.loc[100:103, ["open", "high", "low", "close", "volume"]] = 100.0, 100.0, 100.0, 100.0, 0.0
    assert failed(results_of(flat)) == {"flat_run"}
    misaligned = bars.assign(timestamp=bars["timestamp"] + np.timedelta64(4, "h"))
    assert results_of(misaligned).findings["clock_phase"].observed == "bars open 04:00 after it"
    assert failed(results_of(misaligned)) == {"clock_phase"}


def test_a_series_without_volumes_breaks_no_rule(bars: pd.DataFrame) -> None:
    assert failed(results_of(bars.assign(volume=np.nan))) == set()


def test_an_empty_series_fails_only_for_having_no_bars(bars: pd.DataFrame) -> None:
    assert failed(results_of(bars[:0], "2020-10-27")) == {"enough_bars", "stale"}


def test_every_rule_is_applied_in_the_order_of_the_suite(bars: pd.DataFrame) -> None:
    names = [rule.name for rule in applicable_rules(with_clock=True, with_second_series=False)]
    assert list(results_of(bars, "2020-10-27").findings) == names
    assert "second_series" not in names
    assert "second_series" in SERIES_RULES
