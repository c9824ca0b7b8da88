"""Files that a store lists and does not deliver: a failure of the store, never a broken model."""

import errno
import gc
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback_mlflow import Fault, LoopbackMlflow, serve
from synthetic_bars import random_walk
from synthetic_records import coin_labels, daily_record, loud_forecast
from tiny_home import SERIES, WINDOW
from tiny_network import tiny_onnx

from model.errors import NoChampion, StoreUnavailable, UnsoundModel
from model.predictor import Predictor
from model.recipe import Recipe
from tasks.champion.challenger_vs_champion import ChampionState, champion_record, check_against_folds
from tasks.champion.registered_network import RegisteredNetwork, check_registered_network
from tasks.champion.smoke_test import load_as_served
from tasks.registry.model_files import LoadedVersion, ModelFiles, write_model_files
from tasks.registry.run_artifacts import FOLD_NETWORKS, PROBE
from tasks.registry.unreachable_store import failed_fetch
from tasks.settings import Settings
from tasks.workspace import Workspace

BARS = random_walk(60, seed=1)
LABELS = coin_labels(30, seed=1)
RECORD = daily_record(LABELS, loud_forecast(LABELS, seed=2, spread=0.02))
FILES = ModelFiles(keras=b"keras", onnx=tiny_onnx(5), recipe=Recipe(window=WINDOW), record=RECORD)
RUN = "0123456789abcdef0123456789abcdef"
FAULTS: tuple[Fault, ...] = ("error 503", "cut off", "no answer")


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackMlflow]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # MLflow's client does not try again for minutes
    folder = tmp_path / "version"
    folder.mkdir()
    write_model_files(folder, FILES)
    files = {f"version/artifacts/{each.name}": each.read_bytes() for each in folder.iterdir()}
    files |= {f"run/{PROBE}": b"probe", f"run/{FOLD_NETWORKS}": b"folds"}
    state = LoopbackMlflow(SERIES.name, RUN, {"trained_until": "2018-02-20T00:00:00+00:00"}, files)
    with serve(state):
        yield state


@pytest.fixture
def workspace(mlflow: LoopbackMlflow, tmp_path: Path) -> Workspace:
    return Workspace(Settings(home=tmp_path / "home", tracking_uri=mlflow.address, store=""), SERIES)


def test_files_that_are_delivered_are_read(workspace: Workspace) -> None:
    loaded = workspace.registry.read_version("1")
    assert (loaded.onnx(), loaded.keras()) == (FILES.onnx, b"keras")
    np.testing.assert_array_equal(loaded.record().probabilities, RECORD.probabilities)
    assert workspace.runs.read_file(RUN, PROBE) == b"probe"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_listed_and_not_delivered_is_a_failure_of_the_store(
    fault: Fault, mlflow: LoopbackMlflow, workspace: Workspace
) -> None:
    champion = ChampionState("1", workspace.registry.version("1"))
    mlflow.fault = fault
    for failing in ("", "version/artifacts/record.parquet"):  # every file, and one of them
        mlflow.failing = frozenset({failing} - {""})
        with pytest.raises(StoreUnavailable, match="Nothing was decided"):
            workspace.registry.read_version("1")
        with pytest.raises(StoreUnavailable):
            champion_record(workspace, champion, BARS, RECORD)
        with pytest.raises(StoreUnavailable):
            load_as_served(workspace, "1")
    mlflow.failing = frozenset()
    with pytest.raises(StoreUnavailable, match=r"probe\.parquet"):
        workspace.runs.read_file(RUN, PROBE)


def test_a_check_whose_file_is_listed_and_not_delivered_neither_passes_nor_rejects(
    mlflow: LoopbackMlflow, workspace: Workspace
) -> None:
    challenger, network = workspace.registry.version("1"), RegisteredNetwork(None, BARS.closed_at, np.zeros(60))
    mlflow.fault = "error 503"
    with pytest.raises(StoreUnavailable, match=r"fold_networks\.parquet"):
        check_against_folds(workspace, challenger, RECORD, network)
    with pytest.raises(StoreUnavailable, match=r"probe\.parquet"):
        check_registered_network(workspace, challenger, BARS)
    del mlflow.files[f"run/{FOLD_NETWORKS}"]
    assert "is not checked" in check_against_folds(workspace, challenger, RECORD, network).reason


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), TimeoutError("timed out"), ValueError("no JSON")])
def test_a_listing_that_fails_says_nothing_about_the_files(error: Exception) -> None:
    def list_files() -> list[str]:
        raise error

    found = failed_fetch("version 1", ["network.onnx"], list_files, OSError("cut off"))
    assert isinstance(found, StoreUnavailable)
    assert str(error) in str(found)


def test_files_that_are_not_listed_are_missing(mlflow: LoopbackMlflow, workspace: Workspace) -> None:
    with pytest.raises(UnsoundModel, match=r"nothing\.bin"):
        workspace.runs.read_file(RUN, "network/nothing.bin")
    with pytest.raises(UnsoundModel, match="not here"):
        workspace.runs.read_file("f" * 32, PROBE)
    with pytest.raises(UnsoundModel, match="not here"):
        workspace.registry.read_version("2")
    with pytest.raises(NoChampion):
        workspace.registry.version("2")
    del mlflow.files["version/artifacts/record.parquet"]
    with pytest.raises(UnsoundModel, match=r"missing record\.parquet"):
        workspace.registry.read_version("1")


def test_a_version_is_downloaded_once_and_deleted_with_its_last_user(
    mlflow: LoopbackMlflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path / "home", tracking_uri=mlflow.address, store="")
    workspace = Workspace(settings, SERIES)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    first = workspace.registry.read_version("1")
    for _ in range(3):
        assert workspace.registry.read_version("1").recipe() == FILES.recipe
    assert list(temporary.iterdir()) == [first.folder.parent]
    assert sum(path.endswith("version/artifacts/network.onnx") for path in mlflow.requests) == 1
    del workspace
    assert first.onnx() == FILES.onnx
    del first
    mlflow.fault = "cut off"
    with suppress(StoreUnavailable):
        Workspace(settings, SERIES).registry.read_version("1")
    gc.collect()  # the error and its frames refer to each other
    assert list(temporary.iterdir()) == []


REGISTRY_CALLS: dict[str, Callable[[Workspace], object]] = {
    "alias_number": lambda workspace: workspace.registry.alias_number("champion"),
    "champion": lambda workspace: workspace.registry.champion(),
    "find_versions": lambda workspace: workspace.registry.find_versions("recipe", "a"),
    "newest_versions": lambda workspace: workspace.registry.newest_versions(3),
    "set_alias": lambda workspace: workspace.registry.set_alias("champion", "1"),
    "drop_alias": lambda workspace: workspace.registry.drop_alias("challenger"),
    "run_params": lambda workspace: workspace.runs.run_params(RUN),
    "run_tags": lambda workspace: workspace.runs.run_tags(RUN),
}


@pytest.mark.parametrize("call", REGISTRY_CALLS.values(), ids=REGISTRY_CALLS)
def test_a_registry_that_is_down_is_an_unavailable_store(
    call: Callable[[Workspace], object], mlflow: LoopbackMlflow, workspace: Workspace
) -> None:
    mlflow.is_down = True
    with pytest.raises(StoreUnavailable, match="Nothing was decided"):
        call(workspace)


def test_a_name_that_the_registry_does_not_know_has_no_alias(mlflow: LoopbackMlflow, workspace: Workspace) -> None:
    assert workspace.registry.alias_number("champion") == "1"
    assert workspace.registry.alias_number("challenger") is None
    mlflow.knows_models = False
    assert workspace.registry.alias_number("champion") is None


def test_a_full_disk_is_no_broken_version(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mlflow.store.artifact.http_artifact_repo.HttpArtifactRepository._download_file", full)
    with pytest.raises(StoreUnavailable, match="No space left on device"):
        workspace.registry.read_version("1")
    with pytest.raises(StoreUnavailable):
        workspace.runs.read_file(RUN, PROBE)


@pytest.fixture
def local(tmp_path: Path) -> LoadedVersion:
    folder = tmp_path / "local"
    folder.mkdir()
    write_model_files(folder, FILES)
    return LoadedVersion("models:/BTC-USD-1d/1", folder)


@pytest.mark.parametrize(
    "fault",
    [
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.EMFILE, "Too many open files"),
        MemoryError(),
    ],
    ids=repr,
)
def test_a_disk_that_fails_is_no_broken_version(
    fault: Exception, local: LoadedVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(Path, "read_bytes", fail)
    monkeypatch.setattr(Path, "open", fail)
    for read in (local.predictor, local.record, local.recipe, local.onnx):
        with pytest.raises(StoreUnavailable, match=str(fault.args[-1]) if fault.args else "MemoryError"):
            read()


def test_a_network_that_does_not_fit_into_memory_is_no_broken_version(
    local: LoadedVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Predictor, "__init__", full)
    with pytest.raises(StoreUnavailable, match="MemoryError"):
        local.predictor()


@pytest.mark.parametrize("name", ["network.onnx", "record.parquet", "recipe.json"])
@pytest.mark.parametrize("content", [b"", b"\xffjunk", None])
def test_a_file_with_other_content_is_a_broken_version(name: str, content: bytes | None, local: LoadedVersion) -> None:
    if content is None:
        (local.folder / name).unlink()
    else:
        (local.folder / name).write_bytes(content)
    read = local.record if name == "record.parquet" else local.predictor
    with pytest.raises(UnsoundModel, match=name.replace(".", r"\.")):
        read()
    shutil.rmtree(local.folder)
    local.folder.write_bytes(b"a file where the folder was")
    with pytest.raises(UnsoundModel, match=name.replace(".", r"\.") if name == "record.parquet" else "cannot be read"):
        read()
