"""Folds give the same numbers serially, in threads and on a cluster, one child run each."""

import os
from pathlib import Path

import numpy as np
import pytest
from prefect import flow

from model.errors import SpecError
from model.folds import FoldSpec
from model.plurals import counted
from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from model.record import Record
from tasks.console.progress import report_progress_to
from tasks.registry.experiment_page import NOTE_TAG
from tasks.registry.run_artifacts import pooled_record, validation_records
from tasks.results import FoldOutcome, Retrain
from tasks.retrain_mlflow_run import STEPS, open_run
from tasks.sources.source_spec import SourceSpec
from tasks.training import train_folds
from tasks.workspace import open_workspace

RECIPE = Recipe.model_validate({"folds": {"test_bars": 240, "count": 2}, "training": {"epochs": 2}})


@flow
def folds_alone(first: Retrain, recipe: Recipe) -> tuple[list[FoldOutcome], Record]:
    """Train the folds of a recipe on the bars of a retrain."""
    run_id = open_workspace(recipe.series).runs.start_run("folds", {})
    outcomes = train_folds(first.windows, recipe, run_id)
    return outcomes, pooled_record(open_workspace(recipe.series).runs, [fold.run_id for fold in outcomes])


def running(runner: str, address: str = "") -> Recipe:
    return RECIPE.model_copy(update={"folds": FoldSpec(test_bars=240, count=2, runner=runner, address=address)})


@pytest.mark.e2e
def test_threads_give_the_numbers_of_serial_training(first: Retrain, tracking_children: list[str]) -> None:
    serial, one_by_one = folds_alone(first, running("serial"))
    threads, at_once = folds_alone(first, running("threads"))
    np.testing.assert_array_equal(at_once.probabilities, one_by_one.probabilities)
    np.testing.assert_array_equal(at_once.fold, one_by_one.fold)
    assert [fold.best_epoch for fold in threads] == [fold.best_epoch for fold in serial]
    assert len({fold.run_id for fold in threads}) == len(tracking_children) == 2
    runs = open_workspace(RECIPE.series).runs
    note = runs.run_tags(threads[0].run_id)[NOTE_TAG]
    assert ", tested on 120 later ones, decided from " in note
    assert f"Trained for {counted(threads[0].epochs, 'epoch')}; epoch {threads[0].best_epoch}, with the" in note
    validation = [validation_records(runs, [fold.run_id for fold in folds]) for folds in (serial, threads)]
    for one, other, fold in zip(*validation, range(2), strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
        assert set(one.fold) == {fold}
        assert one.resolved_at[-1] < one_by_one.decided_at[one_by_one.fold == fold][0]


def test_no_step_is_done_before_its_turn(first: Retrain) -> None:
    """Progress counts the steps that are done; opening the run and logging a fold were both named `register`."""
    with report_progress_to() as progress:
        open_run(RECIPE, SourceSpec(), PromotionRule())
        assert progress.done == {"open run"}
        folds_alone(first, running("serial"))
    assert {step for step in progress.done if step in STEPS} == {"train"}


@pytest.fixture
def tracking_children(first: Retrain) -> list[str]:
    """The child runs of a whole retrain, whose folds ran in threads."""
    client = open_workspace(RECIPE.series).runs.client
    experiment = open_workspace(RECIPE.series).runs.experiment_id()
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{first.run_id}'")
    return [run.info.run_id for run in found]


def test_the_runner_of_the_folds_is_not_part_of_the_recipes_identity() -> None:
    assert running("serial").digest == running("threads").digest == running("dask", "tcp://host:8786").digest
    assert FoldSpec(count=4) != FoldSpec()
    assert RECIPE.model_copy(update={"folds": FoldSpec(count=4)}).digest != RECIPE.digest


def test_an_address_is_accepted_for_a_cluster_only() -> None:
    with pytest.raises(ValueError, match="expected an address with runner dask only"):
        FoldSpec(address="tcp://host:8786")


@pytest.mark.e2e
def test_an_unreachable_cluster_is_a_spec_error(first: Retrain, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("prefect_dask")
    monkeypatch.setattr("tasks.services.fold_runner.CLUSTER_TIMEOUT", "1s")
    with pytest.raises(SpecError, match=r"expected a Dask scheduler at tcp://127\.0\.0\.1:9"):
        folds_alone(first, running("dask", "tcp://127.0.0.1:9"))


@pytest.mark.e2e
def test_a_cluster_whose_workers_are_gone_ends_the_run(first: Retrain) -> None:
    """Without the timeout, which docker/compose.yaml sets, the folds would wait for ever."""
    pytest.importorskip("prefect_dask")
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": "1s"}),
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        pytest.raises(SpecError, match="expected Dask workers that run this version of riseorfall"),
    ):
        folds_alone(first, running("dask", cluster.scheduler_address))


@pytest.mark.e2e
def test_a_dask_cluster_gives_the_numbers_of_serial_training(
    first: Retrain, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("prefect_dask")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1] / "reference")]))
    _, one_by_one = folds_alone(first, running("serial"))
    assert home.is_dir()
    outcomes, on_cluster = folds_alone(first, running("dask"))  # without an address: a cluster of its own
    np.testing.assert_array_equal(on_cluster.probabilities, one_by_one.probabilities)
    assert len({fold.run_id for fold in outcomes}) == 2
