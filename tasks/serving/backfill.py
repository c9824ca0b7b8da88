"""Backfill: predictions for the bars that were missed, between the last stored prediction and the newest bar.

Caution: a backfilled prediction is late by its time of writing, and may come only from the version that was champion at
that time and was trained before it.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np

from model.bars import Bars
from model.times import to_datetime
from tasks.registry.model_files import LoadedVersion
from tasks.registry.model_registry import Version
from tasks.store.decision_log import LoggedDecision
from tasks.store.prediction_log import Prediction, new_prediction
from tasks.workspace import Workspace

MAX_BACKFILL_BARS = 400  # after a longer absence only the newest bars are backfilled


def champion_at(decisions: Sequence[LoggedDecision], moment: datetime) -> str | None:
    """Return the version that was champion at a time, by the decision log; None before the first promotion."""
    past = [decision for decision in decisions if decision.decided_at <= moment]
    return past[-1].champion_after if past else None


def backfill(
    workspace: Workspace, champion: Version, loaded: LoadedVersion, bars: Bars, written_at: Callable[[], datetime]
) -> tuple[Prediction, ...]:
    """Store predictions for the bars between the last stored prediction and the newest bar; return them."""
    series = workspace.runs.series
    last = workspace.prediction_log.last_predicted(series.name)
    if last is None:
        return ()
    decisions = workspace.decision_log.rows(series.name)
    versions: dict[str, tuple[Version, LoadedVersion]] = {champion.version: (champion, loaded)}
    probabilities: dict[str, dict[np.datetime64, float]] = {}
    networks: dict[str, str] = {}
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
            networks[number] = files.network_sha256
        if closed_at in probabilities[number] and version.trained_until <= moment:
            horizon, probability = files.recipe().window.horizon_bars, float(probabilities[number][closed_at])
            predictions.append(
                new_prediction(
                    series.name, series, horizon, closed_at, number, probability, written_at(), networks[number]
                )
            )
    workspace.prediction_log.store_all(predictions)
    return tuple(predictions)
