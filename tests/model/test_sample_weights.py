"""Weights of training windows: values by hand, of the training windows alone, and training that equals Keras's."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from shared_traces import share_trace
from synthetic_bars import bars_of_closes, random_walk, scrambled

from model.bars import Bars
from model.errors import SpecError
from model.folds import FoldSpec, split_folds
from model.networks import NetworkSpec, build_network
from model.panel import PanelSpec, cut_panel
from model.panel_recipe import PanelRecipe
from model.presets import recipe_for
from model.recipe import Recipe
from model.sample_weights import SampleWeights, label_uniqueness, training_weights, weight_windows
from model.search_space import recipe_of, values_of
from model.training import Fitted, Trainer, TrainingSpec
from model.walk_forward import WalkForward, trainer_for, walk_forward
from model.windows import Windows, WindowSpec, cut_windows

LOOKBACK = 5
WINDOW = WindowSpec(lookback_bars=LOOKBACK, horizon_bars=2, features=("open", "close"))
EVERY = SampleWeights(move=True, half_life_bars=40, uniqueness=True)
SMALL = NetworkSpec(filters=(3, 2), units=4, dense_units=4, dropout=0.0)
CLOSE_ONLY = WindowSpec(lookback_bars=2, features=("close",))

# Keras's variables offer NumPy 2 an `__array__` without `copy`, and NumPy warns each time (keras 3.15).
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def closes_to_windows(closes: list[float], **window: int) -> Windows:
    return cut_windows(bars_of_closes(closes), CLOSE_ONLY.model_copy(update=window)).resolved()


def new_trainer(weights: SampleWeights, **training: float) -> Trainer:
    spec = TrainingSpec(**{"batch_size": 16, "learning_rate": 3e-3, "sample_weights": weights, **training})
    return share_trace(Trainer(SMALL, spec, LOOKBACK, 2))


def same(left: Fitted, right: Fitted) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(left.weights, right.weights, strict=True))


def test_weights_by_the_move_by_hand_with_their_bound() -> None:
    moves = np.log([2, 1, 2, 1 / 16])  # up by half of 4, none, double, down: sizes 1, 0, 1 and 4 halvings
    closes = [1.0, 1.0, *np.exp(np.cumsum(moves)).tolist()]
    windows = closes_to_windows(closes)
    np.testing.assert_allclose(windows.label_moves, moves, atol=1e-15)
    free = weight_windows(windows, SampleWeights(move=True))  # the mean size is 1.5, the bound 4.5
    np.testing.assert_allclose(free, np.array([1, 0, 1, 4]) / 1.5, atol=1e-15)
    bound = weight_windows(windows, SampleWeights(move=True, move_bound=2.0))  # 4 becomes 3, the mean 1.25
    np.testing.assert_allclose(bound, np.array([1, 0, 1, 3]) / 1.25, atol=1e-15)


def test_weights_by_age_halve_by_time_also_over_a_gap_and_across_series() -> None:
    windows = cut_windows(random_walk(30, absent={15, 16}), CLOSE_ONLY).resolved()
    weights = weight_windows(windows, SampleWeights(half_life_bars=3))
    days = (windows.decided_at[-1] - windows.decided_at) / np.timedelta64(1, "D")
    assert np.diff(days).min() < -1  # there is a gap
    np.testing.assert_allclose(weights / weights[-1], 2.0 ** (-days / 3), rtol=1e-12)
    panel = cut_panel({"A": random_walk(20), "B": random_walk(20, seed=1)}, CLOSE_ONLY, PanelSpec()).resolved().windows
    weights = weight_windows(panel, SampleWeights(half_life_bars=3))
    assert np.array_equal(weights[0::2], weights[1::2])  # two series at each close
    np.testing.assert_allclose(weights[0] / weights[6], 0.5, rtol=1e-12)  # three closes are six windows


def test_uniqueness_by_hand() -> None:
    four = closes_to_windows([1, 2, 3, 2, 3, 4, 3], horizon_bars=2)
    # Open labels in the five bars: 1, 2, 2, 2, 1.
    assert label_uniqueness(four).tolist() == [0.75, 0.5, 0.5, 0.75]
    apart = four.take(np.array([0, 2]))  # without the other training windows, nothing overlaps
    assert label_uniqueness(apart).tolist() == [1.0, 1.0]
    spaced = closes_to_windows(list(range(1, 40)), horizon_bars=3, stride_bars=3)
    assert set(label_uniqueness(spaced)) == {1.0}
    assert set(label_uniqueness(closes_to_windows(list(range(1, 400))))) == {1.0}  # horizon 1


@pytest.mark.parametrize("absent", [set(), {9, 20, 21}])
def test_uniqueness_of_a_panel_counts_each_series_alone_and_equals_a_plain_count(absent: set[int]) -> None:
    bars = {"A": random_walk(40, seed=1, absent=absent), "B": random_walk(33, seed=2)}
    window = WindowSpec(lookback_bars=3, horizon_bars=4)
    panel = cut_panel(bars, window, PanelSpec()).resolved().windows
    train = panel.take(np.sort(np.random.default_rng(0).permutation(len(panel))[:40]))
    day, expected = np.timedelta64(1, "D"), []
    for symbol, start, end in zip(train.symbols, train.decided_at, train.resolved_at, strict=True):
        mine = train.take(train.symbols == symbol)
        closes = np.arange(start + day, end + day, day)
        expected.append(np.mean([1 / ((mine.decided_at < at) & (at <= mine.resolved_at)).sum() for at in closes]))
    np.testing.assert_allclose(label_uniqueness(train), expected, rtol=1e-12)
    assert len(set(expected)) > 5


def test_weights_multiply_and_have_mean_one() -> None:
    windows = cut_windows(random_walk(120), WINDOW).resolved()
    parts = [SampleWeights(move=True), SampleWeights(half_life_bars=40), SampleWeights(uniqueness=True)]
    product = np.prod([weight_windows(windows, part) for part in parts], axis=0)
    found = weight_windows(windows, EVERY)
    np.testing.assert_allclose(found, product / product.mean(), rtol=1e-12)
    assert found.mean() == pytest.approx(1.0, abs=1e-12)
    index = np.arange(20, 60)
    (placed,) = training_weights(windows, index, EVERY)
    assert placed.dtype == np.float32
    np.testing.assert_allclose(placed[index], weight_windows(windows.take(index), EVERY), rtol=1e-6)
    assert not np.delete(placed, index).any()
    assert training_weights(windows, index, SampleWeights(move_bound=9.0)) == ()


def test_moves_of_labels_have_the_sign_of_the_label() -> None:
    bars = {symbol: random_walk(60, seed=seed, absent={30}) for seed, symbol in enumerate("ABCDE")}
    panels = [cut_panel(bars, WINDOW, PanelSpec(label=label)) for label in ("rise", "rank")]
    for panel in panels:
        known = panel.windows.labels >= 0
        assert np.array_equal(panel.windows.label_moves[known] > 1e-15, panel.windows.labels[known] == 1)
        assert np.isnan(panel.windows.label_moves[~known]).all()
        assert 0 < known.sum() < len(known)
    rise, rank = panels
    np.testing.assert_allclose(rise.windows.label_moves, np.log1p(rise.returns), atol=1e-14)
    at = rank.windows.decided_at == rank.windows.decided_at[0]
    moves = rank.returns[at]
    middles = [np.median(np.delete(moves, place)) for place in range(len(moves))]
    np.testing.assert_allclose(rank.windows.label_moves[at], np.log1p(moves) - np.log1p(middles), atol=1e-14)


def test_bars_after_the_training_windows_change_no_weight() -> None:
    bars = random_walk(160)
    changed = scrambled(bars, 120)
    before, after = cut_windows(bars, WINDOW), cut_windows(changed, WINDOW)
    train = np.flatnonzero(before.resolved_at <= bars.closed_at[119])
    assert not np.array_equal(before.label_moves, after.label_moves)
    first, second = (training_weights(each, train, EVERY)[0] for each in (before, after))
    assert np.array_equal(first, second)
    trainer = new_trainer(EVERY, epochs=1)
    assert same(trainer.fit(before, train), trainer.fit(after, train))


def test_a_later_bar_of_any_series_of_a_panel_changes_no_weight_of_a_fold() -> None:
    bars = {symbol: random_walk(120, seed=seed) for seed, symbol in enumerate("ABCDEF")}
    spec, folds = PanelSpec(label="rank"), FoldSpec(test_bars=40, count=2)
    before = cut_panel(bars, WINDOW, spec).resolved().windows
    for fold in split_folds(before, folds):
        begin = int(np.searchsorted(bars["A"].closed_at, before.decided_at[fold.test[0]], side="right"))
        later = {symbol: scrambled(each, begin) for symbol, each in bars.items()}
        after = cut_panel(later, WINDOW, spec).resolved().windows
        first, second = (training_weights(each, fold.train, EVERY)[0][fold.train] for each in (before, after))
        assert np.array_equal(first, second)


@pytest.mark.e2e
def test_a_fit_equals_that_of_keras_with_sample_weights() -> None:
    import keras  # here: loads TensorFlow

    windows = cut_windows(random_walk(98), WINDOW).resolved()
    assert len(windows) == 92  # five batches of 16 and one of 12
    train = np.arange(92)
    trainer = new_trainer(EVERY)
    start = trainer._graph.weights(trainer._graph.initial_state(np.random.default_rng(3)))
    fitted = trainer.fit(windows, train, epochs=2, seed=5, start=start)
    rng = np.random.default_rng(5)
    trainer._graph.warm_state(start, rng)  # draws what the fit draws before its first order
    plain = build_network(SMALL, LOOKBACK, 2)
    plain.set_weights(start)
    plain.compile(keras.optimizers.Nadam(3e-3), "binary_crossentropy", run_eagerly=True)  # tracing takes seconds
    weights = weight_windows(windows, EVERY).astype(np.float32)
    for _ in range(2):
        order = rng.permutation(train)
        plain.fit(
            windows.values()[order], windows.labels[order].astype(np.float32)[:, None], batch_size=16, epochs=1,
            shuffle=False, verbose=0, sample_weight=weights[order],
        )  # fmt: skip
    unweighted = new_trainer(SampleWeights()).fit(windows, train, epochs=2, seed=5, start=start)
    for ours, keras_, other in zip(fitted.weights, plain.get_weights(), unweighted.weights, strict=True):
        np.testing.assert_allclose(ours, keras_, atol=2e-5)
        if ours.ndim > 1:
            assert np.abs(ours - other).max() > 1e-4


def test_equal_weights_train_as_none_bit_for_bit() -> None:
    """All moves are a doubling or a halving, so every weight by the move is the same number before scaling."""
    labels = np.random.default_rng(1).integers(0, 2, 137)
    doubling = cut_windows(bars_of_closes((2.0 ** np.cumsum(2 * labels - 1)).tolist()), WINDOW).resolved()
    ups = replace(doubling, label_moves=np.where(doubling.labels == 1, 2.0, -2.0))
    one_bar = WINDOW.model_copy(update={"horizon_bars": 1})
    for windows, weights in [
        (ups, SampleWeights(move=True)),
        (cut_windows(random_walk(140), one_bar).resolved(), SampleWeights(uniqueness=True)),
    ]:
        train, validation = np.arange(90), np.arange(95, 120)
        (given,) = training_weights(windows, train, weights)
        assert set(given[train].tolist()) == {1.0}
        trainers = [new_trainer(each, epochs=3) for each in (weights, SampleWeights())]
        weighted, plain = (trainer.fit(windows, train, validation) for trainer in trainers)
        assert same(weighted, plain)
        losses = [[(epoch.loss, epoch.validation_loss) for epoch in each.history] for each in (weighted, plain)]
        assert losses[0] == losses[1]


@pytest.mark.e2e
def test_losses_of_training_and_validation_are_unweighted() -> None:
    windows = cut_windows(random_walk(160), WINDOW).resolved()
    train, validation = np.arange(100), np.arange(105, 150)
    weighted, plain = (new_trainer(each, epochs=1, batch_size=128) for each in (EVERY, SampleWeights()))
    fitted, other = (trainer.fit(windows, train, validation) for trainer in (weighted, plain))
    # One batch is an epoch: its loss is that of the initial weights, which the sample weights have not changed.
    assert fitted.history[0].loss == pytest.approx(other.history[0].loss, abs=1e-7)
    held = windows.take(validation)
    probabilities = weighted.predict(fitted, held)
    likelihood = np.where(held.labels == 1, probabilities, 1 - probabilities)
    assert fitted.history[0].validation_loss == pytest.approx(-np.log(likelihood).mean(), abs=1e-7)
    assert not same(fitted, other)


@pytest.mark.e2e
def test_weights_by_the_move_shift_probabilities_to_the_frequency_among_large_moves() -> None:
    """30 % of all windows rise, by a move of 3; falls are moves of 1: by the move, rises weigh 0.9 of 1.6."""
    walk = cut_windows(random_walk(600), WINDOW).resolved()
    rises = (np.arange(len(walk)) % 10 < 3).astype(np.int8)
    windows = replace(walk, labels=rises, label_moves=np.where(rises, 3.0, -1.0))
    train = np.arange(500)
    means = []
    for weights in (SampleWeights(), SampleWeights(move=True)):
        trainer = new_trainer(weights, epochs=25, learning_rate=1e-2)
        means.append(trainer.predict(trainer.fit(windows, train), windows.take(train)).mean())
    assert means[0] == pytest.approx(0.3, abs=0.05)
    assert means[1] == pytest.approx(0.9 / 1.6, abs=0.05)


@pytest.mark.e2e
def test_a_calibrated_ensemble_weights_the_folds_of_a_panel() -> None:
    def walked(weights: SampleWeights) -> WalkForward:
        training = TrainingSpec(epochs=1, batch_size=32, members=2, calibration="temperature")
        recipe = PanelRecipe(
            window=WINDOW,
            folds=FoldSpec(test_bars=20, count=1),
            network=SMALL,
            training=training.model_copy(update={"sample_weights": weights}),
            panel=PanelSpec(symbols=("A", "B")),
        )
        panel = cut_panel({"A": random_walk(90), "B": random_walk(90, seed=1)}, WINDOW, recipe.panel).resolved().windows
        return walk_forward(trainer_for(recipe), panel, split_folds(panel, recipe.folds), seed=1)

    plain, weighted = walked(SampleWeights()), walked(EVERY)
    assert not np.array_equal(plain.record.probabilities, weighted.record.probabilities)
    assert np.array_equal(plain.base_rate, weighted.base_rate)


def test_a_recipe_without_weights_keeps_its_digest_and_weights_change_it() -> None:
    plain = Recipe()
    assert plain.digest == "c25a535ee1e9"  # as before the field existed

    def digest(**weights: float) -> str:
        training = TrainingSpec(sample_weights=SampleWeights.model_validate(weights))
        return plain.model_copy(update={"training": training}).digest

    assert digest() == digest(move_bound=5.0) == plain.digest  # a bound that bounds nothing
    options = [{"move": True}, {"move": True, "move_bound": 5.0}, {"half_life_bars": 9}, {"uniqueness": True}]
    assert len({plain.digest, *(digest(**each) for each in options)}) == 5
    weighted = plain.model_copy(update={"training": TrainingSpec(sample_weights=EVERY)})
    assert Recipe.model_validate_json(weighted.model_dump_json()) == weighted
    assert recipe_of(weighted, values_of(weighted)) == weighted  # a trial of `tune`
    assert recipe_for("BTC-USD", "1h", training=weighted.training).training.sample_weights == EVERY  # over the preset


def test_what_cannot_weight_is_refused() -> None:
    still = closes_to_windows([5.0] * 12)
    with pytest.raises(SpecError, match=r"found a mean of 0\.0 over 10 training windows"):
        weight_windows(still, SampleWeights(move=True))
    for bad in ({"move_bound": 0.5}, {"half_life_bars": -1}, {"by": "move"}):
        with pytest.raises(ValidationError):
            SampleWeights.model_validate(bad)


def test_a_gap_of_bars_that_are_filled_keeps_the_move_of_the_label() -> None:
    """Filled rows shift the rows of the matrix; the move is still that of the closes by the calendar."""
    bars: Bars = random_walk(40, absent={10, 11})
    spec = WindowSpec.model_validate({"lookback_bars": 4, "horizon_bars": 2, "gaps": {"kind": "fill"}})
    windows = cut_windows(bars, spec).resolved()
    close = dict(zip(bars.closed_at.tolist(), bars.column("close"), strict=True))
    pairs = zip(windows.decided_at.tolist(), windows.resolved_at.tolist(), strict=True)
    np.testing.assert_allclose(windows.label_moves, [np.log(close[end] / close[start]) for start, end in pairs])
    assert len(windows.filled) == 2
