"""What a version is registered with besides its network."""

from pathlib import Path

import numpy as np
import pytest
from panel_home import SYMBOLS, store_coins
from synthetic_bars import random_walk
from tiny_home import SERIES, store_bars
from tiny_network import tiny_onnx

from model.bars import Bars
from model.panel import PanelSpec, cut_panel
from model.panel_recipe import panel_from_frame
from model.predictor import Predictor
from model.times import column_times
from model.windows import WindowSpec
from tasks.registration import EXAMPLE_WINDOWS, input_example
from tasks.results import WindowsRef
from tasks.settings import Settings
from tasks.store.panel_bars import panel_ref
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


def test_the_input_example_of_a_panel_holds_a_whole_window_where_every_series_misses_a_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage of the exchange is a gap of all series: among the newest bars of each no window is whole."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    settings, window = Settings(), WindowSpec(lookback_bars=20)
    coins = {symbol: random_walk(90, seed=seed, absent={74}) for seed, symbol in enumerate(SYMBOLS)}
    store_coins(settings, coins)
    bars = panel_ref(Workspace(settings).bar_store, "1d", PanelSpec(symbols=SYMBOLS))
    example = input_example(WindowsRef(bars, window, 1, 1, 0.5))
    windows = cut_panel(panel_from_frame(example, "1d"), window, bars.panel).windows
    assert set(windows.symbols) == set(SYMBOLS)
    assert windows.decided_at[-1] == coins["BTC-USD"].closed_at[73]
