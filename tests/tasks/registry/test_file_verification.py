"""Where the files of a version may lie, what of them is recorded, and how often a decision downloads them."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from loopback_mlflow import LoopbackMlflow, serve
from synthetic_bars import random_walk
from synthetic_records import coin_labels, daily_record, loud_forecast
from tiny_home import SERIES, WINDOW, store_bars
from tiny_network import tiny_onnx

from model.errors import UntrustedModel
from model.predictor import Predictor
from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from tasks.champion.challenger_decision import decide_on_challenger
from tasks.registry.file_verification import ArtifactPlaces, file_digests
from tasks.registry.model_files import ModelFiles, write_model_files
from tasks.registry.run_artifacts import PROBE, RECORD, parquet_bytes
from tasks.settings import Settings
from tasks.workspace import Workspace

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4, of "abc"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_every_file_is_recorded_and_the_code_as_one(tmp_path: Path) -> None:
    for path in ("artifacts/network.onnx", "code/model/a.py", "code/model/__pycache__/a.pyc", "registered_model_meta"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"abc")
    (tmp_path / "MLmodel").touch()
    found = file_digests("models:/a/1", tmp_path)
    assert (found["artifacts/network.onnx"], found["MLmodel"]) == (ABC, EMPTY)
    assert set(found) == {"artifacts/network.onnx", "MLmodel", "code/"}
    (tmp_path / "code" / "model" / "a.py").rename(tmp_path / "code" / "model" / "b.py")
    assert file_digests("models:/a/1", tmp_path)["code/"] != found["code/"]


def test_a_link_has_no_digest_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "folder").symlink_to("/")
    assert file_digests("models:/a/1", tmp_path) == {"a": ABC, "link": "link to a", "folder": "link to /"}


@pytest.mark.parametrize(
    ("location", "inside"),
    [
        ("{home}/mlruns/artifacts/BTC-USD-1d/models/m-1/artifacts", True),
        ("file://{home}/mlruns/artifacts/a%20b", True),
        ("{home}/disk", True),
        ("{home}/mlruns/on_disk/1", True),  # `mlruns` is a link
        ("mlflow-artifacts:/1/models/m-1/artifacts", True),
        ("mlflow-artifacts://127.0.0.1:5000/1/models", True),
        ("s3://store/BTC-USD-1d/models/m-1", True),
        ("mlflow-artifacts://elsewhere:5000/1/models", False),
        ("{home}/../foreign", False),
        ("{home}2/mlruns", False),
        ("file://{home}/link_out", False),
        ("/tmp/foreign", False),
        ("file://host/share", False),
        ("s3://store/BTC-USD-1d-of-others/models/m-1", False),
        ("s3://store/BTC-USD-1d/../other", False),
        ("s3://store/BTC-USD-1d/%2e%2e/other", False),
        ("s3://others/BTC-USD-1d", False),
        ("runs:/0123/model", False),
        ("https://example.org/model", False),
        ("", False),
    ],
)
def test_a_version_lies_in_the_home_or_in_the_store_of_its_experiment(
    location: str, inside: bool, tmp_path: Path
) -> None:
    home, disk = tmp_path / "home", tmp_path / "disk"
    for folder in (home, disk / "on_disk", tmp_path / "foreign"):
        folder.mkdir(parents=True)
    (home / "mlruns").symlink_to(disk)
    (home / "link_out").symlink_to(tmp_path / "foreign")
    places = ArtifactPlaces(home, "http://127.0.0.1:5000", lambda: "s3://store/BTC-USD-1d")
    where = location.format(home=home)
    if inside:
        places.require_inside("models:/a/1", where)
        return
    with pytest.raises(UntrustedModel, match="outside the artifact store") as error:
        places.require_inside("models:/a/1", where)
    is_local = location in {"{home}/../foreign", "file://{home}/link_out"}
    leads = f", which leads to {tmp_path}/foreign" if is_local else ""
    assert f"found {where}{leads}. " in str(error.value)


def test_the_artifacts_of_a_home_may_lie_on_another_disk(tmp_path: Path) -> None:
    home, disk = tmp_path / "home", tmp_path / "disk"
    for folder in (home / "mlruns", disk):
        folder.mkdir(parents=True)
    (home / "mlruns" / "artifacts").symlink_to(disk)
    places = ArtifactPlaces(home, "sqlite:////home/mlflow.db")
    places.require_inside("models:/a/1", str(home / "mlruns" / "artifacts" / "BTC-USD-1d"))
    places.require_inside("models:/a/1", (disk / "BTC-USD-1d").as_uri())
    with pytest.raises(UntrustedModel, match="outside the artifact store"):
        places.require_inside("models:/a/1", str(tmp_path / "disk2"))


def test_a_home_with_its_own_database_has_no_other_store(tmp_path: Path) -> None:
    with pytest.raises(UntrustedModel, match="expected a place below"):
        ArtifactPlaces(tmp_path / "home", "sqlite:////home/mlflow.db").require_inside("models:/a/1", str(tmp_path))


def test_a_decision_downloads_each_version_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version is challenger, champion and past champion; without a cache two decisions downloaded it 14 times."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    bars, labels = random_walk(60, seed=1), coin_labels(30, seed=1)
    record = daily_record(labels, loud_forecast(labels, seed=2, spread=0.02))
    onnx = tiny_onnx(5)
    decided_at, p = Predictor(onnx, WINDOW).predict(bars)
    (tmp_path / "version").mkdir()
    write_model_files(tmp_path / "version", ModelFiles(b"keras", onnx, Recipe(window=WINDOW), record))
    files = {f"version/artifacts/{each.name}": each.read_bytes() for each in (tmp_path / "version").iterdir()}
    shutil.rmtree(tmp_path / "version")
    files[f"run/{RECORD}"] = parquet_bytes(record.frame().assign(base_rate=0.5))
    files[f"run/{PROBE}"] = parquet_bytes(pd.DataFrame({"decided_at": decided_at[-9:], "probability": p[-9:]}))
    tags = {"trained_until": "2018-02-20T00:00:00+00:00", "recipe": "one"}
    with serve(LoopbackMlflow(SERIES.name, "ab" * 16, tags, files)) as mlflow:
        settings = Settings(home=tmp_path / "home", tracking_uri=mlflow.address, store="")
        store_bars(settings, bars)
        workspace = Workspace(settings, SERIES)
        ref, version = workspace.bar_store.ref(SERIES), workspace.registry.version("1")
        for decision in ("hold", "hold"):
            row = decide_on_challenger(workspace, version, PromotionRule(), ref, seed=7)
            assert (row.action, row.version, row.champion_after) == (decision, "1", "1")
    for name in ("network.onnx", "record.parquet", "recipe.json", "network.keras"):
        assert sum(path.endswith(f"version/artifacts/{name}") for path in mlflow.requests) == 1
    assert "same network as champion version 1" in " ".join(row.reasons)
