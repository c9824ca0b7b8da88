"""Folds: training and validation windows are resolved before the first test decision."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from synthetic_bars import random_walk

from model.bars import Bars
from model.errors import BarsTooShort, SpecError
from model.folds import MINIMUM_TRAINING_WINDOWS, FoldSpec, bars_needed, resolved_before, split_folds
from model.windows import Windows, WindowSpec, cut_windows


def resolved_windows(bars: Bars, **spec: int) -> Windows:
    return cut_windows(bars, WindowSpec(**spec)).resolved()


def test_folds_by_hand() -> None:
    windows = resolved_windows(random_walk(111), lookback_bars=10, horizon_bars=2)  # 100 windows
    assert len(windows) == 100
    folds = split_folds(windows, FoldSpec(test_bars=25, count=2, validation_share=0.2))
    old, new = folds
    # Test starts at window 75, so windows up to 72 were resolved before; 73 of them, of which 15 validate from 58 on.
    assert (old.index, old.test.tolist()) == (0, list(range(75, 88)))
    assert old.validation.tolist() == list(range(58, 73))
    assert old.train.tolist() == list(range(56))
    assert (new.index, new.test.tolist()) == (1, list(range(88, 100)))
    assert new.validation.tolist() == list(range(69, 86))
    assert new.train.tolist() == list(range(67))


@given(
    horizon=st.integers(1, 9),
    stride=st.integers(1, 4),
    test_bars=st.integers(1, 60),
    count=st.integers(1, 7),
    share=st.floats(0.01, 0.5),
    absent=st.sets(st.integers(0, 399), max_size=6),
)
def test_every_training_window_is_resolved_before_the_test(
    horizon: int, stride: int, test_bars: int, count: int, share: float, absent: set[int]
) -> None:
    assume(count <= test_bars)
    windows = resolved_windows(
        random_walk(400, absent=absent), lookback_bars=5, horizon_bars=horizon, stride_bars=stride
    )
    spec = FoldSpec(test_bars=test_bars, count=count, validation_share=share)
    try:
        folds = split_folds(windows, spec)
    except BarsTooShort:
        assert len(windows) < test_bars + 2 * MINIMUM_TRAINING_WINDOWS + 4 * horizon + 2
        return

    assert len(folds) == count > 0
    test = np.concatenate([fold.test for fold in folds])
    assert test.tolist() == list(range(len(windows) - test_bars, len(windows)))
    assert max(len(fold.test) for fold in folds) - min(len(fold.test) for fold in folds) <= 1
    for index, fold in enumerate(folds):
        assert fold.index == index
        assert len(fold.train) >= MINIMUM_TRAINING_WINDOWS
        assert len(fold.validation) >= 1
        first_test, first_validation = windows.decided_at[fold.test].min(), windows.decided_at[fold.validation].min()
        assert windows.resolved_at[fold.train].max() < first_validation
        assert windows.resolved_at[fold.validation].max() < first_test
        # By bars rather than times: the labels read no bar that the first test window could end on.
        assert windows.ends[fold.validation].max() + horizon < windows.ends[fold.test].min()
        assert windows.ends[fold.train].max() + horizon < windows.ends[fold.validation].min()
        # And nothing that could have been used is thrown away.
        assert len(fold.train) + len(fold.validation) >= fold.test[0] - 2 * horizon


@pytest.mark.parametrize("horizon", [1, 3])
def test_the_purge_is_the_horizon(horizon: int) -> None:
    windows = resolved_windows(random_walk(200), lookback_bars=5, horizon_bars=horizon)
    for fold in split_folds(windows, FoldSpec(test_bars=20, count=2)):
        assert fold.test[0] - fold.validation[-1] - 1 == horizon
        assert fold.validation[0] - fold.train[-1] - 1 == horizon


def test_resolved_before_is_strict_and_refuses_the_unresolved() -> None:
    windows = cut_windows(random_walk(10), WindowSpec(lookback_bars=5, horizon_bars=2))  # ends 4..9, two unresolved
    assert resolved_before(windows, windows.resolved_at[2]).tolist() == [True, True, False, False, False, False]
    assert resolved_before(windows, np.datetime64("2100-01-01")).sum() == 4


def test_one_window_too_few_is_refused() -> None:
    spec = FoldSpec(test_bars=20, count=4, validation_share=0.25)
    # 30 to train, 1 purged before the validation, 10 to validate (a quarter of 41), 1 purged before the test, 20.
    enough = resolved_windows(random_walk(67), lookback_bars=5)
    assert len(enough) == 62
    folds = split_folds(enough, spec)
    assert len(folds[0].train) == 30
    with pytest.raises(BarsTooShort, match=r"at least 62 resolved windows \(20 for the test, 41 .* found 61"):
        split_folds(enough.take(np.arange(1, 62)), spec)
    with pytest.raises(BarsTooShort, match="found 0"):
        split_folds(enough.take(np.arange(0)), spec)


@pytest.mark.parametrize(("horizon", "stride"), [(1, 1), (5, 1), (5, 2), (2, 3)])
def test_the_bars_that_the_folds_need_suffice_and_one_bar_fewer_does_not(horizon: int, stride: int) -> None:
    window = WindowSpec(lookback_bars=20, horizon_bars=horizon, stride_bars=stride)
    spec = FoldSpec(test_bars=25, count=2)
    needed = bars_needed(window, spec)
    assert split_folds(cut_windows(random_walk(needed), window).resolved(), spec)
    with pytest.raises(BarsTooShort):
        split_folds(cut_windows(random_walk(needed - 1), window).resolved(), spec)


@pytest.mark.parametrize(("runner", "threads"), [("serial", 1), ("threads", 6), ("dask", 6)])
def test_a_process_fits_a_fold_on_each_core_or_one_in_sequence(
    runner: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert FoldSpec.model_validate({"runner": runner}).threads == threads


def test_windows_that_are_unresolved_or_out_of_order_are_refused(walk_bars: Bars) -> None:
    windows = cut_windows(walk_bars, WindowSpec())
    with pytest.raises(SpecError, match=r"windows\.resolved"):
        split_folds(windows, FoldSpec(test_bars=20))
    backwards = windows.resolved().take(np.arange(len(windows) - 1)[::-1].copy())
    with pytest.raises(SpecError, match="oldest first"):
        split_folds(backwards, FoldSpec(test_bars=20))


@pytest.mark.parametrize(
    "wrong", [{"test_bars": 3, "count": 4}, {"count": 0}, {"validation_share": 0.9}, {"test_bar": 100}]
)
def test_specs_that_make_no_folds_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        FoldSpec.model_validate(wrong)
