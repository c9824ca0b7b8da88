"""The live score of a panel: by hand, as that of one series where coins are equal, and its size and power simulated."""

from dataclasses import replace

import numpy as np
import pytest

from model.e_process import (
    ForecastReference,
    alarm_threshold,
    allowed_excesses,
    first_alarm,
    freeze_reference,
    lagged_e_process,
)
from model.errors import SpecError
from model.live_score import live_score
from model.panel_live_score import freeze_panel_reference, panel_e_process, panel_live_score
from model.record import Record

DAY = np.timedelta64(1, "D")
COINS, RECORD = 20, 750
PLAIN = ForecastReference(base_rate=0.5, excess_slope=0.0, divergence_cap=1.0, tolerance=0.0)


def record(labels: np.ndarray, probabilities: np.ndarray) -> Record:
    """Return a record of a panel; shape (close, coin)."""
    closes, coins = labels.shape
    at = np.repeat(np.datetime64("2024-01-01", "us") + np.arange(closes) * DAY, coins)
    symbols = np.tile(np.array([f"C{coin:02d}" for coin in range(coins)]), closes)
    flat = labels.astype(np.int8).ravel(), probabilities.astype(float).ravel()
    return Record(at, at + DAY, *flat, np.zeros(len(at), np.int64), symbols)


def test_means_are_taken_over_closes_of_means_over_series_by_hand() -> None:
    """Close 7: right at 0.8 and wrong at 0.6; close 9: right at 0.5 + epsilon, one open; close 11: all open."""
    closes = np.array([7, 7, 9, 9, 11])
    labels = np.array([1, 0, 1, -1, -1], dtype=np.int8)
    found = panel_live_score(closes, labels, np.array([0.8, 0.6, 0.51, 0.9, 0.9]), PLAIN, 80.0)
    assert (found.count, found.predictions) == (2, 3)
    assert found.counted == "3 live predictions at 2 closes"
    assert found.accuracy[0] == pytest.approx((0.5 + 1) / 2)
    first = -(np.log(0.8) + np.log(0.4)) / 2
    mean = (first - np.log(0.51)) / 2
    assert found.log_loss[0] == pytest.approx(mean)
    half = 1.959964 * abs(first + np.log(0.51)) / 2 / np.sqrt(2)  # two closes: their standard deviation is half
    assert found.log_loss[1:] == pytest.approx((mean - half, mean + half))
    assert found.base_rate_loss == pytest.approx(np.log(2))
    assert found.calibration[0] == pytest.approx(((0.2 - 0.6) / 2 + 0.49) / 2)
    assert len(found.e_values) == 2
    assert not panel_live_score(closes, np.full(5, -1, np.int8), np.full(5, 0.9), PLAIN, 80.0).count


def test_a_bet_on_a_close_by_hand() -> None:
    """One stake L bets min(L w, 0.9) on a close whose worst mean is -w: half of it at once, as for one series."""
    labels, chances = np.array([0, 1], dtype=np.int8), np.array([0.8, 0.6])
    excess = [np.log(0.5 / 0.2), np.log(0.5 / 0.6)]  # loss minus that of 0.5: wrong at 0.8, right at 0.6
    worst = -(np.log(0.5 / 0.8) + np.log(0.5 / 0.6)) / 2  # both right
    factors = [1 + min(stake, 0.9 / worst) * np.mean(excess) for stake in (0.5, 1, 2, 4, 8)]
    weight = 0.5 + 0.25 / 1024  # half on the first decision, and its part of the rest
    expected = weight * np.mean(factors) + 1 - weight
    found = panel_e_process(np.array([3, 3]), labels, chances, np.full(2, 0.5), np.zeros(2))
    assert found.tolist() == pytest.approx([expected])


@pytest.mark.parametrize("overlap", [1, 3])
def test_equal_coins_are_one_coin(overlap: int) -> None:
    """Whatever is said of one series is said of a panel of copies of it: reference, score, interval, evidence."""
    rng = np.random.default_rng(1)
    chances, rises = rng.uniform(0.3, 0.7, 300), rng.integers(0, 2, 300).astype(np.int8)
    copied = record(np.repeat(rises[:, None], 5, axis=1), np.repeat(chances[:, None], 5, axis=1))
    copied = replace(copied, resolved_at=copied.decided_at + overlap * DAY)
    reference = freeze_reference(rises, chances, overlap=overlap)
    assert freeze_panel_reference(copied, "rise") == pytest.approx(reference)  # type: ignore[comparison-overlap]
    labels = rises.copy()
    labels[[100, 298, 299]] = -1
    one = live_score(labels, chances, reference, 80.0, overlap)
    many = panel_live_score(np.repeat(np.arange(300), 5), np.repeat(labels, 5), copied.probabilities, reference, 80.0,
                            overlap)  # fmt: skip
    np.testing.assert_allclose(many.e_values, one.e_values)
    assert many.count == one.count == 297
    assert many.log_loss == pytest.approx(one.log_loss)
    assert many.calibration == pytest.approx(one.calibration)
    assert many.accuracy[0] == pytest.approx(one.accuracy[0])


def test_the_base_rate_of_a_rank_is_a_half() -> None:
    found = record(np.array([[1, 1, 0], [1, 1, 0]]), np.full((2, 3), 0.6))
    assert freeze_panel_reference(found, "rank").base_rate == 0.5
    assert freeze_panel_reference(found, "rise").base_rate == pytest.approx(2 / 3)
    with pytest.raises(SpecError, match="at least one window"):
        freeze_panel_reference(found.take(np.empty(0, np.int64)), "rise")


def test_an_outcome_that_never_comes_changes_no_bet() -> None:
    """A bet is sized by what was predicted: without the outcome of one series the others' gain is not scaled up."""
    closes, chances, base = np.zeros(2, np.int64), np.array([0.8, 0.8]), np.full(2, 0.5)
    both, one = (panel_e_process(closes, np.array([0, each], np.int8), chances, base, np.zeros(2)) for each in (0, -1))
    weight = 0.5 + 0.25 / 1024
    assert (one - 1) / weight == pytest.approx((both - 1) / weight / 2)


def simulated(
    rng: np.random.Generator, closes: int, correlation: float, spread: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return honest P, the same for all coins of a close, and labels that come true at that rate.

    Args:
        rng: random numbers.
        closes: how many.
        correlation: share of closes at which all coins do the same.
        spread: P lies within so much of 0.5.
    """
    chances = np.repeat(rng.uniform(0.5 - spread, 0.5 + spread, closes)[:, None], COINS, axis=1)
    own, shared = rng.random((closes, COINS)), rng.random((closes, 1))
    return chances, (np.where(rng.random((closes, 1)) < correlation, shared, own) < chances).astype(np.int8)


@pytest.mark.e2e
def test_an_honest_panel_of_perfectly_correlated_coins_raises_alarms_at_most_at_the_stated_rate() -> None:
    """On the border of the null hypothesis, 200 closes, alarm at 1 / 0.05: of 200 panels 5 % (+ 3 s.e.) at most.

    With each coin as evidence of its own, as a single series counts days, all raise it within 20 closes.
    """
    rng, by_close, by_coin = np.random.default_rng(5), [], []
    for panel in range(200):
        # Without skill: the outcome is a fair coin, whatever is predicted. So each excess is expected to be the
        # divergence, which is what a slope of 1 allows.
        chances = np.repeat(rng.uniform(0.4, 0.6, 200), COINS)
        labels = np.repeat(rng.integers(0, 2, 200), COINS).astype(np.int8)
        given = labels, chances, np.full(len(labels), 0.5), allowed_excesses(replace(PLAIN, excess_slope=1.0), chances)
        by_close.append(panel_e_process(np.repeat(np.arange(200), COINS), *given).max())
        if panel < 30:
            by_coin.append(lagged_e_process(*(each[: 20 * COINS] for each in given)).max())
    size, error = 0.05, np.sqrt(0.05 * 0.95 / 200)
    assert np.mean(np.array(by_close) >= 1 / size) <= size + 3 * error  # 0.01
    assert np.mean(np.array(by_coin) >= 1 / size) > 0.5  # 1.0


@pytest.mark.e2e
@pytest.mark.parametrize(("correlation", "spread", "closes"), [(1.0, 0.2, 200), (0.0, 0.2, 30), (0.0, 0.1, 100)])
def test_an_inverted_panel_is_found_and_an_honest_one_is_not(correlation: float, spread: float, closes: int) -> None:
    """20 coins at the threshold of the first version; nine of ten inverted panels are found within so many closes."""
    rng, found, false = np.random.default_rng(6), [], []
    numbers, threshold = np.repeat(np.arange(400), COINS), alarm_threshold(0.05, 1)
    for _ in range(20):
        chances, labels = simulated(rng, RECORD, correlation, spread)
        reference = freeze_panel_reference(record(labels, chances), "rise")
        chances, labels = simulated(rng, 400, correlation, spread)
        for alarms, each in ((false, chances), (found, 1 - chances)):
            score = panel_live_score(numbers, labels.ravel(), each.ravel(), reference, threshold)
            alarms.append(first_alarm(score.e_values, threshold))
    assert false == [None] * 20
    assert sorted(400 if each is None else each for each in found)[17] < closes
