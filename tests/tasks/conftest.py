"""Homes for tests, and a time limit: a module builds its home once, as the fixture `template`; each test has a copy."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from copied_home import copy_home

from tasks.settings import Settings
from tasks.workspace import Workspace


@pytest.fixture(scope="module")
def template_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A path for the home that a module builds; the variable of the tracking address is not set meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for good
        yield tmp_path_factory.mktemp("template") / "home"


@pytest.fixture
def settings(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a copy of the module's `template`; the environment names the copy."""
    home = copy_home(template, tmp_path / "home")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RISEORFALL_HOME", str(home))
    return Settings(home=home, tracking_uri="", store="", public_url="")


@pytest.fixture
def workspace(settings: Settings, request: pytest.FixtureRequest) -> Workspace:
    """The module's `SERIES` in the copy."""
    return Workspace(settings, request.module.SERIES)


@pytest.fixture
def ends_in_10_seconds() -> Iterator[None]:
    """Raise TimeoutError in a test that still runs then, such as one that waits for the writer of a pipe."""

    def end(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, 10, 1)  # again, where the code catches it
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
