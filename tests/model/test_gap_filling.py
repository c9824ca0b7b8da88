"""Filled gaps: flat, marked, counted, never longer than allowed, and never a decision nor an outcome."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from synthetic_bars import bars_of_closes, random_walk, scrambled

from model.bars import Bars, gap_sizes
from model.errors import BarsTooShort
from model.folds import FoldSpec
from model.gap_filling import GapRule, fill_gaps
from model.leak_audit import audit
from model.windows import Windows, WindowSpec, cut_windows

absent_bars = st.sets(st.integers(1, 58), max_size=25)
FILL = GapRule(kind="fill", max_fill_bars=2)


def without(bars: Bars, *gone: int) -> Bars:
    kept = np.setdiff1d(np.arange(len(bars)), gone)
    return Bars(bars.interval, bars.opened_at[kept], bars.ohlcv[kept])


def test_by_default_nothing_is_filled() -> None:
    bars = random_walk(60, absent=(7, 30, 31))
    same, filled = fill_gaps(bars, GapRule())
    assert same is bars
    assert not filled.any()
    assert WindowSpec().gaps == GapRule()


def test_a_short_gap_by_hand() -> None:
    whole = bars_of_closes([10, 11, 12, 13, 14, 15, 16, 17])
    bars, filled = fill_gaps(without(whole, 2, 4, 5), FILL)
    assert bars.opened_at.tolist() == whole.opened_at.tolist()
    assert filled.tolist() == [False, False, True, False, True, True, False, False]
    assert bars.column("close").tolist() == [10, 11, 11, 13, 13, 13, 16, 17]
    assert bars.ohlcv[4].tolist() == [13, 13, 13, 13, 0]
    np.testing.assert_array_equal(bars.ohlcv[~filled], whole.ohlcv[~filled])


def test_a_longer_gap_is_not_filled_in_part() -> None:
    bars, filled = fill_gaps(random_walk(60, absent=(7, 30, 31, 32)), FILL)
    assert filled.sum() == 1
    assert gap_sizes(bars).max() == 3


@given(absent=absent_bars, longest=st.integers(1, 4))
def test_filling_adds_only_what_is_missing_and_changes_nothing_that_is_there(absent: set[int], longest: int) -> None:
    bars = random_walk(60, seed=3, absent=absent)
    more, filled = fill_gaps(bars, GapRule(kind="fill", max_fill_bars=longest))
    sizes = gap_sizes(bars)
    assert filled.sum() == sizes[sizes <= longest].sum()
    np.testing.assert_array_equal(more.opened_at[~filled], bars.opened_at)
    np.testing.assert_array_equal(more.ohlcv[~filled], bars.ohlcv)
    assert (np.diff(more.opened_at) > np.timedelta64(0)).all()
    assert sorted(gap_sizes(more)[gap_sizes(more) > 0]) == sorted(sizes[sizes > longest])
    before = more.column("close")[np.flatnonzero(filled) - 1]
    np.testing.assert_array_equal(more.ohlcv[filled, :4], np.repeat(before[:, None], 4, axis=1))


def try_cut(bars: Bars, spec: WindowSpec) -> Windows | None:
    try:
        return cut_windows(bars, spec)
    except BarsTooShort:
        return None


@given(absent=absent_bars, horizon=st.integers(1, 3), stride=st.integers(1, 3))
def test_no_window_ends_at_a_filled_bar_and_no_label_crosses_one(absent: set[int], horizon: int, stride: int) -> None:
    bars = random_walk(60, seed=3, absent=absent)
    spec = WindowSpec(lookback_bars=4, horizon_bars=horizon, stride_bars=stride, gaps=FILL)
    windows = try_cut(bars, spec)
    if windows is None:
        return
    assert not np.isin(windows.ends, windows.filled).any()
    assert np.isin(windows.decided_at, bars.closed_at).all()
    known = windows.labels >= 0
    dropping = try_cut(bars, WindowSpec(lookback_bars=4, horizon_bars=horizon))
    if dropping is not None:  # a window that needs no filling has the label that it has without
        label = dict(zip(dropping.decided_at.tolist(), dropping.labels.tolist(), strict=True))
        same = [
            label.get(at, found) == found for at, found in zip(windows.decided_at.tolist(), windows.labels, strict=True)
        ]
        assert all(same)
    assert np.isin(windows.resolved_at[known], bars.closed_at).all()
    close = dict(zip(bars.closed_at.tolist(), bars.column("close").tolist(), strict=True))
    rises = [
        int(close[resolved] > close[decided])
        for resolved, decided in zip(
            windows.resolved_at[known].tolist(), windows.decided_at[known].tolist(), strict=True
        )
    ]
    assert windows.labels[known].tolist() == rises
    assert windows.take(known).filled.tolist() == windows.filled.tolist()


@given(absent=absent_bars, seen=st.integers(0, 59))
def test_later_bars_change_no_window_that_was_decided(absent: set[int], seen: int) -> None:
    bars = random_walk(60, seed=3, absent=absent)
    spec = WindowSpec(lookback_bars=4, gaps=FILL)
    seen = min(seen, len(bars))
    whole = try_cut(bars, spec)
    for other in (
        try_cut(scrambled(bars, seen), spec),
        try_cut(Bars("1d", bars.opened_at[:seen], bars.ohlcv[:seen]), spec),
    ):
        if whole is None or other is None:
            continue
        moment = bars.closed_at[seen - 1] if seen else np.datetime64("1970-01-01", "us")
        old, new = whole.take(whole.decided_at <= moment), other.take(other.decided_at <= moment)
        np.testing.assert_array_equal(old.decided_at, new.decided_at)
        np.testing.assert_array_equal(old.values(), new.values())


def test_filling_gives_more_windows_and_passes_the_audit() -> None:
    bars = random_walk(300, seed=1, absent=(40, 41, 120, *range(250, 262)))
    dropping, filling = cut_windows(bars, WindowSpec()), cut_windows(bars, WindowSpec(gaps=FILL))
    assert len(filling) == len(dropping) + 2 * 29  # two gaps no longer cost the 29 windows that cross each
    assert len(filling.filled) == 3
    assert set(dropping.decided_at) < set(filling.decided_at)
    with pytest.raises(ValidationError):
        GapRule(kind="fill", max_fill_bars=0)
    folds = FoldSpec(test_bars=60, count=2)
    audit(bars, WindowSpec(gaps=FILL, horizon_bars=2), folds, sample=40).require("filled bars")
