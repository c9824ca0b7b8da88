"""Errors of the MLflow adapters: a file that is absent is told apart from a store that does not answer."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread

import pytest
import requests
from matplotlib.figure import Figure
from mlflow.exceptions import MlflowException
from PIL import Image

from model.bars import Series
from model.errors import DamagedHome, NoChampion, StoreUnavailable, UnsoundModel
from tasks.registry.experiment_runs import ExperimentRuns
from tasks.registry.run_cache import CACHE, run_cache
from tasks.registry.unreachable_store import is_store_failure
from tasks.settings import Settings
from tasks.workspace import Workspace


def test_files_that_find_no_place_say_which_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for good
    settings = Settings(home=tmp_path / "home", tracking_uri="", store="")
    workspace = Workspace(settings, Series("BTC-USD", "1d"))
    run_id = workspace.runs.start_run("retrain", {})
    workspace.runs.log_files(run_id, {"record.parquet": b"12345"}, "evaluation")
    place = Path(workspace.runs.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    (place / "network").write_text("a file where a folder must be", encoding="utf-8")
    with pytest.raises(
        StoreUnavailable, match=r"put a\.onnx, b\.keras \(5 bytes\) into .*/network, found: .*store is full or"
    ):
        workspace.runs.log_files(run_id, {"a.onnx": b"12", "b.keras": b"345"}, "network")
    assert workspace.runs.read_file(run_id, "evaluation/record.parquet") == b"12345"


def test_of_two_first_retrains_at_once_both_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for good
    settings = Settings(home=tmp_path / "home", tracking_uri="", store="")
    one, other = (Workspace(settings, Series("BTC-USD", "1d")).runs for _ in range(2))
    look, others = one.client.get_experiment_by_name, []

    def look_just_before_the_other(name: str) -> object:
        found = look(name)
        if not others:
            others.append(other.start_run("retrain", {}))
        return found

    monkeypatch.setattr(one.client, "get_experiment_by_name", look_just_before_the_other)
    run_ids = {one.start_run("retrain", {}), *others}
    assert len(run_ids) == 2
    assert {one.client.get_run(each).info.experiment_id for each in run_ids} == {one.experiment_id()}


def test_a_retrain_of_an_experiment_that_was_deleted_says_how_to_restore_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for good
    runs = Workspace(Settings(home=tmp_path / "home", tracking_uri="", store=""), Series("BTC-USD", "1d")).runs
    run_id = runs.start_run("retrain", {})
    runs.client.delete_experiment(runs.experiment_id())
    with pytest.raises(DamagedHome, match="deleted there, with its runs") as found:
        runs.start_run("retrain", {})
    (identity,) = re.findall(r"--experiment-id (\d+)`", str(found.value))
    runs.client.restore_experiment(identity)  # what the command does
    assert runs.start_run("retrain", {}) != run_id
    assert runs.client.get_run(run_id).info.lifecycle_stage == "active"


@contextmanager
def mlflow_that_answers(status: int, code: str) -> Iterator[str]:
    """Run a server on loopback that answers every request with a status and MLflow's error code; yield its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"error_code": code, "message": "planted"}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def registry_at(home: Path, address: str) -> Workspace:
    return Workspace(Settings(home=home, tracking_uri=address, store=""), Series("BTC-USD", "1d"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's client does not try again for minutes."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_down_has_lost_no_version(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"  # bound and not listening: nobody answers
        workspace = registry_at(tmp_path, address)
        with pytest.raises(StoreUnavailable, match="Nothing was decided"):
            workspace.registry.version("1")
        with pytest.raises(StoreUnavailable):
            workspace.runs.read_file("a-run", "record.parquet")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "RESOURCE_DOES_NOT_EXIST", NoChampion),
        (403, "PERMISSION_DENIED", StoreUnavailable),
        (503, "TEMPORARILY_UNAVAILABLE", StoreUnavailable),
    ],
)
def test_an_answer_tells_whether_the_version_or_the_server_is_missing(
    status: int, code: str, expected: type[Exception], tmp_path: Path
) -> None:
    with mlflow_that_answers(status, code) as address, pytest.raises(expected):
        registry_at(tmp_path, address).registry.version("1")


@pytest.mark.usefixtures("impatient")
def test_a_run_that_is_gone_is_no_failure_of_its_store(tmp_path: Path) -> None:
    with mlflow_that_answers(404, "RESOURCE_DOES_NOT_EXIST") as address, pytest.raises(UnsoundModel):
        registry_at(tmp_path, address).runs.read_file("a-run", "record.parquet")


def http_error(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(str(status), response=response)


def wrapped(cause: Exception) -> Exception:
    """Return MLflow's exception as it raises it while it handles another one."""
    error = MlflowException(f"API request failed: {cause}")
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "is_failure"),
    [
        (FileNotFoundError("gone"), False),
        (http_error(404), False),
        (MlflowException("no such artifact"), False),
        (http_error(503), True),
        (http_error(403), True),
        (PermissionError("refused"), True),
        (TimeoutError("slow"), True),
        (requests.ConnectionError("refused"), True),
        (wrapped(requests.ConnectionError("refused")), True),
        (wrapped(http_error(404)), False),
    ],
    ids=repr,
)
def test_what_shows_that_a_store_failed(error: Exception, is_failure: bool) -> None:
    assert is_store_failure(error) == is_failure


def test_what_a_retrain_wrote_is_not_fetched_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for good
    settings = Settings(home=tmp_path / "home", tracking_uri="", store="")
    losses = {"train/log_loss": [0.71, 0.7], "train/validation_log_loss": [float("nan"), 1 / 3]}

    def runs() -> ExperimentRuns:
        return Workspace(settings, Series("BTC-USD", "1d")).runs  # each step opens its own

    with run_cache():
        run_id = runs().start_run("retrain", {})
        experiment = runs().experiment_id()
        runs().log_files(run_id, {"record.parquet": b"123"}, "evaluation")
        runs().log_files(run_id, {"calibrator.json": b"{}"}, "")
        runs().log_values(run_id, curves=losses)
        with monkeypatch.context() as patch:
            patch.setattr("tasks.registry.experiment_runs.open_client", lambda _: pytest.fail("MLflow was asked"))
            assert runs().read_file(run_id, "evaluation/record.parquet") == b"123"
            assert runs().read_file(run_id, "calibrator.json") == b"{}"
            assert runs().experiment_id() == experiment
            remembered = runs().read_curves(run_id)
    stored = runs().read_curves(run_id)
    assert str(remembered) == str(stored)  # NaN is not equal to itself
    place = Path(runs().client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    (place / "calibrator.json").write_bytes(b"other")
    assert runs().read_file(run_id, "calibrator.json") == b"other"
    assert [*CACHE.files, *CACHE.curves, *CACHE.experiments] == []


def test_files_beyond_the_limit_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.registry.run_cache.MAX_BYTES", 5)
    with run_cache():
        for name, content in (("a", b"123"), ("b", b"456"), ("c", b"78"), ("a", b"1234")):
            CACHE.keep_file(("sqlite://", "run", name), content)
        assert CACHE.files == {("sqlite://", "run", "c"): b"78"}  # the new `a` has no place, the old one is outdated
    CACHE.keep_file(("sqlite://", "run", "d"), b"1")  # no retrain runs
    assert not CACHE.files


def test_a_figure_is_logged_in_its_size_and_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = Figure(figsize=(3, 2), dpi=50)
    figure.patch.set_facecolor("#0072b2")
    kept: dict[str, bytes] = {}
    monkeypatch.setattr(ExperimentRuns, "log_files", lambda _self, _run, files, folder: kept.update({folder: files}))
    ExperimentRuns.log_figure(object.__new__(ExperimentRuns), "run", figure, "pictures/history.png")
    with Image.open(BytesIO(kept["pictures"]["history.png"])) as image:
        assert (image.size, image.mode) == ((150, 100), "P")
        assert {colour for _, colour in image.convert("RGB").getcolors()} == {(0x00, 0x72, 0xB2)}
