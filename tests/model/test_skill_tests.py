"""The tests gathered: each is the one it claims to be, raised where it was asked several times."""

import numpy as np
import pytest
from scipy.stats import binom
from synthetic_records import coin_labels, daily_record, forecast, loud_forecast

from model.metrics import Record
from model.skill_tests import compare_with_record, independent_windows, judge_skill

LABELS = coin_labels(750, seed=5)
GOOD, LOUD = forecast(LABELS, 0.62, seed=6), loud_forecast(LABELS, seed=7, spread=0.1)
RIVALS = {"base_rate": np.full(750, 0.5), "loud": LOUD, "itself": GOOD}


def test_skill_is_found_and_named() -> None:
    found = judge_skill(daily_record(LABELS, GOOD), RIVALS, seed=1)
    assert found.pesaran_timmermann.p_value < 1e-6
    assert found.majority.p_value < 1e-3
    assert found.rivals["loud"].difference.high < 0
    assert found.rivals["itself"].difference.mean == 0
    assert found.rivals["itself"].mcnemar_p_value == 1
    assert found.n == 750
    assert set(found.metrics()) >= {"skill.pesaran_timmermann_p", "skill.loud_mcnemar_p", "skill.power_53"}


def test_the_family_of_rivals_is_raised_by_holm() -> None:
    found = judge_skill(daily_record(LABELS, GOOD), RIVALS, seed=1).rivals
    plain = sorted((comparison.mcnemar.p_value, name) for name, comparison in found.items())
    running = 0.0
    for place, (p_value, name) in enumerate(plain):  # Holm by hand: the k-th smallest times what is left
        running = max(running, min(1.0, p_value * (len(plain) - place)))
        assert found[name].mcnemar_p_value == pytest.approx(running)


def test_power_counts_the_hits_that_would_be_needed() -> None:
    found = judge_skill(daily_record(LABELS, GOOD), {}, seed=1)
    needed = next(hits for hits in range(751) if binom.sf(hits - 1, 750, 0.5) <= 0.05)
    assert found.power[0.53] == pytest.approx(binom.sf(needed - 1, 750, 0.53))
    assert 0.4 < found.power[0.53] < 0.6 < found.power[0.55] < found.power[0.60]


def test_a_constant_forecast_is_no_skill() -> None:
    found = judge_skill(daily_record(LABELS, np.full(750, 0.5)), RIVALS, seed=1)
    assert found.pesaran_timmermann.p_value == 1
    assert found.pesaran_timmermann.reading.startswith("no skill")


def test_labels_that_share_bars_count_once() -> None:
    record = daily_record(LABELS, GOOD)
    longer = Record(
        record.decided_at, record.decided_at + np.timedelta64(5, "D"), record.labels, record.probabilities, record.fold
    )
    assert independent_windows(longer).tolist() == list(range(0, 750, 5))
    assert judge_skill(longer, RIVALS, seed=1).n == 150


def test_records_meet_on_the_decisions_that_both_made() -> None:
    record = daily_record(LABELS, GOOD)
    champion = daily_record(LABELS, LOUD).take(np.arange(100, 400))
    found = compare_with_record(record, champion, seed=1)
    assert found is not None
    assert found.difference.n == 300
    assert found.difference.mean < 0
    assert compare_with_record(record.take(np.arange(50)), champion, seed=1) is None
