"""A search by the flow, with real networks: child runs in MLflow, gone on with, and blind to the test bars."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import ArtifactSort
from synthetic_bars import random_walk, scrambled

from flows.tune import tune
from model.bars import Bars, Series
from model.errors import UnsoundModel
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.search_space import TuneSpec
from model.training import TrainingSpec
from model.windows import WindowSpec, cut_windows
from tasks.champion.hyperparameter_search import RecipeSearch, SearchResult
from tasks.settings import Settings
from tasks.workspace import Workspace

pytestmark = pytest.mark.e2e  # whole searches, 20 s of CPU time
SERIES = Series("BTC-USD", "1d")
TEST_BARS = 100
CHEAP: dict[str, Any] = {
    "window": WindowSpec(lookback_bars=10),
    "folds": FoldSpec(test_bars=TEST_BARS, count=2),
    "network": NetworkSpec(kind="cnn", filters=(8, 4), dense_units=16),
    "training": TrainingSpec(epochs=1),
}
BARS = random_walk(420, seed=8)


def search(home: Path, patch: pytest.MonkeyPatch, trials: int, bars: Bars = BARS) -> SearchResult:
    """Search in a home that holds the bars."""
    patch.setenv("RISEORFALL_HOME", str(home))
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Workspace(Settings()).bar_store.merge(SERIES, bars.frame(), {}, merged_at=datetime(2019, 3, 1, tzinfo=UTC))
    return tune(**CHEAP, spec=TuneSpec(trials=trials, test_bars=60, count=2))


def trials_of(found: SearchResult) -> list[tuple[dict[str, str], float, str]]:
    """Return parameters, log loss and status of a search's child runs, in the order of the trials."""
    workspace = Workspace(Settings(), SERIES, f"{SERIES.name}-tune")
    runs = workspace.runs.client.search_runs(
        [workspace.runs.experiment_id()], f"tags.`mlflow.parentRunId` = '{found.run_id}'"
    )
    runs = sorted(runs, key=lambda run: int(run.data.tags["trial"]))
    return [(run.data.params, run.data.metrics.get("test/log_loss", np.nan), run.info.status) for run in runs]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchResult, list[tuple[dict[str, str], float, str]]]:
    """Three trials in one go."""
    with pytest.MonkeyPatch.context() as patch:
        found = search(tmp_path_factory.mktemp("tune"), patch, trials=3)
        return found, trials_of(found)


def test_each_trial_is_a_child_run_and_the_best_is_returned(whole: Any) -> None:
    found, trials = whole
    assert [status for _, _, status in trials] == ["FINISHED"] * 3
    losses = [loss for _, loss, _ in trials]
    assert (found.log_loss, found.default_log_loss) == (pytest.approx(min(losses)), pytest.approx(losses[0]))
    assert trials[0][0]["lookback_bars"] == "10"  # the recipe as given comes first
    best = trials[int(np.argmin(losses))][0]
    assert {name: str(value) for name, value in found.values.items()} == best
    assert [each.number for each in found.scored] == np.argsort(losses, kind="stable").tolist()


def test_the_page_of_a_search_lists_its_trials_best_first_with_their_runs(whole: Any) -> None:
    found, _ = whole
    with get_client(sync_client=True) as client:
        pages = [
            str(each.data)
            for each in client.read_artifacts(limit=200, sort=ArtifactSort.CREATED_DESC)
            if each.key == "tune"
        ]
    (page,) = [each for each in pages if found.run_id in each]
    rows = [line for line in page.splitlines() if line.startswith("| [")]
    link = re.compile(r"\| \[(\d)\]\(http\S+/runs/(\w+)\?workflowType=machine_learning\)")
    assert [link.match(row).groups() for row in rows] == [  # type: ignore[union-attr]
        (str(each.number), each.run_id) for each in found.scored
    ]


def test_scrambled_test_bars_do_not_affect_a_search(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, trials = whole
    first_test = cut_windows(BARS, CHEAP["window"]).resolved().decided_at[-TEST_BARS]
    other = scrambled(BARS, int(np.searchsorted(BARS.closed_at, first_test)))
    again = search(tmp_path, monkeypatch, trials=3, bars=other)
    assert trials_of(again) == trials
    assert (again.study, again.values, again.flags) == (found.study, found.values, found.flags)


def test_an_interrupted_search_resumes_in_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    true = RecipeSearch._objective

    class Stop(Exception):
        """Injected."""

    def stopping(self: RecipeSearch, trial: Any) -> float:
        calls.append(trial.number)
        if len(calls) == 2:
            raise Stop
        return true(self, trial)

    with monkeypatch.context() as patch:
        patch.setattr(RecipeSearch, "_objective", stopping)
        with pytest.raises(Stop):
            search(tmp_path, monkeypatch, trials=3)
    found = search(tmp_path, monkeypatch, trials=3)
    assert found.trials == 3
    finished = [loss for _, loss, status in trials_of(found) if status == "FINISHED"]
    assert len(finished) == 2  # the one before the stop, kept, and the one after it; the stopped trial counts as failed
    assert found.log_loss == pytest.approx(min(finished))


def test_hourly_bars_are_searched_from_their_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flags of a result are those of `retrain`, which starts from the same preset."""
    recipes: list[Any] = []

    def record_recipe(self: RecipeSearch) -> SearchResult:
        recipes.append(self.recipe)
        raise UnsoundModel("stop here")

    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.setattr(RecipeSearch, "search", record_recipe)
    with pytest.raises(UnsoundModel, match="stop here"):
        tune(symbol="BTC/USDT", interval="1h", training=TrainingSpec(members=1))
    (recipe,) = recipes
    assert (recipe.window.lookback_bars, recipe.network.scaling, recipe.folds.test_bars) == (24, "last_close", 10_000)
    assert (recipe.training.members, recipe.training.batch_size) == (1, 1024)
