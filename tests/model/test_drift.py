"""Drift: KS vs. SciPy, and the rate of drift alarms over simulated years of clustered volatility."""

import numpy as np
import pytest
from scipy.stats import ks_2samp
from synthetic_bars import garch_bars

from model.bars import Bars
from model.drift import bar_properties, compare_with_references, drift_references, ks_distance, measure_drift, psi
from model.errors import SpecError

LIMITS = {"recent_bars": 120, "slack": 1.3}  # the defaults of MonitorSpec
YEAR = 250


def test_ks_equals_scipy() -> None:
    rng = np.random.default_rng(2)
    for count in (5, 60, 400):
        one, other = np.sort(rng.normal(size=300)), np.sort(rng.normal(0.3, 2, count))
        assert ks_distance(one, other) == pytest.approx(ks_2samp(one, other).statistic, abs=1e-12)


def test_psi_of_a_sample_with_itself_is_zero_and_grows_with_a_shift() -> None:
    sample = np.random.default_rng(3).normal(size=1000)
    edges = np.quantile(sample, [0.25, 0.5, 0.75])
    values = [psi(edges, sample, sample + shift) for shift in (0.0, 0.5, 1.0)]
    assert values[0] == pytest.approx(0, abs=1e-12)
    assert values[0] < values[1] < values[2]


def drifts_within(bars: Bars, trained: int) -> bool:
    """Return whether any comparison in the year after the training, one each tenth day, finds a drift."""
    references = drift_references(bar_properties(Bars("1d", bars.opened_at[:trained], bars.ohlcv[:trained])), **LIMITS)
    ends = range(trained + 10, len(bars) + 1, 10)
    stretches = [Bars("1d", bars.opened_at[end - 200 : end], bars.ohlcv[end - 200 : end]) for end in ends]
    return any(
        each.drifted for stretch in stretches for each in compare_with_references(references, bar_properties(stretch))
    )


@pytest.mark.e2e  # sixty years of 250 days
def test_years_of_clustered_volatility_rarely_drift() -> None:
    """Stated rate: at most one year of 250 days in ten with a drift alarm."""
    rng = np.random.default_rng(7)
    assert np.mean([drifts_within(garch_bars(1500 + YEAR, rng), 1500) for _ in range(60)]) <= 0.1


@pytest.mark.e2e
def test_tripled_volatility_is_detected_within_the_year() -> None:
    rng = np.random.default_rng(8)
    scale = np.where(np.arange(1500 + YEAR) < 1500, 1.0, 3.0)
    assert np.mean([drifts_within(garch_bars(1500 + YEAR, rng, scale=scale), 1500) for _ in range(20)]) >= 0.7


def test_scaled_prices_are_detected_at_once() -> None:
    bars = garch_bars(1750, np.random.default_rng(8))
    training = Bars("1d", bars.opened_at[:1600], bars.ohlcv[:1600])
    scaled = Bars("1d", bars.opened_at, bars.ohlcv * np.where(np.arange(1750) < 1740, 1.0, 100.0)[:, None])
    found = measure_drift(training, scaled, **LIMITS, max_level_factor=3.0)
    assert {each.name: each.drifted for each in found}["level"]
    assert not any(each.drifted for each in measure_drift(training, bars, **LIMITS, max_level_factor=3.0))


def test_too_few_bars_are_refused() -> None:
    bars = garch_bars(200, np.random.default_rng(9))
    with pytest.raises(SpecError, match="found 200 and 200"):
        measure_drift(bars, bars, **LIMITS, max_level_factor=3.0)
