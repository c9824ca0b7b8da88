"""The evaluation of a record holds the numbers of the modules it combines."""

import numpy as np
import pytest
from synthetic_bars import random_walk
from synthetic_records import daily_record

from model.baseline_comparison import measure_skill
from model.bootstrap import bootstrap_intervals
from model.calibration_error import reliability_curve
from model.correction_for_looks import Looks
from model.evaluation import BUY_AND_HOLD, NETWORK, WAYS, Evaluation, evaluate_record, performances, trade_both_ways
from model.folds import FoldSpec, split_folds
from model.metrics import confusion_matrix
from model.record import Record
from model.trading import TradingResult, TradingSpec, trade
from model.walk_forward import walk_baselines_forward
from model.windows import WindowSpec, cut_windows

BARS = random_walk(300, seed=6)
WINDOWS = cut_windows(BARS, WindowSpec(lookback_bars=5)).resolved()
FOLDS = split_folds(WINDOWS, FoldSpec(test_bars=120, count=2))
BASELINES = walk_baselines_forward(WINDOWS, FOLDS, seed=7)
NEWEST = slice(len(WINDOWS) - 120, None)
RECORD = Record(
    WINDOWS.decided_at[NEWEST],
    WINDOWS.resolved_at[NEWEST],
    WINDOWS.labels[NEWEST],
    BASELINES["logistic_regression"],
    WINDOWS.labels[NEWEST].astype("int64") * 0,
)
COSTS = TradingSpec(kind="long_short", cost_bps=7)


@pytest.fixture(scope="module")
def traded() -> dict[str, TradingResult]:
    return trade_both_ways(RECORD, BARS, COSTS, 7)


@pytest.fixture(scope="module")
def found(traded: dict[str, TradingResult]) -> Evaluation:
    return evaluate_record(RECORD, BASELINES, traded, 7, {8: BASELINES["base_rate"]})


def test_an_evaluation_combines_metrics_tests_calibration_and_trades(found: Evaluation) -> None:
    assert (found.windows, found.first) == (120, f"{RECORD.decided_at[0].astype('datetime64[s]')}Z")
    assert set(found.numbers) == {NETWORK, *BASELINES}
    assert found.numbers[NETWORK] == bootstrap_intervals(RECORD.labels, RECORD.probabilities, 7)
    assert found.numbers["base_rate"] == bootstrap_intervals(RECORD.labels, BASELINES["base_rate"], 7)
    assert [list(row) for row in found.confusion] == confusion_matrix(RECORD.labels, RECORD.probabilities).tolist()
    assert found.calibration_error == reliability_curve(RECORD.labels, RECORD.probabilities).expected_error
    assert found.skill == measure_skill(RECORD, BASELINES, 7)
    best = min(BASELINES, key=lambda name: found.numbers[name]["log_loss"].value)
    assert found.best_baseline() == best


def test_both_ways_are_traded_whatever_the_spec_names(traded: dict[str, TradingResult], found: Evaluation) -> None:
    assert tuple(traded) == WAYS
    lines = performances(traded)
    assert tuple(lines) == (*WAYS, BUY_AND_HOLD)
    for way in WAYS:
        alone = trade(RECORD, BARS, TradingSpec(kind=way, cost_bps=7), 7)
        assert lines[way].numbers() == alone.strategy.numbers()
        assert lines[BUY_AND_HOLD].numbers() == alone.buy_and_hold.numbers()
    assert found.trading == {name: line.numbers() for name, line in lines.items()}


def test_further_seeds_are_scored_after_the_records_own(found: Evaluation) -> None:
    assert found.seeds is not None
    assert list(found.seeds.numbers) == [7, 8]
    assert found.seeds.numbers[7] == found.numbers[NETWORK]


def test_strong_evidence_outlasts_the_correction_for_many_recipes() -> None:
    """Eleven standard errors, after 20 and 1,000 recipes: p was at least 1/1,001, times 10 tests, times the recipes."""
    rng = np.random.default_rng(0)
    probabilities = np.where(rng.random(750) < 0.5, 0.8, 0.2)
    labels = (rng.random(750) < probabilities).astype(np.int8)
    base = {f"{k}": 0.5 + rng.normal(0, 0.001, 750) for k in range(4)}
    found = measure_skill(daily_record(labels, probabilities), base, 7).holm_adjusted()["0_difference"]
    assert Looks(20, 20).adjusted(found) < 1e-6
    assert Looks(1_000, 1_000).adjusted(found) < 1e-6
