"""Homes with three series of synthetic bars, and the tiny recipe by which a panel of them is retrained in seconds.

`add_panel_version` registers a version without training: its network is `tiny_network.tiny_onnx`.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from synthetic_bars import random_walk
from tiny_network import tiny_onnx

from model.bars import PANEL, Bars, Series
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.panel import PanelSpec, cut_panel
from model.panel_recipe import PanelRecipe, panel_recipe_for
from model.predictor import Predictor
from model.record import Record
from model.times import to_datetime
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.registry.model_files import ModelFiles
from tasks.registry.model_registry import Version
from tasks.registry.run_artifacts import log_fold_networks, parquet_bytes
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision
from tasks.workspace import Workspace

SYMBOLS = ("ADA-USD", "BTC-USD", "ETH-USD")
RECIPE: dict[str, Any] = {
    "window": WindowSpec(lookback_bars=5),
    "folds": FoldSpec(test_bars=60, count=2),
    "network": NetworkSpec(filters=(2,), units=2, dense_units=4),
    "training": TrainingSpec(epochs=2, batch_size=64, members=1),  # the preset has two
}
RANKS = PanelSpec(label="rank", inputs="cross_section", reference="BTC-USD", least_series=3)


def coins(count: int = 240) -> dict[str, Bars]:
    """Return daily bars of three coins; ADA-USD misses a bar, ETH-USD is listed 60 bars later."""
    found = {symbol: random_walk(count, seed=seed) for seed, symbol in enumerate(SYMBOLS)}
    found["ADA-USD"] = random_walk(count, seed=0, absent={100})
    late = found["ETH-USD"]
    return found | {"ETH-USD": Bars("1d", late.opened_at[60:], late.ohlcv[60:])}


def store_coins(settings: Settings, bars: dict[str, Bars]) -> None:
    """Let bars join the store, as the flow `ingest` would."""
    store = Workspace(settings).bar_store
    for symbol, each in bars.items():
        store.merge(Series(symbol, each.interval), each.frame(), {"source": "test"}, merged_at=datetime.now(UTC))


def panel_recipe(**chosen: Any) -> PanelRecipe:
    """Return the tiny recipe of a panel of the three coins, or as chosen."""
    return panel_recipe_for("1d", PanelSpec(**{"symbols": SYMBOLS, **chosen}), **RECIPE)


def tiny_record(recipe: PanelRecipe, bars: dict[str, Bars], gain: float, closes: int = 120) -> Record:
    """Return what the tiny network of a gain predicts for the resolved windows of the newest closes."""
    windows = cut_panel(bars, recipe.window, recipe.panel).resolved().windows
    windows = windows.take(np.flatnonzero(windows.decided_at >= np.unique(windows.decided_at)[-closes]))
    probabilities = tiny_predictor(recipe, gain).predict_windows(windows)
    fold = np.zeros(len(windows), dtype=np.int64)
    return Record(windows.decided_at, windows.resolved_at, windows.labels, probabilities, fold, windows.symbols)


def tiny_probability(bars: Bars, close: np.datetime64, gain: float = 1.0) -> float:
    """Return the tiny network's P by hand: the logistic function of the return over its five bars, times its gain."""
    last = int(np.searchsorted(bars.closed_at, close))
    prices = bars.column("close")
    return float(1 / (1 + np.exp(-gain * (prices[last] / prices[last - 4] - 1))))


def tiny_predictor(recipe: PanelRecipe, gain: float) -> Predictor:
    """Return the tiny network of a gain."""
    return Predictor(_tiny(recipe, gain), recipe.window, context_count=recipe.context_count)


def add_panel_version(
    workspace: Workspace,
    recipe: PanelRecipe,
    bars: dict[str, Bars],
    own: Record,
    gain: float,
    until: np.datetime64,
    fold_networks: np.ndarray | None = None,
) -> Version:
    """Register the tiny network of a gain with a record, as if it had been trained until a close.

    `fold_networks`, shape (fold, window), are those of the record; None: a run without them.
    """
    run_id = workspace.runs.start_run("retrain", {})
    frame = own.frame().assign(base_rate=0.5)
    workspace.runs.log_files(run_id, {"record.parquet": parquet_bytes(frame)}, "evaluation")
    if fold_networks is not None:
        log_fold_networks(workspace.runs, run_id, fold_networks)
    windows = cut_panel(bars, recipe.window, recipe.panel).windows
    newest = windows.take(np.arange(len(windows) - 20, len(windows)))  # cuts a close of three series
    probe = {
        "decided_at": newest.decided_at,
        "probability": tiny_predictor(recipe, gain).predict_windows(newest),
    }
    workspace.runs.log_files(run_id, {"probe.parquet": parquet_bytes(pd.DataFrame(probe))}, "network")
    files = ModelFiles(keras=b"unused", onnx=_tiny(recipe, gain), recipe=recipe, record=own)
    return workspace.registry.add_version(run_id, files, {"trained_until": f"{until}+00:00", "recipe": recipe.digest})


def _tiny(recipe: PanelRecipe, gain: float) -> bytes:
    features = len(recipe.window.features)
    return tiny_onnx(recipe.window.lookback_bars, features + recipe.context_count, gain, close=features - 1)


def home_of_panel(home: Path) -> Settings:
    """Return a home of three coins with bars only, and a champion of their panel, trained until the newest close."""
    settings, bars, recipe = Settings(home=home, tracking_uri="", store="", public_url=""), coins(), panel_recipe()
    store_coins(settings, bars)
    workspace, until = Workspace(settings, Series(PANEL, "1d")), bars["BTC-USD"].closed_at[-1]
    own = tiny_record(recipe, bars, 1.0)
    number = add_panel_version(workspace, recipe, bars, own, 1.0, until).version
    for alias in ("challenger", "champion"):  # as a promotion leaves them
        workspace.registry.set_alias(alias, number)
    reasons = (
        "log loss difference +0.0001 vs. the base rate",
        "there is no champion",
        "sanity check: no problem found",
    )
    numbers = {"base_rate.n": float(len(own)), "base_rate.difference": 0.0001, "base_rate.low": -0.01,
               "base_rate.high": 0.01}  # fmt: skip
    files = {number: workspace.registry.read_version(number).digests()}
    workspace.decision_log.append(
        LoggedDecision(
            "run-1",
            to_datetime(until),
            "PANEL-1d",
            PANEL,
            "1d",
            "promote",
            number,
            None,
            number,
            reasons,
            numbers,
            marks=("passed",) * 3,
            files=files,
        )
    )
    return settings
