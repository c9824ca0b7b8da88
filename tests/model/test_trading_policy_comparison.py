"""Every policy is compared on the same bars: costs, exposure and timing by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from synthetic_bars import bars_of_closes
from synthetic_folds import BARS, two_folds

from model.baseline_records import BaselineRecords
from model.multiple_testing import deflated_sharpe_ratio
from model.trading import TradingSpec, trade
from model.trading_policies import POLICIES
from model.trading_policy_comparison import COST_CURVE_BPS, compare_policies, net_by_cost, split_return


def test_exposure_and_timing_by_hand() -> None:
    """Mean position 0.5, sum of returns 0.1: exposure earns 0.05; long over +0.2 and flat over -0.1 earn 0.2."""
    positions, returns = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.2, -0.1, 0.0, 0.0])
    found = split_return(positions, returns, seed=1)
    assert found["mean_position"] == 0.5
    assert found["exposure_return"] == pytest.approx(0.05)
    assert found["timing_return"] == pytest.approx(0.15)
    assert found["timing_return"] == pytest.approx(4 * np.cov(positions, returns, ddof=0)[0, 1])


def test_a_constant_position_has_no_timing() -> None:
    returns = np.random.default_rng(1).normal(0.01, 0.02, 200)
    found = split_return(np.ones(200), returns, seed=1)
    assert found["exposure_return"] == pytest.approx(returns.sum())
    assert [found[name] for name in ("timing_return", "timing_return_low", "timing_return_high")] == pytest.approx(
        [0, 0, 0], abs=1e-12
    )


def test_the_interval_of_timing_covers_chance_in_a_rising_market() -> None:
    """Random positions on rising prices: exposure earns, timing is chance; 95 % intervals hold 0."""
    rng, covered = np.random.default_rng(5), 0
    for _ in range(40):
        returns, positions = rng.normal(0.005, 0.02, 300), (rng.random(300) < 0.5).astype(float)
        found = split_return(positions, returns, seed=1)
        covered += found["timing_return_low"] <= 0 <= found["timing_return_high"]
        assert found["exposure_return"] > 0
    assert 34 <= covered <= 40


def test_net_by_cost_by_hand() -> None:
    bars = bars_of_closes([100, 110, 99])
    record = two_folds()[0].take(np.arange(2))
    record = type(record)(
        bars.closed_at[:2], bars.closed_at[1:3], record.labels, np.array([0.6, 0.6]), np.zeros(2, dtype=np.int64)
    )
    found = trade(record, bars, TradingSpec(), 1).strategy
    curve = net_by_cost(np.array([0.1, -0.1]), np.array([1.0, 1.0]))
    assert (COST_CURVE_BPS[0], COST_CURVE_BPS[-1]) == (0, 20)
    assert curve[10] == pytest.approx((1.1 - 0.001) * (0.9 - 0.001) - 1)
    assert curve[15] == pytest.approx(found.net_return)


@pytest.mark.parametrize("kind", ["long_flat", "long_short"])
def test_every_policy_is_reported_whichever_is_chosen(kind: str) -> None:
    record, validation = two_folds()
    found = {
        policy: compare_policies(
            record, validation, BARS, TradingSpec.model_validate({"policy": policy, "kind": kind, "cost_bps": 2}), 1
        )
        for policy in POLICIES
    }
    assert found["sign"].results == found["threshold"].results == found["no_trade_band"].results
    results = found["sign"].results
    assert tuple(results) == POLICIES
    for policy, result in results.items():
        spec = TradingSpec.model_validate({"policy": policy, "kind": kind, "cost_bps": 2})
        alone = trade(record, BARS, spec, 1, validation).strategy
        assert alone.numbers().items() <= result.figures.items()
        assert result.net_by_cost[7] == pytest.approx(alone.net_return)
        assert list(result.net_by_cost) == sorted(result.net_by_cost, reverse=True)
        returns = BARS.column("close")[201:401] / BARS.column("close")[200:400] - 1
        uncompounded = float((alone.positions * returns).sum())
        assert result.figures["exposure_return"] + result.figures["timing_return"] == pytest.approx(uncompounded)
        assert len(result.bands) == (0 if policy == "sign" else 2)
        assert found["sign"].buy_and_hold_return == pytest.approx(float(returns.sum()))
    written = found["sign"].to_json()["policies"]["no_trade_band"]["bands"]
    assert written == [{"enter": band.enter, "leave": band.leave} for band in results["no_trade_band"].bands]
    assert all(band["leave"] == -band["enter"] < 0 for band in written)


def test_the_sharpe_ratio_is_deflated_for_recipes_times_policies() -> None:
    record, validation = two_folds()
    spec = TradingSpec(cost_bps=2, slippage_bps=0)
    other = np.random.default_rng(2).normal(0, 0.02, 200)
    found = compare_policies(record, validation, BARS, spec, 1, recipes=4, others=[other])
    net = [
        trade(record, BARS, spec.model_copy(update={"policy": policy}), 1, validation).strategy.net_returns
        for policy in POLICIES
    ]
    variance = max(float(np.var([each.mean() / each.std() for each in (*net, other)], ddof=1)), 1 / 200)
    assert found.tried == 12
    for policy, returns in zip(POLICIES, net, strict=True):
        expected = deflated_sharpe_ratio(returns, 12, variance)
        assert found.results[policy].figures["deflated_sharpe"] == pytest.approx(expected)


def test_baselines_are_traded_by_the_same_policies_with_bands_of_their_own() -> None:
    record, validation = two_folds()
    turned = replace(record, probabilities=1 - record.probabilities)
    theirs = BaselineRecords(turned, tuple(replace(each, probabilities=1 - each.probabilities) for each in validation))
    spec = TradingSpec(cost_bps=2, slippage_bps=0)
    found = compare_policies(record, validation, BARS, spec, 1, recipes=4, baselines={"turned": theirs})
    alone = compare_policies(record, validation, BARS, spec, 1, recipes=4)
    assert tuple(found.results) == (*POLICIES, *(f"{policy}_by_turned" for policy in POLICIES))
    assert {name: found.results[name] for name in POLICIES} == alone.results
    assert found.tried == alone.tried
    for policy in POLICIES:
        result, each = found.results[f"{policy}_by_turned"], spec.model_copy(update={"policy": policy})
        by_hand = trade(turned, BARS, each, 1, theirs.validation)
        assert by_hand.strategy.numbers().items() <= result.figures.items()
        assert "deflated_sharpe" not in result.figures
        assert result.bands == tuple(by_hand.bands.values())
    # Long where the other is flat: together they always hold the price.
    held = [found.results[name].figures["exposure"] for name in ("sign", "sign_by_turned")]
    assert sum(held) == pytest.approx(1)
    assert "threshold_by_turned" in found.to_json()["policies"]


def test_policies_that_are_alike_do_not_undo_the_deflation() -> None:
    """Without costs all three policies hold the same positions: twelve trials of four recipes vary by chance."""
    record, validation = two_folds()
    spec = TradingSpec(cost_bps=0, slippage_bps=0)
    found = compare_policies(record, validation, BARS, spec, 1, recipes=4).results
    net = trade(record, BARS, spec, 1, validation).strategy.net_returns
    alone = deflated_sharpe_ratio(net, 1, 0.0)
    expected = deflated_sharpe_ratio(net, 12, 1 / 200)
    assert found["sign"].figures["net_return"] == found["no_trade_band"].figures["net_return"]
    assert found["sign"].figures["deflated_sharpe"] == pytest.approx(expected)
    assert expected < 0.7 * alone


def test_what_is_undefined_is_null_in_json() -> None:
    record, validation = two_folds()
    found = compare_policies(record, validation, BARS, TradingSpec(cost_bps=1000), 1)
    stored = json.loads(json.dumps(found.to_json(), allow_nan=False))
    idle = stored["policies"]["threshold"]
    assert idle["bands"][0] == {"enter": None, "leave": None}
    assert idle["figures"]["break_even_bps"] is None
    assert idle["figures"]["turnover"] == 0
    assert stored["trading"]["cost_bps"] == 1000
    assert len(idle["net_by_cost"]) == len(stored["cost_curve_bps"]) == 21


def test_two_bars_have_no_deflated_sharpe_ratio_but_are_compared_all_the_same() -> None:
    record, validation = two_folds()
    found = compare_policies(record.take(np.arange(2)), validation[:1], BARS, TradingSpec(), 1)
    assert all(np.isnan(each.figures["deflated_sharpe"]) for each in found.results.values())
    assert found.to_json()["policies"]["sign"]["figures"]["deflated_sharpe"] is None
