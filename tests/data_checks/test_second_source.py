"""A second series shows what a single one cannot: dates a day off, times of another zone, another price level."""

import re

import numpy as np
import pandas as pd
import pytest

from data_checks.check_spec import CheckSpec
from data_checks.second_source import cross_check

SPEC = CheckSpec()


def walk(count: int, step: str, seed: int = 0) -> pd.DataFrame:
    """Closes of a random walk; a minute moves it as much as a minute moves Bitcoin."""
    scale = {"D": 0.03, "h": 0.006, "m": 0.0008}[step]
    close = 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, scale, count)))
    times = np.datetime64("2020-01-01", "us") + np.arange(count) * np.timedelta64(1, step)
    return pd.DataFrame({"timestamp": times, "close": close})


def another_source(bars: pd.DataFrame, noise: float = 0.002) -> pd.DataFrame:
    return bars.assign(close=bars["close"] * np.exp(np.random.default_rng(9).normal(0, noise, len(bars))))


def moved(bars: pd.DataFrame, amount: int, unit: str) -> pd.DataFrame:
    return bars.assign(timestamp=bars["timestamp"] + np.timedelta64(amount, unit))


def test_a_correct_second_source_agrees() -> None:
    bars = walk(500, "D")
    found = cross_check(bars, another_source(bars), "1d", SPEC)
    assert found.agrees
    assert found.best == found.unshifted
    assert found.unshifted.labels == 499
    assert found.unshifted.agreement > 0.9


@pytest.mark.parametrize(
    ("days", "start"), [(1, "dates look 1 day late"), (-1, "dates look 1 day early"), (2, "dates look 2 days late")]
)
def test_shifted_dates_are_reported_with_the_shift_that_corrects_them(days: int, start: str) -> None:
    bars = walk(500, "D")
    found = cross_check(moved(bars, days, "D"), another_source(bars), "1d", SPEC)
    assert not found.agrees
    assert found.message.startswith(start)
    assert found.best.shift_seconds == -days * 86_400
    assert f"after a shift of {'-' if days > 0 else '+'}{abs(days)} day" in found.message
    assert found.unshifted.agreement == pytest.approx(0.5, abs=0.08)


def test_minutes_of_another_zone_are_found_from_a_few_days_of_another_interval() -> None:
    minutes = walk(7 * 1_440, "m")
    closes = minutes.iloc[1_439::1_440]
    days = another_source(moved(closes, -1_439, "m"), noise=0.0003)
    assert cross_check(minutes, days, "1m", SPEC).agrees
    found = cross_check(moved(minutes, 9, "h"), days, "1m", SPEC)
    assert not found.agrees
    assert found.message.startswith("times look 9 hours late")
    assert "7 closes in common" in found.message


def test_hours_stamped_by_their_close_are_found() -> None:
    hours = walk(2_000, "h")
    found = cross_check(moved(hours, 1, "h"), another_source(hours, noise=0.0005), "1h", SPEC)
    assert found.message.startswith("times look 1 hour late")


@pytest.mark.parametrize(
    ("newest", "found_as"),
    [(moved(walk(500, "D").iloc[-41:-1], 1, "D"), "dates look 1 day late"), (walk(500, "D").iloc[-40:], "")],
)
def test_the_newest_bars_are_compared_by_themselves(newest: pd.DataFrame, found_as: str) -> None:
    """Forty days of five hundred: over all days the labels agree on 95 %, and the median of the closes is right."""
    bars = walk(500, "D")
    ours = pd.concat([bars.iloc[:-40], newest], ignore_index=True)
    found = cross_check(ours, another_source(bars), "1d", SPEC)
    assert found.agrees == (not found_as)
    assert found.message.startswith(f"the newest 50 closes in common: {found_as}" if found_as else "9")


def test_the_newest_bars_of_another_coin_are_found() -> None:
    bars = walk(500, "D")
    ours = bars.assign(close=np.where(np.arange(500) < 460, bars["close"], bars["close"] / 20))
    found = cross_check(ours, another_source(bars), "1d", SPEC)
    assert not found.agrees
    assert "closes lie -95" in found.message


@pytest.mark.parametrize("first", [0, 333, 800])
def test_a_part_of_the_history_is_compared_by_itself(first: int) -> None:
    """Of two thousand days a hundred are dated a day late: over all the labels agree on 90 %."""
    bars = walk(2_000, "D")
    late = bars.index.isin(range(first, first + 100))
    ours = bars.assign(timestamp=bars["timestamp"] + np.where(late, np.timedelta64(1, "D"), np.timedelta64(0, "D")))
    found = cross_check(ours, another_source(bars), "1d", SPEC)
    assert not found.agrees
    assert re.match(r"50 closes in common from 20[-\d]{8} to 20[-\d]{8}: dates look 1 day late", found.message)
    assert cross_check(bars, another_source(bars), "1d", SPEC).agrees


def test_a_level_that_differs_for_some_weeks_is_no_fault_unless_they_are_the_newest() -> None:
    bars = walk(500, "D")
    for first, agrees in ((100, True), (440, False)):
        dear = bars.index.isin(range(first, first + 60))
        ours = bars.assign(close=np.where(dear, bars["close"] * 1.06, bars["close"]))
        assert cross_check(ours, another_source(bars), "1d", SPEC).agrees == agrees


def test_hours_of_london_are_found_by_their_summer() -> None:
    """The whole fits, and so do the newest hours: four of six months are winter time."""
    hours = walk(24 * 180, "h").assign(timestamp=lambda frame: frame["timestamp"] + np.timedelta64(240, "D"))
    local = hours["timestamp"].dt.tz_localize("UTC").dt.tz_convert("Europe/London").dt.tz_localize(None)
    found = cross_check(hours.assign(timestamp=local), another_source(hours, noise=0.0005), "1h", SPEC)
    assert not found.agrees
    assert re.match("50 closes in common from 2020-10-.*: times look 1 hour late", found.message)


def test_another_price_level_is_no_shift() -> None:
    bars = walk(500, "D")
    found = cross_check(bars, bars.assign(close=bars["close"] * 1.2), "1d", SPEC)
    assert not found.agrees
    assert found.best == found.unshifted
    assert "another symbol, currency or unit?" in found.message


def test_two_unrelated_series_do_not_agree() -> None:
    found = cross_check(walk(500, "D", seed=1), walk(500, "D", seed=2), "1d", SPEC)
    assert not found.agrees


def test_without_overlap_nothing_is_claimed() -> None:
    found = cross_check(walk(100, "D"), moved(walk(100, "D"), 1_000, "D"), "1d", SPEC)
    assert not found.agrees
    assert "do not overlap" in found.message
    assert found.to_dict()["unshifted"]["agreement"] is None


def test_duplicated_unsorted_and_unreal_closes_are_handled() -> None:
    bars = walk(300, "D")
    messy = pd.concat([bars[::-1], bars[100:110], bars[:1].assign(close=-1.0)])
    assert cross_check(messy, another_source(bars), "1d", SPEC).agrees
