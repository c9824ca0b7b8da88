"""Which bars are refused under which rule, and what the series as a whole shows."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from data_checks.apply_rules import ACCEPTED, Judgement, accepted_bars, gap_list, judge_bars, moment_words
from data_checks.suites import BAR_RULES, CheckSpec, Suite, applicable_rules

SERIES_RULES = [rule.name for rule in BAR_RULES if not rule.columns]


def judge(bars: pd.DataFrame, as_of: str | None = None, interval: str = "1d", **limits: Any) -> Judgement:
    spec = CheckSpec(**limits)
    rules = applicable_rules(with_clock=as_of is not None, with_second_series=False)
    filled = spec.model_dump(mode="json") | {"interval": interval, "as_of": as_of, "comparison": None}
    return judge_bars(bars.reset_index(drop=True), Suite("bars", rules, filled, ()))


def failed(judgement: Judgement) -> set[str]:
    return {name for name, figure in judgement.figures.items() if not figure.passed}


def refused(judgement: Judgement) -> dict[int, tuple[str, str]]:
    bars = judgement.refused()
    return dict(zip(bars.index.tolist(), zip(bars["rule"], bars["value"], strict=True), strict=True))


def test_quiet_bars_break_no_rule(bars: pd.DataFrame) -> None:
    judgement = judge(bars, "2020-10-27")
    assert failed(judgement) == set()
    assert (judgement.batch["verdict"] == ACCEPTED).all()


def test_each_bad_bar_is_refused_under_its_rule_with_its_value(bars: pd.DataFrame) -> None:
    bars.loc[10, "close"] = -1.0
    bars.loc[20, "high"] = 1.0
    bars.loc[30, "volume"] = -5.0
    bars.loc[40, "open"] = np.nan
    bars.loc[50, "low"] = 0.06
    bars.loc[60, "timestamp"] += np.timedelta64(7, "h")
    judgement = judge(bars)
    found = refused(judgement)
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
    assert failed(judgement) == {*(rule for rule, _ in found.values()), "gap"}
    assert judgement.figures["gap"].unexpected == 6
    assert str(judgement.figures["unreal_price"].first_at) == "2020-01-11T00:00:00.000000"


def test_of_a_doubled_day_the_lesser_row_goes_and_the_clock_keeps_the_day(bars: pd.DataFrame) -> None:
    part = bars.iloc[[50]].assign(high=bars["open"][50], low=bars["open"][50], close=bars["open"][50], volume=1.5)
    judgement = judge(pd.concat([bars[:50], part, bars[50:]]))
    assert refused(judgement) == {50: ("lesser_double", "volume 1.5")}
    assert failed(judgement) == {"lesser_double"}


def test_rows_of_one_day_that_contradict_one_another_go_both(bars: pd.DataFrame) -> None:
    other = bars.iloc[[50]].assign(close=bars["open"][50] * 1.001)
    judgement = judge(pd.concat([bars[:50], other, bars[50:]]))
    assert {row: rule for row, (rule, _) in refused(judgement).items()} == {
        50: "undecided_double",
        51: "undecided_double",
    }


def test_an_unfinished_bar_is_left_out_but_not_refused(bars: pd.DataFrame) -> None:
    judgement = judge(bars, "2020-10-26 05:00")
    assert refused(judgement) == {}
    assert failed(judgement) == {"unfinished_bar"}
    assert len(accepted_bars(judgement.batch)[0]) == 299


def test_bars_of_the_future_are_left_out_but_not_refused(bars: pd.DataFrame) -> None:
    judgement = judge(bars, "2020-10-23 05:00")
    assert refused(judgement) == {}
    assert len(accepted_bars(judgement.batch)[0]) == 296
    assert failed(judgement) == {"future_bar", "unfinished_bar"}


@pytest.mark.parametrize(("as_of", "refuses"), [("2020-10-27", True), (None, True), ("2020-10-27 00:05", False)])
def test_a_small_last_bar_is_a_part_unless_a_clock_says_that_it_closed(
    bars: pd.DataFrame, as_of: str | None, refuses: bool
) -> None:
    bars.loc[299, ["high", "low", "close", "volume"]] = *[bars["open"][299]] * 3, 3.0
    found = refused(judge(bars, as_of))
    assert found == ({299: ("part_bar", "volume 3")} if refuses else {})


def test_too_many_refused_bars_fail_the_series(bars: pd.DataFrame) -> None:
    bars.loc[:6, "low"] = 0.06
    assert "too_many_refused" in failed(judge(bars))
    assert "too_many_refused" not in failed(judge(bars, max_quarantined_share=0.03))


def test_a_file_joined_to_itself_loses_no_bar(bars: pd.DataFrame) -> None:
    judgement = judge(pd.concat([bars, bars]))
    assert failed(judgement) == {"lesser_double", "running_back"}
    times, ohlcv = accepted_bars(judgement.batch)
    assert (times == bars["timestamp"].to_numpy()).all()
    assert (ohlcv == bars.iloc[:, 1:].to_numpy()).all()


def test_accepted_bars_are_sorted(bars: pd.DataFrame) -> None:
    judgement = judge(bars[::-1])
    assert failed(judgement) == {"running_back"}
    assert (accepted_bars(judgement.batch)[0] == bars["timestamp"].to_numpy()).all()


def test_gaps_are_listed(bars: pd.DataFrame) -> None:
    gone = bars.drop(index=[10, 11, 12, 100])
    judgement = judge(gone)
    assert judgement.figures["gap"].observed == "2 gaps, 4 bars missing, longest 3 after 2020-01-10"
    gaps = gap_list(accepted_bars(judgement.batch)[0], np.timedelta64(1, "D"))
    assert gaps["missing_bars"].tolist() == [3, 1]
    assert moment_words(gaps["first_after"][0]) == "2020-01-14"


def test_stale_short_jumping_flat_and_misplaced_series_are_told(bars: pd.DataFrame) -> None:
    assert failed(judge(bars, "2020-10-31 12:00")) == {"stale"}
    assert failed(judge(bars[:50])) == {"enough_bars"}
    jumping = bars.copy()
    jumping.loc[100:, ["open", "high", "low", "close"]] *= 3
    assert failed(judge(jumping)) == {"price_jump"}
    flat = bars.copy()
    flat.loc[100:103, ["open", "high", "low", "close", "volume"]] = 100.0, 100.0, 100.0, 100.0, 0.0
    assert failed(judge(flat)) == {"flat_run"}
    misplaced = bars.assign(timestamp=bars["timestamp"] + np.timedelta64(4, "h"))
    assert judge(misplaced).figures["clock_phase"].observed == "bars open 04:00 after it"
    assert failed(judge(misplaced)) == {"clock_phase"}


def test_a_series_without_volumes_breaks_no_rule(bars: pd.DataFrame) -> None:
    assert failed(judge(bars.assign(volume=np.nan))) == set()


def test_no_bars_fail_only_for_being_none(bars: pd.DataFrame) -> None:
    assert failed(judge(bars[:0], "2020-10-27")) == {"enough_bars", "stale"}


def test_every_rule_is_asked_in_the_order_of_the_suite(bars: pd.DataFrame) -> None:
    names = [rule.name for rule in applicable_rules(with_clock=True, with_second_series=False)]
    assert list(judge(bars, "2020-10-27").figures) == names
    assert "second_series" not in names
    assert "second_series" in SERIES_RULES
