"""Panels: many series in one fit, cut by time, without a look at any later bar."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_bars import random_walk
from synthetic_panel import DAY, FOLDS, SYMBOLS, panel_bars

from model.bars import Bars
from model.bootstrap import compare_losses
from model.cross_section import CONTEXT, cross_section
from model.errors import BarsTooShort, SpecError
from model.folds import FoldSpec, split_folds
from model.gap_filling import GapRule
from model.metrics import score
from model.networks import NetworkSpec
from model.panel import PanelSpec, cut_panel, series_left_out
from model.panel_recipe import panel_recipe_for
from model.panel_scores import auc_by_bar, mean_interval
from model.rank_labels import _medians_of_others
from model.recipe import Recipe
from model.training import TrainingSpec
from model.walk_forward import trainer_for, walk_baselines_forward, walk_forward
from model.windows import WindowSpec, cut_windows


def test_windows_of_a_panel_are_those_of_its_series_in_the_order_of_time() -> None:
    bars, spec = panel_bars(60, C=25), WindowSpec(lookback_bars=5)
    windows = cut_panel(bars, spec, PanelSpec()).windows
    assert (np.diff(windows.decided_at) >= np.timedelta64(0)).all()
    for symbol in SYMBOLS:
        alone = cut_windows(bars[symbol], spec)
        own = windows.take(windows.symbols == symbol)
        assert np.array_equal(own.values(), alone.values())
        assert np.array_equal(own.labels, alone.labels)
        assert np.array_equal(own.decided_at, alone.decided_at)
        assert np.array_equal(own.last_moves, alone.last_moves)
    assert len(windows) == sum(len(cut_windows(each, spec)) for each in bars.values())


def test_series_that_are_not_tested_are_named_with_the_reason() -> None:
    """E is too short for a label by one bar, D has two windows and a gap before its end, C ended before the test."""
    bars, spec = panel_bars(200), WindowSpec(lookback_bars=5)
    bars["E"] = Bars("1d", bars["E"].opened_at[-5:], bars["E"].ohlcv[-5:])
    bars["D"] = Bars("1d", bars["D"].opened_at[-7:], bars["D"].ohlcv[-7:])
    bars["C"] = Bars("1d", bars["C"].opened_at[:150], bars["C"].ohlcv[:150])
    panel = PanelSpec(symbols=SYMBOLS)
    resolved = cut_panel(bars, spec, panel).resolved()
    found = series_left_out(panel, spec, resolved, split_folds(resolved.windows, FOLDS))
    assert set(found) == {"C", "E"}
    assert found["C"].startswith("trained on, but not tested")
    assert found["E"] == "neither trained on nor tested: it has fewer than 6 bars in a row without a gap"
    ahead = WindowSpec(lookback_bars=5, horizon_bars=3)  # neither does D have the bars of a label then
    later = cut_panel(bars, ahead, panel).resolved()
    for reason in (series_left_out(panel, ahead, later, split_folds(later.windows, FOLDS))[each] for each in "DE"):
        assert "fewer than 8 bars in a row" in reason
    ranks = PanelSpec(symbols=SYMBOLS, label="rank", least_series=4)  # A, B and F with C or D: C is tested now
    resolved = cut_panel(bars, spec, ranks).resolved()
    found = series_left_out(ranks, spec, resolved, split_folds(resolved.windows, FOLDS))
    assert list(found) == ["E"]
    assert found["E"].endswith("without a gap, or its closes have fewer than 4 series")


def test_tested_windows_are_those_of_the_record_with_their_returns() -> None:
    """In the order of the folds, by close, then by symbol: the order in which records are pooled."""
    bars, spec = panel_bars(120, C=70), WindowSpec(lookback_bars=5)
    resolved = cut_panel(bars, spec, PanelSpec()).resolved()
    tested = resolved.tested(split_folds(resolved.windows, FOLDS))
    closes = np.unique(resolved.windows.decided_at)[-FOLDS.test_bars :]
    expected = [(at, symbol) for at in closes for symbol in SYMBOLS if symbol != "C" or at >= bars["C"].closed_at[4]]
    assert list(zip(tested.windows.decided_at, tested.windows.symbols, strict=True)) == expected
    for (at, symbol), earned in zip(expected, tested.returns, strict=True):
        place = int(np.flatnonzero(bars[symbol].closed_at == at)[0])
        close = bars[symbol].column("close")
        assert earned == pytest.approx(close[place + 1] / close[place] - 1)


def test_returns_are_those_of_the_horizon_and_gaps_have_none() -> None:
    bars = {"A": random_walk(30, seed=1, absent={12}), "B": random_walk(30, seed=2)}
    panel = cut_panel(bars, WindowSpec(lookback_bars=3, horizon_bars=2), PanelSpec())
    for symbol, each in bars.items():
        close = dict(zip(each.closed_at, each.column("close"), strict=True))
        of_series = np.flatnonzero(panel.windows.symbols == symbol)
        for at, label, found in zip(
            panel.windows.decided_at[of_series],
            panel.windows.labels[of_series],
            panel.returns[of_series],
            strict=True,
        ):
            if label < 0:
                assert np.isnan(found)
            else:
                assert found == close[at + np.timedelta64(2, "D")] / close[at] - 1


def test_ranks_are_labelled_against_the_median_of_the_others_at_the_same_close() -> None:
    opened_at = np.datetime64("2024-01-01", "us") + np.arange(4) * np.timedelta64(1, "D")
    moves = {"A": 0.01, "B": 0.02, "C": -0.03, "D": 0.04, "E": 0.018}
    bars = {
        symbol: Bars("1d", opened_at, np.repeat(100 * (1 + move) ** np.arange(4.0)[:, None], 5, axis=1))
        for symbol, move in moves.items()
    }
    panel = cut_panel(bars, WindowSpec(lookback_bars=2), PanelSpec(label="rank"))
    first = panel.windows.decided_at == panel.windows.decided_at[0]
    # The middle one, E, has 1 % and 2 % next to it: 1.8 % is above their mean.
    assert dict(zip(panel.windows.symbols[first], panel.windows.labels[first], strict=True)) == {
        "A": 0, "B": 1, "C": 0, "D": 1, "E": 1,
    }  # fmt: skip
    of_e = first & (panel.windows.symbols == "E")
    assert panel.windows.label_moves[of_e] == pytest.approx(np.log(1.018 / 1.015))  # by which windows are weighted
    tied = dict.fromkeys("BCE", bars["B"]) | {symbol: bars[symbol] for symbol in "AD"}
    windows = cut_panel(tied, WindowSpec(lookback_bars=2), PanelSpec(label="rank")).resolved().windows
    assert set(windows.symbols[windows.labels == 1]) == {"D"}  # a move that equals the median is not above it
    few = cut_panel({"A": bars["A"], "B": bars["B"]}, WindowSpec(lookback_bars=2), PanelSpec(label="rank"))
    assert (few.windows.labels == -1).all()
    assert np.isnat(few.windows.resolved_at).all()
    assert np.isnan(few.returns).all()


@pytest.mark.parametrize("count", [5, 6])
def test_half_of_the_ranks_are_above_whether_the_number_of_series_is_odd_or_even(count: int) -> None:
    bars = {symbol: random_walk(400, seed=seed) for seed, symbol in enumerate("ABCDEF"[:count])}
    windows = cut_panel(bars, WindowSpec(lookback_bars=5), PanelSpec(label="rank")).resolved().windows
    assert 0.47 < windows.labels.mean() < 0.53  # against the median of all: 0.4 of five series


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3) | st.none()), max_size=30))
def test_the_median_of_the_others_is_that_of_numpy(given_: list[tuple[int, int | None]]) -> None:
    closes = np.array([close for close, _ in given_], dtype="datetime64[us]")
    returns = np.array([np.nan if value is None else value for _, value in given_], dtype=np.float64)
    medians, counts = _medians_of_others(returns, closes)
    for place, value in enumerate(returns):
        others = np.delete(returns, place)[np.delete(closes, place) == closes[place]]
        others = others[np.isfinite(others)]
        expected = np.median(others) if np.isfinite(value) and len(others) else np.nan
        assert np.array_equal(medians[place], expected, equal_nan=True)
        assert counts[place] == (len(others) + 1 if np.isfinite(value) else 0)


def test_folds_are_cut_by_time_and_never_inside_a_close() -> None:
    panel = cut_panel(panel_bars(200, C=150), WindowSpec(lookback_bars=5, horizon_bars=3), PanelSpec()).resolved()
    windows = panel.windows
    folds = split_folds(windows, FOLDS)
    closes = np.unique(windows.decided_at)
    assert np.array_equal(np.unique(windows.decided_at[np.concatenate([f.test for f in folds])]), closes[-40:])
    for fold in folds:
        parts = [np.unique(windows.decided_at[part]) for part in (fold.train, fold.validation, fold.test)]
        for earlier, later in itertools.pairwise(parts):
            assert earlier[-1] + 3 * np.timedelta64(1, "D") < later[0] + np.timedelta64(1, "us")
        for part, at in zip((fold.train, fold.validation, fold.test), parts, strict=True):
            assert np.array_equal(np.flatnonzero(np.isin(windows.decided_at, at)), part)  # every coin of each close
    assert "C" not in windows.symbols[folds[0].train]  # listed after
    assert "C" in windows.symbols[folds[1].test]


def test_windows_show_the_context_of_their_own_bars_with_the_reference() -> None:
    bars, spec = panel_bars(60, C=25), WindowSpec(lookback_bars=5)
    windows = cut_panel(bars, spec, PanelSpec(inputs="cross_section", reference="B")).windows
    context = cross_section(bars, "B")
    assert context["A"][20:, CONTEXT.index("reference_move")].all()
    assert windows.context_count == len(CONTEXT)
    for symbol in ("A", "C"):
        own = windows.take(windows.symbols == symbol)
        assert np.array_equal(own.values()[-1, :, -len(CONTEXT) :], context[symbol][-5:])


def test_plain_ranks_put_the_smallest_move_trend_and_volatility_first() -> None:
    """A rose most in 30 days and falls most on the newest; its moves are the largest, those of C the smallest."""
    size, opened_at = np.array([0.04, 0.02, 0.01]), np.datetime64("2024-01-01", "us") + np.arange(31) * DAY
    moves = np.vstack([np.tile(size, (30, 1)), -size])
    closes = 100 * np.exp(np.cumsum(moves, axis=0))
    bars = {name: Bars("1d", opened_at, np.repeat(closes[:, k, None], 5, axis=1)) for k, name in enumerate("ABC")}
    panel = cut_panel(bars, WindowSpec(lookback_bars=5, features=("close",)), PanelSpec())
    newest = panel.take(np.flatnonzero(panel.windows.decided_at == panel.windows.decided_at[-1]))
    assert newest.windows.symbols.tolist() == ["A", "B", "C"]
    assert {name: scores.tolist() for name, scores in newest.plain_ranks().items()} == {
        "reversal_1_bar": [1.0, 0.0, -1.0],
        "reversal_20_bars": [-1.0, 0.0, 1.0],
        "low_volatility": [-1.0, 0.0, 1.0],
    }
    cut = {name: Bars("1d", each.opened_at[:20], each.ohlcv[:20]) for name, each in bars.items()}
    known = cut_panel(cut, WindowSpec(lookback_bars=5, features=("close",)), PanelSpec())
    for name, scores in known.plain_ranks().items():  # without the bars that follow
        np.testing.assert_array_equal(scores, panel.plain_ranks()[name][: len(scores)])


def test_a_panel_of_one_series_trains_as_the_series_alone() -> None:
    recipe = Recipe(
        window=WindowSpec(lookback_bars=5),
        folds=FOLDS,
        network=NetworkSpec(filters=(2,), units=2, dense_units=4),
        training=TrainingSpec(epochs=2, batch_size=32),
    )
    bars = random_walk(200, seed=3)
    alone = cut_windows(bars, recipe.window).resolved()
    panel = cut_panel({"A": bars}, recipe.window, PanelSpec()).resolved().windows
    trainer = trainer_for(recipe)
    one = walk_forward(trainer, alone, split_folds(alone, FOLDS), seed=1)
    pooled = walk_forward(trainer, panel, split_folds(panel, FOLDS), seed=1)
    assert np.array_equal(one.record.probabilities, pooled.record.probabilities)
    assert np.array_equal(one.record.decided_at, pooled.record.decided_at)
    assert set(pooled.record.symbols) == {"A"}


def planted(seed: int, strength: float) -> dict[str, Bars]:
    """Return coins whose next move follows, at that strength, the rank of their last move among all coins."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, 0.02, (500, 8))
    for bar in range(1, len(moves)):
        ranks = 2 * np.argsort(np.argsort(moves[bar - 1])) / 7 - 1
        moves[bar] += strength * 0.02 * ranks
    closes = 100 * np.exp(np.cumsum(moves + rng.normal(0, 0.02, (500, 1)), axis=0))
    opened_at = np.datetime64("2022-01-01", "us") + np.arange(500) * np.timedelta64(1, "D")
    return {f"C{k}": Bars("1d", opened_at, np.repeat(closes[:, k, None], 5, axis=1)) for k in range(8)}


@pytest.mark.parametrize(("strength", "found"), [(0.5, True), (0.0, False)])
def test_a_planted_signal_across_coins_is_found_and_noise_is_not(strength: float, found: bool) -> None:
    """The rank of a coin is in the context alone: its own prices hide it behind the market's moves."""
    panel = cut_panel(
        planted(3, strength),
        WindowSpec(lookback_bars=5, features=("close",)),
        PanelSpec(label="rank", inputs="cross_section"),
    ).resolved()
    folds = split_folds(panel.windows, FoldSpec(test_bars=150, count=1))
    forecasts = walk_baselines_forward(panel.windows, folds, seed=1, names=("base_rate", "logistic_regression"))
    labels = panel.windows.labels[folds[0].test]
    losses = {name: score(labels, forecast)["log_loss"] for name, forecast in forecasts.items()}
    gain = losses["base_rate"] - losses["logistic_regression"]
    # The rank shifts the next move by up to half its deviation: an accuracy near 60 %, a gain of about 0.02.
    assert gain > 0.01 if found else gain < 0.005


@pytest.mark.parametrize(
    "shuffle",
    [None, *(pytest.param(seed, marks=pytest.mark.e2e) for seed in (0, 1, 2))],
    ids=["planted", "shuffled", "shuffled again", "a third time"],
)
def test_the_network_finds_a_planted_signal_across_coins_and_none_in_shuffled_closes(shuffle: int | None) -> None:
    """The labels of a close go to another close as a whole, so that each close keeps its four winners of eight."""
    bars = planted(3, 0.5)
    recipe = panel_recipe_for(
        "1d",
        PanelSpec(symbols=tuple(bars), label="rank", inputs="cross_section"),
        WindowSpec(lookback_bars=5, features=("close",)),
        FoldSpec(test_bars=150, count=1),
        NetworkSpec(filters=(4,), units=4, dense_units=8),
        TrainingSpec(epochs=15, batch_size=64, members=1, learning_rate=0.01),
    )
    panel = cut_panel(bars, recipe.window, recipe.panel).resolved()
    windows, folds = panel.windows, split_folds(panel.windows, recipe.folds)
    if shuffle is not None:
        by_close = windows.labels.reshape(-1, 8)
        windows = replace(windows, labels=np.random.default_rng(shuffle).permutation(by_close).ravel())
    found = walk_forward(trainer_for(recipe), windows, folds, seed=1)
    versus = compare_losses(found.record, found.base_rate, seed=1)
    area = mean_interval(auc_by_bar(found.record, found.record.probabilities), seed=1)
    if shuffle is None:
        best = mean_interval(auc_by_bar(found.record, -panel.tested(folds).plain_ranks()["reversal_1_bar"]), seed=1)
        assert versus.high < 0
        assert area.low > 0.5
        assert area.value > 0.5 + 0.8 * (best.value - 0.5)  # of the rank that was planted
    else:
        assert versus.mean > -0.005
        assert abs(area.value - 0.5) < 0.06  # its standard error is 0.02


def test_what_a_panel_refuses() -> None:
    with pytest.raises(BarsTooShort, match="at least one series of 30 bars"):
        cut_panel({"A": random_walk(10)}, WindowSpec(), PanelSpec())
    with pytest.raises(BarsTooShort, match="found none among 0"):
        cut_panel({}, WindowSpec(), PanelSpec())
    hourly = random_walk(50)
    with pytest.raises(SpecError, match="one interval, found 1d, 1h"):
        cut_panel({"A": random_walk(50), "B": Bars("1h", hourly.opened_at, hourly.ohlcv)}, WindowSpec(), PanelSpec())
    unknown = random_walk(50)
    unknown.ohlcv[7, 4] = np.nan
    with pytest.raises(SpecError, match=r"^B: features: .* volume of the 1d bar opened at 2018-01-08"):
        cut_panel({"A": random_walk(50), "B": unknown}, WindowSpec(features=("close", "volume")), PanelSpec())


def test_a_stride_is_refused_because_series_would_not_share_closes() -> None:
    with pytest.raises(SpecError, match=r"--window.stride-bars 1, found 5"):
        cut_panel(panel_bars(60, C=1), WindowSpec(lookback_bars=5, stride_bars=5), PanelSpec())


def test_filled_gaps_keep_context_and_features_in_step() -> None:
    bars = {"A": random_walk(80, seed=1, absent={50}), "B": random_walk(80, seed=2, absent={30})}
    spec = WindowSpec(lookback_bars=5, gaps=GapRule(kind="fill"))
    panel = cut_panel(bars, spec, PanelSpec(inputs="cross_section"))
    assert len(panel.context) == len(panel.windows.features) == 160
    assert panel.windows.filled.tolist() == [50, 80 + 30]
    assert np.array_equal(panel.windows.features[:, -len(CONTEXT) :], panel.context)


FILLED = WindowSpec(lookback_bars=5, gaps=GapRule(kind="fill", max_fill_bars=2))


def test_a_filled_bar_takes_no_part_in_the_cross_section_of_its_close() -> None:
    """Each move is its series' typical one or its opposite: A 1 %, B 2 %, C 3 %; D misses bar 15."""
    opened_at, signs = np.datetime64("2024-01-01", "us") + np.arange(30) * DAY, np.where(np.arange(30) % 2, 1, -1)
    signs_of = {"A": signs, "B": signs, "C": np.where(np.arange(30) == 15, -signs, signs), "D": signs}
    bars = {}
    for size, (symbol, direction) in zip((0.01, 0.02, 0.03, 0.04), signs_of.items(), strict=True):
        closes = 100 * np.exp(np.cumsum(size * direction))
        bars[symbol] = Bars("1d", opened_at, np.repeat(closes[:, None], 5, axis=1))
    kept = np.arange(30) != 15
    bars["D"] = Bars("1d", opened_at[kept], bars["D"].ohlcv[kept])
    panel = cut_panel(bars, FILLED, PanelSpec(inputs="cross_section", reference="A"))
    rows = dict(zip("ABCD", panel.context.reshape(4, 30, 5).round(12), strict=True))
    # Of A, B and C the move and the typical move; their moves are 1, 1 and -1 typical ones, so the median is 1.
    assert rows["A"][15, [0, 2, 3, 4]].tolist() == [0, -1, 1, 1]
    assert rows["B"][15, [0, 2, 3, 4]].tolist() == [1, 0, 1, 1]
    assert rows["C"][15, [0, 2, 3, 4]].tolist() == [-1, 1, 1, 1]
    assert rows["D"][15].tolist() == [0, 0, 0, 1, 1]  # filled: no rank, the market of the others
    assert rows["D"][16].tolist() == [0, 0, 0, -1, -1]  # its next bar has no move yet: none crosses a gap
    assert rows["B"][16, [0, 2]].tolist() == [0, 0]
    assert rows["D"][17, [0, 2]].tolist() == [1, 1]
    windows = panel.windows.take(panel.windows.symbols == "D")
    of_d = windows.take(windows.decided_at == opened_at[16] + DAY).values()[0]
    assert of_d[-2, :4].tolist() == [bars["D"].column("close")[14]] * 4  # its own prices are filled
    assert np.array_equal(of_d[-2, 4:], panel.context[3 * 30 + 15])
    reversal, factors = panel.plain_ranks()["reversal_1_bar"], panel.factors()
    at_gap = panel.windows.decided_at == opened_at[15] + DAY
    assert panel.windows.symbols[at_gap].tolist() == ["A", "B", "C"]
    assert reversal[at_gap].tolist() == [0, -1, 1]
    assert factors[at_gap, 0].tolist() == [0, 1, -1]


def test_with_filled_bars_no_later_bar_of_any_series_changes_what_is_known_at_a_close() -> None:
    """Gaps of one and two bars are filled, the one of four is not; at bar 40 three of four series have no bar."""
    absent = {"A": {40, 50}, "B": {40, 41, 60}, "C": {37, 38, 39, 40}, "D": {30, 45, 46}}
    bars = {symbol: random_walk(70, seed=seed, absent=each) for seed, (symbol, each) in enumerate(absent.items())}
    spec = PanelSpec(inputs="cross_section", reference="A")
    whole = cut_panel(bars, FILLED, spec)
    for close in bars["D"].closed_at[28:60]:
        known = cut_panel({symbol: each.closed_by(close) for symbol, each in bars.items()}, FILLED, spec)
        ours, theirs = (each.take(np.flatnonzero(each.windows.decided_at == close)) for each in (whole, known))
        assert ours.windows.symbols.tolist() == theirs.windows.symbols.tolist()
        assert np.array_equal(ours.windows.values(), theirs.windows.values())
        assert np.array_equal(ours.factors(), theirs.factors())
        assert np.array_equal(ours.unusual_moves(), theirs.unusual_moves())
        for name, scores in ours.plain_ranks().items():
            assert np.array_equal(scores, theirs.plain_ranks()[name])


def test_a_close_at_which_every_series_is_filled_is_neutral() -> None:
    bars = {symbol: random_walk(60, seed=seed, absent={40}) for seed, symbol in enumerate("ABC")}
    panel = cut_panel(bars, FILLED, PanelSpec(inputs="cross_section", reference="A"))
    filled = panel.windows.filled
    assert filled.tolist() == [40, 100, 160]
    assert not panel.context[filled].any()
    assert not panel.further[filled].any()


def test_a_rule_that_fills_nothing_changes_nothing() -> None:
    bars, spec = panel_bars(60, C=25), PanelSpec(inputs="cross_section", reference="B")
    filled, dropped = (cut_panel(bars, each, spec) for each in (FILLED, WindowSpec(lookback_bars=5)))
    for name in ("context", "further", "returns"):
        np.testing.assert_array_equal(getattr(filled, name), getattr(dropped, name))
    assert np.array_equal(filled.windows.features, dropped.windows.features)
    assert np.array_equal(filled.windows.ends, dropped.windows.ends)
