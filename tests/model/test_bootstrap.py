"""Bootstrap intervals: coverage at the stated rate, and values from second formulas."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter
from scipy.stats import binom, norm
from synthetic_records import DAY, coin_labels, daily_record, forecast, loud_forecast

from model import bootstrap
from model.abstention import AbstentionSpec, score_abstention
from model.bootstrap import (
    bootstrap_intervals,
    mean_difference,
    optimal_block_bars,
    paired_difference,
    percentile_bounds,
    record_difference,
    record_ratio,
    resample,
    student_t_quantile,
    widening_factor,
)
from model.errors import SpecError
from model.metrics import METRICS, log_losses, score
from model.panel_scores import mean_interval

REPETITIONS = 200  # of each experiment
WINDOWS = 300


@pytest.mark.e2e
def test_intervals_cover_the_truth_at_the_stated_rate() -> None:
    accuracy = 0.6
    truth = {
        "accuracy": accuracy,
        "log_loss": -(accuracy * np.log(accuracy) + (1 - accuracy) * np.log(1 - accuracy)),
        "mcc": 2 * accuracy - 1,  # of a symmetric channel and a fair coin
        "roc_auc": accuracy,
    }
    covered = dict.fromkeys(truth, 0)
    for seed in range(REPETITIONS):
        labels = coin_labels(WINDOWS, seed=seed)
        found = bootstrap_intervals(labels, forecast(labels, accuracy, seed=seed + 1000), seed, repetitions=200)
        for name, value in truth.items():
            covered[name] += found[name].low <= value <= found[name].high
    for name, count in covered.items():
        assert count >= binom.ppf(0.001, REPETITIONS, 0.95), name  # percentile bounds run a little short


@pytest.mark.e2e
def test_a_planted_signal_beats_the_base_rate_at_the_computed_rate() -> None:
    # a calibrated forecast with 60 % accuracy gains 0.0201 nats per window on 0.5, with a standard deviation of
    # log(1.5) sqrt(0.24) = 0.199
    gain = np.log(2) + 0.6 * np.log(0.6) + 0.4 * np.log(0.4)
    expected = norm.sf(1.96 - gain / (np.log(1.5) * np.sqrt(0.24 / 750)))
    found = 0
    for seed in range(100):
        labels = coin_labels(750, seed=seed)
        ours = forecast(labels, 0.6, seed=seed + 1000)
        found += paired_difference(labels, ours, np.full(750, 0.5), seed, repetitions=300).high < 0
    lowest, highest = binom.ppf([0.005, 0.995], 100, expected)
    assert lowest <= found <= highest


def test_an_interval_surrounds_its_value_and_repeats_with_its_seed() -> None:
    labels = coin_labels(500, seed=4)
    probabilities = forecast(labels, 0.55, seed=5)
    first, again = (bootstrap_intervals(labels, probabilities, seed=9) for _ in range(2))
    assert tuple(first) == METRICS
    assert first == again
    values = score(labels, probabilities)
    assert all(found.low <= values[name] <= found.high for name, found in first.items())


def test_a_constant_forecast_has_intervals() -> None:
    found = bootstrap_intervals(coin_labels(100, seed=1), np.full(100, 0.5), seed=1)
    assert (found["mcc"].low, found["mcc"].high) == (0, 0)
    assert found["log_loss"].low == pytest.approx(np.log(2))


def test_labels_of_one_class_have_nan_where_a_number_is_undefined() -> None:
    found = bootstrap_intervals(np.ones(50, dtype=np.int8), np.linspace(0.3, 0.7, 50), seed=1)
    assert np.isnan([found["roc_auc"].value, found["roc_auc"].low, found["roc_auc"].high]).all()
    assert np.isfinite(found["log_loss"].high)


def test_resampling_in_chunks_draws_the_same_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resample(lambda counts: counts, 40, 3, seed=5, repetitions=25)
    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 160)
    chunks = resample(lambda counts: counts, 40, 3, seed=5, repetitions=25)
    monkeypatch.setattr(bootstrap, "KEPT_CELLS", 0)
    one_by_one = resample(lambda counts: counts, 40, 3, seed=5, repetitions=25)
    assert (whole == chunks).all()
    assert (whole == one_by_one).all()
    assert (whole.sum(axis=1) == 40).all()


def test_draws_of_many_windows_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 400)
    monkeypatch.setattr(bootstrap, "KEPT_CELLS", 999)
    monkeypatch.setattr(bootstrap, "_DRAWS", None)
    held: list[int] = []
    resample(lambda counts: held.append(counts.size) or counts[:, :1], 40, 3, seed=5, repetitions=25)
    assert held == [400, 400, 200]


def test_the_same_draws_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_DRAWS", bootstrap.KeptDraws())
    made: list[tuple[int, ...]] = []
    draws = bootstrap._draws
    monkeypatch.setattr(bootstrap, "_draws", lambda *key: made.append(key) or draws(*key))
    results = [resample(lambda counts: counts, 30, block, seed, 20) for block, seed in ((3, 1), (4, 1), (5, 1), (3, 1))]
    assert [block for _, block, *_ in made] == [3, 4, 5]
    assert (results[0] == results[3]).all()
    assert (results[0] != results[1]).any()
    resample(lambda counts: counts, 30, 3, 2, 20)
    assert len(made) == 4


def test_the_draws_used_longest_ago_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_DRAWS", bootstrap.KeptDraws())
    monkeypatch.setattr(bootstrap, "KEPT_CELLS", 2 * 30 * 20)
    made: list[int] = []
    draws = bootstrap._draws
    monkeypatch.setattr(bootstrap, "_draws", lambda *key: made.append(key[1]) or draws(*key))
    for block in (3, 4, 3, 5, 3, 4):
        resample(lambda counts: counts, 30, block, 1, 20)
    assert made == [3, 4, 5, 4]  # 5 takes the place of 4, because 3 was used after it


def test_zero_windows_cannot_be_resampled() -> None:
    with pytest.raises(SpecError, match="at least one window"):
        resample(lambda counts: counts, 0, 1, seed=1)


def test_persistence_needs_longer_blocks() -> None:
    noise = np.random.default_rng(0).normal(size=1000)
    persistent = np.empty(1000)
    persistent[0] = noise[0]
    for t in range(1, 1000):
        persistent[t] = 0.9 * persistent[t - 1] + noise[t]
    assert optimal_block_bars(persistent) > 4 * optimal_block_bars(noise)
    assert optimal_block_bars(np.full(1000, 0.7)) == 1


def test_bounds_ignore_undefined_resamples() -> None:
    assert percentile_bounds(np.array([1.0, np.nan, 1.0])) == (1.0, 1.0)
    assert np.isnan(percentile_bounds(np.array([np.nan]))).all()


def test_the_paired_difference_is_the_difference_of_mean_losses() -> None:
    labels = coin_labels(200, seed=6)
    ours, theirs = forecast(labels, 0.55, seed=7), loud_forecast(labels, seed=8, spread=0.1)
    found = paired_difference(labels, ours, theirs, seed=1)
    assert found.mean == pytest.approx(log_losses(labels, ours).mean() - log_losses(labels, theirs).mean())
    swapped = paired_difference(labels, theirs, ours, seed=1)
    assert (swapped.mean, swapped.low, swapped.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_the_widening_factor_by_hand() -> None:
    # overlap 1: only the few blocks and the centring; t with 75 degrees of freedom, quantile 1.9921
    assert widening_factor(750, 10, 1) == pytest.approx(1.9921 / 1.9600 / np.sqrt(1 - 20 / 750), abs=1e-4)
    # overlap 2: autocovariances 1/4, 1/2, 1/4 and weights 0.9, 1, 0.9
    assert widening_factor(750, 10, 2) == pytest.approx(widening_factor(750, 10, 1) / np.sqrt(0.95), rel=1e-6)
    assert widening_factor(10, 9, 5) > widening_factor(750, 9, 5)  # hardly more than one block: wide, and finite


@pytest.mark.parametrize("degrees", [1, 1.3, 2, 3.7, 10, 75, 750, 1e4])
@pytest.mark.parametrize("probability", [0.5, 0.6, 0.975, 0.999])
def test_quantiles_of_students_t_equal_those_of_scipy(probability: float, degrees: float) -> None:
    expected = stats.t.ppf(probability, degrees)
    assert student_t_quantile(probability, degrees) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_a_difference_is_found_without_loading_scipy() -> None:
    """Status compares thirty versions; `scipy.stats` takes longer to load than all the rest of the command."""
    code = (
        "import sys, numpy as np; from model.bootstrap import mean_difference\n"
        "mean_difference(np.arange(30) / 30 - 0.4, 7, block_bars=4)\n"
        "assert not [name for name in sys.modules if name.startswith('scipy')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_overlapping_labels_widen_the_interval_and_raise_the_p_value() -> None:
    labels = coin_labels(400, seed=11)
    ours, theirs = forecast(labels, 0.56, seed=12), loud_forecast(labels, seed=13, spread=0.05)
    plain, overlapping = (paired_difference(labels, ours, theirs, 1, block_bars=20, overlap_bars=n) for n in (1, 10))
    assert overlapping.mean == plain.mean
    assert overlapping.low < plain.low
    assert overlapping.high > plain.high
    assert overlapping.p_value > plain.p_value
    draws = resample(
        lambda counts: counts @ (log_losses(labels, ours) - log_losses(labels, theirs))[:, None], 400, 20, 1
    )
    share = norm.sf(widening_factor(400, 20, 1) * norm.isf(0.025))
    assert (plain.low, plain.high) == pytest.approx(np.quantile(draws[:, 0] / 400, [share, 1 - share]))


@pytest.mark.parametrize(("block", "overlap"), [(1, 1), (6, 3)])
def test_a_mean_beyond_every_resample_has_the_tail_of_students_t(block: int, overlap: int) -> None:
    """A hundred times 1/1,001 would not be significant, however large the difference."""
    differences = np.random.default_rng(5).normal(0.5, 1, 300)
    found = mean_difference(differences, 1, block, overlap)
    draws = resample(lambda counts: counts @ differences[:, None] / 300, 300, block, 1)
    kept = (1 - 2 * block / 300) * {1: 1, 3: (3 + 4 * 5 / 6 + 2 * (5 / 6) ** 2) / 9}[overlap]
    error = np.sqrt(np.mean((draws - found.mean) ** 2) / kept)
    assert found.p_value == pytest.approx(2 * stats.t.sf(found.mean / error, 300 / block), rel=1e-6)
    assert found.p_value < 1e-6
    assert mean_difference(-differences, 1, block, overlap).p_value == pytest.approx(found.p_value)
    near = mean_difference(differences - 0.5, 1, block, overlap)  # within the resamples: their share
    factor = widening_factor(300, block, overlap)
    assert near.p_value == (1 + (factor * np.abs(draws - found.mean) >= abs(near.mean)).sum()) / 1001


def test_a_constant_difference_is_no_more_evidence_than_its_resamples() -> None:
    assert mean_difference(np.full(40, 0.3), 1, 4).p_value == 1 / 1001


@pytest.mark.e2e  # five hundred experiments
def test_small_p_values_of_equal_forecasters_are_as_rare_as_they_say() -> None:
    rng, runs = np.random.default_rng(6), 500
    found = [mean_difference(rng.normal(size=120), run, block_bars=5, repetitions=50).p_value for run in range(runs)]
    for level in (0.001, 0.01):  # both below 1 / 51
        assert (np.array(found) <= level).sum() <= binom.ppf(0.99, runs, level)


@pytest.mark.e2e  # eight hundred experiments
@pytest.mark.parametrize(("overlap", "block"), [(5, 10), (20, 40)])
def test_paired_intervals_cover_zero_where_labels_overlap_and_forecasts_persist(overlap: int, block: int) -> None:
    """Two forecasters without skill, 750 windows: plain percentiles covered 91 and 89 %."""
    rng, runs, n = np.random.default_rng(1), 400, 750
    covered = 0
    for seed in range(runs):
        moves = np.concatenate([[0.0], rng.normal(size=n + overlap).cumsum()])
        labels = (moves[overlap : overlap + n] > moves[:n]).astype(np.int8)
        shocks = rng.normal(size=(2, n)) * np.sqrt(1 - 0.9**2)
        ours, theirs = np.clip(0.5 + 0.1 * lfilter([1.0], [1.0, -0.9], shocks, axis=1), 0.05, 0.95)
        found = paired_difference(labels, ours, theirs, seed, block, overlap, repetitions=400)
        covered += found.low <= 0 <= found.high
    assert binom.ppf(0.01, runs, 0.935) <= covered <= binom.ppf(0.99, runs, 0.98)


@pytest.mark.parametrize(("n", "block_bars"), [(1, 1), (40, 1), (40, 3), (30, 100), (750, 12)])
def test_the_draws_are_those_of_the_stationary_bootstrap_of_arch(
    n: int, block_bars: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arch.bootstrap import StationaryBootstrap

    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 8 * 7 * n)  # seven at once
    theirs = StationaryBootstrap(block_bars, np.arange(n), seed=np.random.default_rng(3)).bootstrap(20)
    expected = [np.bincount(drawn[0][0], minlength=n) for drawn in theirs]
    found = list(bootstrap._draws(n, block_bars, 3, 20))
    assert (np.array(found) == np.array(expected)).all()
    assert len(found) == 20


def overlapping_sample(rng: np.random.Generator, n: int, overlap: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels of a random walk over `overlap` steps, and persistent probabilities that know nothing of them."""
    moves = np.concatenate([[0.0], rng.normal(size=n + overlap).cumsum()])
    odds = 0.3 * lfilter([1.0], [1.0, -0.95], rng.normal(size=n + 100) * np.sqrt(1 - 0.95**2))[100:]
    return (moves[overlap : overlap + n] > moves[:n]).astype(np.int8), 1 / (1 + np.exp(-odds))


@pytest.mark.parametrize("overlap", [1, 10])
def test_intervals_of_scores_and_of_paired_losses_have_one_level_where_labels_overlap(overlap: int) -> None:
    labels, chances = overlapping_sample(np.random.default_rng(2), 400, overlap)
    record = daily_record(labels, chances)
    record = replace(record, resolved_at=record.decided_at + overlap * DAY)
    losses, ones = log_losses(labels, chances), np.ones(400)
    level = 1.959964 * (widening_factor(400, 20, overlap) if overlap > 1 else 1)

    def bounds(values: np.ndarray, block: int) -> object:
        draws = resample(lambda counts: counts @ values[:, None] / 400, 400, block, seed=1)[:, 0]
        return pytest.approx(np.quantile(draws, [norm.sf(level), norm.cdf(level)]))

    assert optimal_block_bars(losses) <= 20  # so that twice the overlap decides
    block = 20 if overlap > 1 else optimal_block_bars(losses)
    scores = bootstrap_intervals(labels, chances, 1, overlap_bars=overlap)
    assert (scores["log_loss"].low, scores["log_loss"].high) == bounds(losses, block)
    assert (scores["accuracy"].low, scores["accuracy"].high) == bounds((chances > 0.5) == (labels == 1), block)
    ratio = record_ratio(record, losses, ones, seed=1)
    assert (ratio.low, ratio.high) == bounds(losses, 20 if overlap > 1 else 8)  # 8: the cube root of 400
    opinions = score_abstention(AbstentionSpec(), record, ones, np.full(400, 0.5), ones, seed=1)["all"]
    assert (opinions.log_loss.low, opinions.log_loss.high) == pytest.approx((ratio.low, ratio.high))
    of_closes = mean_interval(losses, 1, overlap)
    assert (of_closes.low, of_closes.high) == bounds(losses, block)
    if overlap > 1:
        paired = record_difference(record, losses, seed=1)
        assert (paired.low, paired.high) == pytest.approx((ratio.low, ratio.high))


@pytest.mark.e2e  # two hundred experiments
@pytest.mark.parametrize("overlap", [5, 20])
def test_intervals_of_scores_cover_the_truth_where_labels_overlap_and_forecasts_persist(overlap: int) -> None:
    """Given 750 forecasts without skill; with the optimal block for the losses and plain percentiles 85 to 90 %."""
    rng, runs = np.random.default_rng(4), 100
    covered = np.zeros(2)
    for seed in range(runs):
        labels, chances = overlapping_sample(rng, 750, overlap)
        found = bootstrap_intervals(labels, chances, seed, 400, overlap_bars=overlap)
        truth = {"accuracy": 0.5, "log_loss": -0.5 * float((np.log(chances) + np.log(1 - chances)).mean())}
        covered += [found[name].low <= value <= found[name].high for name, value in truth.items()]
    assert (covered >= binom.ppf(0.01, runs, 0.93)).all(), covered
