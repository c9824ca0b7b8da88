"""Holds a series against a second one: do their labels and prices agree, and would a shift in time make them agree?

A date one day off passes every check of a single series and ruins each label; a second series shows it. Pure: frames
in, figures out. Times are open times, UTC; shifts are in bars, and a shift of -1 means that the bars belong one bar
EARLIER than they are dated. The trap: honest sources agree on 91-98 % of daily labels only, so agreement is judged
against what shifts reach, never against 100 %.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from data_checks.suites import CheckSpec
from model.bars import interval_delta

CLEARLY_BETTER = 0.1  # a shift must win this share of labels over none: far above the 2 % noise of 2,000 labels


@dataclass(frozen=True, slots=True)
class CrossCheck:
    """How far a series agrees with a second one.

    Attributes:
        labels: labels in common as the bars are dated.
        agreement: share of them that are equal.
        price_difference: median absolute difference of closes as a share of the second's.
        best_shift_bars: shift of our times, in bars, at which most labels agree.
        best_agreement: share of equal labels after that shift.
        best_price_difference: median difference of closes after that shift.
        agrees: whether times and price level fit the second series.
        message: what was found, in words.
    """

    labels: int
    agreement: float
    price_difference: float
    best_shift_bars: int
    best_agreement: float
    best_price_difference: float
    agrees: bool
    message: str

    def figures(self) -> dict[str, Any]:
        """Return the fields as a JSON-able mapping."""
        return asdict(self)


def cross_check(bars: pd.DataFrame, other: pd.DataFrame, interval: str, spec: CheckSpec) -> CrossCheck:
    """Compare labels and closes of two series of one interval at shifts of up to `max_shift_bars`.

    Args:
        bars: ours (columns `timestamp`, naive UTC, and `close`); need be neither sorted nor free of doubles.
        other: the second series, likewise.
        interval: length of a bar of both.
        spec: limits.
    """
    ours, theirs = _closes(bars, interval), _closes(other, interval)
    shifts = sorted(range(-spec.max_shift_bars, spec.max_shift_bars + 1), key=abs)
    found = {shift: _compare(ours, theirs, shift) for shift in shifts}
    counted = {shift: each for shift, each in found.items() if each[0] >= spec.min_overlap_bars}
    labels, agreement, difference = found[0]
    if not counted:
        message = f"{labels} labels in common, at least {spec.min_overlap_bars} needed"
        return CrossCheck(labels, agreement, difference, 0, agreement, difference, agrees=False, message=message)
    best = max(counted, key=lambda shift: counted[shift][1])
    _, best_agreement, best_difference = counted[best]
    shifted = best != 0 and best_agreement > (agreement if 0 in counted else 0.0) + CLEARLY_BETTER
    if not shifted:
        best, best_agreement, best_difference = 0, agreement, difference
    close = difference <= spec.max_price_difference
    message = _words(found[0], found[best], best, interval, shifted=shifted, same_level=close)
    agrees = not shifted and agreement >= spec.min_agreement and close
    return CrossCheck(labels, agreement, difference, best, best_agreement, best_difference, agrees, message)


def _closes(bars: pd.DataFrame, interval: str) -> pd.Series:
    """Return closes by number of the bar since 1970, sorted, each number once (the last one given)."""
    numbers = bars["timestamp"].to_numpy().astype("datetime64[us]").astype(np.int64)
    numbers = numbers // interval_delta(interval).astype(np.int64)
    closes = pd.Series(bars["close"].to_numpy(dtype=np.float64), index=numbers).where(lambda close: close > 0).dropna()
    return closes[~closes.index.duplicated(keep="last")].sort_index()


def _compare(ours: pd.Series, theirs: pd.Series, shift: int) -> tuple[int, float, float]:
    """Return labels in common, the share of them that are equal, and the median price difference, after a shift."""
    moved = ours.index.to_numpy() + shift
    common, mine, other = np.intersect1d(moved, theirs.index.to_numpy(), assume_unique=True, return_indices=True)
    if not len(common):
        return 0, float("nan"), float("nan")
    a, b = ours.to_numpy()[mine], theirs.to_numpy()[other]
    following = _following(common)
    labels = int(following.sum())
    equal = (a[1:] > a[:-1]) == (b[1:] > b[:-1])
    agreement = float(equal[following].mean()) if labels else float("nan")
    return labels, agreement, float(np.median(np.abs(a / b - 1)))


def _following(numbers: Int64[np.ndarray, " bar"]) -> np.ndarray:
    return np.diff(numbers) == 1


def _words(
    plain: tuple[int, float, float],
    best: tuple[int, float, float],
    shift: int,
    interval: str,
    *,
    shifted: bool,
    same_level: bool,
) -> str:
    labels, agreement, difference = plain
    if shifted:
        unit = {"1d": "day", "1h": "hour", "1m": "minute"}.get(interval, f"bar of {interval}")
        size = f"{abs(shift)} {unit}{'s' if abs(shift) > 1 else ''}"
        direction = "late" if shift < 0 else "early"
        return (
            f"times look {size} {direction}: {best[1]:.0%} of labels agree after a shift of "
            f"{'-' if shift < 0 else '+'}{size}, {agreement:.0%} without"
        )
    level = (
        "" if same_level else f"; closes differ by {difference:.2%} at the median: another symbol, currency or unit?"
    )
    return (
        f"{agreement:.1%} of {labels} labels agree, closes differ by {difference:.2%} at the median"
        if same_level
        else (f"{agreement:.1%} of {labels} labels agree{level}")
    )
