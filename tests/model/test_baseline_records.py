"""Records of baselines that are traded: which windows they learn from, and the reversal by hand."""

import numpy as np
import pytest
from synthetic_bars import random_walk

from model.baseline_records import boosting_records, reversal_records
from model.baselines import predict_baseline
from model.folds import FoldSpec, split_folds
from model.walk_forward import walk_baselines_forward
from model.windows import WindowSpec, cut_windows

WINDOWS = cut_windows(random_walk(400, seed=5), WindowSpec(lookback_bars=5)).resolved()
FOLDS = split_folds(WINDOWS, FoldSpec(test_bars=100, count=2))


def test_boosting_predicts_validation_windows_that_it_did_not_learn_from() -> None:
    tested = walk_baselines_forward(WINDOWS, FOLDS, seed=7, names=("gradient_boosting",))["gradient_boosting"]
    found = boosting_records(WINDOWS, FOLDS, tested, seed=7)
    assert np.array_equal(found.test.probabilities, tested)
    assert np.array_equal(found.test.labels, WINDOWS.labels[np.concatenate([fold.test for fold in FOLDS])])
    assert [set(each.fold) for each in found.validation] == [{0}, {1}]
    for fold, validation in zip(FOLDS, found.validation, strict=True):
        assert WINDOWS.resolved_at[fold.train].max() <= validation.decided_at[0]
        expected = predict_baseline("gradient_boosting", WINDOWS, fold.train, fold.validation, seed=7)
        assert np.array_equal(validation.probabilities, expected)
        assert np.array_equal(validation.resolved_at, WINDOWS.resolved_at[fold.validation])


def test_the_reversal_is_below_one_half_after_a_rise_the_more_the_larger_it_was() -> None:
    moves = np.zeros(len(WINDOWS))
    first = FOLDS[0].test[0]
    moves[first : first + 3] = [np.log(3), -np.log(3), 0.0]
    found = reversal_records(WINDOWS, FOLDS, moves)
    assert found.test.probabilities[:3] == pytest.approx([0.25, 0.75, 0.5])
    assert len(found.test) == 100
    assert [len(each) for each in found.validation] == [len(fold.validation) for fold in FOLDS]
