"""Whether a version has an opinion on a live decision, at the share that its retrain stated.

Nothing is stored for it: it follows from the version's record and from its stored predictions until the decision,
shadow predictions included. The share of opinions is guaranteed over the live decisions of one version, not across
versions (`model.abstention.share_bounds`).
"""

from datetime import datetime
from typing import Literal

import numpy as np

from model.abstention import hold_share, rank_confidences
from model.metrics import THRESHOLD
from model.times import as_utc
from tasks.champion.stated_share import stated_share
from tasks.registry.model_files import LoadedVersion
from tasks.registry.model_registry import Version
from tasks.store.prediction_log import Prediction
from tasks.workspace import Workspace

Opinion = Literal["rise", "fall", "none"]


def opinion_on(workspace: Workspace, version: Version, loaded: LoadedVersion, prediction: Prediction) -> Opinion | None:
    """Return the predicted class if the version has an opinion on a decision; None if its retrain stated no share.

    Args:
        workspace: of the series.
        version: that predicted.
        loaded: its files.
        prediction: its prediction for the decision.

    Time: depends on the version's record and on its predictions decided until this one.
    """
    stated = stated_share(workspace, version)
    if stated is None:
        return None
    decided_at = as_utc(prediction.decided_at)
    live: dict[datetime, float] = {}
    for log in (workspace.shadow_log, workspace.prediction_log):
        live |= log.probabilities(workspace.name, version.version)
    before = [live[moment] for moment in sorted(live) if moment < decided_at]
    ranks = rank_confidences(loaded.newest_fold(), np.array([*before, prediction.probability]))
    if not hold_share(ranks, stated).held[-1]:
        return "none"
    return "rise" if prediction.probability > THRESHOLD else "fall"
