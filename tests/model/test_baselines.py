"""Baselines by hand, and better than the base rate on a planted signal."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from synthetic_bars import bars_of_closes, random_walk, scrambled

from model.baselines import BASELINES, PROBABILITY_MARGIN, BaselineName, capped_windows_note, predict_baseline
from model.errors import SpecError
from model.windows import Windows, WindowSpec, cut_windows

LEARNERS: tuple[BaselineName, ...] = ("logistic_regression", "gradient_boosting")


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(-np.mean(np.where(labels == 1, np.log(probabilities), np.log(1 - probabilities))))


def halves(windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    middle = len(windows) // 2
    return np.arange(middle - 1), np.arange(middle, len(windows))


def momentum(count: int) -> Windows:
    """Windows of a walk whose next move repeats the sign of the last one with probability 0.85."""
    rng = np.random.default_rng(4)
    signs = np.cumprod(np.where(rng.uniform(size=count) < 0.85, 1, -1))
    close = 1_000 * np.exp(np.cumsum(signs * rng.uniform(0.005, 0.015, count)))
    return cut_windows(bars_of_closes(close), WindowSpec(lookback_bars=6)).resolved()


def test_base_rate_by_hand() -> None:
    windows = cut_windows(bars_of_closes([5, 4, 5, 6, 7, 6, 5]), WindowSpec(lookback_bars=2)).resolved()
    assert windows.labels.tolist() == [1, 1, 1, 0, 0]
    predicted = predict_baseline("base_rate", windows, np.arange(4), np.array([4, 0]), seed=1)
    assert predicted.tolist() == [0.75, 0.75]


def test_persistence_by_hand() -> None:
    # Last moves of the windows + - + - + 0 -, labels 0 1 0 1 0 0 ?
    windows = cut_windows(bars_of_closes([5, 6, 5, 6, 5, 6, 6, 5]), WindowSpec(lookback_bars=2))
    assert windows.last_moves.tolist() == [1, -1, 1, -1, 1, 0, -1]
    predicted = predict_baseline("persistence", windows, np.arange(5), np.array([0, 1, 5, 6]), seed=1)
    # After a rise no rise in 3: (0 + 1) / (3 + 2); after a fall 2 in 2: 3 / 4; flat never seen: 1 / 2.
    assert predicted.tolist() == [0.2, 0.75, 0.5, 0.75]


@pytest.mark.parametrize("name", ["persistence", *LEARNERS])
def test_a_planted_signal_beats_the_base_rate(name: BaselineName) -> None:
    windows = momentum(800)
    train, test = halves(windows)
    labels = windows.labels[test]
    base_rate = log_loss(labels, predict_baseline("base_rate", windows, train, test, seed=1))
    assert log_loss(labels, predict_baseline(name, windows, train, test, seed=1)) < base_rate - 0.05


@pytest.mark.parametrize("name", BASELINES)
def test_probabilities_depend_on_no_later_bar_and_repeat(name: BaselineName) -> None:
    bars, spec = random_walk(240, seed=8), WindowSpec(lookback_bars=5)
    windows = cut_windows(bars, spec)
    train, test = np.arange(150), np.arange(151, len(windows))
    whole = predict_baseline(name, windows, train, test, seed=3)
    assert whole.shape == test.shape
    assert ((whole > 0) & (whole < 1)).all()
    np.testing.assert_array_equal(whole, predict_baseline(name, windows, train, test, seed=3))

    start = 200  # bars from here on are replaced; windows 151..195 end before it
    other = predict_baseline(name, cut_windows(scrambled(bars, start), spec), train, test, seed=3)
    decided = windows.ends[test] < start
    assert 0 < decided.sum() < len(test)
    np.testing.assert_array_equal(whole[decided], other[decided])


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_use_the_scaling_of_the_network(name: BaselineName) -> None:
    """A rise follows where the close stands above the middle of its own bar: lost where each channel stands alone."""
    rng = np.random.default_rng(6)
    signs = rng.choice([-1.0, 1.0], 900)
    close = 1_000 + np.concatenate([[0.0], np.cumsum(signs * rng.uniform(1, 2, 900))])
    bars = bars_of_closes(close)
    signs_and_last = np.concatenate([signs, [1.0]])
    bars.ohlcv[:, 1], bars.ohlcv[:, 2] = close + 2 - signs_and_last, close - 2 - signs_and_last
    windows = cut_windows(bars, WindowSpec(lookback_bars=2)).resolved()
    train, test = np.arange(450), np.arange(460, len(windows))
    labels = windows.labels[test]
    anchored = log_loss(labels, predict_baseline(name, windows, train, test, seed=1, scaling="last_close"))
    alone = log_loss(labels, predict_baseline(name, windows, train, test, seed=1))
    assert anchored < 0.6
    assert alone > 0.68


@pytest.mark.parametrize("name", BASELINES)
def test_the_labels_of_the_test_are_not_used(name: BaselineName) -> None:
    windows = cut_windows(random_walk(120), WindowSpec(lookback_bars=5))
    flipped = windows.labels.copy()
    flipped[80:] = 1 - np.abs(flipped[80:])
    other = Windows(
        windows.interval, windows.features, windows.ends, flipped, windows.decided_at, windows.resolved_at,
        windows.last_moves, windows.label_moves, windows.lookback_bars,
    )  # fmt: skip
    train, test = np.arange(79), np.arange(80, len(windows))
    np.testing.assert_array_equal(
        predict_baseline(name, windows, train, test, seed=1), predict_baseline(name, other, train, test, seed=1)
    )


@pytest.mark.parametrize("name", BASELINES)
def test_a_training_set_of_one_class_stays_inside_zero_and_one(name: BaselineName) -> None:
    windows = cut_windows(bars_of_closes(range(1, 40)), WindowSpec(lookback_bars=5)).resolved()  # nothing but rises
    predicted = predict_baseline(name, windows, np.arange(20), np.arange(20, 30), seed=1)
    expected = 21 / 22 if name == "persistence" else 1 - PROBABILITY_MARGIN
    np.testing.assert_array_equal(predicted, np.full(10, expected))


def test_batches_change_no_prediction_of_a_learner(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = momentum(200)
    train, test = halves(windows)
    whole = predict_baseline("logistic_regression", windows, train, test, seed=1)
    monkeypatch.setattr("model.baselines.BATCH_WINDOWS", 7)
    np.testing.assert_allclose(predict_baseline("logistic_regression", windows, train, test, seed=1), whole, atol=1e-12)


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_use_the_newest_windows_of_a_limit(name: BaselineName) -> None:
    windows = momentum(300)
    train, test = halves(windows)
    whole = predict_baseline(name, windows, train, test, seed=1, max_windows=None)
    capped = predict_baseline(name, windows, train, test, seed=1, max_windows=50)
    np.testing.assert_array_equal(capped, predict_baseline(name, windows, train[-50:], test, seed=1))
    assert (capped != whole).any()
    for enough in (len(train), len(train) + 1):
        np.testing.assert_array_equal(whole, predict_baseline(name, windows, train, test, 1, max_windows=enough))


def test_a_note_says_which_windows_the_learners_left_out() -> None:
    assert capped_windows_note([]) == capped_windows_note([99_999, 100_000]) == ""
    assert capped_windows_note([148_596, 212_208, 275_808]) == (
        "Logistic regression and gradient boosting learned from the newest 100,000 windows of a fold, of up to 275,808."
    )


def test_an_empty_training_set_is_refused() -> None:
    windows = cut_windows(random_walk(30), WindowSpec(lookback_bars=5))
    for train in (np.arange(0), np.arange(len(windows))):
        with pytest.raises(SpecError, match="resolved training windows"):
            predict_baseline("base_rate", windows, train, np.arange(2), seed=1)
    with pytest.raises((SpecError, TypeCheckError), match="base_rate"):  # the hook of conftest.py may see it first
        predict_baseline("dummy", windows, np.arange(5), np.arange(2), seed=1)  # type: ignore[arg-type]
