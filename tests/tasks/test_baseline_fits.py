"""What the task fits: baselines with the recipe's scaling, on the windows of each fold."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from synthetic_bars import random_walk

from model.baselines import predict_baseline
from model.folds import FoldSpec, split_folds
from model.recipe import Recipe
from model.windows import WindowSpec, cut_windows
from tasks import baseline_fits
from tasks.baseline_fits import fit_baselines

WINDOWS = cut_windows(random_walk(300, seed=6), WindowSpec(lookback_bars=5)).resolved()
FOLDS = split_folds(WINDOWS, FoldSpec(test_bars=120, count=2))
REF: Any = SimpleNamespace(bars=None, window=None)  # what it names is given below
RECIPE = Recipe.model_validate({"network": {"scaling": "last_close"}, "training": {"seed": 3}})


def test_baselines_learn_with_the_scaling_of_the_recipe_from_the_windows_of_each_fold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(baseline_fits, "read_folds", lambda *_: (WINDOWS, FOLDS))
    found = fit_baselines.fn(REF, RECIPE)
    for place, fold in enumerate(FOLDS):
        learned = np.concatenate([fold.train, fold.validation])
        own = slice(60 * place, 60 * (place + 1))
        for name in ("logistic_regression", "gradient_boosting"):
            expected = predict_baseline(name, WINDOWS, learned, fold.test, 3, "last_close")
            assert found.tested[name][own].tolist() == expected.tolist()
            assert expected.tolist() != predict_baseline(name, WINDOWS, learned, fold.test, 3).tolist()
        validated = predict_baseline("gradient_boosting", WINDOWS, fold.train, fold.validation, 3, "last_close")
        assert found.boosting_validated[place].tolist() == validated.tolist()
