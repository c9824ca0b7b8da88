"""Periods and seeds against scikit-learn on the same rows; every window lies in exactly one period."""

import statistics

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score
from synthetic_records import coin_labels, daily_record, forecast

from model.metrics import METRICS
from model.scores_by_period import by_seed, further_seeds, periods_by_fold, periods_by_year

LABELS = coin_labels(600, seed=3)
RECORD = daily_record(LABELS, forecast(LABELS, 0.6, seed=4), folds=4)  # 2017-06-01 to 2019-01-21
BASE_RATE = np.full(600, 0.52)


def test_periods_partition_the_record() -> None:
    years, folds = periods_by_year(RECORD, BASE_RATE, 1), periods_by_fold(RECORD, BASE_RATE, 1)
    assert [(period.name, period.windows) for period in years] == [("2017", 214), ("2018", 365), ("2019", 21)]
    assert [(period.name, period.windows) for period in folds] == [(f"fold {n}", 150) for n in (1, 2, 3, 4)]
    assert str(years[1].first)[:10] == "2018-01-01"
    assert str(years[1].last)[:10] == "2018-12-31"


def test_numbers_are_those_of_scikit_learn_on_the_same_rows() -> None:
    frame = RECORD.frame().assign(base_rate=BASE_RATE)
    for period in periods_by_year(RECORD, BASE_RATE, 1):
        rows = frame[frame["decided_at"].dt.year == int(period.name)]
        loss = log_loss(rows["label"], rows["probability"])
        assert set(period.scores) == set(METRICS)
        assert period.scores["log_loss"] == pytest.approx(loss)
        assert period.scores["roc_auc"] == pytest.approx(roc_auc_score(rows["label"], rows["probability"]))
        assert period.rises_share == pytest.approx(rows["label"].mean())
        assert period.against_base_rate.mean == pytest.approx(loss - log_loss(rows["label"], rows["base_rate"]))
        assert period.against_base_rate.low <= period.against_base_rate.mean <= period.against_base_rate.high


def test_the_whole_is_the_mean_of_its_periods() -> None:
    for periods in (periods_by_fold(RECORD, BASE_RATE, 1), periods_by_year(RECORD, BASE_RATE, 1)):
        weighted = sum(period.scores["log_loss"] * period.windows for period in periods) / len(RECORD)
        assert weighted == pytest.approx(log_loss(RECORD.labels, RECORD.probabilities))


def test_a_period_with_one_class_has_no_area_and_raises_nothing() -> None:
    record = daily_record(np.ones(40, np.int8), np.full(40, 0.6), folds=1)
    (period,) = periods_by_fold(record, np.full(40, 0.5), 1)
    assert np.isnan(period.scores["roc_auc"])
    assert period.scores["accuracy"] == 1.0


def test_scores_by_seed_are_those_of_scikit_learn() -> None:
    by_seed_probabilities = {7: RECORD.probabilities, 8: forecast(LABELS, 0.52, seed=5), 9: np.full(600, 0.5)}
    found = by_seed(RECORD, by_seed_probabilities)
    losses = [log_loss(LABELS, each) for each in by_seed_probabilities.values()]
    assert [each["log_loss"].value for each in found.numbers.values()] == pytest.approx(losses)
    assert found.spread("log_loss") == pytest.approx(max(losses) - min(losses))
    assert found.deviation("log_loss") == pytest.approx(statistics.stdev(losses))
    logged = found.metrics()
    assert logged["seed.8.log_loss"] == pytest.approx(losses[1])
    assert logged["seeds.log_loss_spread"] == found.spread("log_loss")
    assert {name.split(".")[1] for name in logged if name.startswith("seed.")} == {"7", "8", "9"}


def test_equal_forecasts_have_no_spread() -> None:
    found = by_seed(RECORD, {7: RECORD.probabilities, 8: RECORD.probabilities})
    assert found.numbers[7] == found.numbers[8]
    assert found.spread("accuracy") == found.deviation("accuracy") == 0


def test_further_seeds_follow_the_recipes_own() -> None:
    assert further_seeds(7, 1) == ()
    assert further_seeds(7, 4) == (8, 9, 10)
    assert further_seeds(2**31 - 1, 3) == (0, 1)
