"""A search uses no test bars, resumes where it was interrupted, and is never worse than the recipe as given."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_bars import random_walk, scrambled

from flows.cli.app import app
from model.bars import Bars, Series
from model.bars_before_test import bars_before_test
from model.calibration import UNCALIBRATED, Calibrator
from model.errors import UnsoundModel
from model.folds import FoldSpec, split_folds
from model.multiple_testing import backtest_overfitting
from model.networks import NetworkSpec
from model.presets import recipe_for
from model.recipe import Recipe
from model.search_space import RANGES, TuneSpec, choices_of, ranges_of, recipe_of, values_of
from model.training import TrainingSpec
from model.windows import Windows, WindowSpec, cut_windows
from tasks.champion.hyperparameter_search import RecipeSearch, SearchResult, flags_of
from tasks.settings import Settings
from tasks.workspace import Workspace

pytestmark = pytest.mark.e2e  # trains a search
RECIPE = Recipe(window=WindowSpec(lookback_bars=12), folds=FoldSpec(test_bars=100, count=2))
BARS = random_walk(420, seed=8)
FIRST_TEST = cut_windows(BARS, RECIPE.window).resolved().decided_at[-100]
NOTE = {"source": "kraken", "columns": "close=close"}
SPEC = TuneSpec(trials=4, test_bars=60, count=2)


@dataclass(frozen=True)
class Fitted:
    probability: float
    best_epoch: int = 1
    calibrator: Calibrator = UNCALIBRATED
    history: tuple[()] = ()
    device: str = "CPU"
    seconds: float = 0.0


class Quiet:
    """Predicts one probability, farther from 0.5 for higher dropout; fails when given a window of the test bars."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def fit(self, windows: Windows, train_index: Any, validation_index: Any = None, **_: Any) -> Fitted:
        del train_index, validation_index
        assert windows.resolved_at.max() < FIRST_TEST
        if self.recipe.network.dropout > 0.65:
            raise UnsoundModel("diverged")
        return Fitted(0.5 + self.recipe.network.dropout / 4)

    def predict(self, fitted: Fitted, windows: Windows) -> np.ndarray:
        return np.full(len(windows), fitted.probability)

    def predict_further(self, fitted: Fitted, windows: Windows) -> np.ndarray:  # noqa: ARG002 - the interface
        return np.empty((len(windows), 0))

    def keras_model(self, fitted: Fitted) -> Any:
        raise NotImplementedError(fitted)  # a search stores no network


def home(place: Path, bars: Bars = BARS) -> Settings:
    settings = Settings(home=place, tracking_uri="", store="")
    series = Series(RECIPE.symbol, RECIPE.interval)
    Workspace(settings).bar_store.merge(series, bars.frame(), NOTE, merged_at=datetime(2019, 3, 1, tzinfo=UTC))
    return settings


def tuning(settings: Settings, spec: TuneSpec = SPEC, trainer: Any = Quiet) -> RecipeSearch:
    return RecipeSearch(RECIPE, spec, settings, trainer)


def losses(found: SearchResult, opened: RecipeSearch) -> list[float]:
    """Return each trial's log loss as its child run has it, in the order of the trials."""
    experiment = opened.workspace.runs.experiment_id()
    runs = opened.workspace.runs.client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{found.run_id}'")
    runs = sorted(runs, key=lambda run: int(run.data.tags["trial"]))
    return [run.data.metrics["test/log_loss"] for run in runs if "test/log_loss" in run.data.metrics]


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_bars_of_a_search_end_before_the_first_test_decision() -> None:
    before = bars_before_test(BARS, RECIPE)
    folds = split_folds(cut_windows(BARS, RECIPE.window).resolved(), RECIPE.folds)
    assert folds[0].test[0] == len(cut_windows(BARS, RECIPE.window).resolved()) - 100
    assert before.closed_at[-1] < FIRST_TEST
    assert BARS.closed_at[len(before)] == FIRST_TEST  # and not a bar earlier than they must


def test_no_recipe_that_a_search_may_find_is_tested_on_bars_that_the_search_used() -> None:
    gappy = random_walk(420, seed=8, absent=(330, 360, 390))  # each gap costs a longer lookback more windows
    before = bars_before_test(gappy, RECIPE)
    firsts = []
    for lookback_bars in choices_of(RECIPE)["lookback_bars"]:
        window = RECIPE.window.model_copy(update={"lookback_bars": lookback_bars})
        firsts.append(cut_windows(gappy, window).resolved().decided_at[-100])
    assert min(firsts) < cut_windows(gappy, RECIPE.window).resolved().decided_at[-100]
    assert before.closed_at[-1] < min(firsts)
    assert gappy.closed_at[len(before)] == min(firsts)


def test_a_search_starts_with_the_recipe_as_given_and_is_never_worse(tmp_path: Path) -> None:
    opened = tuning(home(tmp_path))
    found = opened.search()
    seen = losses(found, opened)
    assert found.trials == 4
    assert found.default_log_loss == pytest.approx(seen[0])
    assert found.log_loss == pytest.approx(min(seen))
    assert found.log_loss <= found.default_log_loss
    trials = opened.workspace.trial_log.trials(RECIPE.symbol, RECIPE.interval)
    assert [trial.log_loss for trial in trials] == pytest.approx(seen)
    assert {trial.kind for trial in trials} == {"tune"}
    assert "4 trials; best log loss" in found.lines()[0]
    source = "--source.kind KIND --source.symbol BTC-USD --source.interval 1d"
    flags = f"{flags_of(recipe_of(RECIPE, found.values))} --promotion.kind strict"  # it is a new recipe
    assert found.lines()[-1] == f"riseorfall retrain {source} {flags}"
    assert app.parse_args(["retrain", *flags.split()], exit_on_error=False)[1].arguments["promotion"].kind == "strict"
    client = opened.workspace.runs.client
    name = client.get_run(found.run_id).info.run_name
    until = str(opened.bars.closed_at[-1].astype("datetime64[D]"))
    assert name == f"{until}: 4 trials, best log loss {found.log_loss:.4f}"


def test_the_probability_of_overfitting_is_that_of_the_trials_forecasts(tmp_path: Path) -> None:
    opened = tuning(home(tmp_path))
    found = opened.search()
    kept = [
        trial.forecasts for trial in opened.workspace.trial_log.trials(RECIPE.symbol, RECIPE.interval, forecasts=True)
    ]
    losses_of = [
        np.log(np.where(each.labels == 1, each.probabilities / each.base_rates,
                        (1 - each.probabilities) / (1 - each.base_rates)))
        for each in kept if each is not None
    ]  # fmt: skip
    expected = backtest_overfitting(np.array(losses_of), 6)
    assert found.overfitting is not None
    assert found.overfitting.probability == expected.probability
    assert f"probability of backtest overfitting {expected.probability:.0%}: the recipe" in found.lines()[1]
    run = opened.workspace.runs.client.get_run(found.run_id).data
    assert run.metrics["headline/backtest_overfitting"] == expected.probability
    assert run.metrics["headline/backtest_overfitting_loss"] == expected.probability_of_loss
    assert run.tags["overfitting"] == found.lines()[1]


def test_a_trial_holds_out_the_recipes_share_of_validation_windows(tmp_path: Path) -> None:
    shares = []

    class Counting(Quiet):
        def fit(self, windows: Windows, train_index: Any, validation_index: Any = None, **_: Any) -> Fitted:
            shares.append(len(validation_index) / (len(train_index) + len(validation_index)))
            return super().fit(windows, train_index, validation_index)

    recipe = RECIPE.model_copy(update={"folds": RECIPE.folds.model_copy(update={"validation_share": 0.4})})
    RecipeSearch(recipe, SPEC.model_copy(update={"trials": 1}), home(tmp_path), Counting).search()
    assert shares == pytest.approx([0.4, 0.4], abs=0.01)


def test_one_trial_cannot_be_overfitted(tmp_path: Path) -> None:
    found = tuning(home(tmp_path), SPEC.model_copy(update={"trials": 1})).search()
    assert found.overfitting is None
    assert "not estimated" in found.lines()[1]


def test_test_bars_do_not_affect_a_search(tmp_path: Path) -> None:
    start = int(np.searchsorted(BARS.closed_at, FIRST_TEST))
    one, other = (tuning(home(tmp_path / name, bars)) for name, bars in (("a", BARS), ("b", scrambled(BARS, start))))
    assert one.study_name == other.study_name
    first, second = one.search(), other.search()
    assert losses(first, one) == losses(second, other)
    assert first.values == second.values


class Crash(BaseException):
    """Injected."""


def test_an_interrupted_search_resumes_in_the_same_run(tmp_path: Path) -> None:
    settings, calls = home(tmp_path), []

    def crashing(recipe: Recipe) -> Quiet:
        calls.append(recipe)
        if len(calls) == 3:
            raise Crash
        return Quiet(recipe)

    with pytest.raises(Crash):
        tuning(settings, trainer=crashing).search()
    resumed = tuning(settings)
    found = resumed.search()
    assert len(losses(found, resumed)) >= 3  # of the trial that crashed there is a failed run
    more = tuning(settings, SPEC.model_copy(update={"trials": 6}))
    again = more.search()
    assert (again.run_id, again.study, again.trials) == (found.run_id, found.study, 6)
    assert again.log_loss <= found.log_loss
    calls.clear()
    tuning(settings, SPEC.model_copy(update={"trials": 6}), trainer=crashing).search()
    assert calls == []


def test_a_search_that_was_interrupted_in_its_first_trial_still_scores_the_recipe_as_given(tmp_path: Path) -> None:
    settings, calls = home(tmp_path), []

    def interrupted(recipe: Recipe) -> Quiet:
        calls.append(recipe)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return Quiet(recipe)

    with pytest.raises(KeyboardInterrupt):
        tuning(settings, trainer=interrupted).search()
    resumed = tuning(settings)
    found = resumed.search()
    assert calls[0] == RECIPE
    as_given = tuning(home(tmp_path / "whole"), SPEC.model_copy(update={"trials": 1})).search()
    assert found.default_log_loss == as_given.log_loss


def test_a_recipe_as_given_that_cannot_be_trained_has_no_score(tmp_path: Path) -> None:
    def failing(recipe: Recipe) -> Quiet:
        if recipe == RECIPE:
            raise UnsoundModel("never finite")
        return Quiet(recipe)

    found = tuning(home(tmp_path), trainer=failing).search()
    assert np.isnan(found.default_log_loss)
    assert "as given none, it could not be trained" in found.lines()[0]


def test_a_search_without_a_finished_trial_is_an_error(tmp_path: Path) -> None:
    def failing(_: Recipe) -> Quiet:
        raise UnsoundModel("never finite")

    with pytest.raises(UnsoundModel, match="expected a finished trial"):
        tuning(home(tmp_path), SPEC.model_copy(update={"trials": 2}), trainer=failing).search()


def test_a_trial_changes_what_the_search_varies() -> None:
    own = values_of(RECIPE)
    assert recipe_of(RECIPE, own) == RECIPE
    values = own | {"lookback_bars": 60, "filters": "32,16", "dropout": 0.25, "learning_rate": 0.0005}
    changed = recipe_of(RECIPE, values)
    assert changed.window.lookback_bars == 60
    assert changed.network == NetworkSpec(filters=(32, 16), dropout=0.25)
    assert changed.training.learning_rate == 0.0005
    assert changed.folds == RECIPE.folds


@pytest.mark.parametrize(
    ("recipe", "flags"),
    [
        (Recipe(), ""),
        (RECIPE, "--window.lookback-bars 12 --folds.test-bars 100 --folds.count 2"),
        (
            Recipe(network=NetworkSpec(kind="lstm", filters=(32, 16), dropout=0.25), training=TrainingSpec(epochs=9)),
            "--network.kind lstm --network.filters 32 --network.filters 16 --network.dropout 0.25 --training.epochs 9",
        ),
        (
            recipe_for("ETH-USD", "1h", training=TrainingSpec(warm_start=True, learning_rate=0.0005)),
            "--training.learning-rate 0.0005 --training.warm-start",
        ),
    ],
)
def test_the_flags_of_a_recipe_make_it(recipe: Recipe, flags: str) -> None:
    """Those that the search was started with belong to it: without them another recipe would be trained."""
    assert flags_of(recipe) == flags
    given = app.parse_args(["retrain", *flags.split()], exit_on_error=False)[1].arguments
    specs = {name: given[name] for name in ("window", "folds", "network", "training") if name in given}
    assert recipe_for(recipe.symbol, recipe.interval, **specs) == recipe


def test_the_recipe_as_given_lies_in_the_search_space() -> None:
    own, choices = values_of(RECIPE), choices_of(RECIPE)
    assert all(own[name] in values for name, values in choices.items())
    assert all(low <= own[name] <= high for name, (low, high) in ranges_of(RECIPE).items())
    assert set(choices) | set(RANGES) == set(own)
    hasty = RECIPE.model_copy(update={"training": TrainingSpec(learning_rate=0.5)})
    assert ranges_of(hasty) == RANGES | {"learning_rate": (1e-4, 0.5)}
