"""The expected move by hand: score, baselines, expected return, bands; a network finds a planted size."""

import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import expon
from synthetic_bars import bars_of_closes, scrambled
from synthetic_folds import BARS, two_folds

from model.bars import Bars
from model.bootstrap import PairedDifference
from model.ensemble import open_trainer
from model.expected_moves import (
    LEAST_MOVE,
    MOVE_BASELINES,
    move_factor,
    move_losses,
    moves_of_folds,
    trailing_moves,
    walk_move_baselines,
)
from model.folds import FoldSpec, split_folds
from model.label_names import LabelKind
from model.move_evaluation import MoveEvaluation, evaluate_moves
from model.networks import NetworkSpec
from model.panel import PanelSpec
from model.panel_recipe import panel_recipe_for
from model.recipe import Recipe
from model.record import Record, record_from_frame
from model.trading import TradingSpec, learn_bands, trade
from model.trading_policies import SIGN, Band, candidate_bands, hold_bands
from model.training import TrainingSpec
from model.walk_forward import walk_forward
from model.windows import Windows, WindowSpec, cut_windows

WINDOW = WindowSpec(lookback_bars=3, features=("close",))
# Log returns by hand: ln 2, -ln 2, ln 4, -ln 2, ln 2.
HAND = bars_of_closes([100.0, 200.0, 100.0, 400.0, 200.0, 400.0])
LN2 = math.log(2)


def alternating_bars(count: int, seed: int = 5) -> Bars:
    """Signs are random; sizes are 1 % and 4 % in turns of 40 bars, so that a window shows the size of the next move."""
    rng = np.random.default_rng(seed)
    sizes = np.where(np.arange(count) // 40 % 2 == 0, 0.01, 0.04)
    return bars_of_closes(100 * np.exp(np.cumsum(rng.choice([-1, 1], count) * sizes)))


def test_the_score_is_the_log_likelihood_of_an_exponential_and_lowest_at_the_mean() -> None:
    moves, expected = np.array([0.01, -0.03, 0.0]), np.array([0.02, 0.02, 0.5])
    np.testing.assert_allclose(move_losses(moves, expected), -expon.logpdf(np.abs(moves), scale=expected))
    sizes = np.random.default_rng(1).lognormal(size=1000)  # not exponential: the score is of the mean
    scores = {factor: move_losses(sizes, np.full(1000, factor * sizes.mean())).mean() for factor in (0.9, 1.0, 1.1)}
    assert min(scores, key=lambda factor: scores[factor]) == 1.0
    median = move_losses(sizes, np.full(1000, np.median(sizes))).mean()
    assert scores[1.0] < median


def test_trailing_moves_and_their_factor_by_hand() -> None:
    windows = cut_windows(HAND, WINDOW)
    np.testing.assert_allclose(trailing_moves(windows), LN2 * np.array([1.0, 1.5, 1.5, 1.0]))
    # Moves until the outcome: ln 4, -ln 2, ln 2 against mean moves of 1, 1.5, 1.5 times ln 2.
    assert move_factor(windows.resolved()) == pytest.approx((2 + 1 / 1.5 + 1 / 1.5) / 3)


def test_a_window_that_does_not_move_has_the_least_move_and_the_newest_outcome_is_not_known() -> None:
    windows = cut_windows(bars_of_closes([100.0, 100.0, 100.0, 110.0]), WINDOW)
    assert trailing_moves(windows)[0] == LEAST_MOVE
    assert np.isnan(windows.label_moves[-1])


def test_trailing_moves_do_not_cross_a_gap_and_ignore_context() -> None:
    bars = bars_of_closes([100.0, 200.0, 100.0, 400.0, 200.0, 400.0], absent=(3,))
    windows = cut_windows(bars, WINDOW.model_copy(update={"lookback_bars": 2}))
    np.testing.assert_allclose(trailing_moves(windows), [LN2, LN2, LN2])
    beside = np.column_stack([windows.features, np.full(len(windows.features), 7.0)])
    assert (
        trailing_moves(replace(windows, features=beside, context_count=1)).tolist() == trailing_moves(windows).tolist()
    )


def test_baselines_are_learned_fold_by_fold_and_know_no_later_outcome() -> None:
    windows = cut_windows(BARS, WINDOW).resolved()
    folds = split_folds(windows, FoldSpec(test_bars=100, count=2))
    found = walk_move_baselines(windows, folds)
    assert tuple(found) == MOVE_BASELINES
    learned = np.concatenate([folds[0].train, folds[0].validation])
    mean = np.abs(windows.label_moves[learned]).mean()
    np.testing.assert_allclose(found["training_mean"][:50], mean)
    factor = np.mean(np.abs(windows.label_moves[learned]) / trailing_moves(windows)[learned])
    np.testing.assert_allclose(found["trailing_mean"][:50], factor * trailing_moves(windows)[folds[0].test])
    assert found["training_mean"][50] != found["training_mean"][49]
    np.testing.assert_array_equal(moves_of_folds(windows, folds), windows.label_moves[-100:])
    later = cut_windows(scrambled(BARS, len(BARS) - 50), WINDOW).resolved()  # bars of the second test fold
    again = walk_move_baselines(later, folds)
    for name in MOVE_BASELINES:
        np.testing.assert_array_equal(found[name][:50], again[name][:50])


def with_moves(record: Record, moves: float | np.ndarray) -> Record:
    return replace(record, expected_moves=np.full(len(record), 1.0) * moves)


def test_the_evaluation_by_hand() -> None:
    record = with_moves(two_folds()[0], 0.02)
    index = np.searchsorted(BARS.closed_at, record.decided_at)
    moves = np.log(BARS.column("close")[index + 1] / BARS.column("close")[index])
    found = evaluate_moves(record, moves, {"training_mean": np.full(200, 0.03)}, seed=1)
    ours, theirs = (np.log(size) + np.abs(moves) / size for size in (0.02, 0.03))
    numbers = found.numbers()
    assert numbers["network_score"] == pytest.approx(ours.mean())
    assert numbers["vs_training_mean"] == pytest.approx((ours - theirs).mean())
    assert numbers["vs_training_mean_low"] < numbers["vs_training_mean"] < numbers["vs_training_mean_high"]
    assert numbers["ratio"] == pytest.approx(np.abs(moves).mean() / 0.02)
    expected = (2 * record.probabilities - 1) * 0.02
    slope = np.linalg.lstsq(expected[:, None], moves, rcond=None)[0][0]
    assert numbers["return_slope"] == pytest.approx(slope)
    assert numbers["return_slope_low"] < slope < numbers["return_slope_high"]
    assert isinstance(found.differences["training_mean"], PairedDifference)
    assert isinstance(found, MoveEvaluation)
    assert numbers["mean_expected"] == pytest.approx(0.02)


def test_a_record_keeps_its_moves_in_a_frame_and_in_a_part() -> None:
    record = with_moves(two_folds()[0], np.linspace(0.01, 0.02, 200))
    again = record_from_frame(record.frame().sample(frac=1, random_state=1))
    np.testing.assert_array_equal(again.expected_moves, record.expected_moves)
    np.testing.assert_array_equal(record.take(np.array([3, 1])).expected_moves, record.expected_moves[[3, 1]])
    without = two_folds()[0]
    assert "expected_move" not in without.frame().columns
    assert len(record_from_frame(without.frame()).expected_returns()) == 0
    assert without.expected_returns().shape == (0,)


def test_bands_of_expected_returns_by_hand() -> None:
    """P = 0.6 with a move of 5 % is expected to earn 1 %, with a move of 0.5 % ten basis points: below a cost of 15."""
    p, moves, returns = np.array([0.6, 0.6]), np.array([0.05, 0.005]), np.array([0.05, -0.005])
    expected = (2 * p - 1) * moves
    bands = candidate_bands("no_trade_band", p, returns, 0.0015, expected)
    slope = (0.01 * 0.05 - 0.001 * 0.005) / (0.01**2 + 0.001**2)
    assert (bands[0].enter, bands[0].of_returns) == (pytest.approx(0.5 * 0.0015 / slope), True)
    assert bands[4] == Band(0.0015, -0.0015, of_returns=True)  # one side, expected returns as they are
    held = hold_bands(
        p, np.zeros(2, np.int64), {0: bands[4]}, np.array([True, False]), short=True, expected_returns=expected
    )
    assert held.tolist() == [1, 0]
    alone = (np.zeros(1, np.int64), {0: bands[4]}, np.ones(1, dtype=bool))
    assert hold_bands(p[1:], *alone, short=True, expected_returns=expected[1:]).tolist() == [0]
    assert hold_bands(1 - p[:1], *alone, short=True, expected_returns=-expected[:1]).tolist() == [-1]
    assert candidate_bands("sign", p, returns, 0.0015, expected) == (SIGN,)
    threshold = candidate_bands("threshold", p, returns, 0.0015, expected)
    assert threshold[4].enter == pytest.approx(np.quantile(expected, 0.5))
    assert str(bands[4]) == "enter above 15.0 bps, leave at -15.0 bps"


def test_a_policy_trades_on_the_expected_return_in_place_of_the_probability() -> None:
    """Confident on small moves, unsure on large ones: by P it holds the former, by the expected return the latter."""
    record, validation = two_folds()
    rises = record.labels == 1
    small = np.arange(len(record)) % 2 == 0
    moves = np.where(small, 0.0001, 0.2)
    probabilities = np.where(rises, 0.5 + np.where(small, 0.2, 0.05), 0.5 - np.where(small, 0.2, 0.05))
    record = replace(record, probabilities=probabilities, expected_moves=moves)
    sized = tuple(with_moves(each, 0.02) for each in validation)
    spec = TradingSpec(kind="long_flat", policy="no_trade_band", cost_bps=20, slippage_bps=0)
    bands = learn_bands(record, BARS, spec, sized)
    assert all(band.of_returns for band in bands.values())
    found = trade(record, BARS, spec, 1, sized)
    entered = np.flatnonzero(np.diff(found.strategy.positions, prepend=0.0) == 1)
    assert len(entered) > 10
    assert not small[entered].any()
    assert learn_bands(replace(record, expected_moves=np.empty(0)), BARS, spec, validation) != bands


def small_trainer(**training: object) -> object:
    spec = NetworkSpec(kind="cnn", filters=(4,), kernel_bars=2, dense_units=8, dropout=0.0, magnitude=True)
    return open_trainer(spec, TrainingSpec(epochs=12, batch_size=32, **training), 8, 4)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def planted() -> Windows:
    return cut_windows(alternating_bars(700), WindowSpec(lookback_bars=8)).resolved()


@pytest.mark.e2e
def test_a_network_finds_a_planted_size_out_of_sample(planted: Windows) -> None:
    folds = split_folds(planted, FoldSpec(test_bars=200, count=2))
    walked = walk_forward(small_trainer(learning_rate=5e-3), planted, folds, 7)
    found = evaluate_moves(walked.record, moves_of_folds(planted, folds), walk_move_baselines(planted, folds), 7)
    assert found.differences["training_mean"].high < 0
    assert found.differences["trailing_mean"].mean < 0
    assert 0.8 < found.ratio.value < 1.2
    assert all(len(each.expected_moves) == len(each) for each in walked.validation)


@pytest.mark.e2e
def test_members_and_calibration_keep_the_moves(planted: Windows) -> None:
    trainer = small_trainer(members=2, calibration="temperature")
    train, validation = np.arange(300), np.arange(310, 400)
    fitted = trainer.fit(planted, train, validation, 1)  # type: ignore[attr-defined]
    single = trainer.trainer.trainer  # type: ignore[attr-defined]
    apart = [single.predict_further(member, planted)[:, 0] for member in fitted.members]
    moves = trainer.predict_further(fitted, planted)[:, 0]  # type: ignore[attr-defined]
    np.testing.assert_allclose(moves, (apart[0] + apart[1]) / 2)
    stored = np.asarray(trainer.keras_model(fitted)(planted.values()[:20], training=False))  # type: ignore[attr-defined]
    np.testing.assert_allclose(stored[:, 1], moves[:20], atol=1e-6)


@pytest.mark.e2e
def test_an_untrained_size_is_the_rescaled_mean_move_and_its_loss_is_subtracted_from_the_curve(
    planted: Windows,
) -> None:
    trainer = small_trainer(learning_rate=1e-9)
    train, validation = np.arange(300), np.arange(310, 400)
    fitted = trainer.fit(planted, train, validation, 1)  # type: ignore[attr-defined]
    part = planted.take(train)
    moves = trainer.predict_further(fitted, planted)[:, 0]  # type: ignore[attr-defined]
    np.testing.assert_allclose(moves, move_factor(part) * trailing_moves(planted), rtol=1e-4)
    mean = np.abs(part.label_moves).mean()
    p, rises = trainer.predict(fitted, planted)[validation], planted.labels[validation] == 1  # type: ignore[attr-defined]
    direction = -np.log(np.where(rises, p, 1 - p)).mean()
    size = move_losses(planted.label_moves, moves)[validation].mean() - (np.log(mean) + 1)
    assert fitted.history[0].validation_loss == pytest.approx(direction + size, abs=1e-4)


def test_the_network_learns_nothing_from_outcomes_outside_its_training_windows(planted: Windows) -> None:
    train = np.arange(100)
    other = replace(planted, label_moves=np.where(np.arange(len(planted)) < 100, planted.label_moves, 0.5))
    found = [small_trainer().fit(each, train, None, 2) for each in (planted, other)]  # type: ignore[attr-defined]
    for ours, theirs in zip(found[0].weights, found[1].weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_a_size_needs_is_refused_with_what_to_do() -> None:
    on = NetworkSpec(magnitude=True)
    with pytest.raises(ValidationError, match=r"expected close as the last of --window.features, found close, volume"):
        Recipe(network=on, window=WindowSpec(features=("close", "volume")))
    kinds: tuple[LabelKind, ...] = ("rise", "rank")
    for kind in kinds:
        assert panel_recipe_for("1d", PanelSpec(symbols=("A", "B"), label=kind), network=on).network.magnitude
        unscaled = NetworkSpec(magnitude=True, scaling="window")
        with pytest.raises(ValidationError, match=r"network.magnitude: expected close as the last"):
            panel_recipe_for("1d", PanelSpec(label=kind), WindowSpec(features=("close", "volume")), network=unscaled)


def test_a_recipe_without_a_size_keeps_the_identity_of_earlier_versions() -> None:
    """Otherwise every champion would be that of another recipe after an update."""
    assert Recipe().digest == "c25a535ee1e9"
    assert "magnitude" not in Recipe(training=TrainingSpec(magnitude_weight=2.0)).identity
    sized = [Recipe(network=NetworkSpec(magnitude=True), training=TrainingSpec(magnitude_weight=w)) for w in (1.0, 2.0)]
    assert len({each.digest for each in (Recipe(), *sized)}) == 3
