"""On which series of a close the champion of a panel has an opinion, at the share that its retrain stated.

It is stored with the predictions, before the outcome, and never changed: the level of a close follows from that of the
served close before it and from the share of its series with an opinion (`model.abstention.next_level`). So the share,
averaged over the served closes, is guaranteed across versions too, whichever network ranked the series. Caution: a
backfilled prediction, and one of a close before the newest served one, has no opinion and does not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from model.abstention import REFERENCE, next_level, rank_confidences
from model.times import as_utc, column_times, to_datetime64, to_timedelta
from tasks.champion.panel_labels import first_stored
from tasks.champion.stated_share import stated_share
from tasks.registry.model_registry import Version
from tasks.store.prediction_log import Prediction
from tasks.workspace import Workspace

SPAN = 2 * REFERENCE  # bars of stored predictions that are read: twice the reference, for closes that were missed


@dataclass(frozen=True, slots=True)
class _ServedClose:
    """A close with opinions: when it was decided, its level, and by symbol whether there is an opinion."""

    decided_at: datetime
    level: float
    held: Mapping[str, bool]


def with_opinions(workspace: Workspace, version: Version, made: Sequence[Prediction]) -> list[Prediction]:
    """Return predictions of a version with its opinions, by close; unchanged where its retrain stated no share.

    Args:
        workspace: logs and registry of the panel.
        version: that predicted.
        made: its predictions of the newest close of each series, not stored yet.

    Time: an opinion depends on the version's record, on its probability, and on what was stored for earlier closes.
    """
    share = stated_share(workspace, version)
    if share is None or not made:
        return list(made)
    closes = sorted({as_utc(each.decided_at) for each in made})
    newest, found = _newest_served(workspace, closes[0]), list[Prediction]()
    before, before_closes = _reference(workspace, version, closes[0])
    for close in closes:
        own = [each for each in made if as_utc(each.decided_at) == close]
        probabilities = np.array([each.probability for each in own])
        numbers = _numbers(np.full(len(own), to_datetime64(close)))
        level = _level(newest, close, share)
        if level is not None:
            held = (rank_confidences(before, probabilities, before_closes, numbers) <= level).tolist()
            own = [replace(each, has_opinion=one, opinion_level=level) for each, one in zip(own, held, strict=True)]
            known = newest.held if newest and newest.decided_at == close else {}
            newest = _ServedClose(close, level, {**{each.symbol: bool(each.has_opinion) for each in own}, **known})
        before, before_closes = np.append(before, probabilities), np.append(before_closes, numbers)
        found += own
    return found


def _level(newest: _ServedClose | None, close: datetime, share: float) -> float | None:
    """Return the level of a close, given the newest one with opinions; None for a close before it."""
    if newest is None:
        return share
    if newest.decided_at < close:
        return next_level(newest.level, share, float(np.mean([*newest.held.values()])))
    return newest.level if newest.decided_at == close else None


def _newest_served(workspace: Workspace, close: datetime) -> _ServedClose | None:
    """Return the newest served close with opinions, read from the closes around one; None without any."""
    log, span = workspace.prediction_log, SPAN * to_timedelta(workspace.runs.series.delta)
    for since in (close - span, None):
        rows = log.read(workspace.name, since=since)
        rows = first_stored(rows[rows["has_opinion"].notna()])
        if len(rows):
            rows = rows[rows["decided_at"] == rows["decided_at"].max()]
            held = dict(zip(rows["symbol"], rows["has_opinion"].astype(bool), strict=True))
            first = rows.iloc[0]
            return _ServedClose(as_utc(first["decided_at"].to_pydatetime()), float(first["opinion_level"]), held)
    return None


def _reference(
    workspace: Workspace, version: Version, close: datetime
) -> tuple[Float64[np.ndarray, " reference"], Int64[np.ndarray, " reference"]]:
    """Return the version's probabilities before a close, with numbers of their closes, oldest first.

    They are those of the newest fold of its record, and its stored predictions, shadow predictions included. A series
    whose bars lag may be predicted at a close that the record knows, so both are cut.
    """
    import pandas as pd  # imported here: pandas takes a second

    record = workspace.registry.read_version(version.version, every_file=False).record()
    record = record.take((record.fold == record.fold[-1]) & (record.decided_at < to_datetime64(close)))
    span = SPAN * to_timedelta(workspace.runs.series.delta)
    logs = (workspace.prediction_log, workspace.shadow_log)
    stored = pd.concat([each.read(workspace.name, (version.version,), close - span) for each in logs])
    stored = first_stored(stored[stored["decided_at"] < close])
    probabilities = np.concatenate([record.probabilities, stored["probability"].to_numpy(dtype=np.float64)])
    return probabilities, _numbers(np.concatenate([record.decided_at, column_times(stored["decided_at"])]))


def _numbers(decided_at: Shaped[np.ndarray, " prediction"]) -> Int64[np.ndarray, " prediction"]:
    """Return a number of each close that rises with time."""
    return decided_at.astype("datetime64[us]").astype(np.int64)
