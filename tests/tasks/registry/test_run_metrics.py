"""Names of metrics: few, in sections, one meaning at every level, and those of version 0.1 are still read."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from synthetic_bars import random_walk

from model.correction_for_looks import Looks
from model.evaluation import BUY_AND_HOLD, WAYS, Evaluation, evaluate_record, trade_both_ways
from model.folds import FoldSpec, split_folds
from model.metrics import METRICS, score
from model.record import Record
from model.trading import TradingSpec
from model.training import Epoch
from model.walk_forward import walk_baselines_forward
from model.windows import WindowSpec, cut_windows
from tasks.registry.metric_names import CURVES, LIVE, SECTIONS
from tasks.registry.run_metrics import (
    curves,
    decision_metrics,
    evaluation_details,
    evaluation_metrics,
    kept_epoch_metrics,
    read_curves,
    score_metrics,
)

BARS = random_walk(300, seed=6)
WINDOWS = cut_windows(BARS, WindowSpec(lookback_bars=5)).resolved()
FOLDS = split_folds(WINDOWS, FoldSpec(test_bars=120, count=2))
BASELINES = walk_baselines_forward(WINDOWS, FOLDS, seed=7)
TESTED = WINDOWS.take(np.arange(len(WINDOWS) - 120, len(WINDOWS)))
PROBABILITIES = np.clip(BASELINES["logistic_regression"] + 0.03, 0.01, 0.99)
RECORD = Record(TESTED.decided_at, TESTED.resolved_at, TESTED.labels, PROBABILITIES, TESTED.labels.astype(np.int64) * 0)
COMPARISON = {"difference": 0.001, "low": -0.002, "high": 0.004, "p_value": 0.4, "n": 120.0}
STRICT = {  # every number that the strict rule with a champion stores
    "soundness.complaints": 0.0,
    **{f"{clause}.{name}": value for clause in ("base_rate", "champion") for name, value in COMPARISON.items()},
    **{
        f"{test}.{name}": 0.1
        for test in ("pesaran_timmermann", "majority", "mcnemar")
        for name in ("statistic", "p_value", "n", "alpha")
    },
    **{f"recipes_tried.{name}": 0.1 for name in ("p_value", "p_value_corrected", "statistic", "looks", "alpha")},
    **{f"net_of_costs.{name}": 0.1 for name in ("net_return", "sharpe", "buy_and_hold_net_return")},
    "past_champions.difference": 0.1,
    **{f"final_network.{name}": 0.1 for name in ("disagreement", "of_folds", "limit")},
}


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    traded = trade_both_ways(RECORD, BARS, TradingSpec(), 7)
    found = evaluate_record(RECORD, BASELINES, traded, 7, {8: BASELINES["base_rate"]})
    return found.after_looks(Looks(3, 2), dict.fromkeys(WAYS, 0.4))


def test_a_retrain_logs_fewer_than_sixty_metrics_each_in_a_section_and_at_most_twelve_headlines(
    evaluation: Evaluation,
) -> None:
    logged = evaluation_metrics(evaluation) | decision_metrics("hold", STRICT)
    logged |= dict.fromkeys([f"live/champion_{name}" for name in LIVE], 0.0)
    logged |= dict.fromkeys((CURVES[name] for name in ("loss", "accuracy", "learning_rate")), 0.0)
    assert len(logged) < 60
    assert {name.split("/")[0] for name in logged} == set(SECTIONS) - {"train_kept_epoch"}  # of a fold
    assert {name.count("/") for name in logged} == {1}
    assert len([name for name in logged if name.startswith("headline/")]) == 12


def test_headline_and_test_are_the_numbers_of_a_second_formula(evaluation: Evaluation) -> None:
    logged = evaluation_metrics(evaluation)
    labels, base_rate = RECORD.labels, BASELINES["base_rate"]
    loss, other = (sklearn_metrics.log_loss(labels, given) for given in (PROBABILITIES, base_rate))
    assert logged["test/log_loss"] == pytest.approx(loss)
    assert logged["baseline/base_rate_log_loss"] == pytest.approx(other)
    assert logged["headline/log_loss"] == pytest.approx(loss, rel=1e-12)  # not rounded, here or below
    assert logged["headline/base_rate_log_loss"] == pytest.approx(other, rel=1e-12)
    assert logged["headline/vs_base_rate"] == pytest.approx(loss - other, rel=1e-12)
    assert logged["headline/vs_base_rate_low"] < loss - other < logged["headline/vs_base_rate_high"]
    accuracy = sklearn_metrics.accuracy_score(labels, PROBABILITIES > 0.5)
    assert logged["test/accuracy"] == pytest.approx(accuracy)
    assert logged["headline/accuracy"] == pytest.approx(accuracy)
    assert logged["test/accuracy_low"] <= accuracy <= logged["test/accuracy_high"]
    assert logged["headline/p_value"] == evaluation.corrected()["pesaran_timmermann"]
    assert logged["headline/net_return"] == evaluation.trading["long_flat"]["net_return"]
    assert logged["headline/buy_and_hold_net_return"] == evaluation.trading[BUY_AND_HOLD]["net_return"]
    assert (logged["test/looks"], logged["test/recipes_tried"], logged["test/windows"]) == (3, 2, 120)
    assert logged["trading/long_flat_deflated_sharpe"] == 0.4


def test_skill_is_logged_before_returns_because_mlflow_lists_metrics_in_that_order(evaluation: Evaluation) -> None:
    names = list(evaluation_metrics(evaluation))
    assert names[0] == "headline/log_loss"
    skill = ("headline/vs_base_rate", "headline/p_value", "headline/accuracy")
    assert max(map(names.index, skill)) < names.index("headline/net_return")


def test_a_name_means_the_same_for_a_fold_and_for_a_retrain(evaluation: Evaluation) -> None:
    fold = score_metrics(score(RECORD.labels, RECORD.probabilities)) | dict.fromkeys(curves([]), 0.0)
    retrain = evaluation_metrics(evaluation)
    for name in METRICS:
        assert fold[f"test/{name}"] == pytest.approx(retrain[f"test/{name}"])
    assert {name for name in fold if "/" not in name} == set()
    assert "train/accuracy" in fold  # at version 0.1 `accuracy`, the name of a retrain's test accuracy


def test_what_is_no_metric_is_in_the_details(evaluation: Evaluation) -> None:
    details = evaluation_details(evaluation)
    skill = evaluation.skill.metrics()
    assert details["skill"]["persistence_mcnemar_p"] == skill["skill.persistence_mcnemar_p"]
    assert len(details["skill"]) == len(skill)
    assert details["trading"]["long_short"]["turnover"] == evaluation.trading["long_short"]["turnover"]
    assert details["seeds"]["seed.8.log_loss"] == pytest.approx(
        sklearn_metrics.log_loss(RECORD.labels, BASELINES["base_rate"])
    )
    assert evaluation_details(replace(evaluation, seeds=None))["seeds"] == {}


def test_the_metrics_of_a_decision() -> None:
    logged = decision_metrics("promote", STRICT)
    assert (logged["headline/promoted"], logged["headline/vs_champion"]) == (1, 0.001)
    assert logged["promotion/champion_p_value"] == 0.4
    assert logged["promotion/recipes_tried_p_value_corrected"] == 0.1
    assert "promotion/recipes_tried_p_value" not in logged
    assert not {"promotion/final_network_limit", "promotion/champion_n", "promotion/base_rate_low"} & logged.keys()
    assert decision_metrics("hold", {"mcnemar.p_value": None}) == {"headline/promoted": 0.0}
    alone = decision_metrics("reject", {"soundness.complaints": 2.0})
    assert alone == {"headline/promoted": 0.0, "promotion/soundness_complaints": 2.0}


@pytest.mark.parametrize("names", [CURVES, {field: field for field in CURVES}], ids=["0.2", "0.1"])
def test_curves_are_read_under_the_names_of_both_versions(names: dict[str, str]) -> None:
    history = [Epoch(1, 0.71, 0.5, 0.70, 0.51, 1e-3, 0.1), Epoch(2, 0.69, 0.53, 0.695, 0.52, 5e-4, 0.1)]
    stored = {names[field]: {each.number: getattr(each, field) for each in history} for field in CURVES}
    found = read_curves(lambda name: stored.get(name, {}))
    assert [replace(each, seconds=0.1) for each in found] == history
    if names is CURVES:
        assert curves(history) == {name: list(values.values()) for name, values in stored.items()}


def test_a_fold_logs_the_epoch_that_was_kept_besides_its_curves() -> None:
    losses = (0.71, 0.68, 0.69)  # early stopping keeps the second
    history = [Epoch(n, 0.7 - n / 100, 0.5 + n / 100, loss, 0.52, 0.001, 1.0) for n, loss in enumerate(losses, 1)]
    assert curves(history)["train/validation_log_loss"][-1] == 0.69
    assert kept_epoch_metrics(history, 2) == {
        "train_kept_epoch/number": 2.0,
        "train_kept_epoch/log_loss": pytest.approx(0.68),
        "train_kept_epoch/accuracy": pytest.approx(0.52),
        "train_kept_epoch/validation_log_loss": 0.68,
        "train_kept_epoch/validation_accuracy": 0.52,
    }
