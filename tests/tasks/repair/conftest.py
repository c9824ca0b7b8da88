"""A home of version 0.1 that the environment names."""

from pathlib import Path

import pytest
from home_0_1 import unpack_home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one retrain and one stored prediction, at its last close."""
    place = unpack_home(tmp_path / "home")
    monkeypatch.setenv("RISEORFALL_HOME", str(place))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return place
