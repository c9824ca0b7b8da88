"""The live score: outcomes by hand, and the false alarms of honest champions counted over simulated years."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import binom
from synthetic_bars import garch_bars

from model.bars import COLUMNS, Bars
from model.e_process import ForecastReference, alarm_threshold, freeze_reference
from model.labels import label_rises
from model.live_score import ServiceEvidence, live_score, mean_with_bounds, outcomes
from model.monitor_alarms import MonitorSpec
from model.panel_live_score import opinion_accuracy, panel_live_score

SPEC = MonitorSpec()
RATE = SPEC.false_alarm_rate
THRESHOLD = alarm_threshold(RATE, 1)
YEAR = 250
RECORD = 750


def test_outcomes_follow_from_the_closes() -> None:
    bars = garch_bars(10, np.random.default_rng(1))
    decided = bars.closed_at[[2, 5, 9]]
    labels = outcomes(decided, decided + np.timedelta64(1, "D"), bars)
    close = bars.column("close")
    assert labels.tolist() == [int(close[3] > close[2]), int(close[6] > close[5]), -1]


def test_a_decision_between_two_closes_has_no_outcome() -> None:
    bars = garch_bars(10, np.random.default_rng(1))
    decided = bars.closed_at[[2]] + np.timedelta64(1, "h")
    assert outcomes(decided, decided + np.timedelta64(1, "D"), bars).tolist() == [-1]


@pytest.mark.parametrize("horizon", [1, 2, 4])
def test_an_outcome_is_the_label_of_a_retrain_also_at_a_gap(horizon: int) -> None:
    """A label that crosses a missing bar does not exist: the sixth of ten bars is missing, and a close is NaN."""
    whole = garch_bars(10, np.random.default_rng(1))
    kept = np.arange(10) != 5
    bars = Bars("1d", whole.opened_at[kept], whole.ohlcv[kept].copy())
    bars.ohlcv[7, COLUMNS.index("close") - 1] = np.nan
    found = outcomes(bars.closed_at, bars.closed_at + horizon * np.timedelta64(1, "D"), bars)
    assert found.tolist() == label_rises(bars, horizon).tolist()
    crossing = [place for place in range(10) if place < 5 < place + horizon and place + horizon < 10]
    assert all(found[place] == -1 for place in crossing)


def honest_year(rng: np.random.Generator, spread: float) -> bool:
    """Simulate a year of a champion that is as good as its record; return whether it raises an alarm."""
    truth = np.clip(0.52 + 0.03 * rng.normal(size=RECORD + YEAR), 0.05, 0.95)
    predicted = np.clip(truth + spread * rng.normal(size=len(truth)), 0.02, 0.98)
    labels = (rng.random(len(truth)) < truth).astype(np.int8)
    reference = freeze_reference(labels[:RECORD], predicted[:RECORD], SPEC.score_tolerance)
    return live_score(labels[RECORD:], predicted[RECORD:], reference, THRESHOLD).degraded


@pytest.mark.e2e  # a thousand years of 250 days, three times
@pytest.mark.parametrize("spread", [0.0, 0.05, 0.15])
def test_honest_years_raise_at_most_the_stated_rate_of_false_alarms(spread: float) -> None:
    rng = np.random.default_rng(5)
    years = [honest_year(rng, spread) for _ in range(1000)]
    assert np.mean(years) <= RATE  # Ville's bound; the rate over these years is well below


def test_open_predictions_have_no_score_and_their_bets_count_as_lost() -> None:
    reference = ForecastReference(base_rate=0.5, excess_slope=0.0, divergence_cap=1.0, tolerance=0.0)
    wrong, open_ones = np.zeros(40, dtype=np.int8), np.full(4, -1, dtype=np.int8)
    settled = live_score(wrong, np.full(40, 0.8), reference, THRESHOLD, overlap=5)
    found = live_score(np.concatenate([wrong, open_ones]), np.full(44, 0.8), reference, THRESHOLD, overlap=5)
    assert (found.count, len(found.e_values)) == (40, 40)
    assert (found.accuracy, found.log_loss) == (settled.accuracy, settled.log_loss)
    assert found.e_values[:36] == pytest.approx(settled.e_values[:36])  # their later decisions were known to both
    assert found.e_values[-1] < 0.5 * settled.e_values[-1]
    one_bar = live_score(np.concatenate([wrong, open_ones]), np.full(44, 0.8), reference, THRESHOLD)
    assert one_bar.e_values == pytest.approx(live_score(wrong, np.full(40, 0.8), reference, THRESHOLD).e_values)


def test_an_alarm_stays_one_though_good_days_follow() -> None:
    reference = ForecastReference(base_rate=0.5, excess_slope=0.0, divergence_cap=1.0, tolerance=0.0)
    labels = np.repeat(np.array([0, 1], dtype=np.int8), (30, 200))
    found = live_score(labels, np.full(230, 0.8), reference, THRESHOLD)
    largest = float(found.e_values.max())
    assert found.e_values[-1] < 1 < THRESHOLD < largest
    assert found.degraded
    assert replace(found, threshold=largest).degraded  # to reach it is an alarm
    assert not replace(found, threshold=np.nextafter(largest, np.inf)).degraded
    assert ServiceEvidence(230, largest, largest).degraded


def test_a_champion_that_becomes_worse_is_detected_within_the_year() -> None:
    rng = np.random.default_rng(6)
    found = []
    for _ in range(50):
        predicted = np.clip(0.5 + 0.15 * rng.normal(size=RECORD + YEAR), 0.05, 0.95)
        labels = (rng.random(len(predicted)) < predicted).astype(np.int8)
        labels[RECORD:] = 1 - labels[RECORD:]  # from now on the opposite of the prediction
        reference = freeze_reference(labels[:RECORD], predicted[:RECORD], SPEC.score_tolerance)
        found.append(live_score(labels[RECORD:], predicted[RECORD:], reference, THRESHOLD).degraded)
    assert np.mean(found) > 0.9


def test_bounds_of_a_mean_by_hand() -> None:
    """Runs of four equal values: autocovariances 1, 1/2, 0, -1/2 nearly; Bartlett: 3/4, 1/2, 1/4."""
    values = np.repeat(np.tile([1.0, -1.0], 1000), 4)
    assert mean_with_bounds(values) == pytest.approx((0, -1.959964 / 8000**0.5, 1.959964 / 8000**0.5))
    deviation = np.sqrt(1 + 2 * (3 / 4 * 1 / 2 + 1 / 2 * 0 - 1 / 4 * 1 / 2))
    kept = (1 / 2 + 2 * 1 / 4 * 3 / 4) * (1 - 2 * 4 / 8000)  # blocks of 4 keep 3/4 of the autocovariance at lag 1
    half = 1.961151 * deviation / np.sqrt(kept * 8000)  # Student's t with 2,000 degrees of freedom
    assert mean_with_bounds(values, overlap=2) == pytest.approx((0, -half, half), rel=1e-3)


def test_overlapping_outcomes_widen_each_live_interval() -> None:
    labels, chances = np.repeat(np.array([1, 0, 1, 1], np.int8), 10), np.full(40, 0.6)
    reference = ForecastReference(base_rate=0.5, excess_slope=1.0, divergence_cap=1.0, tolerance=0.005)
    found = live_score(labels, chances, reference, THRESHOLD, overlap=4)
    root = np.sqrt(0.75 * 0.25 / 10 + 1.959964**2 / 400)  # Wilson's interval of 7.5 of 10: a fourth of 30 of 40
    low, high = ((0.75 + 1.959964**2 / 20 + sign * 1.959964 * root) / (1 + 1.959964**2 / 10) for sign in (-1, 1))
    assert found.accuracy == pytest.approx((0.75, low, high))
    assert found.log_loss == mean_with_bounds(-np.log(np.where(labels == 1, 0.6, 0.4)), 4)
    assert found.calibration == mean_with_bounds(labels - 0.6, 4)
    panel = panel_live_score(np.arange(40), labels, chances, reference, THRESHOLD, overlap=4)
    assert panel.accuracy == mean_with_bounds(labels.astype(np.float64), 4)
    assert (panel.log_loss, panel.calibration) == (found.log_loss, found.calibration)


@pytest.mark.e2e  # two hundred experiments
@pytest.mark.parametrize("overlap", [5, 20])
def test_live_intervals_cover_the_truth_where_outcomes_overlap_and_forecasts_persist(overlap: int) -> None:
    """A forecaster without skill, 250 decisions; intervals of independent values covered 74 to 36 %."""
    rng, runs, n = np.random.default_rng(3), 100, 250
    reference = ForecastReference(base_rate=0.5, excess_slope=1.0, divergence_cap=1.0, tolerance=0.005)
    covered = np.zeros(6)
    for _ in range(runs):
        path = np.concatenate([[0.0], rng.normal(size=n + overlap).cumsum()])
        labels = (path[overlap : overlap + n] > path[:n]).astype(np.int8)
        odds = 0.3 * lfilter([1.0], [1.0, -0.95], rng.normal(size=n + 100) * np.sqrt(1 - 0.95**2))[100:]
        chances = 1 / (1 + np.exp(-odds))
        truth = [0.5, -0.5 * float((np.log(chances) + np.log(1 - chances)).mean()), float((0.5 - chances).mean())]
        one = live_score(labels, chances, reference, THRESHOLD, overlap)
        closes = np.arange(n)
        panel = panel_live_score(closes, labels, chances, reference, THRESHOLD, overlap)
        opinions = opinion_accuracy(closes, labels, chances, np.full(n, fill_value=True), overlap)[2]
        assert opinions == panel.accuracy
        found = (one.accuracy, one.log_loss, one.calibration, panel.accuracy, panel.log_loss, panel.calibration)
        covered += [each[1] <= value <= each[2] for each, value in zip(found, truth * 2, strict=True)]
    assert (covered >= binom.ppf(0.005, runs, 0.95)).all(), covered
