"""Windows equal the article's, have no look-ahead, cross no gap, and need no more memory than their bars."""

import numpy as np
import pytest
from article_windows import article_windows
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from synthetic_bars import bars_of_closes, random_walk, scrambled

from model.bars import Bars
from model.errors import BarsTooShort, SpecError
from model.windows import MAX_MOVES, Windows, WindowSpec, anchor, cut_windows, standardise

specs = st.builds(
    WindowSpec,
    lookback_bars=st.integers(2, 8),
    horizon_bars=st.integers(1, 5),
    stride_bars=st.integers(1, 4),
)
gaps = st.sets(st.integers(0, 59), max_size=5)


def head(bars: Bars, count: int) -> Bars:
    return Bars(bars.interval, bars.opened_at[:count], bars.ohlcv[:count])


def try_cut(bars: Bars, spec: WindowSpec) -> Windows | None:
    try:
        return cut_windows(bars, spec)
    except BarsTooShort:
        return None


@pytest.mark.parametrize(("window", "step", "forecast"), [(30, 1, 0), (30, 1, 1), (5, 3, 0), (12, 7, 4), (2, 1, 2)])
def test_windows_are_the_articles(window: int, step: int, forecast: int) -> None:
    bars = random_walk(200, seed=5)
    newest_first = [tuple(row) for row in bars.ohlcv[::-1, :4].tolist()]  # as the article's file comes
    expected, labels = article_windows(newest_first[::-1], window, step, forecast)

    spec = WindowSpec(lookback_bars=window, horizon_bars=forecast + 1, stride_bars=step)
    windows = cut_windows(bars, spec).resolved()

    assert len(windows) == len(expected) > 20
    assert windows.labels.tolist() == labels
    np.testing.assert_allclose(standardise(windows.values()), np.array(expected), rtol=0, atol=1e-9)


def test_windows_by_hand() -> None:
    bars = bars_of_closes([10, 11, 11, 9, 12])
    windows = cut_windows(bars, WindowSpec(lookback_bars=2, features=("close",)))
    assert windows.values()[:, :, 0].tolist() == [[10, 11], [11, 11], [11, 9], [9, 12]]
    assert windows.ends.tolist() == [1, 2, 3, 4]
    assert windows.labels.tolist() == [0, 0, 1, -1]
    assert windows.last_moves.tolist() == [1, 0, -1, 1]
    assert windows.decided_at.astype(str).tolist()[0] == "2018-01-03T00:00:00.000000"  # close of 2 January's bar
    assert windows.resolved_at.astype(str).tolist() == [
        "2018-01-04T00:00:00.000000",
        "2018-01-05T00:00:00.000000",
        "2018-01-06T00:00:00.000000",
        "NaT",
    ]


@given(spec=specs, absent=gaps, seed=st.integers(0, 5))
def test_no_window_and_no_label_crosses_a_gap(spec: WindowSpec, absent: set[int], seed: int) -> None:
    bars = random_walk(60, seed=seed, absent=absent)
    times, step = bars.opened_at.tolist(), bars.delta.item()
    present = set(times)
    expected = [  # by the calendar, bar by bar
        (end, all(times[end] + k * step in present for k in range(1, spec.horizon_bars + 1)))
        for end in range(spec.lookback_bars - 1, len(bars), spec.stride_bars)
        if all(times[end] - k * step in present for k in range(spec.lookback_bars))
    ]
    windows = try_cut(bars, spec)
    if windows is None:
        assert not expected
        return
    assert windows.ends.tolist() == [end for end, _ in expected]
    assert (windows.labels >= 0).tolist() == [known for _, known in expected]
    assert (~np.isnat(windows.resolved_at)).tolist() == [known for _, known in expected]
    for row, end, decided_at, resolved_at in zip(
        windows.values(), windows.ends, windows.decided_at.tolist(), windows.resolved_at.tolist(), strict=True
    ):
        np.testing.assert_array_equal(row, bars.ohlcv[end - spec.lookback_bars + 1 : end + 1, :4])
        assert decided_at == times[end] + step
        assert resolved_at in (None, decided_at + spec.horizon_bars * step)


@given(spec=specs, absent=gaps, seen=st.integers(0, 60), seed=st.integers(0, 5))
def test_bars_after_the_decision_change_no_window(spec: WindowSpec, absent: set[int], seen: int, seed: int) -> None:
    bars = random_walk(60, seed=seed, absent=absent)
    seen = min(seen, len(bars))
    whole = try_cut(bars, spec)
    for other in (try_cut(scrambled(bars, seen), spec), try_cut(head(bars, seen), spec)):
        if other is None:
            assert whole is None or whole.ends[0] >= seen
            continue
        assert whole is not None
        decided = int(np.searchsorted(whole.ends, seen))  # windows whose last bar was seen
        first = np.arange(decided)
        old, new = whole.take(first), other.take(first)
        for name in ("ends", "decided_at", "last_moves"):
            np.testing.assert_array_equal(getattr(old, name), getattr(new, name))
        np.testing.assert_array_equal(old.values(), new.values())
        known = old.ends + spec.horizon_bars < seen
        np.testing.assert_array_equal(old.labels[known], new.labels[known])
        np.testing.assert_array_equal(old.resolved_at[known], new.resolved_at[known])


@given(spec=specs, absent=gaps, count=st.integers(10, 60))
def test_appended_bars_only_append_windows_and_resolve_labels(spec: WindowSpec, absent: set[int], count: int) -> None:
    bars = random_walk(60, seed=2, absent=absent)
    before, after = try_cut(head(bars, min(count, len(bars))), spec), try_cut(bars, spec)
    if before is None or after is None:
        assert before is None
        return
    kept = after.take(np.arange(len(before)))
    np.testing.assert_array_equal(kept.ends, before.ends)
    was_known = before.labels >= 0
    np.testing.assert_array_equal(kept.labels[was_known], before.labels[was_known])


def test_windows_share_the_matrix_and_cost_no_copy() -> None:
    bars = random_walk(5_000)
    windows = cut_windows(bars, WindowSpec(lookback_bars=500))
    part = windows.resolved().take(np.arange(0, 1_000, 3))
    assert np.shares_memory(windows.view, windows.features)
    assert np.shares_memory(part.view, windows.features)
    assert windows.view.shape == (4_501, 500, 4)
    kept = sum(getattr(windows, name).nbytes for name in ("features", "ends", "labels", "decided_at", "resolved_at"))
    assert kept < 2 * bars.ohlcv.nbytes
    assert part.values().shape == (334, 500, 4)
    assert part.values().flags.c_contiguous
    np.testing.assert_array_equal(part.values()[1], windows.view[3])


def test_masks_and_indices_take_the_same_windows(gappy_bars: Bars) -> None:
    windows = cut_windows(gappy_bars, WindowSpec())
    mask = windows.labels == 1
    np.testing.assert_array_equal(windows.take(mask).ends, windows.take(np.flatnonzero(mask)).ends)
    assert len(windows.resolved()) == int((windows.labels >= 0).sum()) < len(windows)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_bars_for_one_window_says_how_many(count: int) -> None:
    with pytest.raises(
        BarsTooShort, match=rf"expected at least 10 bars .* found {count} bars.* longest stretch {count}"
    ):
        cut_windows(head(random_walk(9), count), WindowSpec(lookback_bars=10))


def test_stretches_too_short_for_one_window_name_the_gaps() -> None:
    bars = random_walk(20, absent=(7, 15))
    assert len(cut_windows(bars, WindowSpec(lookback_bars=7))) == 2
    with pytest.raises(BarsTooShort, match=r"found 18 bars, .* with 2 gaps, the longest stretch 7 bars"):
        cut_windows(bars, WindowSpec(lookback_bars=8))


def test_windows_of_a_missing_column_are_refused() -> None:
    bars = random_walk(20)
    bars.ohlcv[:, 4] = np.nan
    assert len(cut_windows(bars, WindowSpec(lookback_bars=5))) == 16
    with pytest.raises(SpecError, match="volume"):
        cut_windows(bars, WindowSpec(lookback_bars=5, features=("close", "volume")))


@pytest.mark.parametrize(
    "wrong", [{"lookback_bars": 1}, {"horizon_bars": 0}, {"stride_bars": 0}, {"features": ()}, {"WINDOW": 30}]
)
def test_specs_out_of_bounds_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        WindowSpec.model_validate(wrong)
    with pytest.raises(ValidationError, match="each column once"):
        WindowSpec(features=("close", "close"))


def test_a_constant_channel_standardises_to_zeros() -> None:
    values = np.full((3, 30, 2), 0.1)  # thirty times 0.1 has no exact mean in floating point
    values[:, :, 1] = np.arange(30)
    standardised = standardise(values)
    assert (standardised[:, :, 0] == 0).all()
    np.testing.assert_allclose(standardised[:, :, 1].mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(standardised[:, :, 1].std(axis=1), 1)


@pytest.mark.parametrize("count", [1, 2, 272, 273, 274, 700])  # 273 windows make a chunk
def test_chunks_change_no_bit_and_standardised_windows_are_their_standardised_values(count: int) -> None:
    bars = random_walk(900, seed=4, absent=(100, 333, 334))
    windows = cut_windows(bars, WindowSpec()).take(np.arange(count))
    values = windows.values()
    whole = standardise(values)
    for at in {0, count // 2, count - 1}:
        np.testing.assert_array_equal(standardise(values[at : at + 1])[0], whole[at])
    np.testing.assert_array_equal(windows.standardised(), whole)
    some = windows.take(np.random.default_rng(0).permutation(count))
    np.testing.assert_array_equal(some.standardised(), standardise(some.values()))
    shifted = values - values[:, :1]
    slow = (shifted - shifted.mean(axis=1, keepdims=True)) / shifted.std(axis=1, keepdims=True)
    np.testing.assert_allclose(whole, slow, rtol=0, atol=1e-12)


def test_chosen_windows_are_not_taken_for_consecutive_ones_by_their_ends() -> None:
    chosen = cut_windows(random_walk(60), WindowSpec()).take(np.array([0, 5, 2, 3]))  # as far apart as 0, 1, 2, 3
    np.testing.assert_array_equal(chosen.standardised(), standardise(chosen.values()))


def test_no_windows_standardise_to_none() -> None:
    none = cut_windows(random_walk(40), WindowSpec()).take(np.arange(0))
    assert none.standardised().shape == standardise(none.values()).shape == (0, 30, 4)


def test_a_cent_at_sixty_thousand_is_kept() -> None:
    cents = np.tile([1.0, 2.0, 3.0], 10)
    prices = 60_000 + cents / 100
    assert np.ptp(np.diff(prices[:3].astype(np.float32))) > 1e-3  # float32 would make unequal steps of equal ones
    standardised = standardise(prices.reshape(1, 30, 1))
    np.testing.assert_allclose(standardised[0, :, 0], np.tile([-1, 0, 1], 10) * np.sqrt(1.5), atol=1e-8)


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(0, 1e5))
def test_the_unit_of_price_does_not_matter(scale: float, shift: float) -> None:
    values = cut_windows(random_walk(40), WindowSpec(lookback_bars=30)).values()
    np.testing.assert_allclose(standardise(values * scale + shift), standardise(values), atol=1e-6)


def test_anchored_prices_by_hand() -> None:
    # Closes 100, 103, 99: moves of 3 and -4, typical move 5 / sqrt(2); three bars back is divided by sqrt(3) of it.
    values = np.array([[[101.0, 100.0], [102.0, 103.0], [100.0, 99.0]]])
    move = 5 / np.sqrt(2)
    expected = [
        [2 / (move * np.sqrt(3)), 1 / (move * np.sqrt(3))],
        [3 / (move * np.sqrt(2)), 4 / (move * np.sqrt(2))],
        [1 / move, 0.0],
    ]
    np.testing.assert_allclose(anchor(values)[0], expected)


def test_anchoring_clips_a_bad_tick_and_gives_zeros_for_constant_closes() -> None:
    values = cut_windows(random_walk(40), WindowSpec(lookback_bars=30)).values()[:3]
    values[0, 12, 2] = 0.06  # a low, as a real file has it
    values[1] = 0.1 + 0.2
    anchored = anchor(values)
    assert anchored[0, 12, 2] == -MAX_MOVES
    assert not anchored[1].any()
    assert np.isfinite(anchored).all()


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(0, 1e5))
def test_anchored_prices_know_no_unit_and_their_spread_does_not_grow_with_age(scale: float, shift: float) -> None:
    values = cut_windows(random_walk(400), WindowSpec(lookback_bars=30)).values()
    anchored = anchor(values)
    np.testing.assert_allclose(anchor(values * scale + shift), anchored, atol=1e-6)
    spread = anchored[:, :-1, 3].std(axis=0)
    assert spread.max() < 2 * spread.min()
