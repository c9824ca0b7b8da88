"""Outcomes of a panel's predictions: by hand, and the same as the labels that a retrain would cut."""

import numpy as np
import pytest
from synthetic_panel import SYMBOLS, panel_bars

from model.bars import Bars
from model.gap_filling import GapRule
from model.panel import PanelSpec, cut_panel
from model.panel_outcomes import open_outcomes, panel_outcomes
from model.windows import WindowSpec

DAY = np.timedelta64(1, "D")
START = np.datetime64("2024-01-01", "us")
WINDOW = WindowSpec(lookback_bars=2)
RANK = PanelSpec(symbols=("A", "B", "C"), label="rank", least_series=3)


def closes(*prices: float, first: int = 0) -> Bars:
    """Return daily bars with these closes, the first of them opened so many days after the start, and one before it."""
    ohlcv = np.repeat(np.array([prices[0], *prices], dtype=float)[:, None], 5, axis=1)
    return Bars("1d", START + (first - 1 + np.arange(len(ohlcv))) * DAY, ohlcv)


def asked(bars: dict[str, Bars], symbols: str, panel: PanelSpec, close: int = 1, horizon: int = 1) -> list[int]:
    """Return the outcomes of predictions that all decide at the same close."""
    at = np.full(len(symbols), START + close * DAY)
    return panel_outcomes(np.array(list(symbols)), at, at + horizon * DAY, WINDOW, panel, bars).tolist()


def test_a_rank_is_above_the_median_of_the_other_series_of_the_panel() -> None:
    """Returns of A, B, C, D: 10 %, 5 %, -5 %, 6 %. D is no series of the panel: it is ranked, and ranks nobody."""
    bars = {"A": closes(10, 11), "B": closes(20, 21), "C": closes(100, 95), "D": closes(50, 53)}
    # A against the mean of 5 and -5; B of 10 and -5 = 2.5; C of 10 and 5; D against the middle of 10, 5 and -5
    assert asked(bars, "ABCD", RANK) == [1, 1, 0, 1]
    assert asked(bars, "CA", RANK) == [0, 1]  # predicting fewer series changes no outcome
    assert asked(bars, "ABCD", RANK.model_copy(update={"label": "rise"})) == [1, 1, 0, 1]
    fallen = bars | {"B": closes(20, 20.2)}  # 1 %, below the mean of 10 and -5, and above 0
    assert asked(fallen, "B", RANK) == [0]
    assert asked(fallen, "B", RANK.model_copy(update={"label": "rise"})) == [1]


def test_a_close_with_too_few_series_has_no_rank() -> None:
    bars = {"A": closes(10, 11), "B": closes(20, 21), "C": closes(95, first=1)}
    assert asked(bars, "AB", RANK) == [-1, -1]
    assert asked(bars, "AB", RANK.model_copy(update={"least_series": 2})) == [1, 0]
    assert asked({"A": bars["A"]}, "AB", RANK) == [-1, -1]
    short = bars | {"C": Bars("1d", bars["A"].opened_at[1:], bars["A"].ohlcv[1:])}  # no whole window at the decision
    assert asked(short, "ABC", RANK) == [-1, -1, -1]


def test_a_rank_is_not_known_while_a_series_waits_for_its_bar_and_known_when_it_ended() -> None:
    """C had a bar at the decision. Its bar of the outcome, or three more bars of the others, settle the close."""
    panel = RANK.model_copy(update={"least_series": 2})
    rises = [10, 11, 12, 13, 14, 15]
    for count, known in ((2, False), (4, False), (5, True)):
        bars = {"A": closes(*rises[:count]), "B": closes(*[20] * count), "C": closes(100)}
        at = np.array([START + DAY])
        assert open_outcomes(at, at + DAY, panel, bars).tolist() == [not known]
        assert asked(bars, "AB", panel) == ([1, 0] if known else [-1, -1])
        assert asked(bars, "AB", panel.model_copy(update={"label": "rise"})) == [1, 0]  # its own bars suffice
    gap = Bars("1d", START + np.array([-1, 0, 2]) * DAY, closes(100, 99).ohlcv)  # a later bar: the other is a gap
    assert asked({"A": closes(10, 11), "B": closes(20, 20), "C": gap}, "AC", panel) == [1, -1]


@pytest.mark.parametrize("label", ["rise", "rank"])
@pytest.mark.parametrize("horizon", [1, 3])
def test_live_outcomes_are_the_labels_of_a_retrain(label: str, horizon: int) -> None:
    """Of every window that has one; at closes with fewer than five series neither has one."""
    bars = panel_bars(60, D=10, E=20, F=20)
    spec = PanelSpec(symbols=SYMBOLS, label=label)
    window = WindowSpec(lookback_bars=5, horizon_bars=horizon)
    windows = cut_panel(bars, window, spec).windows
    found = panel_outcomes(windows.symbols, windows.decided_at, windows.decided_at + horizon * DAY, window, spec, bars)
    np.testing.assert_array_equal(found, windows.labels)
    assert set(found) == {-1, 0, 1}


def test_live_outcomes_are_the_labels_of_a_retrain_where_windows_begin_with_filled_bars() -> None:
    """F misses 12 bars, which is more than a lookback; its windows after the gap begin with filled bars."""
    bars, kept = panel_bars(60), np.r_[0:30, 42:60]
    bars["F"] = Bars("1d", bars["F"].opened_at[kept], bars["F"].ohlcv[kept])
    spec = PanelSpec(symbols=SYMBOLS, label="rank", least_series=6)
    window = WindowSpec(lookback_bars=5, gaps=GapRule(kind="fill", max_fill_bars=12))
    windows = cut_panel(bars, window, spec).windows
    windows = windows.take(windows.decided_at == bars["F"].closed_at[30])
    found = panel_outcomes(windows.symbols, windows.decided_at, windows.decided_at + DAY, window, spec, bars)
    np.testing.assert_array_equal(found, windows.labels)
    assert set(found) == {0, 1}
