"""Bands by hand; hysteresis never trades more; a fold's band knows its validation windows and nothing later."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_bars import bars_of_closes, scrambled
from synthetic_folds import BARS, decisions, two_folds

from model.bars import Bars
from model.errors import SpecError
from model.record import Record
from model.trading import TradingSpec, learn_bands, take_positions, trade
from model.trading_policies import (
    NEVER,
    POLICIES,
    SIGN,
    Band,
    candidate_bands,
    expected_return_slopes,
    hold_bands,
    no_trade_band,
)

LEARNING = POLICIES[1:]


def held(probabilities: list[float], band: Band, *, short: bool, in_force: list[bool] | None = None) -> list[float]:
    p = np.array(probabilities)
    force = np.ones(len(p), dtype=bool) if in_force is None else np.array(in_force)
    return hold_bands(p, np.zeros(len(p), dtype=np.int64), {0: band}, force, short=short).tolist()


def test_hysteresis_by_hand() -> None:
    p = [0.54, 0.56, 0.52, 0.51, 0.50, 0.54, 0.44, 0.47, 0.49, 0.51, 0.56]
    band = Band(enter=0.05, leave=0.0)
    assert held(p, band, short=False) == [0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1]
    assert held(p, band, short=True) == [0, 1, 1, 1, 0, 0, -1, -1, -1, 0, 1]
    assert held(p, Band(0.05, -0.05), short=True) == [0, 1, 1, 1, 1, 1, -1, -1, -1, -1, 1]
    assert held(p, NEVER, short=True) == [0] * len(p)


def test_even_odds_are_no_signal_and_close_a_position_that_is_left_there() -> None:
    """A constant forecast of 0.5 never trades; both sides leave at exactly the threshold."""
    p, band = [0.5, 0.5625, 0.5, 0.4375, 0.5, 0.5], Band(0.03125, 0.0)
    assert held(p, SIGN, short=True) == held(p, band, short=True) == [0, 1, 0, -1, 0, 0]
    assert held(p, SIGN, short=False) == [0, 1, 0, 0, 0, 0]
    assert held([0.53125, 0.46875], band, short=True) == [0, 0]  # at the threshold is not above it


def test_where_no_decision_is_in_force_the_position_is_closed_and_must_be_entered_again() -> None:
    p = [0.56, 0.52, 0.52, 0.52, 0.56]
    assert held(p, Band(0.05, 0.0), short=False, in_force=[True, True, False, True, True]) == [1, 1, 0, 0, 1]


def test_a_band_is_learned_net_of_costs() -> None:
    """A fifth of the bars rise by 2 %, as predicted with 70 %; the others move by 0.1 %, as predicted with 52 %."""
    moves = np.tile([0.02, 0.001, -0.001, 0.001, -0.001], 40)
    p = np.tile([0.7, 0.52, 0.48, 0.52, 0.48], 40)
    bars = bars_of_closes(100 * np.cumprod(np.concatenate([[1.0], 1 + moves])).round(12))
    labels, fold = (moves > 0).astype(np.int8), np.zeros(200, dtype=np.int64)
    record = Record(bars.closed_at[:-1], bars.closed_at[1:], labels, p, fold)
    spec = TradingSpec(policy="threshold", cost_bps=0, slippage_bps=0)
    free = learn_bands(record, bars, spec, [record])[0]
    dear = learn_bands(record, bars, spec.model_copy(update={"cost_bps": 20.0}), [record])[0]
    assert free.enter < 0.019  # every move pays
    assert 0.019 < dear.enter < 0.2  # those alone that exceed two sides of 20 basis points


def test_a_new_fold_brings_its_own_band() -> None:
    p, fold = np.array([0.56, 0.54, 0.54, 0.52]), np.array([0, 0, 1, 1])
    bands = {0: Band(0.05, 0.0), 1: Band(0.1, 0.03)}
    assert hold_bands(p, fold, bands, np.ones(4, dtype=bool), short=False).tolist() == [1, 1, 1, 0]


PROBABILITIES = st.lists(st.integers(0, 20), min_size=1, max_size=60).map(lambda drawn: [0.3 + n / 50 for n in drawn])


@settings(max_examples=60, deadline=None)
@given(p=PROBABILITIES, enter=st.integers(0, 9), share=st.sampled_from([1.0, 0.5, 0.0, -1.0]), short=st.booleans(),
       seed=st.integers(0, 99))  # fmt: skip
def test_hysteresis_never_trades_more_than_the_plain_threshold(
    p: list[float], enter: int, share: float, short: bool, seed: int
) -> None:
    in_force = (np.random.default_rng(seed).random(len(p)) < 0.9).tolist()

    def value_traded(leave: float) -> float:
        positions = held(p, Band(enter / 50, leave), short=short, in_force=in_force)
        assert set(positions) <= {-1.0, 0.0, 1.0}
        return sum(abs(b - a) for a, b in pairwise([0.0, *positions, 0.0]))

    assert value_traded(share * enter / 50) <= value_traded(enter / 50)


@pytest.mark.parametrize("short", [False, True])
def test_the_plain_threshold_is_that_of_the_sign_policy(short: bool) -> None:
    p = np.random.default_rng(3).uniform(0.3, 0.7, 400)
    for threshold in (0.5, 0.55):
        spec = TradingSpec(kind="long_short" if short else "long_flat", threshold=threshold)
        plain = Band(threshold - 0.5, threshold - 0.5)
        assert held(p.tolist(), plain, short=short) == take_positions(p, spec).tolist()


def test_expected_returns_by_hand() -> None:
    """0.1 earns 0.03, 0.05 loses 0.01: (0.1 x 0.03 - 0.05 x 0.01) / (0.01 + 0.0025); the mean size is 0.02."""
    slope, size = expected_return_slopes(np.array([0.1, 0.05]), np.array([0.03, -0.01]))
    assert slope == pytest.approx(0.0025 / 0.0125)
    assert size == pytest.approx(0.04)
    assert expected_return_slopes(np.zeros(3), np.ones(3)) == (0.0, 2.0)


def test_the_no_trade_band_ends_where_the_expected_return_is_the_cost() -> None:
    """At a slope of 0.2, P = 0.51 is expected to earn 20 bps: worth 19 bps of cost, not 21."""
    for cost_bps, traded in ((19, 1.0), (21, 0.0)):
        assert held([0.51], no_trade_band(0.2, cost_bps / 1e4), short=False) == [traded]
    band = no_trade_band(0.25, 0.0025)
    assert band == Band(0.01, -0.01)
    assert no_trade_band(-0.2, 0.002) == no_trade_band(0.0, 0.002) == NEVER
    assert no_trade_band(-0.2, 0.0) == no_trade_band(0.2, 0.0) == SIGN


def test_the_grids_are_small_and_begin_next_to_sign() -> None:
    p, returns = np.array([0.4, 0.46, 0.52, 0.58, 0.62]), np.array([-0.02, 0.0, 0.01, 0.01, 0.02])
    assert candidate_bands("sign", p, returns, 0.001) == (SIGN,)
    threshold = candidate_bands("threshold", p, returns, 0.001)
    assert (threshold[0], threshold[-1], len(threshold)) == (SIGN, NEVER, 14)
    assert [round(band.enter, 3) for band in threshold[1:-1:3]] == [0.04, 0.08, 0.1, 0.112]
    assert [round(band.leave, 3) for band in threshold[1:4]] == [0.04, 0.0, -0.04]
    widths = [band.enter for band in candidate_bands("no_trade_band", p, returns, 0.001)]
    slope = float((p - 0.5) @ returns / ((p - 0.5) @ (p - 0.5)))
    assert widths == pytest.approx([0.0005 / slope, 0.001 / slope, 0.002 / slope, 0.0005 / 0.024, 0.001 / 0.024,
                                    0.002 / 0.024])  # fmt: skip


def test_a_fold_learns_the_candidate_with_the_highest_net_growth_on_its_validation_windows() -> None:
    """Closes 100, 110, 99, 118.8: long over the first and last bar, at 1 % a side; the small signal loses 10 %."""
    bars = bars_of_closes([100, 110, 99, 118.8])
    validation = decisions(bars, 0, 3, 0)
    validation = replace(validation, probabilities=np.array([0.6, 0.52, 0.6]))
    spec = TradingSpec(policy="threshold", cost_bps=100, slippage_bps=0)
    band = learn_bands(validation, bars, spec, (validation,))[0]
    candidates = candidate_bands("threshold", validation.probabilities, np.array([0.1, -0.1, 0.2]), 0.01)
    in_and_out = np.log(1.09) + np.log(0.99) + np.log(1.2 - 0.02)
    always = np.log(1.09) + np.log(0.9) + np.log(1.19)
    assert in_and_out > always > 0
    assert band == next(each for each in candidates if 0.02 <= each.enter < 0.1 and each.leave >= 0.02)
    assert trade(validation, bars, spec, 1, (validation,)).strategy.net_return == pytest.approx(np.expm1(in_and_out))


def test_growth_compounds_so_a_gain_that_a_loss_outweighs_is_not_held() -> None:
    """Plus 50 % and minus 40 %: the sum is 10 %, the product a loss of 10 %."""
    bars = bars_of_closes([100, 150, 90])
    validation = replace(decisions(bars, 0, 2, 0), probabilities=np.array([0.6, 0.6]))
    spec = TradingSpec(policy="threshold", cost_bps=0, slippage_bps=0)
    assert trade(validation, bars, spec, 1, (validation,)).strategy.turnover == 0


def test_slippage_counts_as_much_as_the_fee_where_a_no_trade_band_is_learned() -> None:
    record, validation = two_folds()
    split, fee, dear = (
        learn_bands(record, BARS, TradingSpec(policy="no_trade_band", cost_bps=cost, slippage_bps=slip), validation)
        for cost, slip in ((2, 5), (7, 0), (14, 0))
    )
    assert split == fee != dear


def test_a_no_trade_band_is_learned_from_returns_until_the_outcome() -> None:
    """Outcomes three bars ahead: a unit of P(rise) - 0.5 is worth the return of three bars."""
    validation = decisions(BARS, 100, 195, 0)
    late = replace(validation, resolved_at=validation.decided_at + 3 * BARS.delta)
    spec, close, index = TradingSpec(policy="no_trade_band", cost_bps=20), BARS.column("close"), np.arange(100, 195)
    learned = learn_bands(late, BARS, spec, (late,))[0]
    near, far = (
        candidate_bands("no_trade_band", late.probabilities, close[index + ahead] / close[index] - 1, 0.0025)
        for ahead in (1, 3)
    )
    assert learned in far
    assert learned not in near


@pytest.mark.parametrize("kind", ["long_flat", "long_short"])
@pytest.mark.parametrize("policy", LEARNING)
def test_a_band_depends_on_the_validation_windows_of_its_fold_alone(policy: str, kind: str) -> None:
    record, validation = two_folds()
    spec = TradingSpec.model_validate({"policy": policy, "kind": kind})
    known = learn_bands(record, BARS, spec, validation)
    other_tests = replace(record, probabilities=record.probabilities[::-1], labels=1 - record.labels)
    assert learn_bands(other_tests, BARS, spec, validation) == known
    assert learn_bands(record, BARS, spec, validation[::-1]) == known
    end = int(np.searchsorted(BARS.closed_at, validation[0].resolved_at[-1])) + 1
    assert BARS.closed_at[end] >= record.decided_at[0]
    assert learn_bands(record, scrambled(BARS, end), spec, validation)[0] == known[0]
    later = (validation[0], replace(validation[1], probabilities=1 - validation[1].probabilities))
    changed = learn_bands(record, BARS, spec, later)
    assert changed[0] == known[0]
    assert changed[1] != known[1]  # it does depend on its own


@pytest.mark.parametrize("policy", POLICIES)
def test_a_later_bar_or_probability_changes_no_earlier_position(policy: str) -> None:
    record, validation = two_folds()
    spec = TradingSpec.model_validate({"policy": policy, "kind": "long_short", "cost_bps": 1, "slippage_bps": 0})
    known = trade(record, BARS, spec, 1, validation).strategy.positions
    assert known.any()
    for decision in (50, 120, 199):  # in the first fold, in the second, the last
        bar = 200 + decision
        same = trade(
            record, scrambled(BARS, bar + 1), spec, 1, tuple(_before(validation, BARS, bar))
        ).strategy.positions
        assert same[: decision + 1].tolist() == known[: decision + 1].tolist()
        later = record.probabilities.copy()
        later[decision + 1 :] = 1 - later[decision + 1 :]
        other = trade(replace(record, probabilities=later), BARS, spec, 1, validation).strategy.positions
        assert other[: decision + 1].tolist() == known[: decision + 1].tolist()


def _before(validation: tuple[Record, Record], bars: Bars, bar: int) -> list[Record]:
    """Return the validation windows; those of a fold that begins after a bar as if they were others."""
    moment = bars.closed_at[bar]
    return [
        each if each.resolved_at[-1] <= moment else replace(each, probabilities=1 - each.probabilities)
        for each in validation
    ]


def test_each_decision_is_traded_by_the_band_of_its_own_fold() -> None:
    record, validation = two_folds()
    spec = TradingSpec(policy="no_trade_band", kind="long_short", cost_bps=5, slippage_bps=0)
    found = trade(record, BARS, spec, 1, validation)
    bands = learn_bands(record, BARS, spec, validation)
    position, expected = 0.0, []
    for p, fold in zip(record.probabilities - 0.5, record.fold.tolist(), strict=True):
        enter, leave = bands[fold].enter, bands[fold].leave
        long = p > enter or (position == 1 and p > leave)
        short = -p > enter or (position == -1 and -p > leave)
        position = float(long) - float(short)
        expected.append(position)
    assert found.strategy.positions.tolist() == expected
    assert bands[0] != bands[1]


@pytest.mark.parametrize("kind", ["long_flat", "long_short"])
def test_without_costs_the_no_trade_band_trades_as_sign(kind: str) -> None:
    record, validation = two_folds()
    free = {"kind": kind, "cost_bps": 0, "slippage_bps": 0}
    sign = trade(record, BARS, TradingSpec.model_validate(free), 1)
    band = trade(record, BARS, TradingSpec.model_validate({**free, "policy": "no_trade_band"}), 1, validation)
    assert band.strategy.positions.tolist() == sign.strategy.positions.tolist()
    assert band.strategy.positions.any()


def test_higher_costs_make_the_no_trade_band_trade_less() -> None:
    record, validation = two_folds()
    turnovers = []
    for cost_bps in (0, 10, 50, 200, 1000):
        spec = TradingSpec(policy="no_trade_band", cost_bps=cost_bps, slippage_bps=0)
        turnovers.append(trade(record, BARS, spec, 1, validation).strategy.turnover)
    assert turnovers[0] > turnovers[2] > turnovers[-1] == 0


@pytest.mark.parametrize("policy", LEARNING)
def test_without_the_validation_windows_of_a_fold_its_band_cannot_be_learned(policy: str) -> None:
    record, validation = two_folds()
    reason = f"policy {policy}: expected the validation windows of every fold, found none of fold 2"
    with pytest.raises(SpecError, match=reason):
        trade(record, BARS, TradingSpec.model_validate({"policy": policy}), 1, validation[:1])


def test_a_preset_of_costs_replaces_what_was_given_and_is_what_is_logged() -> None:
    found = {name: TradingSpec.model_validate({"costs": name, "cost_bps": 77}) for name in
             ("custom", "spot_taker", "spot_maker", "perpetual_taker")}  # fmt: skip
    assert {name: spec.side_bps for name, spec in found.items()} == {
        "custom": 82, "spot_taker": 15, "spot_maker": 10, "perpetual_taker": 10,
    }  # fmt: skip
    assert TradingSpec().side_bps == 15
    logged = found["perpetual_taker"].model_dump()
    assert (logged["cost_bps"], logged["slippage_bps"]) == (5, 5)
    assert TradingSpec.model_validate(logged) == found["perpetual_taker"]
