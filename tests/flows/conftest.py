"""One Prefect server for the session, and homes in which the sample was retrained once or twice.

Each test gets a copy of its own, so it may write, and no test depends on another. The results name files of the home
that was copied, which nobody changes.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ |= {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

from copied_home import copy_home
from prefect.context import _temporary_global_settings_context, get_settings_context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, temporary_settings
from shared_traces import open_sharing_trainer

from flows.retrain import retrain
from model.folds import FoldSpec
from model.training import TrainingSpec
from tasks.results import Retrain
from tasks.services.prefect_server import BARE, temporary_server
from tasks.services.supervisor import STARTUP_TIMEOUT_SECONDS, is_healthy, launch, new_mark
from tasks.settings import process_environment

QUICK = {"folds": FoldSpec(test_bars=240, count=2), "training": TrainingSpec(epochs=2)}


@dataclass(frozen=True)
class Retrained:
    """A home and the results of the retrains in it, oldest first."""

    home: Path
    runs: tuple[Retrain, ...]


@pytest.fixture(scope="session", autouse=True)
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A temporary server, as for a run from a shell: it ends with this process, even if that is killed."""
    home, service = tmp_path_factory.mktemp("prefect"), temporary_server()
    environment = process_environment(**BARE, PREFECT_HOME=str(home))
    process = launch(service, environment, home / "server.log", new_mark(service))
    limit = time.monotonic() + STARTUP_TIMEOUT_SECONDS
    while not is_healthy(service.health_url):
        assert process.poll() is None, (home / "server.log").read_text()
        assert time.monotonic() < limit
        time.sleep(0.1)
    chosen = temporary_settings({PREFECT_API_URL: service.address})
    with chosen, _temporary_global_settings_context(get_settings_context()):  # in threads too
        yield
        APILogWorker.instance().drain()
        EventsWorker.drain_all()
    process.terminate()
    process.wait()


@pytest.fixture(scope="session", autouse=True)
def shared_traces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.walk_forward.open_trainer", open_sharing_trainer)
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, named by the environment."""
    place = tmp_path / "home"
    place.mkdir()
    _use_home(monkeypatch, place)
    return place


@pytest.fixture
def first(home: Path, retrained_once: Retrained) -> Retrain:
    """The first retrain of the sample, on an empty registry; the test's home is a copy of what it left."""
    copy_home(retrained_once.home, home)
    return retrained_once.runs[0]


@pytest.fixture
def both(home: Path, retrained_twice: Retrained) -> tuple[Retrain, ...]:
    """The same retrain twice, the second one forced; the test's home is a copy of what they left."""
    copy_home(retrained_twice.home, home)
    return retrained_twice.runs


@pytest.fixture(scope="session")
def retrained_once(tmp_path_factory: pytest.TempPathFactory) -> Retrained:
    place = tmp_path_factory.mktemp("once")
    with _home_at(place):
        return Retrained(place, (retrain(**QUICK),))


@pytest.fixture(scope="session")
def retrained_twice(retrained_once: Retrained, tmp_path_factory: pytest.TempPathFactory) -> Retrained:
    place = copy_home(retrained_once.home, tmp_path_factory.mktemp("twice"))
    with _home_at(place):
        return Retrained(place, (*retrained_once.runs, retrain(**QUICK, force=True)))


@contextmanager
def _home_at(place: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        _use_home(patch, place)
        yield


def _use_home(patch: pytest.MonkeyPatch, place: Path) -> None:
    patch.setenv("RISEORFALL_HOME", str(place))
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
