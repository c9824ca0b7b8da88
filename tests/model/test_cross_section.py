"""The context of a bar by hand: ranks among the series present, moves in multiples of their typical size."""

from collections.abc import Mapping

import numpy as np
import pytest
from synthetic_bars import random_walk
from synthetic_panel import panel_bars

from model.bars import Bars
from model.cross_section import CONTEXT, cross_section


def test_context_by_hand() -> None:
    opened_at = np.datetime64("2024-01-01", "us") + np.arange(30) * np.timedelta64(1, "D")
    rng = np.random.default_rng(1)
    closes = {symbol: np.exp(np.cumsum(rng.normal(0, 0.02, 30))) for symbol in "ABC"}
    bars = {symbol: Bars("1d", opened_at, np.repeat(close[:, None], 5, axis=1)) for symbol, close in closes.items()}
    found = cross_section(bars, reference="B")
    moves = {symbol: np.diff(np.log(close)) for symbol, close in closes.items()}
    typical = {symbol: np.sqrt(np.mean(move[-20:] ** 2)) for symbol, move in moves.items()}
    trend = {symbol: move[-20:].sum() for symbol, move in moves.items()}

    def rank(values: Mapping[str, float], symbol: str) -> float:
        return float(sorted(values.values()).index(values[symbol]) - 1)

    for symbol in "ABC":
        expected = (
            rank({each: move[-1] for each, move in moves.items()}, symbol),
            rank(trend, symbol),
            rank(typical, symbol),
            sorted(moves[each][-1] / typical[each] for each in "ABC")[1],
            moves["B"][-1] / typical["B"],
        )
        assert found[symbol][-1] == pytest.approx(expected, abs=1e-12)
        assert (found[symbol][0] == 0).all()  # nothing is known at the first bar


def flat_bars(**closes: np.ndarray) -> dict[str, Bars]:
    """Return daily bars by symbol with these closes."""
    days = np.datetime64("2024-01-01", "us") + np.arange(200) * np.timedelta64(1, "D")
    return {
        symbol: Bars("1d", days[: len(each)], np.repeat(each[:, None], 5, axis=1)) for symbol, each in closes.items()
    }


def test_trend_and_typical_move_begin_with_the_tenth_move() -> None:
    closes = np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.02, (30, 3)), axis=0))
    moves, found = (
        np.diff(np.log(closes), axis=0),
        cross_section(flat_bars(**dict(zip("ABC", closes.T, strict=True))), "A"),
    )
    assert (found["B"][:10, 1:] == 0).all()  # nine moves
    assert found["B"][1:10, 0].any()
    for row in (10, 14):
        known = moves[:row]
        unusual = known[-1] / np.sqrt(np.mean(known**2, axis=0))
        assert found["C"][row, 3:] == pytest.approx([np.median(unusual), unusual[0]])
        assert sorted(found[each][row, 1] for each in "ABC") == [-1, 0, 1]
        assert found["ABC"[int(np.argmax(known.sum(axis=0)))]][row, 1] == 1


def test_a_gap_of_all_series_has_no_move_and_a_series_alone_has_no_rank() -> None:
    bars = {symbol: random_walk(60, seed=seed, absent={40}) for seed, symbol in enumerate("ABC")}
    found = cross_section(bars, "A")
    for rows in found.values():
        assert (rows[40] == 0).all()  # the bar after the gap
        assert rows[41, 3:].all()
    assert (cross_section({"A": bars["A"]})["A"][:, :3] == 0).all()


def test_a_series_that_misses_a_bar_is_left_out_of_its_close_and_the_next() -> None:
    gap = dict(panel_bars(60), A=random_walk(60, seed=0, absent={40}))
    others = {symbol: each for symbol, each in gap.items() if symbol != "A"}
    found, without = cross_section(gap), cross_section(others)
    for symbol in others:
        assert np.array_equal(found[symbol][40:42], without[symbol][40:42])
    assert (found["A"][40, :3] == 0).all()  # its bar after the gap: no move
    assert found["A"][41, :3].any()


def test_equal_moves_have_equal_ranks() -> None:
    closes = np.exp(np.cumsum(np.full(15, 0.01)))
    found = cross_section(flat_bars(A=closes, B=closes, C=closes**2))
    assert [found[symbol][-1, :3].tolist() for symbol in "ABC"] == [[-0.5] * 3, [-0.5] * 3, [1.0] * 3]


def test_a_missing_coin_is_neutral_and_changes_no_other_bar() -> None:
    whole = panel_bars(60)
    gap = dict(whole, A=random_walk(60, seed=0, absent={40}))
    before, after = cross_section(whole, "A"), cross_section(gap, "A")
    assert np.isfinite(after["B"]).all()
    assert after["B"][40, CONTEXT.index("reference_move")] == 0.0
    assert np.array_equal(before["B"][:40], after["B"][:40])
