"""Backfill of a panel: predictions for the closes that a series missed since its last stored one.

Caution: a backfilled prediction is late by its time of writing, and may come only from the version that was champion at
that time and was trained before it. A version that needs bars of series that are not there backfills nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import numpy as np

from model.bars import Bars, Series
from model.errors import BarsTooShort
from model.panel import cut_panel
from model.times import column_times, to_datetime, to_datetime64
from model.windows import Windows
from tasks.registry.loaded_version import OpenedVersion
from tasks.registry.model_registry import Version
from tasks.serving.backfill import MAX_BACKFILL_BARS, champion_at, open_former_champion
from tasks.store.prediction_log import Prediction, new_prediction
from tasks.workspace import Workspace


def panel_predictions(
    workspace: Workspace, opened: OpenedVersion, windows: Windows, written_at: Callable[[], datetime]
) -> list[Prediction]:
    """Return what a version of a panel predicts for windows, in their order.

    Args:
        workspace: its name and interval are those of the predictions.
        opened: the version.
        windows: shape (window,), cut as the version's recipe says.
        written_at: returns the time of writing, UTC.
    """
    recipe, number = opened.panel_recipe(), opened.version.version
    probabilities, stored_at = opened.predictor.predict_windows(windows), written_at()
    return [
        new_prediction(
            workspace.name, Series(str(symbol), recipe.interval), recipe.window.horizon_bars, decided_at, number,
            float(probability), stored_at, opened.network_sha256, label=recipe.panel.label,
        )
        for symbol, decided_at, probability in zip(windows.symbols, windows.decided_at, probabilities, strict=True)
    ]  # fmt: skip


def backfill_panel(
    workspace: Workspace,
    champion: OpenedVersion,
    bars: Mapping[str, Bars],
    newest: Windows,
    written_at: Callable[[], datetime],
) -> tuple[Prediction, ...]:
    """Store predictions for the closes between the last stored prediction of a series and its newest window.

    A series that was never predicted within the newest `MAX_BACKFILL_BARS` bars is not backfilled.

    Args:
        workspace: registry and logs of the panel.
        champion: the present champion.
        bars: by symbol, shape (bar,), closed ones only, oldest first: all that the champion's inputs need.
        newest: the newest window of each series to predict.
        written_at: returns the time of writing, UTC.
    """
    span = MAX_BACKFILL_BARS * workspace.runs.series.delta
    stored = workspace.prediction_log.read(workspace.name, since=to_datetime(newest.decided_at.max() - span))
    if stored.empty:
        return ()
    known = stored.groupby("symbol")["decided_at"].max()
    last = dict(zip(known.index, column_times(known), strict=True))
    ends = {str(each): at for each, at in zip(newest.symbols, newest.decided_at, strict=True) if each in last}
    missed = {symbol: (last[symbol], end) for symbol, end in ends.items() if last[symbol] < end}
    if not missed:
        return ()
    made: list[Prediction] = []
    for number, moments in _closes_by_champion(workspace, champion.version, bars, missed).items():
        opened = open_former_champion(workspace, number, champion)
        windows = None if opened is None else _missed_windows(opened, bars, missed, moments)
        if opened is not None and windows is not None:
            after_training = np.flatnonzero(windows.decided_at >= to_datetime64(opened.version.trained_until))
            made += panel_predictions(workspace, opened, windows.take(after_training), written_at)
    workspace.prediction_log.store_all(made)
    return tuple(made)


def windows_of_version(opened: OpenedVersion, bars: Mapping[str, Bars]) -> Windows | None:
    """Return all windows as a version of a panel sees them; None where its inputs cannot be computed.

    Args:
        opened: the version. If its inputs describe its panel, every series of it must be there, and no other is cut.
        bars: by symbol, shape (bar,), closed ones only, oldest first.
    """
    recipe = opened.panel_recipe()
    members = recipe.panel.symbols if recipe.context_count else bars
    if not set(members) <= set(bars):
        return None
    try:
        return cut_panel({each: bars[each] for each in members}, recipe.window, recipe.panel).windows
    except BarsTooShort:
        return None


def _closes_by_champion(
    workspace: Workspace,
    champion: Version,
    bars: Mapping[str, Bars],
    missed: Mapping[str, tuple[np.datetime64, np.datetime64]],
) -> dict[str, list[np.datetime64]]:
    """Return the closes in the missed spans by the version that was champion at them."""
    decisions = workspace.decision_log.rows(workspace.name)
    first, last = min(start for start, _ in missed.values()), max(end for _, end in missed.values())
    closes = np.unique(np.concatenate([bars[symbol].closed_at for symbol in missed]))
    found: dict[str, list[np.datetime64]] = {}
    for close in closes[(closes > first) & (closes < last)]:
        found.setdefault(champion_at(decisions, to_datetime(close)) or champion.version, []).append(close)
    return found


def _missed_windows(
    opened: OpenedVersion,
    bars: Mapping[str, Bars],
    missed: Mapping[str, tuple[np.datetime64, np.datetime64]],
    moments: Sequence[np.datetime64],
) -> Windows | None:
    """Return the missed windows of some closes, as a version sees them; None where its inputs cannot be computed."""
    windows = windows_of_version(opened, bars)
    if windows is None:
        return None
    inside = np.zeros(len(windows), dtype=bool)
    for symbol, (start, end) in missed.items():
        inside |= (windows.symbols == symbol) & (windows.decided_at > start) & (windows.decided_at < end)
    return windows.take(np.flatnonzero(inside & np.isin(windows.decided_at, np.array(moments))))
