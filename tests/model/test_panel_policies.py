"""One policy on all series of a panel: equal parts, bands from validation windows, costs."""

from dataclasses import replace

import numpy as np
import pytest

from model.baseline_records import REVERSAL, BaselineRecords
from model.errors import SpecError
from model.panel_policies import compare_panel_policies, learn_bands, trade_panel
from model.record import Record
from model.trading import TradingCosts
from model.trading_policies import NEVER, POLICIES, SIGN, Band

DAY = np.timedelta64(1, "D")


def record_of(probabilities: list[list[float]], fold: int = 0) -> Record:
    """Return a record with a row a close and a column a series; NaN: the series is missing."""
    grid = np.array(probabilities)
    bars, series = np.nonzero(np.isfinite(grid))
    decided_at = np.datetime64("2024-01-01", "us") + bars * DAY
    count = len(bars)
    return Record(
        decided_at, decided_at + DAY, np.ones(count, np.int8), grid[bars, series],
        np.full(count, fold), np.array(["A", "B"])[series],
    )  # fmt: skip


def test_two_series_by_hand() -> None:
    record = record_of([[0.6, 0.6], [0.6, 0.4], [0.4, np.nan]])
    returns = np.array([0.02, 0.01, -0.01, -0.04, -0.02])
    found = trade_panel(record, returns, {0: SIGN}, 10.0, DAY, seed=1)
    # Both long in halves; then B turns short; then A alone, short with all of the equity.
    assert found.gross.tolist() == pytest.approx([0.015, 0.015, 0.02])
    turned = (0.51 / 1.015 - 0.5) + (0.5 + 0.505 / 1.015)
    closed = (1 + 0.495 / 1.015) + 0.48 / 1.015 + 0.98 / 1.02
    assert found.traded.tolist() == pytest.approx([1.0, turned, closed])
    assert found.exposure == pytest.approx(1.0)
    assert found.net_bps == pytest.approx((0.05 - (1 + turned + closed) * 0.001) / 3 / 1e-4)


def test_a_series_that_is_missing_is_flat_and_nothing_traded_has_no_break_even() -> None:
    record = record_of([[0.6, 0.6], [0.6, np.nan], [0.6, 0.6]])
    found = trade_panel(record, np.full(5, 0.01), {0: SIGN}, 0.0, DAY, seed=1)
    assert found.traded.tolist() == pytest.approx([1.0, 1.0, 2.0])
    never = trade_panel(record, np.full(5, 0.01), {0: NEVER}, 0.0, DAY, seed=1)
    assert np.isnan(never.break_even_bps.value)
    assert never.exposure == 0.0


def test_each_close_is_traded_by_the_band_of_its_fold() -> None:
    first, second = record_of([[0.6, 0.4], [0.6, 0.4]]), record_of([[0.6, 0.4]], fold=1)
    late = second.decided_at + 2 * DAY
    record = Record(
        np.append(first.decided_at, late), np.append(first.resolved_at, late + DAY),
        *(np.append(getattr(first, name), getattr(second, name))
          for name in ("labels", "probabilities", "fold", "symbols")),
    )  # fmt: skip
    found = trade_panel(record, np.full(6, 0.0), {0: SIGN, 1: NEVER}, 0.0, DAY, seed=1)
    assert found.traded.tolist() == pytest.approx([1.0, 0.0, 1.0])  # closed where the second fold begins
    assert found.exposure == pytest.approx(2 / 3)


def test_the_no_trade_band_is_derived_from_costs_as_shares() -> None:
    rng = np.random.default_rng(3)
    record = record_of(rng.uniform(0.4, 0.6, (300, 2)).tolist())
    returns = 0.05 * (record.probabilities - 0.5) + rng.normal(0, 0.002, len(record))
    found = learn_bands("no_trade_band", record, returns, 5.0, DAY)[0]
    margins = record.probabilities - 0.5
    slopes = (np.linalg.lstsq(margins[:, None], returns)[0][0], 2 * np.abs(returns).mean())
    growths = {}
    for enter in (width * 5e-4 / slope for slope in slopes for width in (0.5, 1.0, 2.0)):
        traded = trade_panel(record, returns, {0: Band(enter, -enter)}, 5.0, DAY, seed=1)
        growths[enter] = np.log1p(traded.gross - traded.traded * 5e-4).sum()
    best = max(growths, key=lambda enter: growths[enter])
    assert (found.enter, found.leave) == pytest.approx((best, -best))
    assert max(growths.values()) > min(growths.values())


def test_with_a_size_a_band_is_of_the_expected_return() -> None:
    """A moves 4 %, B 0.4 %, and both probabilities are 60 %: only A's expected 0.8 % exceed a cost of 0.5 %."""
    record = replace(record_of([[0.6, 0.6]] * 4), expected_moves=np.tile([0.04, 0.004], 4))
    returns = np.tile([0.008, -0.004], 4)
    band = Band(0.005, -0.005, of_returns=True)
    assert trade_panel(record, returns, {0: band}, 50.0, DAY, seed=1).gross.tolist() == pytest.approx([0.004] * 4)
    learned = learn_bands("no_trade_band", record, returns, 50.0, DAY)[0]
    slope = (0.008 * 0.008 - 0.0008 * 0.004) / (0.008**2 + 0.0008**2)
    assert learned.of_returns
    assert learned.enter == pytest.approx(0.5 * 0.005 / slope)  # the lowest of six, which all hold A alone
    assert learn_bands("sign", record, returns, 50.0, DAY) == {0: SIGN}
    by_probability = learn_bands("no_trade_band", replace(record, expected_moves=np.empty(0)), returns, 50.0, DAY)[0]
    assert not by_probability.of_returns


def test_every_policy_is_compared_with_bands_of_the_validation_windows() -> None:
    rng = np.random.default_rng(4)
    validation, record = (record_of(rng.uniform(0.4, 0.6, (300, 2)).tolist()) for _ in range(2))
    validated, returns = (
        0.05 * (each.probabilities - 0.5) + rng.normal(0, 0.002, len(each)) for each in (validation, record)
    )
    costs = TradingCosts(cost_bps=4, slippage_bps=1)
    turned = replace(record, probabilities=1 - record.probabilities)
    theirs = BaselineRecords(turned, (replace(validation, probabilities=1 - validation.probabilities),))
    found = compare_panel_policies(
        record, returns, validation, validated, costs, DAY, seed=1, recipes=2, baselines={"turned": theirs}
    )
    assert tuple(found.results) == (*POLICIES, *(f"{policy}_by_turned" for policy in POLICIES))
    assert (found.tried, found.spec.kind, found.spec.side_bps) == (6, "long_short", 5)
    assert found.buy_and_hold_return == pytest.approx(returns.sum() / 2)
    for policy in POLICIES:
        result = found.results[policy]
        bands = learn_bands(policy, validation, validated, 5.0, DAY)
        alone = trade_panel(record, returns, bands, 5.0, DAY, seed=1)
        figures = result.figures
        assert alone.numbers().items() <= figures.items()
        assert figures["net_return"] == pytest.approx(np.prod(1 + alone.gross - alone.traded * 5e-4) - 1)
        assert result.net_by_cost[5] == pytest.approx(figures["net_return"])
        assert figures["exposure_return"] + figures["timing_return"] == pytest.approx(alone.gross.sum())
        assert result.bands == (() if policy == "sign" else tuple(bands.values()))
    # A baseline chooses bands of its own: whoever is always wrong learns never to trade, where that is a candidate.
    by_sign, opposite = (found.results[name].figures for name in ("sign", "sign_by_turned"))
    assert opposite["gross_bps"] == pytest.approx(-by_sign["gross_bps"])
    assert opposite["turnover"] == pytest.approx(by_sign["turnover"], rel=0.01)
    for policy in ("threshold", "no_trade_band"):
        result = found.results[f"{policy}_by_turned"]
        (band,) = learn_bands(policy, theirs.validation[0], validated, 5.0, DAY).values()
        assert result.bands == (band,)
        assert result.figures["net_return"] >= opposite["net_return"]
        assert "deflated_sharpe" not in result.figures
    # Both coins always long by sign where P is above one half: exposure by hand.
    weights = np.sign(record.probabilities - 0.5).reshape(-1, 2) / 2
    exposure = (weights.mean(axis=0) * returns.reshape(-1, 2).sum(axis=0)).sum()
    assert found.results["sign"].figures["exposure_return"] == pytest.approx(exposure)
    other = compare_panel_policies(
        record, returns[::-1], validation, validated, costs, DAY, seed=1, baselines={"turned": theirs}
    )
    assert [each.bands for each in other.results.values()] == [each.bands for each in found.results.values()]


def test_selling_after_a_rise_by_hand() -> None:
    """A rose and B fell, then both rose, then A alone did not move."""
    record, validation = record_of([[0.6, 0.6], [0.6, 0.6], [0.6, np.nan]]), record_of([[0.6, 0.4]] * 20)
    returns, moves = np.array([-0.02, 0.01, 0.03, -0.01, 0.05]), np.array([1.5, -0.2, 1, 0.1, 0])
    theirs = BaselineRecords(replace(record, probabilities=1 / (1 + np.exp(moves))), (validation,))
    costs = TradingCosts(cost_bps=10, slippage_bps=0)
    found = compare_panel_policies(
        record, returns, validation, np.full(40, 0.01), costs, DAY, seed=1, baselines={REVERSAL: theirs}
    )
    result = found.results["sign_by_reversal_1_bar"]
    # Short A, long B: 1.5 %; both short: -1 %; flat. The weights have drifted before they are changed.
    gross = [0.015, -0.01, 0.0]
    short, long, again = -0.5 * 0.98 / 1.015, 0.5 * 1.01 / 1.015, (-0.5 * 1.03 / 0.99, -0.5 * 0.99 / 0.99)
    traded = [1.0, abs(-0.5 - short) + abs(-0.5 - long), abs(again[0]) + abs(again[1])]
    assert result.figures["turnover"] == pytest.approx(sum(traded))
    assert result.figures["net_return"] == pytest.approx(
        np.prod([1 + each - cost * 0.001 for each, cost in zip(gross, traded, strict=True)]) - 1
    )
    assert result.figures["gross_bps"] == pytest.approx(1e4 * sum(gross) / 3)
    assert "deflated_sharpe" not in result.figures
    assert result.bands == ()


def test_a_fold_without_a_band_is_refused() -> None:
    with pytest.raises(SpecError, match="a band for each fold, found none for 0"):
        trade_panel(record_of([[0.6, 0.4]]), np.zeros(2), {1: SIGN}, 0.0, DAY, seed=1)


def test_a_band_is_chosen_by_validation_windows_alone_and_costs_narrow_trading() -> None:
    rng = np.random.default_rng(2)
    probabilities = rng.uniform(0.4, 0.6, (400, 2))
    record = record_of(probabilities.tolist())
    # A return follows the probability only where it is far from even odds.
    far = np.abs(record.probabilities - 0.5) > 0.05
    returns = np.where(far, np.sign(record.probabilities - 0.5) * 0.002, 0.0)
    assert learn_bands("sign", record, returns, 5.0, DAY) == {0: SIGN}
    cheap, dear = (learn_bands("threshold", record, returns, cost, DAY)[0] for cost in (0.0, 15.0))
    assert cheap == SIGN
    assert isinstance(dear, Band)
    assert dear.enter > 0
    assert learn_bands("threshold", record, returns, 500.0, DAY)[0] == NEVER
    growths = [
        float(np.log1p(found.gross - found.traded * 15e-4).sum())
        for found in (trade_panel(record, returns, {0: band}, 15.0, DAY, seed=1) for band in (SIGN, dear))
    ]
    assert growths[1] > growths[0]
    # Two folds choose by their own windows.
    both = Record(
        *(np.concatenate([part, part]) for part in (record.decided_at, record.resolved_at, record.labels,
                                                    record.probabilities)),
        np.repeat([0, 1], len(record)), np.concatenate([record.symbols, record.symbols]),
    )  # fmt: skip
    found = learn_bands("threshold", both, np.concatenate([returns, -returns]), 15.0, DAY)
    assert found[0] == dear
    assert found[1] == NEVER
