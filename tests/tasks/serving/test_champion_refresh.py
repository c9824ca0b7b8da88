"""The REST server while MLflow is down: the champion in memory keeps serving, and nobody waits for MLflow."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
from deltalake.exceptions import DeltaError
from loopback_mlflow import LoopbackMlflow, serve
from pyarrow import ArrowInvalid
from synthetic_bars import random_walk
from synthetic_records import coin_labels, daily_record, loud_forecast
from tiny_home import SERIES, WINDOW
from tiny_network import tiny_onnx

from model.recipe import Recipe
from tasks.champion.commit_decision import ChampionState
from tasks.registry.model_files import ModelFiles, write_model_files
from tasks.registry.model_registry import Version
from tasks.serving import rest_server
from tasks.serving.rest_server import Champion, application
from tasks.settings import Settings
from tasks.workspace import Workspace

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the test client announces its successor
    from fastapi.testclient import TestClient

LABELS = coin_labels(30, seed=1)
RECORD = daily_record(LABELS, loud_forecast(LABELS, seed=2, spread=0.02))
FRAME = random_walk(12, seed=2).frame()
BARS = [
    {"timestamp": row.timestamp.isoformat(), **{name: getattr(row, name) for name in ("open", "high", "low", "close")}}
    for row in FRAME.itertuples()
]


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackMlflow]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # MLflow's client does not try again for minutes
    folder = tmp_path / "version"
    folder.mkdir()
    write_model_files(folder, ModelFiles(keras=b"", onnx=tiny_onnx(5), recipe=Recipe(window=WINDOW), record=RECORD))
    files = {f"version/artifacts/{each.name}": each.read_bytes() for each in folder.iterdir()}
    with serve(LoopbackMlflow(SERIES.name, "a" * 32, {"trained_until": "2018-01-05T00:00:00+00:00"}, files)) as state:
        yield state


@pytest.fixture
def champion(mlflow: LoopbackMlflow, tmp_path: Path) -> Champion:
    return Champion(SERIES, Settings(home=tmp_path / "home", tracking_uri=mlflow.address, store=""))


def test_while_mlflow_is_down_the_champion_in_memory_keeps_serving(
    mlflow: LoopbackMlflow, champion: Champion, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = TestClient(application(champion))
    before = client.post("/predict", json={"bars": BARS})
    assert before.status_code == 200
    mlflow.is_down = True
    monkeypatch.setattr(rest_server, "REFRESH_SECONDS", 0.0)
    requests = len(mlflow.requests)
    assert client.post("/predict", json={"bars": BARS}).json() == before.json()
    assert client.get("/health").json()["version"] == "1"
    assert len(mlflow.requests) > requests  # each of the two looked for a new champion
    monkeypatch.setattr(rest_server, "REFRESH_SECONDS", 30.0)
    requests = len(mlflow.requests)
    assert client.get("/health").status_code == 200
    assert len(mlflow.requests) == requests  # a failed refresh is not repeated at every request


@pytest.mark.parametrize("error", [DeltaError("a log file is damaged"), ArrowInvalid("no Parquet file"), OSError(5)])
def test_whatever_fails_in_a_refresh_the_champion_in_memory_keeps_serving(
    champion: Champion, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    client = TestClient(application(champion))
    assert client.get("/health").json()["version"] == "1"

    def fail(_: Workspace) -> ChampionState:
        raise error

    monkeypatch.setattr(rest_server, "read_champion", fail)
    monkeypatch.setattr(rest_server, "REFRESH_SECONDS", 0.0)
    assert client.get("/health").json()["version"] == "1"
    assert client.post("/predict", json={"bars": BARS}).status_code == 200
    assert "version 1 keeps serving" in caplog.text
    assert str(error) in caplog.text


def test_a_server_without_a_decision_log_says_that_nothing_is_verified(
    champion: Champion, caplog: pytest.LogCaptureFixture
) -> None:
    champion.ready()
    assert "the alias is the champion, and its files are not verified" in caplog.text


def test_while_mlflow_is_down_a_server_without_a_champion_answers_503(
    mlflow: LoopbackMlflow, champion: Champion
) -> None:
    client = TestClient(application(champion))
    mlflow.is_down = True
    for answer in (client.get("/health"), client.post("/predict", json={"bars": BARS})):
        assert answer.status_code == 503
        assert "expected the store of runs and versions to answer" in answer.json()["detail"]
    mlflow.is_down = False
    assert client.get("/health").json()["version"] == "1"


def test_one_request_refreshes_and_the_others_do_not_wait(champion: Champion, monkeypatch: pytest.MonkeyPatch) -> None:
    found = champion.ready()
    started, released = Event(), Event()

    def slow(_: Workspace) -> ChampionState:
        started.set()
        released.wait(20)
        return ChampionState(found.version, Version(found.version, "a" * 32, found.trained_until))

    monkeypatch.setattr(rest_server, "read_champion", slow)
    monkeypatch.setattr(rest_server, "REFRESH_SECONDS", 0.0)
    first = Thread(target=champion.ready)
    first.start()
    try:
        assert started.wait(20)
        answers: list[str] = []
        second = Thread(target=lambda: answers.append(champion.ready().version))
        second.start()
        second.join(5)
        assert answers == ["1"]
    finally:
        released.set()
        first.join()
        second.join()
