"""The REST server: a valid question gets the network's own answer, bad ones a 4xx with a reason."""

import json
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_bars import random_walk
from tiny_home import SERIES, WINDOW
from tiny_network import tiny_onnx

from model.errors import NoChampion
from model.predictor import Predictor
from model.recipe import Recipe
from tasks.serving.rest_server import MAX_BARS, MAX_BODY_BYTES, Champion, Ready, application
from tasks.settings import Settings
from tasks.workspace import Workspace

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the test client speaks of its successor
    from fastapi.testclient import TestClient

BARS = random_walk(12, seed=2)


def row(place: int, **changed: Any) -> dict[str, Any]:
    opened, high, low, close, volume = BARS.ohlcv[place].tolist()
    told = {"timestamp": f"{BARS.opened_at[place]}Z", "open": opened, "high": high, "low": low, "close": close}
    return {**told, "volume": volume, **changed}


GOOD = [row(place) for place in range(12)]


class Warm(Champion):
    """A champion that is in memory already, or was never promoted."""

    def __init__(self, *, promoted: bool = True) -> None:
        super().__init__(SERIES, Settings())
        self.promoted = promoted

    def ready(self) -> Ready:
        if not self.promoted:
            raise NoChampion("BTC-USD-1d: expected a champion, found none.")
        predictor = Predictor(tiny_onnx(5), WINDOW)
        return Ready("7", datetime(2018, 1, 5, tzinfo=UTC), Recipe(window=WINDOW), predictor)


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(application(Warm()))


def test_a_valid_question_is_answered_for_each_whole_window(client: TestClient) -> None:
    answer = client.post("/predict", json={"bars": GOOD})
    assert answer.status_code == 200
    told = answer.json()
    close = BARS.column("close")
    expected = [1 / (1 + np.exp(-(close[end] / close[end - 4] - 1))) for end in range(4, 12)]
    assert [each["probability"] for each in told["predictions"]] == pytest.approx(expected, abs=1e-6)
    assert told["predictions"][-1]["decided_at"] == "2018-01-13T00:00:00Z"
    assert (told["symbol"], told["interval"], told["version"]) == ("BTC-USD", "1d", "7")


@pytest.mark.parametrize(
    "changed", [{"timestamp": "2018-01-12T00:00:00"}, {"timestamp": "2018-01-12T01:00:00+01:00"}, {"volume": None}]
)
def test_times_may_lack_a_zone_and_volumes_may_be_absent(client: TestClient, changed: dict[str, Any]) -> None:
    answer = client.post("/predict", json={"bars": [*GOOD[:11], row(11, **changed)]})
    assert answer.json() == client.post("/predict", json={"bars": GOOD}).json()


def last(**changed: Any) -> dict[str, Any]:
    return {"bars": [*GOOD[:11], row(11, **changed)]}


BAD: dict[str, tuple[Any, int, str]] = {
    "no body": (None, 411, "Content-Length"),
    "no object": ([1, 2], 422, "valid dictionary"),
    "no bars": ({}, 422, "Field required"),
    "empty bars": ({"bars": []}, 422, "at least 1 item"),
    "bars of words": ({"bars": "BTC"}, 422, "valid list"),
    "strange key": ({"bars": GOOD, "colour": "blue"}, 422, "Extra inputs"),
    "strange column": (last(adj_close=1.0), 422, "Extra inputs"),
    "missing close": ({"bars": [{k: v for k, v in each.items() if k != "close"} for each in GOOD]}, 422, "close"),
    "price as text": (last(close="61000"), 422, "valid number"),
    "negative price": (last(low=-1.0), 422, "greater than 0"),
    "zero price": (last(open=0.0), 422, "greater than 0"),
    "negative volume": (last(volume=-1.0), 422, "greater than or equal to 0"),
    "null price": (last(high=None), 422, "valid number"),
    "high below low": (last(high=1.0), 422, "low <= open, close <= high"),
    "no time": (last(timestamp="yesterday"), 422, "datetime"),
    "newest first": ({"bars": GOOD[::-1]}, 422, "oldest first"),
    "doubled bar": ({"bars": [*GOOD, GOOD[-1]]}, 422, "increase by whole intervals"),
    "off the clock": (last(timestamp="2018-01-12T05:00:00Z"), 422, "whole intervals"),
    "too few": ({"bars": GOOD[:4]}, 422, "at least 5 bars in a row"),
    "a gap in each window": ({"bars": [*GOOD[:3], *GOOD[6:9]]}, 422, "without a gap"),
    "too many": ({"bars": [GOOD[0]] * (MAX_BARS + 1)}, 422, f"at most {MAX_BARS} items"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_question_is_refused_with_a_reason(client: TestClient, name: str) -> None:
    body, code, reason = BAD[name]
    answer = client.post("/predict") if body is None else client.post("/predict", json=body)
    if body is None and answer.status_code == 422:  # a client may say that the length is 0
        reason = "Field required"
    assert answer.status_code in {code, 422}
    assert reason in answer.text


@pytest.mark.parametrize("text", ["not json", '{"bars": [NaN]}', json.dumps(last(close=1e999)), "\x00", ""])
def test_broken_json_is_refused(client: TestClient, text: str) -> None:
    answer = client.post("/predict", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_a_body_that_is_too_large_is_refused_unread(client: TestClient) -> None:
    answer = client.post("/predict", content=b" " * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert str(MAX_BODY_BYTES) in answer.json()["detail"]


def test_a_body_of_no_stated_length_is_refused(client: TestClient) -> None:
    assert client.post("/predict", content=iter([b"{}"])).status_code == 411


def test_other_methods_and_places_are_refused(client: TestClient) -> None:
    assert client.get("/predict").status_code == 405
    assert client.get("/etc/passwd").status_code == 404


def test_health_says_which_version_answers(client: TestClient) -> None:
    told = client.get("/health").json()
    assert (told["status"], told["series"], told["version"]) == ("ok", "BTC-USD-1d", "7")


def test_without_a_champion_the_server_says_so() -> None:
    client = TestClient(application(Warm(promoted=False)))
    assert client.get("/health").status_code == 503
    assert "expected a champion" in client.post("/predict", json={"bars": GOOD}).json()["detail"]


def test_a_new_champion_takes_over_and_a_broken_one_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiny_home import tiny_home

    from tasks.registry.model_files import ModelFiles
    from tasks.serving import rest_server

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = tiny_home(tmp_path, random_walk(60, seed=1), 50)
    champion = Champion(SERIES, settings)
    assert champion.ready().version == "1"
    workspace = Workspace(settings, SERIES)
    record = workspace.registry.read_version("1").record()
    until = {"trained_until": "2018-03-01T00:00:00+00:00"}
    for onnx in (tiny_onnx(5, gain=2.0), b"broken"):
        files = ModelFiles(keras=b"", onnx=onnx, recipe=Recipe(window=WINDOW), record=record)
        workspace.registry.add_version(workspace.runs.start_run("retrain", {}), files, until)
    monkeypatch.setattr(rest_server, "REFRESH_SECONDS", 0.0)
    for version, expected in (("2", "2"), ("3", "2")):
        workspace.registry.set_alias("champion", version)
        assert champion.ready().version == expected
