"""Alarms name the numbers that raised them."""

import numpy as np

from model.drift import Drift
from model.live_score import live_score
from model.monitor_alarms import MonitorSpec, find_alarms

SPEC = MonitorSpec()


def test_alarms_name_their_numbers() -> None:
    score = live_score(np.zeros(400, dtype=np.int8), np.full(400, 0.9), 0.5, 0.0, SPEC.false_alarm_rate)
    drift = (Drift("range", 0.4, 0.3, 0.9, 0.8, drifted=True), Drift("move", 0.1, 0.3, 0.9, 0.8, drifted=False))
    found = find_alarms(score, drift, age_days=31, missing=30, expected=100, spec=SPEC)
    assert [alarm.kind for alarm in found] == ["degraded", "drifted", "stale", "missing"]
    assert "400 live predictions" in found[0].message
    assert "range KS 0.40 (limit 0.30), PSI 0.90 (limit 0.80)" in found[1].message
    assert "move" not in found[1].message
    assert "31.0 days" in found[2].message


def test_a_healthy_champion_raises_no_alarm() -> None:
    empty = live_score(np.empty(0, dtype=np.int8), np.empty(0), 0.5, 0.0, SPEC.false_alarm_rate)
    assert find_alarms(empty, (), age_days=1, missing=0, expected=0, spec=SPEC) == ()
