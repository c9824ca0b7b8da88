"""The three classes of a cost by hand: labels, proper scores, baselines, confusion; a network finds planted classes."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn import metrics as sklearn_metrics
from sklearn.linear_model import LogisticRegression
from synthetic_bars import bars_of_closes, scrambled
from synthetic_folds import BARS, two_folds

from model.bars import Bars
from model.calibration_error import reliability_curve
from model.cost_class_evaluation import evaluate_cost_classes
from model.cost_classes import (
    CLASS_BASELINES,
    CLASS_COLUMNS,
    CLASS_NAMES,
    brier_losses,
    by_trailing_move,
    class_losses,
    class_shares,
    fit_trailing_move,
    label_cost_classes,
    walk_class_baselines,
)
from model.ensemble import AnyTrainer, open_trainer
from model.errors import SpecError
from model.expected_moves import LEAST_MOVE, moves_of_folds, trailing_moves
from model.folds import FoldSpec, split_folds
from model.metrics import score
from model.network_heads import constant_loss, further_loss, split_further, training_targets
from model.networks import NetworkSpec
from model.panel import PanelSpec
from model.panel_recipe import panel_recipe_for
from model.recipe import Recipe
from model.record import Record, record_from_frame
from model.training import TrainingSpec
from model.walk_forward import walk_forward
from model.windows import Windows, WindowSpec, cut_windows

SMALL = NetworkSpec(kind="cnn", filters=(4,), kernel_bars=2, dense_units=8, dropout=0.0, beyond_cost_bps=200)
WINDOW = WindowSpec(lookback_bars=8)


def test_a_class_is_the_move_from_close_to_close_against_the_cost() -> None:
    """A cost of 100 bps: +2 % is up, +1 % exactly and -1 % exactly are neither, -2 % is down."""
    windows = cut_windows(bars_of_closes([100.0, 100.0, 102.0, 103.0, 100.0, 98.0]), WindowSpec(lookback_bars=2))
    assert label_cost_classes(windows.label_moves, 100).tolist() == [2, 1, 0, 0, -1]
    assert label_cost_classes(windows.label_moves, 250).tolist() == [1, 1, 0, 1, -1]
    two_ahead = cut_windows(
        bars_of_closes([100.0, 100.0, 102.0, 103.0, 100.0, 98.0]), WindowSpec(lookback_bars=2, horizon_bars=2)
    )
    assert label_cost_classes(two_ahead.label_moves, 250).tolist() == [2, 1, 0, -1, -1]


@pytest.mark.parametrize("cost", [0.0, -1.0, 10_000.0])
def test_a_cost_that_makes_no_classes_is_refused(cost: float) -> None:
    with pytest.raises(SpecError, match=r"expected a cost above 0 and below 10,000, found"):
        label_cost_classes(np.zeros(1), cost)


def test_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    classes, shares = rng.integers(0, 3, 400).astype(np.int8), rng.dirichlet([1, 2, 3], 400)
    assert class_losses(classes, shares).mean() == pytest.approx(sklearn_metrics.log_loss(classes, shares))
    hits = np.eye(3)[classes]
    assert brier_losses(classes, shares).mean() == pytest.approx(((shares - hits) ** 2).sum(axis=1).mean())
    assert class_shares(np.array([0, 2, 2], np.int8)).tolist() == pytest.approx([2 / 6, 1 / 6, 3 / 6])


def test_baselines_are_learned_fold_by_fold_and_know_no_later_outcome() -> None:
    windows = cut_windows(BARS, WINDOW).resolved()
    folds = split_folds(windows, FoldSpec(test_bars=100, count=2))
    found = walk_class_baselines(windows, folds, 100)
    assert tuple(found) == CLASS_BASELINES
    learned = np.concatenate([folds[0].train, folds[0].validation])
    classes = label_cost_classes(windows.label_moves, 100)
    counts = np.bincount(classes[learned], minlength=3) + 1
    np.testing.assert_allclose(found["base_rates"][:50], np.tile(counts / counts.sum(), (50, 1)))
    for each in found.values():
        np.testing.assert_allclose(each.sum(axis=1), 1)
    later = cut_windows(scrambled(BARS, len(BARS) - 50), WINDOW).resolved()
    again = walk_class_baselines(later, folds, 100)
    for name in CLASS_BASELINES:
        np.testing.assert_array_equal(found[name][:50], again[name][:50])


def test_a_class_that_never_occurred_keeps_a_finite_score() -> None:
    bars = bars_of_closes(np.linspace(100, 200, 400))
    windows = cut_windows(bars, WINDOW).resolved()
    folds = split_folds(windows, FoldSpec(test_bars=50, count=1))
    for each in walk_class_baselines(windows, folds, 9_000).values():
        assert np.isfinite(class_losses(np.zeros(50, np.int8), each)).all()


def with_classes(record: Record, seed: int = 3) -> Record:
    shares = np.random.default_rng(seed).dirichlet([4, 2, 4], len(record))
    return replace(record, class_probabilities=shares)


def test_the_evaluation_by_hand() -> None:
    record = with_classes(two_folds()[0])
    index = np.searchsorted(BARS.closed_at, record.decided_at)
    moves = np.log(BARS.column("close")[index + 1] / BARS.column("close")[index])
    classes, shares = label_cost_classes(moves, 100), record.class_probabilities
    base = np.tile([0.3, 0.4, 0.3], (200, 1))
    found = evaluate_cost_classes(record, classes, 100, {"base_rates": base}, seed=1)
    numbers = found.numbers()
    loss, other = (sklearn_metrics.log_loss(classes, each) for each in (shares, base))
    assert numbers["network_log_loss"] == pytest.approx(loss)
    assert numbers["vs_base_rates"] == pytest.approx(loss - other)
    assert numbers["vs_base_rates_low"] < loss - other < numbers["vs_base_rates_high"]
    assert numbers["network_brier_score"] == pytest.approx(((shares - np.eye(3)[classes]) ** 2).sum(axis=1).mean())
    predicted = shares.argmax(axis=1)
    np.testing.assert_array_equal(found.confusion, sklearn_metrics.confusion_matrix(classes, predicted))
    assert numbers["accuracy"] == pytest.approx((predicted == classes).mean())
    assert numbers["share_neither"] == pytest.approx((classes == 1).mean())
    errors = [reliability_curve((classes == k).astype(np.int8), shares[:, k]).expected_error for k in range(3)]
    assert found.calibration_errors == tuple(errors)
    expected = sklearn_metrics.classification_report(classes, predicted, target_names=CLASS_NAMES, zero_division=0)
    assert [line.split() for line in expected.splitlines()] == [
        line.split() for line in found.report().split("\n\nconfusion")[0].splitlines()
    ]


def test_a_record_keeps_its_classes_in_a_frame_and_in_a_part() -> None:
    record = with_classes(two_folds()[0])
    again = record_from_frame(record.frame().sample(frac=1, random_state=1))
    np.testing.assert_array_equal(again.class_probabilities, record.class_probabilities)
    np.testing.assert_array_equal(record.take(np.array([3, 1])).class_probabilities, record.class_probabilities[[3, 1]])
    without = two_folds()[0]
    assert not set(CLASS_COLUMNS) & set(without.frame().columns)
    assert record_from_frame(without.frame()).class_probabilities.shape == (0, 3)


def test_outputs_are_told_apart_by_their_number() -> None:
    outputs = np.arange(8.0).reshape(2, 4)
    for count, moves, classes in [(0, 0, 0), (1, 2, 0), (3, 0, 2), (4, 2, 2)]:
        found = split_further(outputs[:, :count])
        assert (len(found[0]), len(found[1])) == (moves, classes)
    np.testing.assert_array_equal(split_further(outputs)[0], [0, 4])
    np.testing.assert_array_equal(split_further(outputs)[1], outputs[:, 1:])


def planted_bars(count: int, seed: int = 5) -> Bars:
    """In turns of 40 bars closes move by 0.1 %, or by 4 % with the sign of the move before in three of four cases."""
    rng = np.random.default_rng(seed)
    sizes = np.where(np.arange(count) // 40 % 2 == 0, 0.001, 0.04)
    signs = np.cumprod(np.where(rng.random(count) < 0.75, 1, -1))
    return bars_of_closes(100 * np.exp(np.cumsum(signs * sizes)))


@pytest.fixture(scope="module")
def planted() -> Windows:
    return cut_windows(planted_bars(700), WINDOW).resolved()


def trainer_of(network: NetworkSpec = SMALL, **training: Any) -> AnyTrainer:
    spec = TrainingSpec(**{"epochs": 15, "batch_size": 32, "learning_rate": 5e-3} | training)
    return open_trainer(network, spec, 8, 4)


@pytest.mark.e2e
def test_a_network_finds_planted_classes_out_of_sample(planted: Windows) -> None:
    folds = split_folds(planted, FoldSpec(test_bars=200, count=2))
    walked = walk_forward(trainer_of(), planted, folds, 7)
    classes = label_cost_classes(moves_of_folds(planted, folds), 200)
    found = evaluate_cost_classes(walked.record, classes, 200, walk_class_baselines(planted, folds, 200), 7)
    assert found.differences["base_rates"].high < 0
    assert found.differences["trailing_move"].high < 0  # which knows the size and no direction
    np.testing.assert_allclose(walked.record.class_probabilities.sum(axis=1), 1, atol=1e-6)
    assert all(len(each.class_probabilities) == len(each) for each in walked.validation)
    assert score(walked.record.labels, walked.record.probabilities)["log_loss"] < math.log(2)


@pytest.mark.e2e
def test_both_heads_members_and_calibration_go_together(planted: Windows) -> None:
    trainer = trainer_of(SMALL.model_copy(update={"magnitude": True}), members=2, calibration="temperature", epochs=1)
    fitted = trainer.fit(planted, np.arange(300), np.arange(310, 400), 1)
    further = trainer.predict_further(fitted, planted)
    moves, classes = split_further(further)
    assert (moves > LEAST_MOVE / 10).all()
    np.testing.assert_allclose(classes.sum(axis=1), 1, atol=1e-6)
    stored = np.asarray(trainer.keras_model(fitted)(planted.values()[:20], training=False))
    np.testing.assert_allclose(stored[:, 1:], further[:20], atol=1e-6)


@pytest.mark.e2e
def test_the_loss_of_training_is_that_of_validation_less_constant_forecasts(planted: Windows) -> None:
    """One step with a rate of nearly zero on all windows: both sides see the same network."""
    network = SMALL.model_copy(update={"magnitude": True})
    trainer = trainer_of(network, learning_rate=1e-9, batch_size=1_000, magnitude_weight=0.5)
    index = np.arange(400)
    fitted = trainer.fit(planted, index, index, 1)
    part = planted.take(index)
    further, p = trainer.predict_further(fitted, part), trainer.predict(fitted, part)
    direction = -np.log(np.where(part.labels == 1, p, 1 - p)).mean()
    classes = label_cost_classes(part.label_moves, 200)
    moves, shares = further[:, 0], further[:, 1:]
    size = (np.log(moves) + np.abs(part.label_moves) / moves).mean()
    added = 0.5 * size - np.log(shares[index, classes]).mean()
    counts = np.bincount(classes, minlength=3) + 1
    entropy = -(counts / counts.sum() * np.log(counts / counts.sum())).sum()
    constant = 0.5 * (np.log(np.abs(part.label_moves).mean()) + 1) + entropy
    assert further_loss(part, further, network, 0.5) == pytest.approx(added)
    assert constant_loss(part, network, 0.5) == pytest.approx(constant)
    epoch = fitted.history[0]
    assert epoch.validation_loss == pytest.approx(direction + added - constant, abs=1e-4)
    # Batch norms use the statistics of the batch in training, so both losses are near each other and not equal.
    assert epoch.loss == pytest.approx(epoch.validation_loss, abs=0.8)
    np.testing.assert_array_equal(training_targets(part, network)[:, 2], classes)


@pytest.mark.e2e
def test_untrained_classes_are_the_logistic_regression_of_scikit_learn_on_the_mean_move(planted: Windows) -> None:
    trainer, train = trainer_of(learning_rate=1e-9), np.arange(300)
    fitted = trainer.fit(planted, train, np.arange(310, 400), 1)
    classes = label_cost_classes(planted.label_moves, 200)
    logs = np.log(trailing_moves(planted))[:, None]
    logs -= logs[train].mean()
    expected = LogisticRegression(max_iter=1_000).fit(logs[train], classes[train]).predict_proba(logs)
    np.testing.assert_allclose(trainer.predict_further(fitted, planted), expected, atol=2e-3)
    np.testing.assert_allclose(
        by_trailing_move(planted, fit_trailing_move(planted.take(train), 200), 200), expected, atol=2e-3
    )


def test_two_classes_alone_are_fitted_too(planted: Windows) -> None:
    calm = planted.take(np.abs(planted.label_moves) < 0.02)
    classes = label_cost_classes(calm.label_moves, 5)
    assert set(classes) == {0, 2}
    found = by_trailing_move(calm, fit_trailing_move(calm, 5), 5)
    np.testing.assert_allclose(found.mean(axis=0), np.bincount(classes, minlength=3) / len(classes), atol=1e-3)


def test_what_classes_need_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValidationError, match=r"network.beyond_cost_bps: expected close as the last"):
        Recipe(network=SMALL, window=WindowSpec(features=("close", "volume")))
    with pytest.raises(SpecError, match=r"--network.beyond-cost-bps 0 with the label rank, found 200: .*label rise"):
        panel_recipe_for("1d", PanelSpec(symbols=("A", "B"), label="rank"), network=SMALL)
    assert panel_recipe_for("1d", PanelSpec(symbols=("A", "B")), network=SMALL).network.beyond_cost_bps == 200
    with pytest.raises(ValidationError):
        NetworkSpec(beyond_cost_bps=-1)


def test_a_cost_is_part_of_the_recipe() -> None:
    digests = {Recipe(network=NetworkSpec(beyond_cost_bps=cost)).digest for cost in (0, 10, 20)}
    assert len(digests) == 3
    assert "beyond_cost_bps" not in Recipe().identity
