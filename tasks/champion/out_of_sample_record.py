"""The out-of-sample record of a version on given decisions: its own record, then what it predicted live.

Up to the end of its training a version is known by its fold networks, after it by the predictions that it stored before
their outcome, served or as a shadow. Caution: a decision without a stored prediction (a home of 0.1, a day without
`predict`) is predicted now from the stored network: the same number, but no proof that it was made in time.
"""

import numpy as np

from model.bars import Bars
from model.errors import BarsTooShort
from model.record import Record
from model.times import column_times, to_datetime64
from tasks.champion.live_comparison import live_predictions
from tasks.champion.shadow_predictions import bars_behind
from tasks.registry.model_files import LoadedVersion
from tasks.registry.model_registry import Version
from tasks.workspace import Workspace


def out_of_sample_record(
    workspace: Workspace, version: Version, loaded: LoadedVersion, bars: Bars, decisions: Record
) -> Record:
    """Return a version's own record, extended by its predictions for later decisions.

    Args:
        workspace: the stored predictions.
        version: the version.
        loaded: its files.
        bars: shape (bar,), oldest first.
        decisions: windows to extend by if they were decided after the end of its training; their labels are used.

    Raises:
        UnsoundModel: the version's files cannot be read.
    """
    later = decisions.take(decisions.decided_at >= to_datetime64(version.trained_until))
    own, predictor = loaded.record(), loaded.predictor()
    live = live_record(workspace, version.version, loaded.network_sha256, later)
    missing = later.take(~np.isin(later.decided_at, live.decided_at))
    if not len(missing):
        return own.extended_by(live)
    try:
        computed = predictor.predict(bars_behind(bars, predictor.window.lookback_bars, missing.decided_at[0]))
    except BarsTooShort:  # its lookback is longer, and crosses a gap
        return own.extended_by(live)
    extended = live.extended_by(missing.with_probabilities(*computed))
    return own.extended_by(extended.take(np.argsort(extended.decided_at)))


def live_record(workspace: Workspace, version: str, network_sha256: str, decisions: Record) -> Record:
    """Return the decisions for which a version stored a prediction before the outcome, with its probabilities.

    Predictions of another outcome (another horizon) or by another network of this number are left out.
    """
    logs = (workspace.prediction_log, workspace.shadow_log)
    frames = [log.read(workspace.name, (version,)) for log in logs]
    stored = live_predictions([each[each["network"].fillna("").isin(["", network_sha256])] for each in frames])
    decided_at, resolves_at = column_times(stored["decided_at"]), column_times(stored["resolves_at"])
    found = decisions.with_probabilities(decided_at, stored["probability"].to_numpy(dtype=np.float64))
    return found.take(found.resolved_at == resolves_at[np.isin(decided_at, found.decided_at)])
