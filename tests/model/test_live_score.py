"""The live score: outcomes by hand, and the false alarms of honest champions counted over simulated years."""

import numpy as np
import pytest
from synthetic_bars import garch_bars

from model.e_process import ForecastReference, alarm_threshold, freeze_reference
from model.live_score import live_score, outcomes
from model.monitor_alarms import MonitorSpec

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
