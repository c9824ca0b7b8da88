"""Backfill: predictions for the bars that were missed, between the last stored prediction and the newest bar.

Caution: a backfilled prediction is late by its time of writing, and may come only from the version that was champion at
that time and was trained before it.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np

from model.bars import Bars
from model.errors import NoChampion, UnsoundModel, UntrustedModel
from model.times import to_datetime
from tasks.registry.loaded_version import OpenedVersion, open_version
from tasks.store.decision_log import LoggedDecision
from tasks.store.prediction_log import Prediction, new_prediction
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

MAX_BACKFILL_BARS = 400  # after a longer absence only the newest bars are backfilled


def champion_at(decisions: Sequence[LoggedDecision], moment: datetime) -> str | None:
    """Return the version that was champion at a time, by the decision log; None before the first promotion."""
    past = [decision for decision in decisions if decision.decided_at <= moment]
    return past[-1].champion_after if past else None


def open_former_champion(workspace: Workspace, number: str, champion: OpenedVersion) -> OpenedVersion | None:
    """Return the version that was champion at missed closes; None, with a warning, if it cannot be loaded any more.

    The closes of a lost or damaged version stay without a prediction, and the present champion predicts.

    Args:
        workspace: of the series or the panel.
        number: of the version.
        champion: the present champion.

    Raises:
        StoreUnavailable: the store could not be read.
    """
    if number == champion.version.version:
        return champion
    try:
        return open_version(workspace.registry, number)
    except (NoChampion, UnsoundModel, UntrustedModel) as error:
        log.warning(
            "%s: the closes missed while version %s was champion are not backfilled: %s", workspace.name, number, error
        )
        return None


def backfill(
    workspace: Workspace, champion: OpenedVersion, bars: Bars, written_at: Callable[[], datetime]
) -> tuple[Prediction, ...]:
    """Store predictions for the bars between the last stored prediction and the newest bar; return them."""
    series = workspace.runs.series
    last = workspace.prediction_log.last_predicted(series.name)
    if last is None:
        return ()
    decisions = workspace.decision_log.rows(series.name)
    versions: dict[str, OpenedVersion | None] = {}
    probabilities: dict[str, dict[np.datetime64, float]] = {}
    predictions: list[Prediction] = []
    for closed_at in bars.closed_at[-MAX_BACKFILL_BARS - 1 : -1]:
        moment = to_datetime(closed_at)
        if moment <= last:
            continue
        number = champion_at(decisions, moment) or champion.version.version
        if number not in versions:
            versions[number] = open_former_champion(workspace, number, champion)
        opened = versions[number]
        if opened is None:
            continue
        if number not in probabilities:
            probabilities[number] = dict(zip(*opened.predictor.predict(bars), strict=True))
        if closed_at in probabilities[number] and opened.version.trained_until <= moment:
            horizon, probability = opened.recipe.window.horizon_bars, float(probabilities[number][closed_at])
            predictions.append(
                new_prediction(
                    series.name, series, horizon, closed_at, number, probability, written_at(), opened.network_sha256
                )
            )
    workspace.prediction_log.store_all(predictions)
    return tuple(predictions)
