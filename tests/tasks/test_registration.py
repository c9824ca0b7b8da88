"""What a version is registered with besides its network."""

from pathlib import Path

import numpy as np
import pytest
from synthetic_bars import random_walk
from tiny_home import SERIES, store_bars
from tiny_network import tiny_onnx

from model.bars import Bars
from model.predictor import Predictor
from model.times import column_times
from model.windows import WindowSpec
from tasks.registration import EXAMPLE_WINDOWS, input_example
from tasks.results import WindowsRef
from tasks.settings import Settings
from tasks.workspace import Workspace

BARS = random_walk(60, seed=3)
WINDOW = WindowSpec(lookback_bars=5)


@pytest.mark.parametrize(
    ("missing", "newest", "windows"), [((), 59, 3), ((57,), 56, 3), ((57, 54), 53, 3), ((50, 56), 55, 1)]
)
def test_the_input_example_holds_the_newest_whole_window(
    missing: tuple[int, ...], newest: int, windows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what the smoke test of a promotion predicts from; a gap among the newest bars must not fail it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    kept = np.setdiff1d(np.arange(60), missing)
    settings = Settings()
    store_bars(settings, Bars(BARS.interval, BARS.opened_at[kept], BARS.ohlcv[kept]))
    ref = WindowsRef(Workspace(settings).bar_store.ref(SERIES), WINDOW, 1, 1, 0.5)
    example = input_example(ref)
    assert len(example) == WINDOW.lookback_bars + EXAMPLE_WINDOWS - 1
    assert example["timestamp"].iloc[-1].to_datetime64() == BARS.opened_at[newest]
    own = np.isin(BARS.opened_at, column_times(example["timestamp"]))
    decided_at, _ = Predictor(tiny_onnx(5), WINDOW).predict(Bars(BARS.interval, BARS.opened_at[own], BARS.ohlcv[own]))
    assert len(decided_at) == windows
