"""Prediction: the champion's probability for the last closed bar, stored once and before it is shown.

Plain: a shell predicts without any server, and the flow `predict` wraps the same function. No TensorFlow: the
champion's ONNX file is enough.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from model.bars import Series
from tasks.champion.commit_decision import sync_champion_alias
from tasks.settings import Settings
from tasks.store.prediction_log import Prediction
from tasks.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Forecast:
    """One stored prediction."""

    symbol: str
    interval: str
    decided_at: str
    resolves_at: str
    probability: float
    version: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def forecast(
    series: Series, settings: Settings, now: datetime | None = None, as_of: datetime | None = None
) -> Forecast:
    """Predict with the champion at the newest stored bar; store the probability, then return it.

    A prediction that was stored before is returned as it was stored.

    Args:
        series: whose champion and bars.
        settings: where both are.
        now: time of writing; the clock's when None.
        as_of: only bars that had closed by then, UTC; all when None.

    Raises:
        NoChampion: nothing was promoted yet.
        UnsoundModel: the champion's files are gone or broken.
        SpecError: there are no bars.
    """
    workspace = Workspace(settings, series)
    champion = sync_champion_alias(workspace).require(series.name)
    loaded = workspace.registry.read_version(champion.version)
    recipe = loaded.recipe()
    store = workspace.bar_store
    bars = store.read_bars(store.ref(series, as_of=as_of))
    decided_at, probability = loaded.predictor().predict_last(bars)
    decided = _aware(decided_at)
    horizon = timedelta(seconds=recipe.window.horizon_bars * int(series.delta / np.timedelta64(1, "s")))
    prediction = Prediction(
        series_name=series.name,
        symbol=series.symbol,
        interval=series.interval,
        decided_at=decided,
        resolves_at=decided + horizon,
        version=champion.version,
        probability=probability,
        stored_at=now or datetime.now(UTC),
    )
    workspace.prediction_log.store(prediction)
    kept = workspace.prediction_log.find(series.name, decided, champion.version) or prediction
    return Forecast(
        series.symbol,
        series.interval,
        kept.decided_at.isoformat(),
        kept.resolves_at.isoformat(),
        kept.probability,
        kept.version,
    )


def _aware(moment: np.datetime64) -> datetime:
    return datetime.fromtimestamp(int(moment.astype("datetime64[s]").astype(np.int64)), UTC)
