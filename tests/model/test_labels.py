"""Rise or fall, and when nobody can know."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_bars import bars_of_closes, random_walk, scrambled

from model.bars import Bars
from model.errors import SpecError
from model.labels import label_rises, stretch_numbers


def slow_label(bars: Bars, bar: int, horizon: int) -> int:
    """Look for the bar that opens exactly `horizon` intervals later, with every bar between present."""
    times, closes = bars.opened_at.tolist(), bars.column("close").tolist()
    step = bars.delta.item()
    wanted = [times[bar] + k * step for k in range(1, horizon + 1)]
    if any(time not in times for time in wanted):
        return -1
    return 1 if closes[times.index(wanted[-1])] > closes[bar] else 0


def test_labels_by_hand() -> None:
    bars = bars_of_closes([10, 11, 11, 9, 12])
    assert label_rises(bars, 1).tolist() == [1, 0, 0, 1, -1]  # a tie is a fall
    assert label_rises(bars, 2).tolist() == [1, 0, 1, -1, -1]
    assert label_rises(bars, 9).tolist() == [-1] * 5


def test_a_label_across_a_gap_is_unresolved() -> None:
    bars = bars_of_closes([10, 11, 12, 13, 14, 15], absent=[3])  # bars 0 1 2 | 4 5
    assert stretch_numbers(bars).tolist() == [0, 0, 0, 1, 1]
    assert label_rises(bars, 1).tolist() == [1, 1, -1, 1, -1]
    assert label_rises(bars, 2).tolist() == [1, -1, -1, -1, -1]


def test_a_tick_of_a_cent_at_sixty_thousand_is_a_rise() -> None:
    assert label_rises(bars_of_closes([60_000.01, 60_000.02]), 1).tolist() == [1, -1]


def test_a_close_that_is_nan_resolves_nothing() -> None:
    bars = bars_of_closes([1, np.nan, 2, 3])
    assert label_rises(bars, 1).tolist() == [-1, -1, 1, -1]


def test_no_bars_have_no_labels_and_no_horizon_no_meaning() -> None:
    assert label_rises(random_walk(1), 1).tolist() == [-1]
    assert len(label_rises(random_walk(3).closed_by(np.datetime64("2000-01-01")), 1)) == 0
    with pytest.raises(SpecError, match="found 0"):
        label_rises(random_walk(3), 0)


@given(
    count=st.integers(2, 40),
    absent=st.sets(st.integers(0, 39), max_size=6),
    horizon=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_labels_equal_the_slow_formula(count: int, absent: set[int], horizon: int, seed: int) -> None:
    bars = random_walk(count, seed=seed, absent=absent)
    assert label_rises(bars, horizon).tolist() == [slow_label(bars, bar, horizon) for bar in range(len(bars))]


@given(start=st.integers(0, 60), horizon=st.integers(1, 6))
def test_labels_do_not_look_past_their_resolution(start: int, horizon: int) -> None:
    bars = random_walk(60, seed=3, absent=(20, 41))
    before, after = label_rises(bars, horizon), label_rises(scrambled(bars, start), horizon)
    known = max(0, start - horizon)
    assert before[:known].tolist() == after[:known].tolist()
