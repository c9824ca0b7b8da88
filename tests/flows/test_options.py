"""A retrain with what is off by default: calibrated probabilities, and a further seed beside the record."""

import io
import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from flows.retrain import retrain
from model.bars import Series
from model.calibration import calibrator_from_json, fit_temperature
from model.folds import FoldSpec, split_folds
from model.network_files import network_from_bytes
from model.networks import NetworkSpec
from model.sample_weights import SampleWeights
from model.training import Trainer, TrainingSpec
from model.windows import WindowSpec, cut_windows
from tasks.results import Retrain
from tasks.settings import Settings
from tasks.workspace import Workspace

pytestmark = pytest.mark.e2e  # a second home, for options that are off by default
FOLDS = FoldSpec(test_bars=120, count=2, seeds=2)
TRAINING = TrainingSpec(epochs=1, calibration="temperature", sample_weights=SampleWeights(half_life_bars=365))
Options = tuple[Retrain, Workspace, list[str]]


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Retrain, Path]:
    """A retrain in a home of its own, and that home."""
    home = tmp_path_factory.mktemp("options")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RISEORFALL_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return retrain(folds=FOLDS, training=TRAINING), home


@pytest.fixture
def options(retrained: tuple[Retrain, Path], monkeypatch: pytest.MonkeyPatch) -> Options:
    """The retrain, its workspace and the runs of its folds; the environment names its home."""
    done, home = retrained
    monkeypatch.setenv("RISEORFALL_HOME", str(home))
    workspace = Workspace(Settings(), Series("BTC-USD", "1d"))
    found = workspace.runs.client.search_runs(
        [workspace.runs.experiment_id()], f"tags.mlflow.parentRunId = '{done.run_id}'"
    )
    return done, workspace, [run.info.run_id for run in sorted(found, key=lambda run: run.data.tags["fold"])]


def test_record_calibrators_and_seeds_are_those_of_single_fits(options: Options) -> None:
    result, workspace, runs = options
    store = Workspace(Settings()).bar_store
    windows = cut_windows(store.read_bars(result.stored.ref), WindowSpec()).resolved()
    trainer = Trainer(NetworkSpec(), TRAINING, 30, 4)
    frame = pd.read_parquet(io.BytesIO(workspace.runs.read_file(result.run_id, "evaluation/record.parquet")))
    calibrated: dict[int, list[np.ndarray]] = {7: [], 8: []}
    for fold, run_id in zip(split_folds(windows, FOLDS), runs, strict=True):
        for seed, pooled in calibrated.items():
            fitted = trainer.fit(windows, fold.train, fold.validation, seed=seed)
            judged = windows.take(fold.validation)
            expected = fit_temperature(judged.labels, trainer.predict(fitted, judged))
            pooled.append(expected.apply(trainer.predict(fitted, windows.take(fold.test))))
            if seed == 7:
                assert calibrator_from_json(workspace.runs.read_file(run_id, "calibrator.json").decode()) == expected
    assert frame["probability"].to_numpy() == pytest.approx(np.concatenate(calibrated[7]), abs=1e-12)
    logged = workspace.runs.client.get_run(result.run_id).data.metrics
    losses = [log_loss(frame["label"], np.concatenate(calibrated[seed])) for seed in (7, 8)]
    by_seed = json.loads(workspace.runs.read_file(result.run_id, "evaluation/details.json"))["seeds"]
    assert [by_seed[f"seed.{seed}.log_loss"] for seed in (7, 8)] == pytest.approx(losses)
    assert by_seed["seeds.log_loss_spread"] == pytest.approx(abs(losses[0] - losses[1]))
    assert logged["test/log_loss"] == pytest.approx(losses[0])
    assert logged["test/log_loss_deviation_over_seeds"] == pytest.approx(np.std(losses, ddof=1))


def test_the_version_serves_the_newest_folds_calibrator(options: Options) -> None:
    result, workspace, runs = options
    loaded = workspace.registry.read_version(result.version.version)
    newest = json.loads(workspace.runs.read_file(runs[-1], "calibrator.json"))
    assert loaded.calibrator().plain() == newest
    assert result.promotion.action == "promote"  # its files repeat what training saw
    store = Workspace(Settings()).bar_store
    bars = store.read_bars(result.stored.ref)
    windows = cut_windows(bars, WindowSpec())
    said = np.asarray(network_from_bytes(loaded.keras())(windows.values()), dtype=np.float64)[:, 0]
    odds = (said / (1 - said)) ** (1 / newest["temperature"])
    workspace.runs.set_global_uri()
    served = mlflow.pyfunc.load_model(f"models:/{workspace.name}@champion").predict(bars.frame())
    np.testing.assert_allclose(served["probability"], odds / (1 + odds), atol=1e-5)


def test_run_and_page_name_the_calibrator_and_the_seeds(options: Options) -> None:
    result, workspace, runs = options
    run = workspace.runs.client.get_run(result.run_id).data
    assert (run.params["training.calibration"], run.params["folds.seeds"]) == ("temperature", "2")
    assert run.params["training.sample_weights.half_life_bars"] == "365"
    told = workspace.runs.client.get_run(runs[-1]).data.params["calibrator"]
    assert run.tags["calibrator"] == told
    page = Path(result.report).read_text(encoding="utf-8")
    assert f"uses the newest fold&#39;s: {told}." in page
    assert "Sensitivity to the seed" in page
    assert "seed 8" in page
