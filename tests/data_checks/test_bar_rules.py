"""Each rule by hand: bars that violate it, and bars that do not."""

import numpy as np
import pytest

from data_checks import bar_rules

DAY = np.timedelta64(1, "D")
GOOD = [100.0, 110.0, 90.0, 105.0]  # open, high, low, close


def days(*numbers: int) -> np.ndarray:
    return (np.datetime64("2020-01-01", "us") + np.array(numbers) * DAY).astype("datetime64[us]")


def rows(*bars: list[float]) -> np.ndarray:
    return np.array(bars, dtype=np.float64)


def marked(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(mask).tolist()


def test_a_price_of_minus_one_zero_or_infinity_is_unreal_and_an_absent_one_is_absent() -> None:
    prices = rows(GOOD, [100, 110, 90, -1], [100, 110, 0, 105], [100, np.inf, 90, 105], [np.nan, 110, 90, 105])
    assert marked(bar_rules.unreal_prices(prices)) == [1, 2, 3]
    assert marked(bar_rules.absent_prices(prices)) == [4]


@pytest.mark.parametrize(
    ("bar", "contradicts"),
    [
        (GOOD, False),
        ([100, 100, 100, 100], False),
        ([100, 90, 110, 105], True),  # high under low
        ([111, 110, 90, 105], True),  # open over high
        ([100, 110, 90, 89], True),  # close under low
        ([100, 110, 100 * (1 + 1e-12), 105], False),  # rounding
        ([np.nan, 110, 90, 105], False),
    ],
)
def test_low_and_high_span_open_and_close(bar: list[float], contradicts: bool) -> None:
    assert bar_rules.contradicting_prices(rows(bar))[0] == contradicts


def test_an_absurd_tick_lies_more_than_the_factor_away_from_both_open_and_close() -> None:
    prices = rows(GOOD, [1173.74, 1190.99, 0.06, 1178.85], [3.0, 15.0, 2.7, 2.75], [100, 301, 34, 102])
    assert marked(bar_rules.absurd_ticks(prices, 3.0)) == [1, 2]


def test_volume_may_be_unknown_or_zero_but_not_negative_or_infinite() -> None:
    volume = np.array([np.nan, 0.0, 5.0, -1.0, np.inf, np.nan])
    assert marked(bar_rules.unreal_volumes(volume)) == [3, 4]
    assert marked(bar_rules.unknown_volumes(volume)) == [5]
    assert marked(bar_rules.unknown_volumes(np.full(3, np.nan))) == []


def test_a_partial_row_is_replaced_by_the_full_row_of_the_same_time() -> None:
    bars = rows(
        [17448, 17448, 17442, 17444, 1.67],
        [17448, 17992, 17318, 17930, 1904.4],
        [17948, 19114, 17911, 18853, 5124.5],
    )
    lesser, undecided = bar_rules.doubled_times(days(0, 0, 1), bars)
    assert marked(lesser) == [0]
    assert marked(undecided) == []


@pytest.mark.parametrize(
    ("bar", "is_part"),
    [
        ([100.0, 108.0, 95.0, 107.0, 4.0], True),  # its first hours
        ([97.0, 108.0, 95.0, 105.0, 4.0], True),  # its last ones
        ([97.0, 108.0, 95.0, 107.0, 4.0], False),  # neither
        ([100.0, 111.0, 95.0, 107.0, 4.0], False),  # outside its range
        ([*GOOD, 10.0], False),  # itself
        ([*GOOD, 11.0], False),  # more complete
        ([100.0, 108.0, 95.0, 107.0, np.nan], False),
    ],
)
def test_a_part_of_a_bar_lies_in_its_range_and_has_its_open_or_close(bar: list[float], is_part: bool) -> None:
    assert bar_rules.part_of(rows(bar), rows([*GOOD, 10.0])).tolist() == [is_part]


def test_without_volumes_the_range_decides_what_is_a_part() -> None:
    bars = rows([100.0, 108.0, 95.0, 107.0, np.nan], [*GOOD, np.nan])
    assert bar_rules.part_of(bars, rows([*GOOD, np.nan], [*GOOD, np.nan])).tolist() == [True, False]


def test_of_identical_rows_the_first_is_kept() -> None:
    bar = [100.0, 110.0, 90.0, 105.0, np.nan]
    lesser, undecided = bar_rules.doubled_times(days(0, 1, 1, 1), rows(bar, bar, bar, bar))
    assert marked(lesser) == [2, 3]
    assert marked(undecided) == []


@pytest.mark.parametrize(
    "other",
    [
        [100.0, 110.0, 90.0, 106.0, 7.0],  # another close, the same volume
        [100.0, 120.0, 90.0, 106.0, 3.0],  # a smaller volume in a wider range
        [101.0, 109.0, 95.0, 106.0, 3.0],  # another open
        [100.0, 109.0, 95.0, 106.0, np.nan],  # nothing shows which is the more complete
    ],
)
def test_rows_of_one_time_that_contradict_one_another_are_all_undecided(other: list[float]) -> None:
    full = [100.0, 110.0, 90.0, 105.0, 7.0]
    lesser, undecided = bar_rules.doubled_times(days(0, 1, 1, 2), rows(full, full, other, full))
    assert marked(lesser) == []
    assert marked(undecided) == [1, 2]


def test_a_row_without_real_prices_does_not_contest_the_good_row_of_its_time() -> None:
    full, unreal = [100.0, 110.0, 90.0, 105.0, 7.0], [100.0, 110.0, 90.0, -1.0, 9.0]
    lesser, undecided = bar_rules.doubled_times(days(0, 0), rows(full, unreal))
    assert not lesser.any()
    assert not undecided.any()


def test_times_increase_on_the_most_common_grid() -> None:
    assert marked(bar_rules.times_running_back(days(0, 2, 1, 3))) == [2]
    times = days(0, 1, 2, 3) + np.array([4, 4, 5, 4]).astype("timedelta64[h]")
    assert marked(bar_rules.times_off_grid(times, DAY)) == [2]
    assert bar_rules.clock_phase(times, DAY) == np.timedelta64(4, "h")


def test_a_bar_is_unfinished_until_its_close_and_of_the_future_before_its_open() -> None:
    as_of = np.datetime64("2020-01-02T12:00", "us")
    assert marked(bar_rules.unfinished_bars(days(0, 1, 2), DAY, as_of)) == [1]
    assert marked(bar_rules.future_bars(days(0, 1, 2), as_of)) == [2]
    assert marked(bar_rules.unfinished_bars(days(0, 1), DAY, np.datetime64("2020-01-03", "us"))) == []
    assert bar_rules.age_bars(days(0, 1), DAY, np.datetime64("2020-01-04T12:00", "us")) == 1.5


def test_gaps_are_counted_before_the_bar_that_follows_them() -> None:
    assert bar_rules.missing_before(days(0, 1, 4, 5), DAY).tolist() == [0, 0, 2, 0]


def test_a_jump_is_found_in_both_directions() -> None:
    assert marked(bar_rules.price_jumps(np.array([100.0, 199.0, 401.0, 200.0]), 2.0)) == [2, 3]


def test_a_change_by_exactly_the_factor_is_no_jump() -> None:
    assert marked(bar_rules.price_jumps(np.array([100.0, 200.0, 100.0, 49.9]), 2.0)) == [3]


def test_a_tick_is_measured_from_the_nearer_of_open_and_close() -> None:
    """A bar that falls from 100 to 30, or climbs back, and goes a little further is no bad tick at a factor of 3."""
    prices = np.array([[100.0, 101.0, 29.0, 30.0], [30.0, 101.0, 29.0, 100.0], [30.0, 101.0, 9.9, 100.0],
                       [30.0, 301.0, 29.0, 100.0]])  # fmt: skip
    assert marked(bar_rules.absurd_ticks(prices, 3.0)) == [2, 3]


def test_only_flat_runs_above_the_limit_are_marked() -> None:
    flat, moved = [5.0, 5.0, 5.0, 5.0, 0.0], [5.0, 6.0, 5.0, 6.0, 0.0]
    bars = rows(flat, moved, flat, flat, flat, moved, flat)
    assert marked(bar_rules.flat_runs(bars, 2)) == [2, 3, 4]
    assert marked(bar_rules.flat_runs(bars, 3)) == []


@pytest.mark.parametrize("span", [1.0, 50.0])
@pytest.mark.parametrize(("volume", "is_part"), [(24.0, True), (26.0, False), (36.0, False)])
def test_a_last_bar_of_small_volume_is_a_part_bar_whatever_its_range(volume: float, span: float, is_part: bool) -> None:
    """Volumes of 30 to 100, median 100: a quarter of the median is 25, 0.7 of the smallest 21."""
    bars = np.tile([100.0, 110.0, 90.0, 105.0, 100.0], (30, 1))
    bars[20:25, 4] = 30.0
    bars[-1, 1:5] = 100 + span, 100.0, 100.0, volume
    assert marked(bar_rules.part_bars(bars, 0.25, check_last=True)) == ([29] if is_part else [])
    assert not bar_rules.part_bars(bars, 0.25, check_last=False).any()


@pytest.mark.parametrize(("volume", "is_part"), [(69.0, True), (71.0, False)])
def test_a_last_bar_below_the_smallest_volume_is_a_part_bar(volume: float, is_part: bool) -> None:
    bars = np.tile([100.0, 110.0, 90.0, 105.0, 100.0], (30, 1))
    bars[-1, 4] = volume
    assert marked(bar_rules.part_bars(bars, 0.25, check_last=True)) == ([29] if is_part else [])


@pytest.mark.parametrize(("volume", "is_part"), [(14.0, True), (16.0, False)])
def test_a_whole_first_bar_before_volumes_grew_is_kept(volume: float, is_part: bool) -> None:
    """The volumes after a listing: 30 for two days, then 1,000; a day of 16 is a sixtieth of the median and whole."""
    bars = np.tile([100.0, 101.0, 99.0, 100.0, 1000.0], (30, 1))
    bars[1:3, 4], bars[0, 4] = 30.0, volume
    assert marked(bar_rules.part_bars(bars, 0.25, check_last=False)) == ([0] if is_part else [])


def test_swapped_volume_columns_are_found_at_the_exact_bar() -> None:
    rng = np.random.default_rng(0)
    close = np.full(600, 9_000.0)
    volume = rng.uniform(500, 5_000, 600)
    volume[:251] *= 9_000.0
    (found,) = bar_rules.volume_breaks(volume, close, 50.0)
    assert found.bar == 251
    assert found.factor == pytest.approx(1 / 9_000, rel=0.5)
    assert found.is_swap


def test_a_busy_week_and_a_thin_start_are_no_break_of_the_volume() -> None:
    rng = np.random.default_rng(0)
    volume = rng.uniform(500, 5_000, 600)
    volume[300:307] *= 1_000
    volume[::9] = 0.0
    assert bar_rules.volume_breaks(volume, np.full(600, 9_000.0), 50.0) == ()
    assert bar_rules.volume_breaks(volume[:40], np.full(40, 9_000.0), 50.0) == ()


def test_a_rally_over_weeks_is_no_change_of_the_unit() -> None:
    """Volume and price climb 300-fold within ten weeks and stay there: medians far apart differ as after a swap."""
    rng = np.random.default_rng(0)
    rise = np.exp(np.clip((np.arange(600) - 300) / 70, 0, 1) * np.log(300))
    volume, close = rng.uniform(500, 5_000, 600) * rise, 0.01 * rise
    assert bar_rules.volume_breaks(volume, close, 50.0) == ()
    volume[450:] *= 300 * 0.01 * 100  # the unit changes where the coin costs 3
    (found,) = bar_rules.volume_breaks(volume, close, 50.0)
    assert found.bar == 450


def test_every_rule_accepts_an_empty_series() -> None:
    none, times = np.empty((0, 5)), days()
    assert not bar_rules.doubled_times(times, none)[0].any()
    assert not bar_rules.times_off_grid(times, DAY).any()
    assert not bar_rules.times_running_back(times).any()
    assert not bar_rules.flat_runs(none, 3).any()
    assert not bar_rules.price_jumps(none[:, 3], 2.0).any()
    assert not bar_rules.unknown_volumes(none[:, 4]).any()
    assert bar_rules.missing_before(times, DAY).tolist() == []
    assert bar_rules.clock_phase(times, DAY) == np.timedelta64(0, "us")
    assert bar_rules.age_bars(times, DAY, np.datetime64("2020-01-01", "us")) == np.inf
