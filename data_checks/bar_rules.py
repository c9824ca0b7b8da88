"""The rules of good bars as pure functions: from arrays to a mask over the bars or to a number of the series.

The logic of each rule is here and nowhere else; `apply_rules.py` and, through it, the Great Expectations expectations
call it. It knows no severities, no messages and no Great Expectations. Times are open times, datetime64[us], UTC;
prices are in the quote currency, volumes in the source's unit. Caution: comparisons with NaN are false, so each rule
states how it treats an absent value.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from model.bars import is_closed

ROUNDING = 1e-9  # relative slack between prices that a source computed separately; far under any exchange's price step
PART_BAR_NEIGHBOURS = 20  # bars that define a usual volume; own: four trading weeks of daily bars
LEVEL_BARS = 21  # bars whose median close is the level of prices; own: a wrong price lasts for at most ten bars
LEVELS_AT_ONCE = 100_000  # 17 MB
# Measured on 12 coins, 2020-2024: of whole days 0.1 % are marked as first and 1.2 % as last bars; of days cut to 2, 6,
# 9 and 12 hours 96, 61, 23 and 7 % as first, 97, 78, 54 and 31 % as last ones.
PART_OF_LEAST_FIRST, PART_OF_LEAST_LAST = 0.5, 0.7
VALUE_RULES = ("unreal_price", "contradicting_price", "unreal_volume", "absent_price", "absurd_tick")
HALF = np.log10(2)
VOLUME_BLOCKS = 2_000  # blocks that volumes are grouped into, so that five million bars cost as little as 2,000
VOLUME_BLOCK_BARS = 8  # fewest bars in a block
VOLUME_SIDE_BLOCKS = 8  # blocks on each side whose medians must differ: a lasting level, not a busy day


@dataclass(frozen=True, slots=True)
class VolumeBreak:
    """A bar after which volumes stay at another order of magnitude.

    Attributes:
        bar: index of the first bar after the break.
        factor: median volume after it over the median before it.
        price: median close around it, quote currency.
    """

    bar: int
    factor: float
    price: float

    @property
    def is_swap(self) -> bool:
        """Whether the factor is about the price (or its inverse): base and quote volume were swapped."""
        nearness = abs(abs(np.log10(self.factor)) - abs(np.log10(self.price)))
        return bool(nearness < 0.5)  # noqa: PLR2004 - half an order of magnitude


def absent_prices(prices: Float64[np.ndarray, "bar 4"]) -> Bool[np.ndarray, " bar"]:
    """Mark bars without one of their four prices (NaN), shape (bar,)."""
    mask: Bool[np.ndarray, " bar"] = np.isnan(prices).any(axis=1)
    return mask


def unreal_prices(prices: Float64[np.ndarray, "bar 4"]) -> Bool[np.ndarray, " bar"]:
    """Mark bars with a price that is zero, negative or infinite, shape (bar,); NaN is left to `absent_prices`."""
    mask: Bool[np.ndarray, " bar"] = ((prices <= 0) | np.isinf(prices)).any(axis=1)
    return mask


def contradicting_prices(prices: Float64[np.ndarray, "bar 4"]) -> Bool[np.ndarray, " bar"]:
    """Mark bars that break low <= open, close <= high, shape (bar,); NaN violates nothing."""
    opened, high, low, close = prices.T
    above = np.fmax(opened, close) > high * (1 + ROUNDING)
    below = np.fmin(opened, close) < low * (1 - ROUNDING)
    mask: Bool[np.ndarray, " bar"] = above | below | (low > high)
    return mask


def absurd_ticks(prices: Float64[np.ndarray, "bar 4"], factor: float) -> Bool[np.ndarray, " bar"]:
    """Mark bars whose low or high lies more than `factor` times away from open and close, shape (bar,)."""
    opened, high, low, close = prices.T
    mask: Bool[np.ndarray, " bar"] = (low < np.fmin(opened, close) / factor) | (high > np.fmax(opened, close) * factor)
    return mask


def absurd_prices(prices: Float64[np.ndarray, "bar 4"], factor: float) -> Bool[np.ndarray, " bar"]:
    """Mark bars with a price more than `factor` times away from the level around them, shape (bar,); oldest first.

    The level is the median close of the 21 nearest bars. Only a bar that is as far from the close before or after
    it is marked, and the bars between two such, or between the start of the series and one: a price that climbs that
    far step by step is real. A lasting change of the level marks its first bar until ten bars have followed, then none.

    Time: entry t depends on the bars of its block, and on the 20 before and after it.
    """
    none = np.zeros(len(prices), dtype=bool)
    close, highest, lowest = prices[:, 3], prices.max(axis=1), prices.min(axis=1)
    far = none.copy()
    far[1:] |= (highest[1:] > close[:-1] * factor) | (lowest[1:] * factor < close[:-1])
    far[:-1] |= (highest[:-1] > close[1:] * factor) | (lowest[:-1] * factor < close[1:])
    if len(prices) < 3 or not far.any():  # noqa: PLR2004 - of two bars neither is the odd one
        return none
    near_bars = min(LEVEL_BARS, len(prices))
    beyond_level = none.copy()
    reach = LEVEL_BARS // 2
    near_far = np.flatnonzero(np.convolve(far, np.ones(LEVEL_BARS, np.int8))[reach : reach + len(prices)])
    for bars in np.array_split(near_far, 1 + len(near_far) // LEVELS_AT_ONCE):
        first = np.clip(bars - near_bars // 2, 0, len(prices) - near_bars)
        level = np.median(close[first[:, None] + np.arange(near_bars)], axis=1)
        beyond_level[bars] = (highest[bars] > level * factor) | (lowest[bars] * factor < level)
    mask: Bool[np.ndarray, " bar"] = far & beyond_level
    starts, ends = _runs(beyond_level)
    is_block = mask[ends - 1] & (mask[starts] | (starts == 0))
    mask |= _in_runs(starts[is_block], ends[is_block], len(prices))
    return mask


def unreal_volumes(volume: Float64[np.ndarray, " bar"]) -> Bool[np.ndarray, " bar"]:
    """Mark bars with a negative or infinite volume, shape (bar,); an unknown volume (NaN) is allowed."""
    mask: Bool[np.ndarray, " bar"] = (volume < 0) | np.isinf(volume)
    return mask


def unknown_volumes(volume: Float64[np.ndarray, " bar"]) -> Bool[np.ndarray, " bar"]:
    """Mark bars without a volume (NaN) after the first bar that has one, shape (bar,)."""
    unknown = np.isnan(volume)
    mask: Bool[np.ndarray, " bar"] = unknown & np.logical_or.accumulate(~unknown)
    return mask


def by_values(rule: str, ohlcv: Float64[np.ndarray, "bar 5"], absurd_tick_factor: float) -> Bool[np.ndarray, " bar"]:
    """Mark the bars that break one of `VALUE_RULES`, shape (bar,): it can be seen in the bar's own values."""
    prices = ohlcv[:, :4]
    if rule == "unreal_price":
        return unreal_prices(prices)
    if rule == "contradicting_price":  # a price of -1 is reported as `unreal_price`
        mask: Bool[np.ndarray, " bar"] = contradicting_prices(prices) & ~unreal_prices(prices)
        return mask
    if rule == "unreal_volume":
        return unreal_volumes(ohlcv[:, 4])
    if rule == "absent_price":
        return absent_prices(prices)
    return absurd_ticks(prices, absurd_tick_factor)


def times_running_back(times: Shaped[np.ndarray, " bar"]) -> Bool[np.ndarray, " bar"]:
    """Mark bars that stand after a bar of a later time, shape (bar,)."""
    mask = np.zeros(len(times), dtype=bool)
    mask[1:] = times[1:] < np.maximum.accumulate(times)[:-1]
    return mask


def times_off_grid(times: Shaped[np.ndarray, " bar"], delta: np.timedelta64) -> Bool[np.ndarray, " bar"]:
    """Mark bars whose time within the interval is not the commonest one, shape (bar,)."""
    phase = times.astype("datetime64[us]").astype(np.int64) % delta.astype("timedelta64[us]").astype(np.int64)
    if not len(phase) or (phase == phase[0]).all():
        return np.zeros(len(times), dtype=bool)
    found, counts = np.unique(phase, return_counts=True)
    mask: Bool[np.ndarray, " bar"] = phase != found[counts.argmax()]
    return mask


def clock_phase(times: Shaped[np.ndarray, " bar"], delta: np.timedelta64) -> np.timedelta64:
    """Return how long after the interval's UTC grid the bars of a series open, timedelta64[us]; 0 for none."""
    step = delta.astype("timedelta64[us]").astype(np.int64)
    phase = times[~times_off_grid(times, delta)][:1].astype("datetime64[us]").astype(np.int64) % step
    return np.timedelta64(int(phase.sum()), "us")


def doubled_times(
    times: Shaped[np.ndarray, " bar"], ohlcv: Float64[np.ndarray, "bar 5"]
) -> tuple[Bool[np.ndarray, " bar"], Bool[np.ndarray, " bar"]]:
    """Find bars that share an open time, and decide which of them to keep.

    In each group the bar of the largest volume (then the widest range, then the first) is compared with the others.
    Another bar is a duplicate when it is identical, or an earlier state of the same bar: same open, low and high
    within its range, and a smaller volume. Bars with unreal or absent prices are ignored: other rules refuse them.

    Returns:
        lesser: shape (bar,), duplicates that a more complete bar of the same open time replaces.
        undecided: shape (bar,), all bars of groups that contain a bar which is no duplicate.
    """
    lesser = np.zeros(len(times), dtype=bool)
    undecided = np.zeros(len(times), dtype=bool)
    if len(times) < 2 or (np.diff(times) > np.timedelta64(0)).all():  # noqa: PLR2004 - a pair
        return lesser, undecided
    prices = ohlcv[:, :4]
    real = ~(absent_prices(prices) | unreal_prices(prices))
    import pandas as pd  # imported here: takes a second, and only times out of order need it

    doubled = np.flatnonzero(real & pd.Series(np.where(real, times, np.datetime64("NaT"))).duplicated(keep=False))
    if not len(doubled):
        return lesser, undecided
    span = ohlcv[doubled, 1] - ohlcv[doubled, 2]
    volume = np.nan_to_num(ohlcv[doubled, 4], nan=-1.0)
    order = doubled[np.lexsort((doubled, -span, -volume, times[doubled]))]
    starts = np.r_[True, times[order][1:] != times[order][:-1]]
    group = np.cumsum(starts) - 1
    bar, fullest = ohlcv[order], ohlcv[order[starts]][group]
    identical = ((bar == fullest) | (np.isnan(bar) & np.isnan(fullest))).all(axis=1)
    inside = (bar[:, 1] <= fullest[:, 1]) & (bar[:, 2] >= fullest[:, 2]) & (bar[:, 0] == fullest[:, 0])
    explained = identical | (inside & (bar[:, 4] < fullest[:, 4]))
    contradicted = np.bincount(group, ~explained) > 0
    lesser[order[~starts & ~contradicted[group]]] = True
    undecided[order[contradicted[group]]] = True
    return lesser, undecided


def part_of(bars: Float64[np.ndarray, "bar 5"], whole: Float64[np.ndarray, "bar 5"]) -> Bool[np.ndarray, " bar"]:
    """Mark bars that cover a part of another bar of the same open time, shape (bar,); row by row.

    Such a bar lies within the range of the other, has its open or its close, and a smaller volume (or neither has one).
    """
    (opened, high, low, close, volume), (opened_, high_, low_, close_, volume_) = bars.T, whole.T
    inside = (high <= high_) & (low >= low_) & ((opened == opened_) | (close == close_))
    unknown = np.isnan(volume) & np.isnan(volume_) & (bars[:, :4] != whole[:, :4]).any(axis=1)
    mask: Bool[np.ndarray, " bar"] = inside & ((volume < volume_) | unknown)
    return mask


def unfinished_bars(
    times: Shaped[np.ndarray, " bar"], delta: np.timedelta64, as_of: np.datetime64
) -> Bool[np.ndarray, " bar"]:
    """Mark bars that had opened but not closed at `as_of`, shape (bar,)."""
    unfinished: np.ndarray = (times <= as_of) & ~is_closed(times, delta, as_of)
    return unfinished


def future_bars(times: Shaped[np.ndarray, " bar"], as_of: np.datetime64) -> Bool[np.ndarray, " bar"]:
    """Mark bars that had not opened at `as_of`, shape (bar,)."""
    return times > as_of


def part_bars(ohlcv: Float64[np.ndarray, "bar 5"], share: float, *, check_last: bool) -> Bool[np.ndarray, " bar"]:
    """Mark a first or last bar that covers a part of its interval only, shape (bar,); its volume shows it.

    A last bar is one if it has less than `share` of the median volume of the 20 bars before it, or less than
    `PART_OF_LEAST_LAST` of their smallest: a whole one refused comes back with the next ingest. A first bar does not
    come back, and volumes grow after a listing: it is one below `PART_OF_LEAST_FIRST` of the smallest of the next 20.
    """
    mask = np.zeros(len(ohlcv), dtype=bool)
    volume = ohlcv[:, 4]
    after, before = volume[1 : PART_BAR_NEIGHBOURS + 1], volume[-PART_BAR_NEIGHBOURS - 1 : -1]
    if len(ohlcv) <= PART_BAR_NEIGHBOURS:
        return mask
    mask[0] = not np.isnan(after).all() and volume[0] < PART_OF_LEAST_FIRST * np.nanmin(after)
    if check_last and not np.isnan(before).all():
        mask[-1] = volume[-1] < max(share * np.nanmedian(before), PART_OF_LEAST_LAST * np.nanmin(before))
    return mask


def missing_before(times: Shaped[np.ndarray, " bar"], delta: np.timedelta64) -> Int64[np.ndarray, " bar"]:
    """Count the bars that are missing just before each bar, shape (bar,); `times` strictly increases on the grid."""
    missing = np.zeros(len(times), dtype=np.int64)
    missing[1:] = np.diff(times) // delta - 1
    return missing


def price_jumps(close: Float64[np.ndarray, " bar"], factor: float) -> Bool[np.ndarray, " bar"]:
    """Mark bars whose close is more than `factor` times the previous close, or under 1/`factor` of it, shape (bar,).

    Time: entry t depends on bars t-1 and t.
    """
    mask = np.zeros(len(close), dtype=bool)
    mask[1:] = (close[1:] > close[:-1] * factor) | (close[1:] * factor < close[:-1])
    return mask


def flat_runs(ohlcv: Float64[np.ndarray, "bar 5"], longest: int) -> Bool[np.ndarray, " bar"]:
    """Mark bars in runs of more than `longest` bars without a price move and without volume, shape (bar,)."""
    flat = (ohlcv[:, 1] == ohlcv[:, 2]) & ~(ohlcv[:, 4] > 0)
    starts, ends = _runs(flat)
    long = ends - starts > longest
    return _in_runs(starts[long], ends[long], len(flat))


def _runs(mask: Bool[np.ndarray, " bar"]) -> tuple[Int64[np.ndarray, " run"], Int64[np.ndarray, " run"]]:
    """Return the first bar of each run of marked bars, and the bar after it, each of shape (run,)."""
    edges = np.flatnonzero(np.diff(np.r_[False, mask, False].astype(np.int8)))
    return edges[::2], edges[1::2]


def _in_runs(starts: Int64[np.ndarray, " run"], ends: Int64[np.ndarray, " run"], bars: int) -> Bool[np.ndarray, " bar"]:
    """Mark the bars of runs, shape (bar,)."""
    change = np.zeros(bars + 1, dtype=np.int64)
    change[starts], change[ends] = 1, -1
    mask: Bool[np.ndarray, " bar"] = np.cumsum(change[:-1]) > 0
    return mask


def volume_breaks(
    volume: Float64[np.ndarray, " bar"], close: Float64[np.ndarray, " bar"], factor: float
) -> tuple[VolumeBreak, ...]:
    """Find the bars from which the volume stays more than `factor` times higher or lower than before.

    Compares medians of log10 volume in blocks (without bars that have no volume), so that one busy day is no break. The
    blocks on both sides of a break must show half of the factor: a change of unit happens between two bars.
    """
    traded = np.flatnonzero(volume > 0)
    size = max(VOLUME_BLOCK_BARS, len(traded) // VOLUME_BLOCKS)
    blocks = len(traded) // size
    side = VOLUME_SIDE_BLOCKS
    if blocks < 2 * side:
        return ()
    level = np.log10(volume[traded])
    medians = np.median(level[: blocks * size].reshape(blocks, size), axis=1)
    sides = np.median(np.lib.stride_tricks.sliding_window_view(medians, side), axis=1)
    step = sides[side:] - sides[:-side]  # entry k: blocks k+side.. against blocks ..k+side-1
    found = []
    while (largest := int(np.abs(step).argmax())) >= 0 and abs(step[largest]) > np.log10(factor):
        near = slice(max(0, largest * size), (largest + 2 * side) * size)
        split = near.start + _split(level[near])
        sides_of_it = level[max(0, split - size) : split], level[split : split + size]
        at_once = abs(np.median(sides_of_it[1]) - np.median(sides_of_it[0])) > np.log10(factor) - HALF
        bar = int(traded[split])
        price = float(np.median(close[max(0, bar - size) : bar + size]))
        if at_once:  # a rally raises volumes as far, but over weeks
            found.append(VolumeBreak(bar, float(10 ** step[largest]), price))
        step[max(0, largest - 2 * side) : largest + 2 * side + 1] = 0.0
    return tuple(sorted(found, key=lambda volume_break: volume_break.bar))


def _split(level: np.ndarray) -> int:
    """Return the first index after the step that fits `level` best by least squares."""
    count = np.arange(1, len(level))
    before = np.cumsum(level)[:-1]
    after = level.sum() - before
    return int((before**2 / count + after**2 / (len(level) - count)).argmax()) + 1


def age_bars(times: Shaped[np.ndarray, " bar"], delta: np.timedelta64, as_of: np.datetime64) -> float:
    """Return how many intervals before `as_of` the newest bar closed; infinite without bars."""
    if not len(times):
        return float("inf")
    return float((as_of - (times.max() + delta)) / delta)
