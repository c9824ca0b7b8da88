"""The REST server: a valid question gets the network's own answer, bad ones a 4xx with a reason."""

import asyncio
import json
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import uvicorn
from synthetic_bars import random_walk
from tiny_home import SERIES, WINDOW
from tiny_network import tiny_onnx

from flows.cli import run
from model.errors import NoChampion, SpecError
from model.predictor import Predictor
from model.recipe import Recipe
from tasks.serving.request_limits import BoundedBody, impatient_protocol
from tasks.serving.rest_server import MAX_BARS, MAX_BODY_BYTES, Champion, Ready, application, serve
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
    "no body": (None, 422, "Field required"),
    "no object": ([1, 2], 422, "valid dictionary"),
    "no bars": ({}, 422, "Field required"),
    "empty bars": ({"bars": []}, 422, "at least 1 item"),
    "bars of words": ({"bars": "BTC"}, 422, "valid list"),
    "strange key": ({"bars": GOOD, "colour": "blue"}, 422, "Extra inputs"),
    "strange column": (last(adj_close=1.0), 422, "Extra inputs"),
    "missing close": ({"bars": [{k: v for k, v in each.items() if k != "close"} for each in GOOD]}, 422, "close"),
    "outside UTC": (last(timestamp="9999-12-31T23:00:00-14:00"), 422, "years 1 to 9999 in UTC"),
    "price as text": (last(close="61000"), 422, "valid number"),
    "negative price": (last(low=-1.0), 422, "greater than 0"),
    "zero price": (last(open=0.0), 422, "greater than 0"),
    "negative volume": (last(volume=-1.0), 422, "greater than or equal to 0"),
    "null price": (last(high=None), 422, "valid number"),
    "high below low": (last(high=1.0), 422, "low <= open, close <= high"),
    "no time": (last(timestamp="yesterday"), 422, "datetime"),
    "not closed yet": ({"bars": [row(0, timestamp="9998-01-12T00:00:00Z")]}, 422, "closed bars"),
    "off the grid": (
        {"bars": [{**each, "timestamp": each["timestamp"].replace("T00:00", "T00:07")} for each in GOOD]},
        422,
        "whole number of intervals",
    ),
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
    assert answer.status_code == code
    assert reason in answer.text


@pytest.mark.parametrize("text", ["not json", '{"bars": [NaN]}', json.dumps(last(close=1e999)), "\x00", ""])
def test_broken_json_is_refused(client: TestClient, text: str) -> None:
    answer = client.post("/predict", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("written", "doubled", "key"),
    [
        ('"bars": [', '"bars": [], "bars": [', "bars"),
        ('"close": ', '"close": 1, "close": ', "close"),
        ('"close": ', r'"\u0063lose": 1, "close": ', "close"),
        ('"bars": [', '"further": {"a": [{"b": 1, "b": 1}]}, "bars": [', "b"),
    ],
)
def test_a_key_that_stands_twice_is_refused_by_its_name(
    client: TestClient, written: str, doubled: str, key: str
) -> None:
    text = json.dumps({"bars": GOOD}).replace(written, doubled, 1)
    answer = client.post("/predict", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json() == {"detail": f"expected each key once in an object, found '{key}' again"}


@pytest.mark.parametrize(
    "text",
    [
        "{" + ", ".join(f'"{at}": 1' for at in range(33)) + "}",
        '{"bars": [{"a": {' + ", ".join(f'"{at}": 1' for at in range(33)) + "}}]}",
        '{"bars": [' + ", ".join(["{}"] * 20_000) + "]}",
    ],
    ids=["keys", "keys below", "objects"],
)
def test_a_body_of_more_than_any_question_has_is_refused_while_it_is_parsed(client: TestClient, text: str) -> None:
    answer = client.post("/predict", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json() == {"detail": "expected at most 20,000 objects of at most 32 keys each, found more"}


def test_faults_of_one_bar_are_listed_not_those_of_all(client: TestClient) -> None:
    """Each takes memory: ten thousand empty bars lack fifty thousand values."""
    answer = client.post("/predict", json={"bars": [{}] * MAX_BARS})
    assert answer.status_code == 422
    assert answer.json()["detail"].count("bars.0.") == 5
    assert "bars.1." not in answer.text
    assert "more" not in answer.text


@pytest.mark.parametrize(
    "target",
    ["/%00", "/docs/%00", "/predict%00", "/%2e%2e/%2e%2e/etc/passwd", "/%ff", "/docs/%ed%a0%80", "/" + "a" * 60_000],
)
def test_strange_addresses_are_not_found(client: TestClient, target: str) -> None:
    for method in ("GET", "POST", "HEAD"):
        assert client.request(method, target).status_code in {404, 405}


def test_a_body_that_is_too_large_is_refused_unread(client: TestClient) -> None:
    answer = client.post("/predict", content=b" " * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    assert str(MAX_BODY_BYTES) in answer.json()["detail"]


def test_a_body_of_the_largest_length_is_read(client: TestClient) -> None:
    whole = json.dumps({"bars": GOOD}).encode().ljust(MAX_BODY_BYTES)
    for content in (whole, iter([whole])):  # with a stated length, and in chunks
        answer = client.post("/predict", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 200


def test_a_body_in_chunks_is_counted_as_it_arrives(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * (1 << 20)

    assert client.post("/predict", content=chunks()).status_code == 413
    whole = json.dumps({"bars": GOOD}).encode()
    answer = client.post(
        "/predict", content=iter([whole[:50], whole[50:]]), headers={"Content-Type": "application/json"}
    )
    assert answer.json() == client.post("/predict", json={"bars": GOOD}).json()


def test_the_rest_of_a_body_that_is_too_long_is_left_unread() -> None:
    """And the connection closes, or the rest would be read as the next request."""
    parts, sent = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal parts
        parts += 1
        return {"type": "http.request", "body": b" " * 60, "more_body": parts < 5}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    bounded = BoundedBody(application(Warm()), max_bytes=100, seconds=5)
    asyncio.run(bounded({"type": "http", "headers": []}, receive, send))
    assert parts == 2
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """A real server with short limits."""
    app = BoundedBody(application(Warm()), max_bytes=MAX_BODY_BYTES, seconds=0.5)
    config = uvicorn.Config(app, port=0, log_level="critical", http=impatient_protocol(0.5), lifespan="off")
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join()


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"POST /pre", b""),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea", b"HTTP/1.1 200"),
        (HEAD + b"Content-Length: 10\r\n\r\n{", b"HTTP/1.1 408"),
        (HEAD + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n     \r\n", b"HTTP/1.1 4"),
    ],
    ids=["half a request line", "half a second request", "half a body", "chunks that never end"],
)
def test_a_slow_client_is_disconnected(address: tuple[str, int], sent: bytes, answer: bytes) -> None:
    with socket.create_connection(address, timeout=20) as link:
        link.sendall(sent)
        received = b""
        while part := link.recv(65536):  # an empty read: the server has closed the connection
            received += part
    assert received.startswith(answer)
    assert bool(received) == bool(answer)


def test_a_second_request_that_is_never_complete_ends_the_connection(address: tuple[str, int]) -> None:
    """Once it has begun, the server no longer counts the connection as idle."""
    with socket.create_connection(address, timeout=5) as link:
        link.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while not received.endswith(b"}"):
            received += link.recv(65536)
        link.sendall(b"GET /hea")
        assert link.recv(65536) == b""


def test_chunks_beyond_the_limit_end_the_connection_although_a_short_length_is_stated(address: tuple[str, int]) -> None:
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with socket.create_connection(address, timeout=20) as link, suppress(ConnectionError):
        link.sendall(HEAD + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(200):  # 200 MB; the server must not take them
            link.sendall(chunk)
        pytest.fail("the server read 200 MB")


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


@pytest.mark.parametrize("host", ["256.1.1.1", "192.0.2.1", "..", "a" * 70 + ".example"])
def test_an_address_of_no_network_of_this_machine_is_wrong_usage(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """192.0.2.0/24 is for documentation: no machine has it."""
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    assert run(["serve", "--host", host]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"riseorfall: serve: expected an address of this machine and a free port, found {host}")
    assert shown.out == ""


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_a_port_out_of_range_is_wrong_usage(
    port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    assert run(["serve", "--port", port]) == 2
    assert "--port" in capsys.readouterr().err


def test_a_port_in_use_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        assert run(["serve", "--port", str(port)]) == 2
    assert f"found 127.0.0.1:{port} (Address already in use)" in capsys.readouterr().err


def test_a_server_that_does_not_start_is_no_failed_data_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SystemExit(3)

    monkeypatch.setattr("uvicorn.run", fail)
    monkeypatch.setattr("tasks.serving.rest_server.Champion", lambda *_: Warm())
    with pytest.raises(SpecError, match=r"serve: the server did not start at 127\.0\.0\.1:8000"):
        serve(SERIES, Settings(), "127.0.0.1", 8000, lambda _: None)
