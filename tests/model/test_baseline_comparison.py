"""Comparison with baselines: each number is that of the test it names, Holm-adjusted over the family."""

import numpy as np
import pytest
from scipy.stats import binom
from synthetic_records import coin_labels, daily_record, forecast, loud_forecast

from model.baseline_comparison import compare_records, measure_skill
from model.record import Record

LABELS = coin_labels(750, seed=5)
GOOD, LOUD = forecast(LABELS, 0.62, seed=6), loud_forecast(LABELS, seed=7, spread=0.1)
BASELINES = {"base_rate": np.full(750, 0.5), "loud": LOUD, "itself": GOOD}


def test_skill_is_found_and_named() -> None:
    found = measure_skill(daily_record(LABELS, GOOD), BASELINES, seed=1)
    assert found.pesaran_timmermann.p_value < 1e-6
    assert found.majority.p_value < 1e-3
    assert found.baselines["loud"].difference.high < 0
    assert found.baselines["itself"].difference.mean == 0
    assert found.baselines["itself"].mcnemar_p_value == 1
    assert found.n == 750
    assert set(found.metrics()) >= {"skill.pesaran_timmermann_p", "skill.loud_mcnemar_p", "skill.power_53"}


def test_the_family_of_baselines_is_holm_adjusted() -> None:
    found = measure_skill(daily_record(LABELS, GOOD), BASELINES, seed=1).baselines
    plain = sorted((comparison.mcnemar.p_value, name) for name, comparison in found.items())
    running = 0.0
    for place, (p_value, name) in enumerate(plain):  # Holm by hand: the k-th smallest times what is left
        running = max(running, min(1.0, p_value * (len(plain) - place)))
        assert found[name].mcnemar_p_value == pytest.approx(running)


def test_power_equals_the_chance_of_the_needed_hits() -> None:
    found = measure_skill(daily_record(LABELS, GOOD), {}, seed=1)
    needed = next(hits for hits in range(751) if binom.sf(hits - 1, 750, 0.5) <= 0.05)
    assert found.power[0.53] == pytest.approx(binom.sf(needed - 1, 750, 0.53))
    assert 0.4 < found.power[0.53] < 0.6 < found.power[0.55] < found.power[0.60]


def test_a_constant_forecast_is_no_skill() -> None:
    found = measure_skill(daily_record(LABELS, np.full(750, 0.5)), BASELINES, seed=1)
    assert found.pesaran_timmermann.p_value == 1
    assert found.pesaran_timmermann.reading.startswith("no skill")


def test_labels_that_share_bars_count_once() -> None:
    record = daily_record(LABELS, GOOD)
    longer = Record(
        record.decided_at, record.decided_at + np.timedelta64(5, "D"), record.labels, record.probabilities, record.fold
    )
    assert longer.independent_windows().tolist() == list(range(0, 750, 5))
    assert measure_skill(longer, BASELINES, seed=1).n == 150


def test_records_are_compared_on_their_common_decisions() -> None:
    record = daily_record(LABELS, GOOD)
    champion = daily_record(LABELS, LOUD).take(np.arange(100, 400))
    found = compare_records(record, champion, seed=1)
    assert found is not None
    assert found.difference.n == 300
    assert found.difference.mean < 0
    assert compare_records(record.take(np.arange(50)), champion, seed=1) is None
