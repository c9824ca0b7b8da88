"""Forecasts of the champion, stored before they are returned: the newest bar, and the days missed before it.

No Prefect and no TensorFlow: a shell predicts without any server, from the champion's ONNX file. A champion or bars
that are too old are refused, and the bars of the last window are checked once more. The trap: a backfilled prediction
is late by its time of writing, and may come only from the version that was champion at that time and was trained
before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from jaxtyping import Shaped

from data_checks.bar_rules import VALUE_RULES, by_values
from data_checks.suites import NEVER_RELEASED, CheckSpec
from model.bars import Bars, Series
from model.errors import ChecksFailed
from model.freshness import ForecastSpec, require_fresh
from model.times import to_datetime, to_datetime64
from model.windows import WindowSpec
from tasks.champion.as_of_time import resolve_as_of
from tasks.champion.commit_decision import sync_champion_alias
from tasks.registry.model_files import LoadedVersion
from tasks.registry.model_registry import Version
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision
from tasks.store.prediction_log import Prediction, new_prediction
from tasks.workspace import Workspace

MAX_BACKFILL_BARS = 400  # after a longer absence only the newest bars are backfilled


@dataclass(frozen=True, slots=True)
class Forecast:
    """A stored prediction for the newest bar, and the predictions backfilled before it, oldest first."""

    prediction: Prediction
    backfilled: tuple[Prediction, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction for the newest bar ready for JSON."""
        names = ("symbol", "interval", "decided_at", "resolves_at", "probability", "version")
        values = self.prediction.to_dict()
        return {name: values[name] for name in names}


def forecast(
    series: Series,
    settings: Settings,
    limits: ForecastSpec | None = None,
    as_of: datetime | None = None,
    now: datetime | None = None,
) -> Forecast:
    """Predict at the newest stored bar and at the bars missed before it, and store all predictions.

    A prediction that is stored already is returned as it was stored.

    Args:
        series: symbol and interval.
        settings: addresses of bars, logs and MLflow.
        limits: staleness limits; defaults if None.
        as_of: only bars closed by then are used, UTC; None: see `tasks.champion.as_of_time.resolve_as_of`.
        now: time of writing; the clock if None.

    Raises:
        NoChampion: no version has been promoted yet.
        UnsoundModel: the champion's files are missing or broken.
        StaleChampion: the champion or the newest bar is too old.
        SpecError: there are no bars, or the champion was trained on bars after `as_of`.
        ChecksFailed: a bar of the last window breaks a rule of the data checks.
    """
    workspace = Workspace(settings, series)
    champion = sync_champion_alias(workspace).require(series.name)
    loaded = workspace.registry.read_version(champion.version)
    window = loaded.recipe().window
    store = workspace.bar_store
    bars = store.read_bars(store.ref(series))
    moment = resolve_as_of(workspace, champion, bars, as_of)  # once: a bar that closes from now on is for the next run
    bars = bars.closed_by(to_datetime64(moment))
    name = f"{series.name} version {champion.version}"
    require_fresh(name, champion.trained_until, bars, window, moment, limits or ForecastSpec())
    require_checked(series, bars, window, store.released(series))
    backfilled = _backfill(workspace, champion, loaded, bars, now)
    decided_at, probability = loaded.predictor().predict_last(bars)
    prediction = new_prediction(
        series.name, series, window.horizon_bars, decided_at, champion.version, probability, now or datetime.now(UTC)
    )
    workspace.prediction_log.store(prediction)
    stored = workspace.prediction_log.find(series.name, prediction.decided_at, champion.version)
    return Forecast(stored or prediction, backfilled)


def require_checked(series: Series, bars: Bars, window: WindowSpec, released: Shaped[np.ndarray, " bar"]) -> None:
    """Refuse bars that entered the store without the data checks.

    Args:
        series: for the message.
        bars: shape (bar,), as stored.
        window: its lookback is the number of newest bars that are checked.
        released: open times of bars that a person released from the quarantine, datetime64[us], UTC.

    Raises:
        ChecksFailed: a bar of the last window breaks a rule of the ingest.
    """
    last = Bars(bars.interval, bars.opened_at[-window.lookback_bars :], bars.ohlcv[-window.lookback_bars :])
    is_released = np.isin(last.opened_at, released)
    for rule in VALUE_RULES:
        mask = by_values(rule, last.ohlcv, CheckSpec().absurd_tick_factor)
        broken = np.flatnonzero(mask if rule in NEVER_RELEASED else mask & ~is_released)
        if len(broken):
            raise ChecksFailed(
                f"{series.name}: expected checked bars, found one that breaks {rule} at "
                f"{last.opened_at[broken[0]]} ({len(broken)} in the last window). Run `riseorfall retrain` or the flow "
                "`ingest`: they put such bars into the quarantine."
            )


def champion_at(decisions: Sequence[LoggedDecision], moment: datetime) -> str | None:
    """Return the version that was champion at a time, by the decision log; None before the first promotion."""
    past = [decision for decision in decisions if decision.decided_at <= moment]
    return past[-1].champion_after if past else None


def _backfill(
    workspace: Workspace, champion: Version, loaded: LoadedVersion, bars: Bars, now: datetime | None
) -> tuple[Prediction, ...]:
    """Store predictions for the bars between the last stored prediction and the newest bar; return them."""
    series = workspace.runs.series
    last = workspace.prediction_log.last_predicted(series.name)
    if last is None:
        return ()
    decisions = workspace.decision_log.rows(series.name)
    versions: dict[str, tuple[Version, LoadedVersion]] = {champion.version: (champion, loaded)}
    probabilities: dict[str, dict[np.datetime64, float]] = {}
    predictions: list[Prediction] = []
    for closed_at in bars.closed_at[-MAX_BACKFILL_BARS - 1 : -1]:
        moment = to_datetime(closed_at)
        if moment <= last:
            continue
        number = champion_at(decisions, moment) or champion.version
        if number not in versions:
            versions[number] = workspace.registry.version(number), workspace.registry.read_version(number)
        version, files = versions[number]
        if number not in probabilities:
            probabilities[number] = dict(zip(*files.predictor().predict(bars), strict=True))
        if closed_at in probabilities[number] and version.trained_until <= moment:
            horizon, probability = files.recipe().window.horizon_bars, float(probabilities[number][closed_at])
            written_at = now or datetime.now(UTC)
            predictions.append(new_prediction(series.name, series, horizon, closed_at, number, probability, written_at))
    workspace.prediction_log.store_all(predictions)
    return tuple(predictions)
