"""A home with bars and one champion whose network is written by hand: quick, and its probabilities are known."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from tiny_network import tiny_onnx

from model.bars import Bars, Series
from model.predictor import Predictor
from model.recipe import Recipe
from model.record import Record
from model.windows import WindowSpec, cut_windows
from tasks.registry.model_files import ModelFiles
from tasks.settings import Settings
from tasks.workspace import Workspace

SERIES = Series("BTC-USD", "1d")
WINDOW = WindowSpec(lookback_bars=5)


def tiny_home(home: Path, bars: Bars, trained_bars: int, *, gain: float = 1.0) -> Settings:
    """Store bars and register a champion that learned from the first `trained_bars` of them.

    Its record are its probabilities for the newest 300 windows before the end of its training.
    """
    settings = Settings(home=home, tracking_uri="", store="", public_url="")
    store_bars(settings, bars)
    workspace = Workspace(settings, SERIES)
    workspace.decision_log.tables[0].create()  # as long as it has no row, the alias counts
    workspace.registry.set_alias("champion", tiny_version(workspace, bars, trained_bars, gain=gain))
    return settings


def tiny_version(workspace: Workspace, bars: Bars, trained_bars: int, *, gain: float = 1.0) -> str:
    """Register a version that learned from the first `trained_bars` of the bars; return its number."""
    run_id = workspace.runs.start_run("retrain", {})
    known = Bars(bars.interval, bars.opened_at[:trained_bars], bars.ohlcv[:trained_bars])
    windows = cut_windows(known, WINDOW).resolved()
    onnx = tiny_onnx(5, gain=gain)
    _, probabilities = Predictor(onnx, WINDOW).predict(known)
    newest = windows.take(np.arange(max(0, len(windows) - 300), len(windows)))
    said = probabilities[: len(windows)][-len(newest) :]
    own = Record(newest.decided_at, newest.resolved_at, newest.labels, said, np.zeros(len(newest), dtype=np.int64))
    files = ModelFiles(keras=b"not asked for", onnx=onnx, recipe=Recipe(window=WINDOW), record=own)
    return workspace.registry.add_version(run_id, files, {"trained_until": f"{known.closed_at[-1]}+00:00"}).version


def store_bars(settings: Settings, bars: Bars) -> None:
    """Let bars join the store, as the flow `ingest` would."""
    Workspace(settings).bar_store.merge(SERIES, bars.frame(), {"source": "test"}, merged_at=datetime.now(UTC))
