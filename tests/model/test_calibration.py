"""Reliability vs. scikit-learn and statsmodels, and its noise vs. simulation; calibrators minimise their loss."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.special import ndtr
from synthetic_records import DAY, coin_labels, daily_record, forecast

from model.calibration import (
    TEMPERATURES,
    Calibrator,
    Isotonic,
    Temperature,
    calibrator_from_json,
    calibrator_to_json,
    fit_calibrator,
    fit_isotonic,
    fit_temperature,
)
from model.calibration_error import perfectly_calibrated_error, reliability_curve, reliability_intervals
from model.errors import SpecError
from model.metrics import log_losses
from model.record import Record
from model.wilson_interval import wilson_interval


def record_of(labels: np.ndarray, probabilities: np.ndarray, horizon: int = 1) -> Record:
    """Return a record of daily closes: labels and probabilities of shape (close,), or (close, coin) for a panel."""
    closes, coins = labels.shape if labels.ndim == 2 else (len(labels), 1)
    decided_at = np.repeat(np.datetime64("2020-01-01", "us") + np.arange(closes) * DAY, coins)
    symbols = np.tile(np.array([f"C{k}" for k in range(coins)]), closes) if labels.ndim == 2 else np.empty(0, np.str_)
    flat = labels.astype(np.int8).ravel(), probabilities.ravel()
    return Record(decided_at, decided_at + horizon * DAY, *flat, np.zeros(closes * coins, np.int64), symbols)


def calibrated_panels(count: int, common: float) -> Iterator[Record]:
    """Simulate calibrated forecasts of 12 coins at 200 closes whose returns have a correlation of 0.6.

    Args:
        count: panels.
        common: share of the forecasts' variance that all coins of a close have in common.
    """
    for seed in range(count):
        rng = np.random.default_rng(seed)
        score, fate = (
            np.sqrt(share) * rng.normal(size=(200, 1)) + np.sqrt(1 - share) * rng.normal(size=(200, 12))
            for share in (common, 0.6)
        )
        yield record_of(fate < 0.08 * score, ndtr(0.08 * score))


def calibrated_series(count: int) -> Iterator[Record]:
    """Simulate calibrated, persistent forecasts of one series of 750 windows at a horizon of ten bars."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        fate = np.convolve(rng.normal(size=759), np.ones(10), mode="valid") / np.sqrt(10)
        score = lfilter([np.sqrt(1 - 0.95**2)], [1, -0.95], rng.normal(size=1_000))[250:]
        yield record_of(fate < 0.08 * score, ndtr(0.08 * score), horizon=10)


def test_reliability_by_hand() -> None:
    labels = np.array([0, 1, 1, 1], dtype=np.int8)
    found = reliability_curve(labels, np.array([0.2, 0.2, 0.9, 0.7]), bin_count=2, bins="width")
    assert found.counts.tolist() == [2, 2]
    assert found.mean_probabilities == pytest.approx([0.2, 0.8])
    assert found.observed_shares.tolist() == [0.5, 1]
    assert found.expected_error == pytest.approx((2 * 0.3 + 2 * 0.2) / 4)


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.5], 0.5),  # the label is 0 or 1: always 0.5 away
        ([0.5, 0.5], 0.25),  # shares 0, 0.5, 1 with probabilities 1/4, 1/2, 1/4
        ([0.2], 0.32),  # 0.2 away with probability 0.8, 0.8 away with probability 0.2
        ([0.0, 1.0], 0.0),  # labels are certain
        (np.full(750, 0.5), np.sqrt(2 / np.pi) * 0.5 / np.sqrt(750)),  # one bin: mean absolute deviation of a share
    ],
)
def test_the_error_of_perfect_calibration_by_hand(probabilities: list[float], expected: float) -> None:
    record = daily_record(coin_labels(len(probabilities), seed=1), np.array(probabilities), folds=1)
    found = perfectly_calibrated_error(record, seed=1, repetitions=20_000)
    assert found == pytest.approx(expected, abs=0.005)


def test_750_perfectly_calibrated_windows_in_ten_bins_show_an_error_near_0_047() -> None:
    probabilities = np.clip(0.5 + 0.03 * np.random.default_rng(1).normal(size=750), 0, 1)
    record = daily_record(coin_labels(750, seed=2), probabilities)
    found = perfectly_calibrated_error(record, seed=1)
    assert found == pytest.approx(np.sqrt(2 / np.pi) * 0.5 / np.sqrt(75), abs=0.001)  # 75 windows a bin
    assert found == pytest.approx(0.046, abs=0.001)
    assert found == perfectly_calibrated_error(record, seed=1)
    assert found == 0.045529361008287764  # as it was when windows always counted as independent


@pytest.mark.parametrize(
    "statistic", [lambda record: perfectly_calibrated_error(record, seed=1), reliability_intervals]
)
def test_the_noise_of_calibration_needs_windows(statistic: Callable[[Record], object]) -> None:
    with pytest.raises(SpecError, match="found 0 and 10"):
        statistic(daily_record(np.empty(0, np.int8), np.empty(0)))


def test_independent_windows_have_the_interval_of_wilson() -> None:
    record = daily_record(coin_labels(750, seed=1), np.random.default_rng(2).uniform(0.3, 0.7, 750))
    curve = reliability_curve(record.labels, record.probabilities)
    rises = (curve.observed_shares * curve.counts).round()
    np.testing.assert_array_equal(reliability_intervals(record), wilson_interval(rises, curve.counts.astype(float)))


def test_ten_copies_of_a_coin_have_the_noise_of_that_coin() -> None:
    labels, probabilities = coin_labels(300, seed=1), np.tile([0.4, 0.5, 0.6], 100)
    alone, copied = (
        record_of(labels, probabilities),
        record_of(*(np.tile(each, (10, 1)).T for each in (labels, probabilities))),
    )
    np.testing.assert_allclose(reliability_intervals(copied), reliability_intervals(alone), rtol=1e-12)
    one, ten = (perfectly_calibrated_error(each, seed=1, repetitions=4_000) for each in (alone, copied))
    assert ten == pytest.approx(one, rel=0.03)


def test_overlapping_labels_by_hand() -> None:
    """Residuals 0.5, 0.5, -0.5, -0.5: squares add up to 1, neighbours to 0.25, so the design effect is 1.5."""
    labels, constant = np.array([1, 1, 0, 0], np.int8), np.full(4, 0.5)
    alone, overlapping = (record_of(labels, constant, horizon) for horizon in (1, 2))
    expected = wilson_interval(np.array([2 / 1.5]), np.array([4 / 1.5]))
    np.testing.assert_allclose(reliability_intervals(overlapping), expected, rtol=1e-12)
    found, independent = (perfectly_calibrated_error(each, seed=1) for each in (overlapping, alone))
    assert found == pytest.approx(np.sqrt(1.5) * independent, rel=1e-12)


def test_a_share_that_is_the_same_at_every_close_has_no_noise() -> None:
    """Half of the coins of each close are above the median, whatever happens."""
    record = record_of(np.tile([1, 0, 0, 1], (50, 1)), np.full((50, 4), 0.5))
    assert perfectly_calibrated_error(record, seed=1) < 1e-4
    assert np.ravel(reliability_intervals(record)) == pytest.approx([0.5, 0.5], abs=1e-4)


@pytest.mark.e2e  # 400 records of each kind
@pytest.mark.parametrize(
    ("simulated", "too_small"),
    [
        (partial(calibrated_panels, common=0.0), 0.85),
        (partial(calibrated_panels, common=1.0), 0.45),
        (calibrated_series, 0.65),
    ],
    ids=["panel, own forecasts", "panel, common forecast", "overlapping labels"],
)
def test_dependent_labels_of_a_calibrated_forecaster_have_the_stated_error_and_intervals(
    simulated: Callable[[int], Iterator[Record]], too_small: float
) -> None:
    errors, stated, independent, covered, covered_by_wilson = [], [], [], [], []
    for number, record in enumerate(simulated(400)):
        curve = reliability_curve(record.labels, record.probabilities)
        errors.append(curve.expected_error)
        rises = (curve.observed_shares * curve.counts).round()
        for kept, (lows, highs) in (
            (covered, reliability_intervals(record)),
            (covered_by_wilson, wilson_interval(rises, curve.counts.astype(float))),
        ):
            kept.append(((lows <= curve.mean_probabilities) & (curve.mean_probabilities <= highs)).mean())
        if number < 40:
            stated.append(perfectly_calibrated_error(record, seed=1, repetitions=200))
            apart = daily_record(record.labels, record.probabilities)
            independent.append(perfectly_calibrated_error(apart, seed=1, repetitions=200))
    assert np.mean(stated) == pytest.approx(np.mean(errors), rel=0.06)
    assert np.mean(independent) < too_small * np.mean(errors)
    assert 0.925 < np.mean(covered) < 0.975
    assert np.mean(covered_by_wilson) < 0.9


@pytest.mark.parametrize(("bins", "strategy"), [("quantile", "quantile"), ("width", "uniform")])
def test_reliability_agrees_with_scikit_learn(bins: str, strategy: str) -> None:
    from sklearn.calibration import calibration_curve

    labels = coin_labels(500, seed=1)
    probabilities = np.clip(0.5 + 0.15 * np.random.default_rng(2).normal(size=500), 0, 1)
    found = reliability_curve(labels, probabilities, bins=bins)
    shares, means = calibration_curve(labels, probabilities, n_bins=10, strategy=strategy)
    assert found.observed_shares == pytest.approx(shares)
    assert found.mean_probabilities == pytest.approx(means)
    assert found.counts.sum() == 500


def test_wilson_agrees_with_statsmodels() -> None:
    from statsmodels.stats.proportion import proportion_confint

    low, high = wilson_interval(np.array([0.0, 3.0, 10.0]), np.array([4.0, 10.0, 10.0]))
    expected = [proportion_confint(hits, n, method="wilson") for hits, n in ((0, 4), (3, 10), (10, 10))]
    assert low == pytest.approx([bound[0] for bound in expected], abs=1e-12)
    assert high == pytest.approx([bound[1] for bound in expected], abs=1e-12)


def test_a_calibrated_forecast_lies_on_the_diagonal() -> None:
    labels = coin_labels(20_000, seed=3)
    record = daily_record(labels, forecast(labels, 0.6, seed=4))
    found = reliability_curve(record.labels, record.probabilities)
    assert len(found.counts) == 2  # it predicts 0.4 and 0.6 only
    assert found.expected_error < 0.02
    lows, highs = reliability_intervals(record)
    assert ((lows <= found.mean_probabilities) & (found.mean_probabilities <= highs)).all()


def test_a_constant_forecast_is_one_bin() -> None:
    found = reliability_curve(coin_labels(50, seed=1), np.full(50, 0.5))
    assert found.counts.tolist() == [50]


def test_reliability_needs_windows() -> None:
    with pytest.raises(SpecError, match="found 0 and 10"):
        reliability_curve(np.empty(0, dtype=np.int8), np.empty(0))


def test_the_temperature_of_an_loud_forecast_is_found() -> None:
    labels = coin_labels(20_000, seed=5)
    calibrated = forecast(labels, 0.6, seed=6)
    overconfident = Temperature(1 / 3).apply(calibrated)  # log odds three times too large
    fitted = fit_temperature(labels, overconfident)
    assert fitted.temperature == pytest.approx(3, rel=0.1)
    assert fitted.apply(overconfident) == pytest.approx(calibrated, abs=0.01)


@pytest.mark.parametrize("name", ["temperature", "isotonic"])
def test_a_calibrator_lowers_the_loss_on_windows_it_was_not_fitted_on(name: str) -> None:
    labels = coin_labels(4000, seed=7)
    overconfident = Temperature(0.25).apply(forecast(labels, 0.56, seed=8))
    calibrator = fit_calibrator(name, labels[:2000], overconfident[:2000])
    before, after = (
        log_losses(labels[2000:], predicted).mean()
        for predicted in (overconfident[2000:], calibrator.apply(overconfident[2000:]))
    )
    assert after < before - 0.05
    assert after < np.log(2)


def test_a_temperature_by_hand() -> None:
    """Odds to the power of 1 / T: at T = 2, odds of 4 to 1 become 2 to 1."""
    assert Temperature(2.0).apply(np.array([0.8, 0.5, 0.2])) == pytest.approx([2 / 3, 0.5, 1 / 3])
    predicted = np.random.default_rng(3).uniform(0.01, 0.99, 50)
    powered = predicted ** (1 / 1.7), (1 - predicted) ** (1 / 1.7)
    assert Temperature(1.7).apply(predicted) == pytest.approx(powered[0] / (powered[0] + powered[1]))
    assert Temperature(TEMPERATURES[0]).apply(np.array([0.0, 0.5, 1.0])) == pytest.approx([0, 0.5, 1])


def test_no_temperature_has_a_lower_loss_than_the_fitted_one() -> None:
    from sklearn.metrics import log_loss

    labels = coin_labels(300, seed=11)
    predicted = np.clip(0.5 + 0.2 * np.random.default_rng(12).normal(size=300) + 0.05 * (labels - 0.5), 0.01, 0.99)
    fitted = fit_temperature(labels, predicted)
    odds = predicted / (1 - predicted)
    losses = [log_loss(labels, odds ** (1 / t) / (1 + odds ** (1 / t))) for t in np.geomspace(*TEMPERATURES, 400)]
    assert log_loss(labels, fitted.apply(predicted)) <= min(losses) + 1e-9
    assert min(losses) < log_loss(labels, predicted) - 0.01
    ascending = np.linspace(0.02, 0.98, 97)
    assert (np.diff(fitted.apply(ascending)) > 0).all()
    assert ((fitted.apply(ascending) > 0.5) == (ascending > 0.5)).all()  # what it calls a rise stays one


def test_isotonic_agrees_with_scikit_learn() -> None:
    from sklearn.isotonic import IsotonicRegression

    labels = coin_labels(300, seed=9)
    predicted = np.clip(0.5 + 0.2 * np.random.default_rng(1).normal(size=300) + 0.1 * (labels - 0.5), 0, 1).round(2)
    edge = 1 / 302
    reference = IsotonicRegression(out_of_bounds="clip").fit(predicted, labels)
    grid = np.linspace(0, 1, 101)
    expected = np.clip(reference.predict(grid), edge, 1 - edge)
    assert fit_isotonic(labels, predicted).apply(grid) == pytest.approx(expected, abs=1e-9)


def test_isotonic_never_predicts_0_or_1() -> None:
    fitted = fit_isotonic(np.array([0, 0, 1, 1], dtype=np.int8), np.array([0.1, 0.2, 0.8, 0.9]))
    assert fitted.apply(np.array([0.0, 1.0])) == pytest.approx([1 / 6, 5 / 6])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.floats(0.05, 50))
def test_calibration_keeps_the_order(predicted: list[float], temperature: float) -> None:
    ascending = np.sort(np.array(predicted))
    isotonic = Isotonic(np.array([0.2, 0.5, 0.9]), np.array([0.4, 0.5, 0.55]))
    for calibrator in (Temperature(temperature), isotonic):
        calibrated = calibrator.apply(ascending)
        assert (np.diff(calibrated) >= -1e-15).all()
        assert ((calibrated >= 0) & (calibrated <= 1)).all()


def test_no_calibration_changes_nothing() -> None:
    predicted = np.array([0.0, 0.3, 0.5, 1.0])
    assert (
        fit_calibrator("none", np.empty(0, dtype=np.int8), np.empty(0)).apply(predicted).tolist() == predicted.tolist()
    )


def test_isotonic_keeps_no_redundant_knot() -> None:
    labels = np.array([0, 1, 0, 0, 1, 1, 1], dtype=np.int8)
    predicted = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    fitted = fit_isotonic(labels, predicted)  # pooled by hand: 0 | 1, 0, 0 -> 1/3 | 1, 1, 1; the edge is 1/9
    assert fitted.knots.tolist() == [0.1, 0.2, 0.4, 0.5, 0.7]
    assert fitted.values == pytest.approx([1 / 9, 1 / 3, 1 / 3, 8 / 9, 8 / 9])


@pytest.mark.parametrize("name", ["none", "temperature", "isotonic"])
def test_a_calibrator_comes_back_from_json_bit_for_bit(name: str) -> None:
    labels, predicted = coin_labels(400, seed=2), np.random.default_rng(4).uniform(0.3, 0.7, 400)
    fitted = fit_calibrator(name, labels, predicted)
    again: Calibrator = calibrator_from_json(calibrator_to_json(fitted))
    assert again.apply(predicted).tolist() == fitted.apply(predicted).tolist()
    assert str(again) == str(fitted)
    assert str(fitted).startswith(name)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"name": "platt"}', '{"name": "temperature"}', '{"name": "temperature", "temperature": 0}',
        '{"name": "temperature", "temperature": NaN}', '{"name": "isotonic", "knots": [], "values": []}',
        '{"name": "isotonic", "knots": [0.6, 0.4], "values": [0.4, 0.5]}',
        '{"name": "isotonic", "knots": [0.4, 0.6], "values": [0.5, 0.4]}',
        '{"name": "isotonic", "knots": [0.4, 0.6], "values": [0.4, NaN]}',
        '{"name": "isotonic", "knots": [0.4, 0.6], "values": [0.4]}',
        '{"name": "isotonic", "knots": [0.4, 0.6], "values": [0.4, 1.2]}',
    ],
)  # fmt: skip
def test_text_that_is_no_calibrator_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="calibrator: expected"):
        calibrator_from_json(text)


def test_a_calibrator_needs_windows() -> None:
    with pytest.raises(SpecError, match="validation share"):
        fit_calibrator("isotonic", np.empty(0, dtype=np.int8), np.empty(0))
