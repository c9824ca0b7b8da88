"""Tests and intervals: values from second formulas, and what they do under chance and under a planted signal."""

from collections.abc import Callable

import numpy as np
import pytest
from jaxtyping import Float64
from scipy.stats import binom, binomtest, norm
from synthetic_records import coin_labels, forecast, loud_forecast

from model import significance
from model.errors import SpecError
from model.metrics import METRICS, log_losses, score
from model.significance import (
    binomial_against_majority,
    bootstrap_intervals,
    bounds,
    holm,
    mcnemar,
    optimal_block_bars,
    paired_difference,
    pesaran_timmermann,
    power_of_accuracy,
    resample,
)

REPETITIONS = 200  # of an experiment, quick ones
WINDOWS = 300
LEVEL = 0.05


def chance_p_values(test: Callable[[int], float]) -> Float64[np.ndarray, " repetition"]:
    """Repeat a test on seeds 0..199 and return its p-values."""
    return np.array([test(seed) for seed in range(REPETITIONS)])


def pesaran_timmermann_by_chance(seed: int) -> float:
    labels = coin_labels(WINDOWS, seed=seed, rises=0.55)
    return pesaran_timmermann(labels, loud_forecast(labels, seed=seed + 1000, spread=0.1)).p_value


def binomial_by_chance(seed: int) -> float:
    labels = coin_labels(WINDOWS, seed=seed)
    return binomial_against_majority(labels, loud_forecast(labels, seed=seed + 1000, spread=0.1)).p_value


def mcnemar_by_chance(seed: int) -> float:
    labels = coin_labels(WINDOWS, seed=seed)
    ours, theirs = (loud_forecast(labels, seed=seed + shift, spread=0.1) for shift in (1000, 2000))
    return mcnemar(labels, ours, theirs).p_value


def paired_difference_by_chance(seed: int) -> float:
    labels = coin_labels(WINDOWS, seed=seed)
    ours, theirs = (loud_forecast(labels, seed=seed + shift, spread=0.1) for shift in (1000, 2000))
    return paired_difference(labels, ours, theirs, seed, repetitions=199).p_value


@pytest.mark.parametrize(
    ("test", "may_be_cautious"),
    [
        (pesaran_timmermann_by_chance, False),
        (binomial_by_chance, True),  # its rival knows the majority in advance
        (mcnemar_by_chance, True),  # exact on few discordant windows
        (paired_difference_by_chance, False),
    ],
)
def test_chance_is_rejected_at_the_stated_rate(test: Callable[[int], float], may_be_cautious: bool) -> None:
    rejections = int((chance_p_values(test) <= LEVEL).sum())
    lowest, highest = binom.ppf([0.005, 0.995], REPETITIONS, LEVEL)
    assert rejections <= highest
    assert may_be_cautious or rejections >= lowest


def test_intervals_cover_the_truth_at_the_stated_rate() -> None:
    accuracy = 0.6
    truth = {
        "accuracy": accuracy,
        "log_loss": -(accuracy * np.log(accuracy) + (1 - accuracy) * np.log(1 - accuracy)),
        "mcc": 2 * accuracy - 1,  # of a symmetric channel and a fair coin
        "roc_auc": accuracy,
    }
    covered = dict.fromkeys(truth, 0)
    for seed in range(REPETITIONS):
        labels = coin_labels(WINDOWS, seed=seed)
        found = bootstrap_intervals(labels, forecast(labels, accuracy, seed=seed + 1000), seed, repetitions=200)
        for name, value in truth.items():
            covered[name] += found[name].low <= value <= found[name].high
    for name, count in covered.items():
        assert count >= binom.ppf(0.001, REPETITIONS, 0.95), name  # percentile bounds run a little short


@pytest.mark.parametrize("test", [pesaran_timmermann, binomial_against_majority])
def test_a_planted_signal_of_60_percent_is_found(test: Callable[..., significance.SkillTest]) -> None:
    labels = coin_labels(750, seed=1)
    found = test(labels, forecast(labels, 0.6, seed=2))
    assert found.p_value < 1e-4
    assert found.n == 750


def test_a_planted_signal_beats_the_base_rate_as_often_as_computed() -> None:
    # an honest 60 % gains 0.0201 nats a window on 0.5, with a deviation of log(1.5) sqrt(0.24) = 0.199
    gain = np.log(2) + 0.6 * np.log(0.6) + 0.4 * np.log(0.4)
    expected = norm.sf(1.96 - gain / (np.log(1.5) * np.sqrt(0.24 / 750)))
    found = 0
    for seed in range(100):
        labels = coin_labels(750, seed=seed)
        ours = forecast(labels, 0.6, seed=seed + 1000)
        found += paired_difference(labels, ours, np.full(750, 0.5), seed, repetitions=300).high < 0
    lowest, highest = binom.ppf([0.005, 0.995], 100, expected)
    assert lowest <= found <= highest


def test_a_planted_signal_beats_an_ignorant_rival() -> None:
    labels = coin_labels(750, seed=1)
    ours, ignorant = forecast(labels, 0.6, seed=2), loud_forecast(labels, seed=3, spread=0.1)
    assert paired_difference(labels, ours, ignorant, seed=0).high < 0
    direction = mcnemar(labels, ours, ignorant)
    assert direction.statistic > 0.5
    assert direction.p_value < 0.01


def test_an_interval_surrounds_its_value_and_repeats_with_its_seed() -> None:
    labels = coin_labels(500, seed=4)
    probabilities = forecast(labels, 0.55, seed=5)
    first, again = (bootstrap_intervals(labels, probabilities, seed=9) for _ in range(2))
    assert tuple(first) == METRICS
    assert first == again
    values = score(labels, probabilities)
    assert all(found.low <= values[name] <= found.high for name, found in first.items())


def test_a_constant_forecast_has_intervals() -> None:
    found = bootstrap_intervals(coin_labels(100, seed=1), np.full(100, 0.5), seed=1)
    assert (found["mcc"].low, found["mcc"].high) == (0, 0)
    assert found["log_loss"].low == pytest.approx(np.log(2))


def test_labels_of_one_class_have_nan_where_a_number_is_undefined() -> None:
    found = bootstrap_intervals(np.ones(50, dtype=np.int8), np.linspace(0.3, 0.7, 50), seed=1)
    assert np.isnan([found["roc_auc"].value, found["roc_auc"].low, found["roc_auc"].high]).all()
    assert np.isfinite(found["log_loss"].high)


def test_resampling_in_pieces_draws_the_same_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resample(lambda counts: counts, 40, 3, seed=5, repetitions=25)
    monkeypatch.setattr(significance, "CHUNK_CELLS", 160)
    pieces = resample(lambda counts: counts, 40, 3, seed=5, repetitions=25)
    assert (whole == pieces).all()
    assert (whole.sum(axis=1) == 40).all()


def test_nothing_cannot_be_resampled() -> None:
    with pytest.raises(SpecError, match="at least one window"):
        resample(lambda counts: counts, 0, 1, seed=1)


def test_persistence_asks_for_longer_blocks() -> None:
    noise = np.random.default_rng(0).normal(size=1000)
    persistent = np.empty(1000)
    persistent[0] = noise[0]
    for t in range(1, 1000):
        persistent[t] = 0.9 * persistent[t - 1] + noise[t]
    assert optimal_block_bars(persistent) > 4 * optimal_block_bars(noise)
    assert optimal_block_bars(np.full(1000, 0.7)) == 1


def test_bounds_leave_out_what_is_undefined() -> None:
    assert bounds(np.array([1.0, np.nan, 1.0])) == (1.0, 1.0)
    assert np.isnan(bounds(np.array([np.nan]))).all()


def test_the_paired_difference_is_the_difference_of_mean_losses() -> None:
    labels = coin_labels(200, seed=6)
    ours, theirs = forecast(labels, 0.55, seed=7), loud_forecast(labels, seed=8, spread=0.1)
    found = paired_difference(labels, ours, theirs, seed=1)
    assert found.mean == pytest.approx(log_losses(labels, ours).mean() - log_losses(labels, theirs).mean())
    swapped = paired_difference(labels, theirs, ours, seed=1)
    assert (swapped.mean, swapped.low, swapped.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_equal_forecasts_do_not_differ() -> None:
    labels = coin_labels(200, seed=6)
    ours = forecast(labels, 0.55, seed=7)
    found = paired_difference(labels, ours, ours, seed=1)
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert mcnemar(labels, ours, ours).p_value == 1


def test_pesaran_timmermann_is_the_root_of_n_times_the_matthews_correlation() -> None:
    labels = coin_labels(300, seed=2, rises=0.6)
    probabilities = forecast(labels, 0.56, seed=3)
    expected = np.sqrt(300) * score(labels, probabilities)["mcc"]
    assert pesaran_timmermann(labels, probabilities).statistic == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "probabilities", "word"),
    [
        ([0, 1, 1], [0.7, 0.7, 0.8], "the forecast always says rise"),
        ([0, 1, 1], [0.5, 0.5, 0.5], "the forecast always says fall"),
        ([1, 1, 1], [0.2, 0.8, 0.5], "every label is rise"),
        ([0, 0, 0], [0.2, 0.8, 0.5], "every label is fall"),
        ([], [], "there is no window"),
    ],
)
def test_where_there_is_no_skill_to_find_the_tests_say_so(
    labels: list[int], probabilities: list[float], word: str
) -> None:
    happened, said = np.array(labels, dtype=np.int8), np.array(probabilities)
    found = pesaran_timmermann(happened, said)
    assert (found.statistic, found.p_value) == (0, 1)
    assert word in found.reading
    assert binomial_against_majority(happened, said).p_value > 0.4


def test_exact_tests_agree_with_scipy() -> None:
    labels = coin_labels(120, seed=5, rises=0.4)
    ours, theirs = forecast(labels, 0.6, seed=1), loud_forecast(labels, seed=2, spread=0.1)
    right, rival = (ours > 0.5) == labels, (theirs > 0.5) == labels
    only_ours, only_theirs = int((right & ~rival).sum()), int((rival & ~right).sum())
    expected = binomtest(only_ours, only_ours + only_theirs).pvalue
    assert mcnemar(labels, ours, theirs).p_value == pytest.approx(expected)
    majority = 1 - labels.mean()
    expected = binom.sf(right.sum() - 1, 120, majority)
    assert binomial_against_majority(labels, ours).p_value == pytest.approx(expected)


def test_power_by_hand() -> None:
    # of 10, 9 hits are needed: P(X >= 9) = 11/1024, P(X >= 8) = 56/1024
    assert power_of_accuracy(10, 0.8) == pytest.approx(10 * 0.8**9 * 0.2 + 0.8**10)
    assert power_of_accuracy(10, 0.5) == pytest.approx(11 / 1024)
    assert power_of_accuracy(3, 0.99) == 0  # even 3 of 3 is no evidence


def test_a_true_53_percent_is_found_on_750_bars_about_every_second_time() -> None:
    assert power_of_accuracy(750, 0.53) == pytest.approx(0.5, abs=0.05)


def test_holm_by_hand() -> None:
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
    assert holm({}) == {}
