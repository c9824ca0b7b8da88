"""A panel with further outputs: intervals count closes, a planted size is found for both labels, shuffled ones not."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_bars import bars_of_closes
from synthetic_panel import panel_bars, panel_record

from model.bars import Bars
from model.cost_class_evaluation import evaluate_cost_classes
from model.cost_classes import class_losses, label_cost_classes, walk_class_baselines
from model.expected_moves import move_losses, moves_of_folds, trailing_moves, walk_move_baselines
from model.folds import FoldSpec, split_folds
from model.label_names import LabelKind
from model.move_evaluation import MoveEvaluation, evaluate_moves
from model.networks import NetworkSpec
from model.panel import PanelSpec, cut_panel
from model.panel_recipe import PanelRecipe, panel_recipe_for
from model.record import Record
from model.training import TrainingSpec
from model.walk_forward import pool_records, trainer_for, walk_forward
from model.windows import Windows, WindowSpec, cut_windows

CLOSES, COINS, DAYS = 150, 4, 300


def copies(each: np.ndarray) -> np.ndarray:
    return np.repeat(each, COINS, axis=0)


def further_record(coins: int) -> tuple[Record, np.ndarray, np.ndarray]:
    """Return a record with sizes and classes, its moves, and a baseline's sizes; every coin is a copy of the first."""
    rng, record = np.random.default_rng(3), panel_record(CLOSES, coins)
    probabilities, sizes, moves, other = (rng.uniform(0.3, 0.7, CLOSES), *rng.uniform(0.01, 0.05, (3, CLOSES)))
    signs, classes = rng.choice([-1, 1], CLOSES), rng.dirichlet([2, 2, 2], CLOSES)
    parts = [np.repeat(each, coins, axis=0) for each in (probabilities, sizes, classes, signs * moves, other)]
    record = replace(record, probabilities=parts[0], expected_moves=parts[1], class_probabilities=parts[2])
    return record, parts[3], parts[4]


def test_copies_of_one_coin_are_no_more_evidence_than_one() -> None:
    found = []
    for coins in (1, COINS):
        record, moves, other = further_record(coins)
        sizes = evaluate_moves(record, moves, {"training_mean": other}, seed=1).numbers()
        shares = {"base_rates": np.full((len(record), 3), 1 / 3)}
        classes = evaluate_cost_classes(record, label_cost_classes(moves, 200), 200, shares, seed=1).numbers()
        found.append(sizes | {f"class {name}": value for name, value in classes.items()})
    assert found[1] == pytest.approx(found[0])
    assert found[0]["vs_training_mean_low"] < found[0]["vs_training_mean"] < found[0]["vs_training_mean_high"]


def test_scores_of_a_panel_are_means_over_all_windows_also_of_closes_with_few_coins() -> None:
    record, moves, other = further_record(COINS)
    kept = np.flatnonzero(np.random.default_rng(1).random(len(record)) < 0.6)
    record, moves, other = record.take(kept), moves[kept], other[kept]
    found = evaluate_moves(record, moves, {"training_mean": other}, seed=1)
    losses = np.log(record.expected_moves) + np.abs(moves) / record.expected_moves
    assert found.scores["network"].value == pytest.approx(losses.mean())
    assert found.differences["training_mean"].mean == pytest.approx((losses - move_losses(moves, other)).mean())
    assert found.differences["training_mean"].closes == len(np.unique(record.decided_at))
    classes = label_cost_classes(moves, 200)
    scored = evaluate_cost_classes(record, classes, 200, {"base_rates": record.class_probabilities}, seed=1)
    own = record.class_probabilities[np.arange(len(record)), classes]
    assert scored.log_loss["network"].value == pytest.approx(-np.log(own).mean())


def test_trailing_moves_of_a_coin_know_no_other_coin() -> None:
    bars, window = panel_bars(60, C=20), WindowSpec(lookback_bars=5)
    windows = cut_panel(bars, window, PanelSpec(inputs="cross_section")).windows
    found = trailing_moves(windows)
    for symbol, each in bars.items():
        np.testing.assert_array_equal(found[windows.symbols == symbol], trailing_moves(cut_windows(each, window)))


def test_the_move_of_a_rank_is_the_distance_from_the_median_of_the_others() -> None:
    closes = {"A": [100.0, 100.0, 110.0], "B": [50.0, 50.0, 51.0], "C": [10.0, 10.0, 9.0]}
    bars = {symbol: bars_of_closes(each) for symbol, each in closes.items()}
    panel = PanelSpec(label="rank", least_series=3)
    windows = cut_panel(bars, WindowSpec(lookback_bars=2), panel).resolved().windows
    medians = [(0.02 - 0.1) / 2, (0.1 - 0.1) / 2, (0.1 + 0.02) / 2]
    np.testing.assert_allclose(windows.label_moves, np.log([1.1, 1.02, 0.9]) - np.log1p(medians))


def test_records_are_pooled_without_what_one_of_them_lacks() -> None:
    """A champion's own record has sizes; what it predicts later for a comparison has probabilities only."""
    sized, plain = further_record(COINS)[0], panel_record(3, COINS)
    assert len(pool_records([sized, plain]).expected_moves) == 0
    assert pool_records([sized, plain]).class_probabilities.shape == (0, 3)
    assert len(pool_records([sized, plain]).take(np.arange(len(sized) + len(plain)))) == (CLOSES + 3) * COINS
    assert len(pool_records([sized, sized]).expected_moves) == 2 * len(sized)


def planted_bars(seed: int = 5, *, shuffled: bool = False) -> dict[str, Bars]:
    """Return coins whose moves are large, at random times, the bar after a bar that spans a wide range.

    The range is shown by the high of the bar alone, so no moving average of moves knows it.

    Args:
        seed: of the bars.
        shuffled: the highs of each coin are put on other bars.
    """
    rng, bars = np.random.default_rng(seed), {}
    for symbol in "ABCDE":
        wide = rng.random(DAYS) < 0.3
        sizes = np.where(np.concatenate([[False], wide[:-1]]), 0.05, 0.01) * rng.uniform(0.8, 1.2, DAYS)
        found = bars_of_closes(100 * np.exp(np.cumsum(rng.choice([-1, 1], DAYS) * sizes)), seed=seed)
        ohlcv = found.ohlcv.copy()
        shown = rng.permutation(wide) if shuffled else wide
        ohlcv[:, 1] = ohlcv[:, [0, 3]].max(axis=1) * np.where(shown, 1.2, 1.01)
        bars[symbol] = Bars(found.interval, found.opened_at, ohlcv)
    return bars


def recipe_of(label: LabelKind, **network: object) -> PanelRecipe:
    spec = NetworkSpec.model_validate(
        {"kind": "cnn", "filters": (8,), "kernel_bars": 2, "dense_units": 16, "dropout": 0.0, "scaling": "last_close"}
        | network
    )
    return panel_recipe_for(
        "1d",
        PanelSpec(symbols=tuple("ABCDE"), label=label),
        WindowSpec(lookback_bars=6),
        FoldSpec(test_bars=80, count=2),
        spec,
        TrainingSpec(epochs=25, batch_size=64, learning_rate=5e-3, members=1, patience=8),
    )


def walked(bars: dict[str, Bars], recipe: PanelRecipe) -> tuple[Windows, tuple, Record]:
    windows = cut_panel(bars, recipe.window, recipe.panel).resolved().windows
    folds = split_folds(windows, recipe.folds)
    return windows, folds, walk_forward(trainer_for(recipe), windows, folds, 7).record


def evaluated(bars: dict[str, Bars], label: LabelKind) -> MoveEvaluation:
    windows, folds, record = walked(bars, recipe_of(label, magnitude=True))
    return evaluate_moves(record, moves_of_folds(windows, folds), walk_move_baselines(windows, folds), 7)


@pytest.mark.e2e
@pytest.mark.parametrize("label", ["rise", "rank"])
def test_a_planted_size_is_found_and_a_shuffled_one_is_not(label: LabelKind) -> None:
    found = evaluated(planted_bars(), label)
    for baseline in ("training_mean", "trailing_mean"):
        assert found.differences[baseline].high < 0, baseline
    assert 0.8 < found.ratio.value < 1.25
    nothing = evaluated(planted_bars(shuffled=True), label)
    assert nothing.differences["training_mean"].high > 0
    # With each size in the place of another, no forecast is better than the mean.
    windows, folds, record = walked(planted_bars(), recipe_of(label, magnitude=True))
    moves = np.random.default_rng(1).permutation(moves_of_folds(windows, folds))
    again = evaluate_moves(record, moves, walk_move_baselines(windows, folds), 7)
    assert again.differences["training_mean"].high > 0


@pytest.mark.e2e
def test_planted_classes_are_found_in_a_panel() -> None:
    recipe = recipe_of("rise", beyond_cost_bps=200)
    windows, folds, record = walked(planted_bars(), recipe)
    classes = label_cost_classes(moves_of_folds(windows, folds), 200)
    baselines = walk_class_baselines(windows, folds, 200)
    found = evaluate_cost_classes(record, classes, 200, baselines, 7)
    assert all(each.high < 0 for each in found.differences.values())
    assert found.log_loss["network"].value == pytest.approx(class_losses(classes, record.class_probabilities).mean())
