"""The newest predictions of a panel, and its newest outcomes, for lists and pages: one close, all of its series."""

from typing import Any

import numpy as np
from jaxtyping import Int64

from model.metrics import predicts_rise
from model.times import iso_text
from tasks.champion.served_predictions import LivePredictions, served_predictions
from tasks.store.delta_table import RECENT
from tasks.workspace import Workspace


def recent_predictions(workspace: Workspace) -> LivePredictions:
    """Return what a panel served in the days before its newest prediction, with outcomes."""
    newest = workspace.prediction_log.last_predicted(workspace.name)
    return served_predictions(workspace, newest - RECENT if newest else None)


def newest_places(found: LivePredictions) -> Int64[np.ndarray, " place"]:
    """Return the places of the predictions of the newest close, the highest first; there must be one."""
    places = np.flatnonzero(found.decided_at == found.decided_at[-1])
    return np.asarray(places[np.argsort(-found.probabilities[places], kind="stable")], dtype=np.int64)


def newest_close(found: LivePredictions) -> dict[str, Any] | None:
    """Return the predictions of the newest close ready for JSON, the highest first; None without any.

    `late` counts those that were stored after their outcome was due.
    """
    if not len(found):
        return None
    order = newest_places(found)
    first = order[0]
    return {
        "decided_at": iso_text(found.decided_at[first]),
        "resolves_at": iso_text(found.resolves_at[first]),
        "version": ", ".join(sorted({found.versions[place] for place in order}, key=int)),
        "label": found.kinds[first],
        "late": sum(found.late[place] for place in order),
        "predictions": [
            {"symbol": found.symbols[place], "probability": float(found.probabilities[place])} for place in order
        ],
    }


def newest_outcome(found: LivePredictions) -> dict[str, Any] | None:
    """Return how many series of the newest close with outcomes were predicted right; None without any."""
    known = np.flatnonzero(found.labels >= 0)
    if not len(known):
        return None
    close = known[found.decided_at[known] == found.decided_at[known[-1]]]
    right = predicts_rise(found.probabilities[close]) == (found.labels[close] == 1)
    return {
        "decided_at": iso_text(found.decided_at[close[0]]),
        "resolves_at": iso_text(found.resolves_at[close[0]]),
        "outcomes": len(close),
        "right": int(right.sum()),
        "late": sum(found.late[place] for place in close),
    }
