"""Corrections for a search: the stated level over many tried recipes, power for a planted one, and known formulas."""

from itertools import combinations
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm, t
from simulated_decisions import calibrated_forecasts

from model.errors import SpecError
from model.multiple_testing import (
    backtest_overfitting,
    deflate_sharpe_ratio,
    deflated_sharpe_ratio,
    expected_largest_sharpe,
    holm,
    search_skill,
    skill_p_values,
)

ALPHA = 0.05


@pytest.mark.e2e  # 200 searches
@pytest.mark.parametrize(("recipes", "windows"), [(1, 500), (30, 500)])
def test_null_recipes_are_promoted_at_most_at_the_level_however_many_were_tried(recipes: int, windows: int) -> None:
    runs, promoted = 100, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, windows).astype(np.int8)
        found = search_skill(labels, np.full(windows, 0.5), rng.uniform(0.4, 0.6, (recipes, windows)), seed)
        promoted += bool((found.adjusted_p_value <= ALPHA).any())
    assert promoted <= binom.ppf(0.99, runs, ALPHA)


@pytest.mark.e2e  # 40 searches
def test_a_planted_accuracy_of_55_percent_on_2000_windows_is_found_in_at_least_80_percent() -> None:
    runs, found_alone, found_among = 20, 0, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        labels, planted = calibrated_forecasts(rng, 1, 2000, 0.55)
        tried = np.concatenate([planted, rng.uniform(0.45, 0.55, (49, 2000))])
        base = np.full(2000, 0.5)
        found_alone += bool(search_skill(labels[0], base, planted, seed).adjusted_p_value[0] <= ALPHA)
        found_among += bool(search_skill(labels[0], base, tried, seed).adjusted_p_value[0] <= ALPHA)
    assert found_alone >= 0.8 * runs
    assert found_among >= 0.8 * runs


def test_one_recipe_needs_no_correction_and_more_recipes_never_help() -> None:
    rng = np.random.default_rng(1)
    labels, planted = calibrated_forecasts(rng, 1, 400, 0.56)
    base = np.full(400, 0.5)
    alone = search_skill(labels[0], base, planted, 1)
    assert alone.adjusted_p_value == pytest.approx(alone.p_value)
    more = search_skill(labels[0], base, np.concatenate([planted, rng.uniform(0.4, 0.6, (20, 400))]), 1)
    assert more.adjusted_p_value[0] >= alone.adjusted_p_value[0]
    assert more.statistic[0] == pytest.approx(alone.statistic[0])


@pytest.mark.parametrize("overlap", [1, 5])
def test_a_skill_beyond_every_resample_has_the_tail_of_its_distribution_alone_and_among_others(overlap: int) -> None:
    rng = np.random.default_rng(2)
    skill = np.stack([rng.normal(0.5, 1, 600), *rng.normal(0, 1, (9, 600))])
    statistic, alone, adjusted = skill_p_values(skill, 1, overlap)
    tail = norm.sf(statistic[0]) if overlap == 1 else t.sf(statistic[0], 600 / 10)
    assert tail < 1e-9
    assert alone[0] == pytest.approx(tail, rel=1e-6)
    assert adjusted[0] == pytest.approx(10 * tail, rel=1e-6)
    assert (alone[1:] >= 1 / 1001).all()


def test_overlapping_labels_widen_the_error_as_their_autocovariances_do() -> None:
    rng, horizon, count = np.random.default_rng(5), 4, 600
    path = np.cumsum(rng.standard_normal(count + horizon))
    labels = (path[horizon:] > path[:-horizon]).astype(np.int8)
    trend = np.convolve(rng.standard_normal(count + 9), np.ones(10), "valid")  # persistent forecasts
    probabilities = 1 / (1 + np.exp(-0.1 * trend))
    skill = (labels - 0.5) * 0.1 * trend
    centred = skill - skill.mean()
    variance = (centred @ centred + 2 * sum(centred[lag:] @ centred[:-lag] for lag in range(1, horizon))) / count
    found = search_skill(labels, np.full(count, 0.5), probabilities[None], 1, overlap=horizon)
    assert found.statistic[0] == pytest.approx(skill.mean() / np.sqrt(variance / count))


def test_a_recipe_that_decided_on_some_windows_is_tested_on_those() -> None:
    rng = np.random.default_rng(1)
    labels, planted = calibrated_forecasts(rng, 1, 400, 0.56)
    part = np.where(np.arange(400) < 250, planted, np.nan)
    base = np.full(400, 0.5)
    both = search_skill(labels[0], base, np.concatenate([planted, part]), 1)
    alone = search_skill(labels[0][:250], base[:250], planted[:, :250], 1)
    assert both.statistic[1] == pytest.approx(alone.statistic[0])
    assert both.excess_loss[1] == pytest.approx(alone.excess_loss[0])
    assert both.p_value[1] == pytest.approx(alone.p_value[0], abs=0.03)  # other draws
    nothing = search_skill(labels[0], base, np.concatenate([planted, np.full((50, 400), np.nan)]), 1)
    assert nothing.adjusted_p_value[0] == pytest.approx(nothing.p_value[0])


def test_a_forecast_that_never_moves_is_no_skill() -> None:
    labels = np.tile([0, 1, 1], 50).astype(np.int8)
    found = search_skill(labels, np.full(150, 0.5), np.full((1, 150), 0.5), 1)
    assert found.adjusted_p_value[0] == 1


def test_the_expected_largest_sharpe_is_that_of_simulated_recipes() -> None:
    simulated = np.random.default_rng(0).normal(0, 0.1, (4000, 200)).max(axis=1).mean()
    assert expected_largest_sharpe(200, 0.01) == pytest.approx(simulated, rel=0.02)


def test_the_deflated_sharpe_ratio_of_one_trial_is_the_normal_test_of_its_mean() -> None:
    returns = np.random.default_rng(1).normal(0.05, 1, 1000)
    sharpe = returns.mean() / returns.std()
    assert deflated_sharpe_ratio(returns, 1, 0.0) == pytest.approx(norm.cdf(sharpe * np.sqrt(999)), abs=0.01)


def test_the_best_of_many_lucky_strategies_is_deflated() -> None:
    runs, evidence = 60, 0
    for seed in range(runs):
        returns = np.random.default_rng(seed).normal(0, 1, (100, 500))
        sharpes = returns.mean(axis=1) / returns.std(axis=1)
        evidence += deflated_sharpe_ratio(returns[sharpes.argmax()], 100, float(sharpes.var())) > 0.95
    assert evidence <= binom.ppf(0.99, runs, ALPHA)


def test_overfitting_is_even_odds_on_noise_and_absent_where_one_recipe_is_better() -> None:
    rng = np.random.default_rng(0)
    noise = [backtest_overfitting(rng.normal(size=(10, 320)), 8).probability for _ in range(30)]
    assert np.mean(noise) == pytest.approx(0.5, abs=0.12)
    good = rng.normal(size=(10, 320))
    good[4] += 0.8
    for statistic in ("mean", "sharpe"):
        found = backtest_overfitting(good, 8, statistic)
        assert found.probability == 0
        assert found.probability_of_loss == 0


def test_overfitting_is_that_of_a_count_over_all_splits() -> None:
    performance = np.random.default_rng(3).normal(size=(5, 47))  # three of the oldest are left out
    below = losses = 0
    splits = list(combinations(range(4), 2))
    for half in splits:
        inside = np.isin((np.arange(47) - 3) // 11, half) & (np.arange(47) >= 3)
        outside = ~inside & (np.arange(47) >= 3)
        best = int(performance[:, inside].mean(axis=1).argmax())
        means = performance[:, outside].mean(axis=1)
        below += sorted(means).index(means[best]) + 1 <= 3  # the middle of five, or worse
        losses += means[best] < 0
    found = backtest_overfitting(performance, 4)
    assert (found.probability, found.probability_of_loss) == (below / len(splits), losses / len(splits))
    assert (len(found.logits), found.parts) == (6, 4)


def test_a_sharpe_ratio_is_deflated_by_the_ratios_of_the_others() -> None:
    rng = np.random.default_rng(2)
    ours, *others = rng.normal([[0.2], [-0.1], [0.0], [0.1]], 1, (4, 400))
    ratios = [each.mean() / each.std() for each in (ours, *others)]
    variance = float(np.sum((np.array(ratios) - np.mean(ratios)) ** 2) / 3)
    assert variance > 1 / 400
    assert deflate_sharpe_ratio(ours, others, 9) == pytest.approx(deflated_sharpe_ratio(ours, 9, variance))
    # Three copies show no variance of their own: that of chance counts.
    assert deflate_sharpe_ratio(ours, [ours, ours], 9) == pytest.approx(deflated_sharpe_ratio(ours, 9, 1 / 400))
    assert deflate_sharpe_ratio(ours, [], 9) == pytest.approx(deflated_sharpe_ratio(ours, 9, 1 / 400))
    assert deflate_sharpe_ratio(ours, [], 1) == pytest.approx(deflated_sharpe_ratio(ours, 1, 0.0))
    assert deflate_sharpe_ratio(np.zeros(400), others, 9) == 0


def test_wrong_shapes_are_errors_that_name_them() -> None:
    labels = np.zeros(10, np.int8)
    with pytest.raises(SpecError, match=r"each of 10 windows, found shape \(2, 9\)"):
        search_skill(labels, np.full(10, 0.5), np.full((2, 9), 0.5), 1)
    with pytest.raises(SpecError, match="found 1 recipes"):
        backtest_overfitting(np.zeros((1, 100)))
    with pytest.raises(SpecError, match="at least 3 periods, found 2"):
        deflated_sharpe_ratio(np.zeros(2), 1, 0.0)


def test_holm_by_hand() -> None:
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
    assert holm({}) == {}


@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.04, 0.2, 1.0]) | st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_statsmodels(p_values: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    with patch("gc.collect"):  # which statsmodels calls each time: seconds in a process with many objects
        expected = multipletests(p_values, method="holm")[1]
    adjusted = holm({str(number): p_value for number, p_value in enumerate(p_values)})
    assert list(adjusted) == [str(number) for number in range(len(p_values))]
    assert list(adjusted.values()) == pytest.approx(list(expected))
