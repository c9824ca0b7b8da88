"""The monitor: outcomes by hand, KS by SciPy, and its false alarms counted over simulated years."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from model.bars import Bars
from model.errors import SpecError
from model.monitor import (
    MonitorSpec,
    alarms,
    allowed_excess,
    bet,
    compare,
    drifts,
    ks_distance,
    live_score,
    outcomes,
    psi,
    references,
)

SPEC = MonitorSpec()
YEAR = 250
RECORD = 750


def clustered_bars(count: int, generator: np.random.Generator, *, scale: np.ndarray | float = 1.0) -> Bars:
    """Bars whose volatility clusters: GARCH(1,1), Student t of 5 degrees, persistence 0.98."""
    draws = generator.standard_t(5, count) / np.sqrt(5 / 3)
    moves, variance = np.empty(count), 1.0
    for t in range(count):
        moves[t] = np.sqrt(variance) * draws[t]
        variance = 0.02 + 0.1 * moves[t] ** 2 + 0.88 * variance
    close = 100 * np.exp(np.cumsum(0.02 * moves * scale))
    opened = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(opened, close) * np.exp(0.005 * generator.random(count) * scale)
    low = np.minimum(opened, close) * np.exp(-0.005 * generator.random(count) * scale)
    times = np.datetime64("2020-01-01", "us") + np.arange(count) * np.timedelta64(1, "D")
    return Bars("1d", times, np.stack([opened, high, low, close, np.ones(count)], axis=1))


def test_outcomes_are_read_off_the_closes() -> None:
    bars = clustered_bars(10, np.random.default_rng(1))
    decided = bars.closed_at[[2, 5, 9]]
    labels = outcomes(decided, decided + np.timedelta64(1, "D"), bars)
    close = bars.column("close")
    assert labels.tolist() == [int(close[3] > close[2]), int(close[6] > close[5]), -1]


def test_a_decision_off_the_clock_has_no_outcome() -> None:
    bars = clustered_bars(10, np.random.default_rng(1))
    decided = bars.closed_at[[2]] + np.timedelta64(1, "h")
    assert outcomes(decided, decided + np.timedelta64(1, "D"), bars).tolist() == [-1]


def test_ks_is_scipys() -> None:
    generator = np.random.default_rng(2)
    for count in (5, 60, 400):
        one, other = np.sort(generator.normal(size=300)), np.sort(generator.normal(0.3, 2, count))
        assert ks_distance(one, other) == pytest.approx(ks_2samp(one, other).statistic, abs=1e-12)


def test_psi_of_a_sample_with_itself_is_zero_and_grows_with_a_shift() -> None:
    sample = np.random.default_rng(3).normal(size=1000)
    edges = np.quantile(sample, [0.25, 0.5, 0.75])
    values = [psi(edges, sample, sample + shift) for shift in (0.0, 0.5, 1.0)]
    assert values[0] == pytest.approx(0, abs=1e-12)
    assert values[0] < values[1] < values[2]


def test_wealth_stays_positive_and_looks_at_the_past_only() -> None:
    generator = np.random.default_rng(4)
    probabilities = generator.uniform(0.001, 0.999, 300)
    labels = (generator.random(300) < 0.5).astype(np.int8)
    whole = bet(labels, probabilities, 0.52, 0.0)
    assert (whole > 0).all()
    np.testing.assert_allclose(bet(labels[:100], probabilities[:100], 0.52, 0.0), whole[:100])


def honest_year(generator: np.random.Generator, spread: float) -> bool:
    """A champion as good as its record, for a year, with a record of its own: whether it raises an alarm."""
    truth = np.clip(0.52 + 0.03 * generator.normal(size=RECORD + YEAR), 0.05, 0.95)
    said = np.clip(truth + spread * generator.normal(size=len(truth)), 0.02, 0.98)
    labels = (generator.random(len(truth)) < truth).astype(np.int8)
    excess = allowed_excess(labels[:RECORD], said[:RECORD], 0.52, SPEC.score_tolerance)
    return live_score(labels[RECORD:], said[RECORD:], 0.52, excess, SPEC).degraded


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.15])
def test_honest_years_raise_fewer_score_alarms_than_stated(spread: float) -> None:
    generator = np.random.default_rng(5)
    years = [honest_year(generator, spread) for _ in range(1000)]
    assert np.mean(years) <= SPEC.false_alarm_rate  # Ville's bound; the mean over these years is well below


def test_a_champion_that_turned_is_found_within_the_year() -> None:
    generator = np.random.default_rng(6)
    found = []
    for _ in range(50):
        said = np.clip(0.5 + 0.15 * generator.normal(size=RECORD + YEAR), 0.05, 0.95)
        labels = (generator.random(len(said)) < said).astype(np.int8)
        labels[RECORD:] = 1 - labels[RECORD:]  # from now on the opposite of what it says
        excess = allowed_excess(labels[:RECORD], said[:RECORD], 0.5, SPEC.score_tolerance)
        found.append(live_score(labels[RECORD:], said[RECORD:], 0.5, excess, SPEC).degraded)
    assert np.mean(found) > 0.9


def looks(bars: Bars, trained: int) -> bool:
    """Whether any look at the year after the training, one each tenth day, finds a drift."""
    reference = references(Bars("1d", bars.opened_at[:trained], bars.ohlcv[:trained]), SPEC)
    ends = range(trained + 10, len(bars) + 1, 10)
    stretches = [Bars("1d", bars.opened_at[end - 200 : end], bars.ohlcv[end - 200 : end]) for end in ends]
    return any(each.drifted for stretch in stretches for each in compare(reference, stretch, SPEC))


def test_honest_years_of_clustered_volatility_drift_rarely() -> None:
    """Stated rate: at most one year of 250 days in ten with a drift alarm."""
    generator = np.random.default_rng(7)
    assert np.mean([looks(clustered_bars(1500 + YEAR, generator), 1500) for _ in range(60)]) <= 0.1


def test_tripled_volatility_is_found_within_the_year() -> None:
    generator = np.random.default_rng(8)
    scale = np.where(np.arange(1500 + YEAR) < 1500, 1.0, 3.0)
    assert np.mean([looks(clustered_bars(1500 + YEAR, generator, scale=scale), 1500) for _ in range(20)]) >= 0.7


def test_scaled_prices_are_found_at_once() -> None:
    bars = clustered_bars(1750, np.random.default_rng(8))
    training = Bars("1d", bars.opened_at[:1600], bars.ohlcv[:1600])
    scaled = Bars("1d", bars.opened_at, bars.ohlcv * np.where(np.arange(1750) < 1740, 1.0, 100.0)[:, None])
    assert {each.name: each.drifted for each in drifts(training, scaled, SPEC)}["level"]
    assert not any(each.drifted for each in drifts(training, bars, SPEC))


def test_too_few_bars_are_refused() -> None:
    bars = clustered_bars(200, np.random.default_rng(9))
    with pytest.raises(SpecError, match="found 200 and 200"):
        drifts(bars, bars, SPEC)


def test_alarms_name_their_numbers() -> None:
    score = live_score(np.zeros(400, dtype=np.int8), np.full(400, 0.9), 0.5, 0.0, SPEC)
    found = alarms(score, (), age_days=31, missing=30, expected=100, spec=SPEC)
    assert [alarm.kind for alarm in found] == ["degraded", "stale", "missing"]
    assert "400 live predictions" in found[0].message
    assert "31.0 days" in found[1].message
    quiet = live_score(np.empty(0, dtype=np.int8), np.empty(0), 0.5, 0.0, SPEC)
    assert alarms(quiet, (), age_days=1, missing=0, expected=0, spec=SPEC) == ()
