"""Alarms name the numbers that raised them."""

import numpy as np
import pytest

from model.drift import Drift
from model.e_process import ForecastReference
from model.live_score import ServiceEvidence, live_score
from model.monitor_alarms import MonitorSpec, find_alarms

SPEC = MonitorSpec()
REFERENCE = ForecastReference(base_rate=0.5, excess_slope=0.0, divergence_cap=1.0, tolerance=0.0)
QUIET = ServiceEvidence(400, 1.0, 40.0)


def test_alarms_name_their_numbers() -> None:
    score = live_score(np.zeros(400, dtype=np.int8), np.full(400, 0.9), REFERENCE, 80.0)
    drift = (Drift("range", 0.4, 0.3, 0.9, 0.8, drifted=True), Drift("move", 0.1, 0.3, 0.9, 0.8, drifted=False))
    found = find_alarms(score, QUIET, drift, age_days=31, missing=30, expected=100, spec=SPEC)
    assert [alarm.kind for alarm in found] == ["degraded", "drifted", "stale", "missing"]
    assert "400 live predictions" in found[0].message
    assert "range KS 0.40 (limit 0.30), PSI 0.90 (limit 0.80)" in found[1].message
    assert "move" not in found[1].message
    assert "31.0 days" in found[2].message


@pytest.mark.parametrize(
    ("slope", "rises_of_8", "lost"),
    [
        (-1.0, 5, True),  # a record better than the base rate; live it is worse
        (-0.01, 5, True),  # a skill smaller than the tolerance, so the allowance is above 0
        (0.0, 5, False),  # the record had no skill to lose
        (-1.0, 3, False),  # live better than the base rate, by 0.019 nats where the record allows 0.082
    ],
)
def test_a_degraded_alarm_says_where_the_skill_of_the_record_is_gone(slope: float, rises_of_8: int, lost: bool) -> None:
    reference = ForecastReference(base_rate=0.5, excess_slope=slope, divergence_cap=1.0, tolerance=0.005)
    labels = np.tile((np.arange(8) * 5 % 8 < rises_of_8).astype(np.int8), 250)
    score = live_score(labels, np.full(2_000, 0.3), reference, 80.0)
    (alarm,) = find_alarms(score, QUIET, (), age_days=1, missing=0, expected=0, spec=SPEC)
    assert ("the skill of its out-of-sample record is not seen on live bars" in alarm.message) is lost


def test_a_healthy_champion_raises_no_alarm() -> None:
    empty = live_score(np.empty(0, dtype=np.int8), np.empty(0), REFERENCE, 80.0)
    assert find_alarms(empty, QUIET, (), age_days=1, missing=0, expected=0, spec=SPEC) == ()


def test_the_service_as_a_whole_raises_the_alarm_that_no_single_version_does() -> None:
    quiet = live_score(np.array([1], dtype=np.int8), np.array([0.5]), REFERENCE, 80.0)
    found = find_alarms(quiet, ServiceEvidence(300, 55.0, 40.0), (), age_days=1, missing=0, expected=0, spec=SPEC)
    assert [alarm.kind for alarm in found] == ["degraded"]
    assert "300 predictions served" in found[0].message
    assert "service-wide e-value 55, threshold 40" in found[0].message
