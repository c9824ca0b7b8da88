"""Significance tests: values from second formulas, the rejection rate by chance, and power on a planted signal."""

from collections.abc import Callable

import numpy as np
import pytest
from jaxtyping import Float64
from scipy.stats import binom, binomtest
from synthetic_records import coin_labels, forecast, loud_forecast

from model.bootstrap import paired_difference
from model.label_names import LABEL_NAMES, LabelKind
from model.metrics import score
from model.significance_tests import (
    SkillTest,
    binomial_against_majority,
    mcnemar,
    pesaran_timmermann,
    power_of_accuracy,
)

REPETITIONS = 200  # of each experiment
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


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("test", "is_conservative"),
    [
        (pesaran_timmermann_by_chance, False),
        (binomial_by_chance, True),  # the baseline uses the majority of the test labels
        (mcnemar_by_chance, True),  # exact on few discordant windows
        (paired_difference_by_chance, False),
    ],
)
def test_chance_is_rejected_at_the_stated_rate(test: Callable[[int], float], is_conservative: bool) -> None:
    rejections = int((chance_p_values(test) <= LEVEL).sum())
    lowest, highest = binom.ppf([0.005, 0.995], REPETITIONS, LEVEL)
    assert rejections <= highest
    assert is_conservative or rejections >= lowest


@pytest.mark.parametrize("test", [pesaran_timmermann, binomial_against_majority])
def test_a_planted_signal_of_60_percent_is_found(test: Callable[..., SkillTest]) -> None:
    labels = coin_labels(750, seed=1)
    found = test(labels, forecast(labels, 0.6, seed=2))
    assert found.p_value < 1e-4
    assert found.n == 750


def test_a_planted_signal_beats_a_forecast_without_skill() -> None:
    labels = coin_labels(750, seed=1)
    ours, unskilled = forecast(labels, 0.6, seed=2), loud_forecast(labels, seed=3, spread=0.1)
    assert paired_difference(labels, ours, unskilled, seed=0).high < 0
    direction = mcnemar(labels, ours, unskilled)
    assert direction.statistic > 0.5
    assert direction.p_value < 0.01


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
    ("labels", "probabilities", "reading"),
    [
        ([0, 1, 1], [0.7, 0.7, 0.8], "the forecast is always rise"),
        ([0, 1, 1], [0.5, 0.5, 0.5], "the forecast is always fall"),
        ([1, 1, 1], [0.2, 0.8, 0.5], "every label is rise"),
        ([0, 0, 0], [0.2, 0.8, 0.5], "every label is fall"),
        ([], [], "there is no window"),
    ],
)
def test_degenerate_samples_are_no_skill(labels: list[int], probabilities: list[float], reading: str) -> None:
    actual, predicted = np.array(labels, dtype=np.int8), np.array(probabilities)
    found = pesaran_timmermann(actual, predicted)
    assert (found.statistic, found.p_value) == (0, 1)
    assert reading in found.reading
    assert binomial_against_majority(actual, predicted).p_value > 0.4


@pytest.mark.parametrize("label", LABEL_NAMES)
def test_a_constant_forecast_is_described_by_the_classes_of_its_label(label: LabelKind) -> None:
    names, labels = LABEL_NAMES[label], np.array([0, 1, 1], dtype=np.int8)
    readings = [pesaran_timmermann(labels, np.full(3, given), names).reading for given in (0.2, 0.8)]
    assert readings == [f"no skill: the forecast is always {name}" for name in names.classes]


def test_exact_tests_agree_with_scipy() -> None:
    labels = coin_labels(120, seed=5, rises=0.4)
    ours, theirs = forecast(labels, 0.6, seed=1), loud_forecast(labels, seed=2, spread=0.1)
    right, theirs_right = (ours > 0.5) == labels, (theirs > 0.5) == labels
    only_ours, only_theirs = int((right & ~theirs_right).sum()), int((theirs_right & ~right).sum())
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


def test_a_true_53_percent_is_detected_on_750_bars_half_of_the_time() -> None:
    assert power_of_accuracy(750, 0.53) == pytest.approx(0.5, abs=0.05)
