"""On a random walk, which nobody can predict, a flawed protocol finds skill and the walk-forward finds none."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from synthetic_bars import random_walk

from model.folds import Fold, FoldSpec, resolved_before, split_folds
from model.record import Record
from model.trading import trade
from model.windows import WindowSpec, cut_windows

TREES = 15
FOLDS = FoldSpec(test_bars=400, count=2)


def share_right(record: Record) -> float:
    return float(((record.probabilities > 0.5) == record.labels).mean())


@pytest.fixture
def claim(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    return importlib.import_module(f"benchmarks.claims.{request.param}")


@pytest.mark.e2e
@pytest.mark.parametrize("claim", ["shuffled_windows"], indirect=True)
def test_windows_split_at_random_find_skill_on_random_walks_and_purged_ones_do_not(claim: ModuleType) -> None:
    shuffled, unpurged, purged = [], [], []
    for seed in range(2):
        bars = random_walk(1_000, seed=seed)
        windows, inputs = claim.labelled(bars, 20), claim.indicators(bars)
        folds = split_folds(windows, FOLDS)
        shuffled.append(share_right(claim.random_split(windows, inputs, TREES)))
        unpurged.append(share_right(claim.without_purge(windows, inputs, folds[0].test[0], 20, TREES)))
        purged.append(share_right(claim.walk_forward(windows, inputs, folds, TREES)))
    assert min(shuffled) > 0.75
    assert np.mean(unpurged) > 0.65
    assert max(purged) < 0.6
    assert min(shuffled) > max(purged) + 0.15


@pytest.mark.parametrize("claim", ["shuffled_windows"], indirect=True)
def test_indicators_depend_on_no_later_bar(claim: ModuleType) -> None:
    bars = random_walk(260, seed=1)
    whole, part = claim.indicators(bars), claim.indicators(bars.closed_by(bars.closed_at[229]))
    np.testing.assert_allclose(whole[199:230], part[199:], rtol=1e-12)
    assert np.isfinite(whole[199:]).all()


@pytest.mark.parametrize("claim", ["trading_rules"], indirect=True)
def test_the_best_rule_in_sample_beats_the_rule_chosen_before_on_random_walks(claim: ModuleType) -> None:
    ahead = []
    for seed in range(6):
        bars = random_walk(900, seed=seed)
        windows = claim.labelled(bars)
        record = claim.walk_forward(windows, bars, FoldSpec(test_bars=400, count=2))
        tested = windows.take(np.isin(windows.decided_at, record.decided_at))
        ahead.append(claim.choose_in_sample(tested, bars).sharpe - claim.sharpe_of(record, bars, claim.FREE))
    assert len(ahead) == 6
    assert min(ahead) > -0.5  # folds may use different rules, so one walk can be ahead of every single rule
    assert np.mean(ahead) > 0.4


@pytest.mark.parametrize("claim", ["trading_rules"], indirect=True)
def test_rules_by_hand(claim: ModuleType) -> None:
    closes = np.concatenate([np.full(201, 10.0), [11, 11, 9, 9]])
    signals = dict(zip(claim.NAMES, claim.rules(closes), strict=True))
    assert signals["breakout of 50 days"][200:].tolist() == [0, 1, 1, 0, 0]
    assert signals["moving averages of 1 and 200 days"][200:].tolist() == [0, 1, 1, 0, 0]
    assert signals["moving averages of 2 and 50 days"][200:].tolist() == [0, 1, 1, 0, 0]


@pytest.mark.parametrize("claim", ["claim_scores"], indirect=True)
def test_the_difference_of_sharpe_ratios_is_that_of_both_and_none_for_buy_and_hold(claim: ModuleType) -> None:
    bars = random_walk(200, seed=3)
    windows = cut_windows(bars, WindowSpec(lookback_bars=2)).resolved()
    days = np.arange(len(windows))
    fold = (Fold(0, days[:0], days[:0], days),)
    for probabilities in (np.full(len(days), 0.9), np.where(days % 3, 0.9, 0.1)):
        found = trade(claim.record_of(windows, fold, probabilities), bars, claim.COSTS, seed=1)
        ahead = claim.sharpe_difference(found, 365.25)
        expected = found.strategy.sharpe.value - found.buy_and_hold.sharpe.value
        assert ahead.value == pytest.approx(expected, rel=0.01, abs=1e-12)  # dividing by n instead of n - 1
        assert ahead.low <= ahead.value <= ahead.high
        assert (ahead.low == ahead.high) == (probabilities.min() > 0.5)


@pytest.mark.parametrize("claim", ["__main__"], indirect=True)
def test_without_the_bars_the_command_says_so_and_stops(
    claim: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(claim, "DATA", tmp_path / "absent")
    monkeypatch.setattr("sys.argv", ["claims"])
    claim.main()
    assert capsys.readouterr().out == f"no folder {tmp_path / 'absent'}: the bars are not part of the repository\n"


@pytest.mark.e2e
@pytest.mark.parametrize("claim", ["price_levels"], indirect=True)
def test_levels_of_a_random_walk_are_explained_as_well_by_the_last_close_and_the_direction_is_not(
    claim: ModuleType,
) -> None:
    right = []
    for seed in range(5):
        bars = random_walk(1_500, seed=seed)
        windows = cut_windows(bars, claim.WINDOW).resolved()
        fit = claim.as_published(windows, bars)
        assert fit.r2 > 0.9
        assert fit.r2_of_last_close > fit.r2 - 0.001
        folds = split_folds(windows, FOLDS)
        right.append(share_right(claim.walk_forward(windows, bars, folds)))
    assert 0.46 < np.mean(right) < 0.54


@pytest.mark.parametrize("claim", ["ranked_coins"], indirect=True)
def test_study_periods_train_on_nothing_resolved_in_their_test(claim: ModuleType) -> None:
    coins = {f"C{number}-USDT": random_walk(900, seed=number) for number in range(6)}
    panel = claim.cut_panel(coins, claim.WINDOW, claim.RANK).resolved()
    periods = claim.study_periods(panel)
    assert len(periods) == 1
    for period in periods:
        learned = np.concatenate([period.train, period.validation])
        assert resolved_before(panel.windows.take(learned), panel.windows.decided_at[period.test[0]]).all()
        assert len(period.test) == 150 * 6
    assert claim.past_returns(panel).shape == (len(panel.windows), len(claim.LAGS))
