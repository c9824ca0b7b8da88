"""Plants what a monitor should find in a home whose champion learned from the sample: drift, degradation."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from model.bars import Bars, Series
from model.times import to_datetime
from tasks.settings import Settings
from tasks.store.prediction_log import Prediction
from tasks.workspace import Workspace

SERIES = Series("BTC-USD", "1d")
DAYS = 120
SCALE, MORE_VOLATILE = 5.0, 3.0


def plant_drift(home: Path) -> None:
    """Add days like the last stored ones, with prices scaled and each move, from open to close or between, tripled."""
    store = Workspace(_settings(home)).bar_store
    bars = store.read_bars(store.ref(SERIES))
    ohlcv = bars.ohlcv[-DAYS:].copy()
    logs = np.log(ohlcv[:, :4])
    ohlcv[:, :4] = np.exp(np.log(SCALE) + logs[0, 0] + MORE_VOLATILE * (logs - logs[0, 0]))
    planted = Bars("1d", bars.opened_at[-1] + np.arange(1, DAYS + 1) * bars.delta, ohlcv)
    store.merge(SERIES, planted.frame(), {"source": "planted"}, merged_at=datetime.now(UTC))


def plant_degradation(home: Path) -> None:
    """Store predictions of the last stored days that say the opposite of what happened, each before its outcome."""
    settings = _settings(home)
    workspace = Workspace(settings)
    store = workspace.bar_store
    bars = store.read_bars(store.ref(SERIES))
    close, closed_at = bars.column("close")[-DAYS:], bars.closed_at[-DAYS:]
    version = str(workspace.decision_log.rows(SERIES.name)[-1].champion_after)
    wrong = np.where(np.diff(close) > 0, 0.1, 0.9)
    day = timedelta(days=1)
    workspace.prediction_log.store_all(
        [
            Prediction(SERIES.name, "BTC-USD", "1d", at, at + day, version, float(says), at + timedelta(minutes=1))
            for at, says in zip(map(to_datetime, closed_at[:-1]), wrong, strict=True)
        ]
    )


def _settings(home: Path) -> Settings:
    return Settings(home=home, tracking_uri="", store="", public_url="")
