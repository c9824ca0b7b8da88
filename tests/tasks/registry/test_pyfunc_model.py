"""A version in the registry says through MLflow what its files say here, calibrated where its recipe asks for it."""

import os
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.utils import requirements_utils
from panel_home import SYMBOLS, coins, panel_recipe, tiny_record
from synthetic_bars import random_walk
from tiny_network import tiny_onnx

from model.bars import PANEL, Series
from model.calibration import Calibrator, Isotonic, Temperature
from model.errors import UnsoundModel, UntrustedModel
from model.panel_recipe import panel_frame
from model.recipe import Recipe
from model.record import Record
from model.training import TrainingSpec
from model.windows import WindowSpec, cut_windows
from tasks.registry.model_files import LoadedVersion, ModelFiles
from tasks.registry.serving_requirements import pinned_requirements
from tasks.settings import Settings
from tasks.workspace import Workspace

WINDOW = WindowSpec(lookback_bars=5)
BARS = random_walk(60, seed=4)
CALIBRATORS = {
    "temperature": Temperature(2.5),
    "isotonic": Isotonic(np.array([0.45, 0.5, 0.55]), np.array([0.4, 0.52, 0.57])),
}


def register(home: Path, name: str) -> tuple[Workspace, LoadedVersion]:
    settings = Settings(home=home, tracking_uri="", store="")
    workspace = Workspace(settings, Series("BTC-USD", "1d"))
    windows = cut_windows(BARS, WINDOW).resolved()
    record = Record(windows.decided_at, windows.resolved_at, windows.labels, np.full(len(windows), 0.5),
                    np.zeros(len(windows), dtype=np.int64))  # fmt: skip
    recipe = Recipe(window=WINDOW, training=TrainingSpec(calibration=name))
    files = ModelFiles(b"not asked for", tiny_onnx(5, gain=3.0), recipe, record, CALIBRATORS[name])
    run_id = workspace.runs.start_run("retrain", {})
    version = workspace.registry.register(
        run_id, files, BARS.frame().tail(8), {"trained_until": f"{BARS.closed_at[-1]}+00:00"}
    )
    return workspace, workspace.registry.read_version(version.version)


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_registry_and_files_say_the_same(name: str, tmp_path: Path) -> None:
    workspace, loaded = register(tmp_path, name)
    closes = BARS.column("close")
    raw = 1 / (1 + np.exp(-3.0 * (closes[4:] / closes[:-4] - 1)))
    expected = CALIBRATORS[name].apply(raw.astype(np.float32).astype(np.float64))
    _, here = loaded.predictor().predict(BARS)
    assert here == pytest.approx(expected, abs=1e-6)
    assert loaded.predictor(calibrated=False).predict(BARS)[1] == pytest.approx(raw, abs=1e-6)
    assert np.abs(expected - raw).max() > 0.01
    workspace.runs.set_global_uri()
    served = mlflow.pyfunc.load_model(f"models:/{workspace.name}/1").predict(BARS.frame())
    assert served["probability"].tolist() == here.tolist()
    again: Calibrator = loaded.calibrator()
    assert again.plain() == CALIBRATORS[name].plain()
    assert not list(loaded.folder.parent.rglob("*.pkl"))


def test_ranks_among_a_part_of_the_panel_are_refused(tmp_path: Path) -> None:
    """The inputs describe a series among the others: with a series less, or one more, they would be other numbers."""
    workspace = Workspace(Settings(home=tmp_path, tracking_uri="", store=""), Series(PANEL, "1d"))
    recipe, bars = panel_recipe(inputs="cross_section"), coins()
    network = tiny_onnx(5, 9, gain=3.0, close=3)
    files = ModelFiles(b"not asked for", network, recipe, tiny_record(recipe, bars, 3.0))
    until = {"trained_until": f"{bars['BTC-USD'].closed_at[-1]}+00:00"}
    workspace.registry.register(workspace.runs.start_run("retrain", {}), files, panel_frame(bars, 40), until)
    workspace.runs.set_global_uri()
    model = mlflow.pyfunc.load_model("models:/PANEL-1d/1")
    assert set(model.predict(panel_frame(bars, 40))["symbol"]) == set(SYMBOLS)
    for given, reason in (
        ({"BTC-USD": bars["BTC-USD"]}, "missing: ADA-USD, ETH-USD; not of the panel: none"),
        (bars | {"NEW-USD": BARS}, "missing: none; not of the panel: NEW-USD"),
    ):
        with pytest.raises(Exception, match=reason):
            model.predict(panel_frame(given, 40))


def test_people_who_compare_runs_see_no_digest_and_no_process(tmp_path: Path) -> None:
    """MLflow's Compare lists every parameter, and its pages every tag whose key does not start with `mlflow.`."""
    workspace, _ = register(tmp_path, "temperature")
    client = workspace.runs.client
    (run,) = client.search_runs([workspace.runs.experiment_id()])
    (logged,) = client.search_logged_models([workspace.runs.experiment_id()])
    assert run.data.params == logged.params == {}
    assert [key for key in run.data.tags if not key.startswith("mlflow.")] == []


def test_mlflow_refuses_a_file_that_was_replaced_alone(tmp_path: Path) -> None:
    workspace, loaded = register(tmp_path, "temperature")
    (loaded.folder / "network.onnx").write_bytes(tiny_onnx(5, gain=-3.0))
    workspace.runs.set_global_uri()
    with pytest.raises(UntrustedModel, match=r"network\.onnx: expected SHA-256 [0-9a-f]{64} in the version's MLmodel"):
        mlflow.pyfunc.load_model(f"models:/{workspace.name}/1")


@pytest.mark.usefixtures("ends_in_10_seconds")
def test_a_pipe_in_place_of_a_file_is_not_read(tmp_path: Path) -> None:
    """Reading it waits for a writer; reading a device such as /dev/zero never ends."""
    workspace, loaded = register(tmp_path, "temperature")
    path = loaded.folder / "recipe.json"
    path.unlink()
    os.mkfifo(path)
    for every_file in (True, False):
        with pytest.raises(UnsoundModel, match=r"recipe\.json"):
            workspace.registry.read_version("1", every_file=every_file).recipe()
    workspace.runs.set_global_uri()
    with pytest.raises(UntrustedModel, match=r"recipe\.json: expected SHA-256 [0-9a-f]{64}"):
        mlflow.pyfunc.load_model(f"models:/{workspace.name}/1")


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_lost_calibrator_is_no_calibrator_of_ones_own(content: str | None, tmp_path: Path) -> None:
    """Probabilities that were judged calibrated are not served without it."""
    _, loaded = register(tmp_path, "temperature")
    path = loaded.folder / "calibrator.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(UnsoundModel, match=r"calibrator\.json cannot be read"):
        loaded.predictor()


def test_a_network_of_other_windows_than_its_recipe_is_an_unsound_model(tmp_path: Path) -> None:
    _, loaded = register(tmp_path, "temperature")
    (loaded.folder / "network.onnx").write_bytes(tiny_onnx(6))
    with pytest.raises(UnsoundModel, match=r"network\.onnx cannot be opened: .* takes windows of 6 bars"):
        LoadedVersion(loaded.place, loaded.folder).predictor()


def test_a_prediction_that_fails_is_no_unreadable_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("wrong shape")

    _, loaded = register(tmp_path, "temperature")
    assert len(loaded.predict_example()) == 8 - 4
    with monkeypatch.context() as patch:
        patch.setattr("model.predictor.Predictor.predict_windows", fail)
        with pytest.raises(ValueError, match="wrong shape"):
            loaded.predict_example()
    (loaded.folder.parent / "input_example.json").write_text('{"columns": ["close"], "data": [[1.0]]}')
    with pytest.raises(UnsoundModel, match=r"input_example\.json cannot be read: .*missing timestamp"):
        LoadedVersion(loaded.place, loaded.folder).predict_example()


def test_a_registration_does_not_read_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow would read the list of files of every installed package, to compare requirements that cannot differ."""

    def map_of_packages() -> None:
        raise AssertionError("the map of installed packages was made")

    monkeypatch.setattr(requirements_utils, "_init_modules_to_packages_map", map_of_packages)
    monkeypatch.setattr(requirements_utils._logger, "warning", pytest.fail)  # MLflow reports errors as warnings
    _, loaded = register(tmp_path, "temperature")
    stated = (loaded.folder.parent / "requirements.txt").read_text(encoding="utf-8").split()
    assert sorted(stated) == sorted(pinned_requirements())
