"""One Prefect server for the session, and one home in which the sample was retrained."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ |= {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

from prefect.testing.utilities import prefect_test_harness

from flows.retrain import retrain
from model.folds import FoldSpec
from model.training import TrainingSpec
from tasks.results import Retrain

QUICK = {"folds": FoldSpec(test_bars=240, count=2), "training": TrainingSpec(epochs=2)}


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of its own, named by the environment while the session lasts."""
    place = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RISEORFALL_HOME", str(place))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield place


@pytest.fixture(scope="session")
def first(home: Path) -> Retrain:  # noqa: ARG001 - the home must be there
    """The first retrain of the sample, on an empty registry."""
    return retrain(**QUICK)


@pytest.fixture(scope="session")
def second(first: Retrain) -> Retrain:  # noqa: ARG001 - the second comes after the first
    """The same retrain once more."""
    return retrain(**QUICK)
