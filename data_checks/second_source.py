"""Compares a series with a second one: do prices and labels agree, or would they after a shift in time?

Dates that are one day off pass every check of a single series and make each label wrong; a second series shows it.
Closes are compared at the times at which both series close a bar, so their intervals may differ. A shift is what must
be ADDED to our times: -1 day means that they are dated a day late. Caution: correct sources agree on only 91-98 % of
daily labels, so agreement is compared with that of other shifts, never with 100 %; and a few days of closes already
show a shift, long before there are enough labels.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from data_checks.check_spec import CheckSpec
from model.bars import INTERVAL_NAMES, interval_delta
from model.times import column_times

MIN_CLOSES = 4  # fewest closes in common for a comparison
PART_CLOSES = 50  # compared again by themselves: none of 8,000 such stretches of nine correct files failed
MOST_PARTS = 200  # own choice: parts of a longer history are longer, so that five million bars take seconds
CLEARLY_BETTER = 0.5  # a shift must reduce the spread to less than this share of the unshifted spread: own
LEAST_SPREAD = 0.002  # spread of closes (share) that correct sources may show: 0.03-0.45 % measured on daily bars
TELLING_LABELS = 30  # own choice: of a right shift about 90 % of them agree, of a wrong one about 50 %
HOUR, DAY = np.timedelta64(1, "h"), np.timedelta64(1, "D")
ZONE_HOURS = 24  # time zones differ by less than a day


@dataclass(frozen=True, slots=True)
class Fit:
    """The agreement of two series at one shift.

    Attributes:
        shift_seconds: what was added to our times.
        closes: closes in common.
        level: median ratio of our close to the second's, minus one.
        spread: median absolute deviation of that ratio from its median, relative to the median.
        labels: labels in common (rise or not from one close to the next).
        agreement: share of the labels that are equal; NaN without labels.
    """

    shift_seconds: int
    closes: int
    level: float
    spread: float
    labels: int
    agreement: float


@dataclass(frozen=True, slots=True)
class CrossCheck:
    """The agreement of a series with a second one.

    Attributes:
        unshifted: the fit as the bars are dated.
        best: the fit at the clearly best shift; equal to `unshifted` when there is none.
        agrees: whether times, labels and price level fit the second series.
        message: what was found, with numbers.
    """

    unshifted: Fit
    best: Fit
    agrees: bool
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; unknown numbers are None."""
        fields = asdict(self)
        for fit in (fields["unshifted"], fields["best"]):
            fit |= {name: None for name, value in fit.items() if value != value}  # noqa: PLR0124 - only NaN is not itself
        return fields


def cross_check(bars: pd.DataFrame, other: pd.DataFrame, interval: str, spec: CheckSpec) -> CrossCheck:
    """Compare a series with a second one, unshifted and at shifts of a few bars, hours and days.

    The times of each part of the history must fit too, and the price level of the newest part: a long correct rest
    would hide that a year of it, or what was ingested last, does not. Further back a level may be right: in May 2019
    prices at Bitfinex lay 6 % above those at Kraken.

    Args:
        bars: ours (columns `timestamp`, naive UTC, and `close`); may be unsorted and contain duplicates.
        other: the second series, likewise; its interval is inferred from its times.
        interval: length of our bars.
        spec: limits.
    """
    ours = _closes(bars, interval_delta(interval))
    step = _commonest_step(other)
    theirs = _closes(other, step)
    shifts = _shifts(interval_delta(interval), step, spec.max_shift_bars)
    whole = _compare(ours, theirs, shifts, spec)
    common = np.intersect1d(ours.index.to_numpy(), theirs.index.to_numpy(), assume_unique=True)
    reach = max(shifts).astype(np.int64)
    for start, stop in _parts(len(common)) if whole.agrees else ():
        first, last = common[start], common[stop - 1]
        few_labels = spec.model_copy(update={"min_overlap_bars": stop - start})  # too few of them to judge
        part = _compare(ours.loc[first:last], theirs.loc[first - reach : last + reach], shifts, few_labels)
        closes, is_newest = f"{stop - start} closes in common", stop == len(common)
        if not part.agrees and (is_newest or part.best is not part.unshifted):
            which = f"the newest {closes}" if is_newest else f"{closes} from {_day(first)} to {_day(last)}"
            return replace(part, message=f"{which}: {part.message}")
    return whole


def _parts(closes: int) -> list[tuple[int, int]]:
    """Return start and stop of the parts of a history, the newest closes first; none of a short one."""
    if closes <= PART_CLOSES:
        return []
    size = max(PART_CLOSES, -(-closes // MOST_PARTS))
    stops = [*range(closes, size, -size), min(size, closes)]
    return [(closes - PART_CLOSES, closes), *((stop - size, stop) for stop in stops)]


def _day(moment: np.int64) -> str:
    return str(moment.astype("datetime64[us]"))[:10]


def _compare(ours: pd.Series, theirs: pd.Series, shifts: list[np.timedelta64], spec: CheckSpec) -> CrossCheck:
    """Compare closes with those of the second series at each shift."""
    unshifted = _fit(ours, theirs, shifts[0])
    is_near = unshifted.spread <= LEAST_SPREAD  # no shift is clearly better
    best = _clearly_best([unshifted, *(_fit(ours, theirs, shift) for shift in shifts[1:] if not is_near)])
    if best is None or (best is unshifted and unshifted.closes < MIN_CLOSES):
        message = f"{unshifted.closes} closes in common, at least {MIN_CLOSES} needed: the two do not overlap"
        return CrossCheck(unshifted, unshifted, agrees=False, message=message)
    if best is not unshifted:
        return CrossCheck(unshifted, best, agrees=False, message=_shift_message(unshifted, best, spec))
    enough = unshifted.labels >= spec.min_overlap_bars
    same_labels = not enough or unshifted.agreement >= spec.min_agreement
    same_level = abs(unshifted.level) <= spec.max_price_difference
    agrees = same_labels and same_level
    return CrossCheck(unshifted, best, agrees, _fit_message(unshifted, enough=enough, same_level=same_level))


def _closes(bars: pd.DataFrame, step: np.timedelta64) -> pd.Series:
    """Return positive, finite closes by closing time (microseconds since 1970), sorted, each time once."""
    moments = (column_times(bars["timestamp"]) + step).astype(np.int64)
    closes = pd.Series(bars["close"].to_numpy(dtype=np.float64), index=moments)
    closes = closes[(closes > 0) & np.isfinite(closes)]
    return closes[~closes.index.duplicated(keep="last")].sort_index()


def _commonest_step(bars: pd.DataFrame) -> np.timedelta64:
    """Return the interval of a series, inferred from its times: the most common step, timedelta64[us]."""
    times = np.unique(column_times(bars["timestamp"]))
    if len(times) < 2:  # noqa: PLR2004 - a pair
        return interval_delta("1d")
    steps, counts = np.unique(np.diff(times), return_counts=True)
    commonest = steps[counts.argmax()]
    return min((interval_delta(name) for name in INTERVAL_NAMES), key=lambda delta: abs(delta - commonest))


def _shifts(ours: np.timedelta64, theirs: np.timedelta64, bars: int) -> list[np.timedelta64]:
    """Return the shifts to try, zero first: a few bars, hours of a time zone, days."""
    grid = min(ours, theirs)
    sizes = {number * grid for number in range(1, bars + 1)}
    sizes |= {number * max(ours, theirs) for number in range(1, bars + 1)}
    sizes |= {hours * HOUR for hours in range(1, ZONE_HOURS + 1) if hours * HOUR % grid == np.timedelta64(0)}
    sizes = {size.astype("timedelta64[us]") for size in sizes}
    none = np.timedelta64(0, "us")
    return [none, *(sign * size for size in sorted(sizes) for sign in (-1, 1))]


def _fit(ours: pd.Series, theirs: pd.Series, shift: np.timedelta64) -> Fit:
    """Compare our closes, moved by `shift`, with those of the second series."""
    moved = ours.index.to_numpy() + shift.astype(np.int64)
    moments, mine, other = np.intersect1d(moved, theirs.index.to_numpy(), assume_unique=True, return_indices=True)
    seconds = int(shift // np.timedelta64(1, "s"))
    if len(moments) < MIN_CLOSES:
        return Fit(seconds, len(moments), float("nan"), float("nan"), 0, float("nan"))
    a, b = ours.to_numpy()[mine], theirs.to_numpy()[other]
    ratio = a / b
    level = float(np.median(ratio))
    steps = np.diff(moments)
    following = steps == steps.min()
    equal = ((a[1:] > a[:-1]) == (b[1:] > b[:-1]))[following]
    spread = float(np.median(np.abs(ratio / level - 1)))
    return Fit(seconds, len(moments), level - 1, spread, len(equal), float(equal.mean()))


def _clearly_best(fits: list[Fit]) -> Fit | None:
    """Return the fit of smallest spread if clearly better than the first, else the first; None if none is known."""
    known = [fit for fit in fits if fit.closes >= MIN_CLOSES]
    if not known:
        return None
    first, best = fits[0], min(known, key=lambda fit: fit.spread)
    if first.closes < MIN_CLOSES:
        return first
    better = best.spread < CLEARLY_BETTER * first.spread and first.spread > LEAST_SPREAD
    refuted = min(first.labels, best.labels) >= TELLING_LABELS and best.agreement <= first.agreement
    return best if better and not refuted else first


def _shift_message(unshifted: Fit, best: Fit, spec: CheckSpec) -> str:
    size = _span_text(abs(best.shift_seconds))
    late = "late" if best.shift_seconds < 0 else "early"
    sign = "-" if best.shift_seconds < 0 else "+"
    looks = f"{'dates' if abs(best.shift_seconds) % 86_400 == 0 else 'times'} look {size} {late}"
    after = f"after a shift of {sign}{size}"
    spreads = f"closes differ by {best.spread:.2%} {after}, by {unshifted.spread:.2%} without"
    if min(unshifted.labels, best.labels) < spec.min_overlap_bars:
        return f"{looks}: {spreads} ({best.closes} closes in common)"
    return f"{looks}: {best.agreement:.0%} of labels agree {after}, {unshifted.agreement:.0%} without; {spreads}"


def _span_text(seconds: int) -> str:
    for name, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds % length == 0:
            number = seconds // length
            return f"{number} {name}{'' if number == 1 else 's'}"
    return f"{seconds} seconds"


def _fit_message(fit: Fit, *, enough: bool, same_level: bool) -> str:
    labels = (
        f"{fit.agreement:.1%} of {fit.labels} labels agree" if enough else f"{fit.labels} labels in common, too few"
    )
    level = "" if same_level else " (another symbol, currency or unit?)"
    return f"{labels}; closes lie {fit.level:+.2%} from the second series'{level}, differing by {fit.spread:.2%}"
