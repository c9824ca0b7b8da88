"""Held-out series of a panel: no window of the panel depends on them, and the fold networks predict them."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss
from synthetic_bars import random_walk
from synthetic_panel import FOLDS, panel_bars

from model.bars import Bars
from model.errors import SpecError
from model.folds import split_folds
from model.networks import NetworkSpec
from model.panel import PanelSpec, cut_held_out, cut_panel, windows_of_fold
from model.panel_evaluation import HELD_OUT, score_held_out
from model.panel_recipe import choose_series, panel_recipe_for
from model.record import Record
from model.training import TrainingSpec
from model.walk_forward import fit_fold, trainer_for
from model.windows import WindowSpec

WINDOW, STORED = WindowSpec(lookback_bars=5), ("C", "A", "B")
CROSSED = PanelSpec(inputs="cross_section", reference="A", label="rank", least_series=3)


def test_a_held_out_series_sees_the_panel_as_if_it_had_joined() -> None:
    bars = panel_bars(120)
    panel, out = {each: bars[each] for each in "ABCD"}, {each: bars[each] for each in "EF"}
    found = cut_held_out(panel, out, WINDOW, CROSSED)
    assert list(found) == ["E", "F"]
    for symbol, own in found.items():
        joined = cut_panel({**panel, symbol: out[symbol]}, WINDOW, CROSSED)
        expected = joined.take(np.flatnonzero(joined.windows.symbols == symbol))
        np.testing.assert_array_equal(own.windows.values(), expected.windows.values())
        np.testing.assert_array_equal(own.windows.labels, expected.windows.labels)
        assert set(own.windows.symbols) == {symbol}


def test_the_label_of_a_held_out_series_is_its_rank_among_the_panel_by_hand() -> None:
    """At each close: above the median return of the four series of the panel; the other held-out one does not count."""
    bars = panel_bars(60)
    panel, out = {each: bars[each] for each in "ABCD"}, {each: bars[each] for each in "EF"}
    windows = cut_held_out(panel, out, WINDOW, CROSSED)["E"].windows
    windows = windows.take(windows.labels >= 0)
    assert len(windows) > 40
    for close, label in zip(windows.decided_at, windows.labels, strict=True):
        returns = {}
        for symbol in "ABCDE":
            place = int(np.searchsorted(bars[symbol].closed_at, close))
            prices = bars[symbol].column("close")
            if place + 1 < len(prices) and bars[symbol].closed_at[place] == close:
                returns[symbol] = prices[place + 1] / prices[place] - 1
        own = returns.pop("E")
        assert label == (own > np.median([*returns.values()]))


def test_no_window_depends_on_another_held_out_series() -> None:
    bars = panel_bars(120)
    panel = {each: bars[each] for each in "ABCD"}
    scrambled = Bars("1d", bars["F"].opened_at, random_walk(len(bars["F"]), seed=99).ohlcv)
    before, after = (
        cut_held_out(panel, {"E": bars["E"], "F": each}, WINDOW, CROSSED) for each in (bars["F"], scrambled)
    )
    np.testing.assert_array_equal(before["E"].windows.values(), after["E"].windows.values())
    np.testing.assert_array_equal(before["E"].windows.labels, after["E"].windows.labels)
    assert (before["F"].windows.labels != after["F"].windows.labels).any()


@pytest.mark.e2e
def test_a_fold_predicts_held_out_series_with_the_network_that_it_would_have_had_without_them() -> None:
    bars = panel_bars(200)
    panel, out = {each: bars[each] for each in "ABCD"}, {"E": bars["E"]}
    recipe = panel_recipe_for(
        "1d", PanelSpec(symbols=tuple("ABCD"), inputs="cross_section"), WINDOW, FOLDS,
        NetworkSpec(filters=(2,), units=2, dense_units=4), TrainingSpec(epochs=2, batch_size=64, members=1),
    )  # fmt: skip
    windows = cut_panel(panel, WINDOW, recipe.panel).resolved().windows
    fold, trainer = split_folds(windows, FOLDS)[-1], trainer_for(recipe)
    asked = windows_of_fold(cut_held_out(panel, out, WINDOW, recipe.panel)["E"].windows, windows.take(fold.test))
    first, last = windows.decided_at[fold.test[[0, -1]]]
    assert first <= asked.decided_at[0] <= asked.decided_at[-1] <= last
    assert (asked.labels >= 0).all()
    alone, both = (fit_fold(trainer, windows, fold, 7, held_out=each) for each in (None, [asked]))
    np.testing.assert_array_equal(alone.record.probabilities, both.record.probabilities)
    assert alone.held_out is None
    assert both.held_out is not None
    (record,) = both.held_out
    np.testing.assert_array_equal(record.labels, asked.labels)
    fitted = trainer.fit(windows, fold.train, fold.validation, on_epoch=lambda _: None, seed=7)
    np.testing.assert_array_equal(record.probabilities, trainer.predict(fitted, asked))
    assert fit_fold(trainer, windows, fold, 7, held_out=[asked.take(np.arange(0))]).held_out == ()


def record_of(symbols: str, closes: int, rng: np.random.Generator) -> Record:
    at = np.repeat(np.datetime64("2024-01-01", "us") + np.arange(closes) * np.timedelta64(1, "D"), len(symbols))
    labels, fold = rng.integers(0, 2, len(at)).astype(np.int8), np.repeat(np.arange(2), len(at) // 2)
    names = np.tile(np.array(list(symbols)), closes)
    return Record(at, at + np.timedelta64(1, "D"), labels, rng.uniform(0.2, 0.8, len(at)), fold, names)


def test_held_out_series_are_scored_against_the_base_rate_of_their_fold() -> None:
    rng = np.random.default_rng(1)
    pooled, record = record_of("ABC", 100, rng), record_of("XY", 100, rng)
    base = np.where(pooled.fold == 0, 0.4, 0.7)
    together, *alone = score_held_out(record, pooled, base, seed=1)
    assert [each.symbol for each in (together, *alone)] == [HELD_OUT, "X", "Y"]
    theirs = np.where(record.fold == 0, 0.4, 0.7)
    for each in (together, *alone):
        own = np.full(len(record), fill_value=True) if each is together else record.symbols == each.symbol
        expected = log_loss(record.labels[own], record.probabilities[own])
        assert not each.trained_on
        assert each.scores["log_loss"] == pytest.approx(expected)
        assert each.scores["accuracy"] == pytest.approx(
            accuracy_score(record.labels[own], record.probabilities[own] > 0.5)
        )
        versus = each.against_base_rate
        assert versus.mean == pytest.approx(expected - log_loss(record.labels[own], theirs[own]))
        assert versus.low < versus.mean < versus.high
    (only,) = score_held_out(record.take(record.symbols == "X"), pooled, base, seed=1)
    assert only == alone[0]
    with pytest.raises(SpecError, match=r"expected the folds \[0, 1\] of the panel, found \[2\]"):
        score_held_out(replace(record, fold=record.fold + 1), pooled, base, seed=1)


def test_all_stored_series_but_those_held_out_form_the_panel() -> None:
    found = choose_series(STORED, "1d", PanelSpec(held_out=("C",)))
    assert (found.symbols, found.held_out) == (("A", "B"), ("C",))
    named = choose_series(STORED, "1d", PanelSpec(symbols=("B", "A"), held_out=("C", "C")))
    assert (named.symbols, named.held_out) == (("A", "B"), ("C",))


@pytest.mark.parametrize(
    ("panel", "reason"),
    [
        (PanelSpec(symbols=("A", "B"), held_out=("B",)), r"found B in both\. A series is trained on or held out"),
        (PanelSpec(held_out=("X", "C")), r"held-out series C, X; missing X; stored: A, B, C\."),
        (PanelSpec(held_out=("C", "B")), r"at least 2 series, found 1"),
        (PanelSpec(held_out=("C",), inputs="cross_section", reference="C"), r"reference C among .*found A, B\."),
    ],
)
def test_a_choice_that_cannot_be_is_refused(panel: PanelSpec, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        choose_series(STORED, "1d", panel)


def test_recipes_without_held_out_series_keep_their_digests() -> None:
    without = panel_recipe_for("1d", PanelSpec(symbols=("A", "B")))
    assert without.digest == "574c35b0deca"
    other = panel_recipe_for("1d", PanelSpec(symbols=("A", "B"), held_out=("C",)))
    assert other.digest != without.digest
    assert '"held_out":["C"]' in other.identity
