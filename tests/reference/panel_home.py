"""Homes with three series of synthetic bars, and the tiny recipe by which a panel of them is retrained in seconds."""

from datetime import UTC, datetime
from typing import Any

from synthetic_bars import random_walk

from model.bars import Bars, Series
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.panel import PanelSpec
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.settings import Settings
from tasks.workspace import Workspace

SYMBOLS = ("ADA-USD", "BTC-USD", "ETH-USD")
RECIPE: dict[str, Any] = {
    "window": WindowSpec(lookback_bars=5),
    "folds": FoldSpec(test_bars=60, count=2),
    "network": NetworkSpec(filters=(2,), units=2, dense_units=4),
    "training": TrainingSpec(epochs=2, batch_size=64),
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
