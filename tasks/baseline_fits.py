"""Fit the baselines of a retrain, in a thread while the folds train: they need no network.

`tasks.evaluation` scores and trades them. Nothing is stored here.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from prefect import task

from model.baseline_records import boosting_validation
from model.recipe import Recipe
from model.walk_forward import walk_baselines_forward
from tasks.console.progress import current_progress
from tasks.results import WindowsRef
from tasks.windowing import read_folds


@dataclass(frozen=True, slots=True)
class FittedBaselines:
    """P(rise) of the baselines.

    Attributes:
        tested: of each baseline on the pooled test folds, by `walk_baselines_forward`.
        boosting_validated: of gradient boosting on the validation windows of each fold, by `boosting_validation`.
    """

    tested: dict[str, Float64[np.ndarray, " window"]]
    boosting_validated: list[Float64[np.ndarray, " validation"]]


@task(name="fit baselines", task_run_name="fit baselines")
def fit_baselines(ref: WindowsRef, recipe: Recipe) -> FittedBaselines:
    """Fit the baselines fold by fold, and predict the test windows and, for boosting, the validation windows."""
    with current_progress().step("fit baselines"):
        windows, folds = read_folds(ref.bars, ref.window, recipe.folds)
        seed, scaling = recipe.training.seed, recipe.network.scaling
        return FittedBaselines(
            walk_baselines_forward(windows, folds, seed, scaling), boosting_validation(windows, folds, seed, scaling)
        )
