"""Shadow predictions of a panel: what versions that do not serve predict for the closes that the champion predicts.

Each sees the windows of its own recipe, and predicts those series and closes that the champion predicts now. Caution: a
version whose inputs describe its panel needs usable bars of every series of that panel, and predicts nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import numpy as np

from model.bars import Bars
from model.times import to_datetime, to_datetime64
from model.windows import Windows
from tasks.champion.shadow_predictions import store_shadow_predictions
from tasks.champion.shadow_spec import ShadowSpec
from tasks.registry.loaded_version import OpenedVersion
from tasks.serving.panel_backfill import panel_predictions, windows_of_version
from tasks.store.prediction_log import Prediction
from tasks.workspace import Workspace


def predict_panel_with_shadows(
    workspace: Workspace,
    champion: OpenedVersion,
    bars: Mapping[str, Bars],
    newest: Windows,
    spec: ShadowSpec,
    written_at: Callable[[], datetime],
) -> tuple[Prediction, ...]:
    """Store the shadow predictions of a panel, and return them, by version and symbol.

    Whatever goes wrong is logged as a warning.

    Args:
        workspace: registry and logs of the panel.
        champion: the version that serves; it is no shadow.
        bars: by symbol, shape (bar,), closed and checked ones only, oldest first.
        newest: what the champion predicts: the newest window of each series.
        spec: how many versions.
        written_at: returns the time of writing, UTC.
    """
    decisions = {(str(each), to_datetime(at)) for each, at in zip(newest.symbols, newest.decided_at, strict=True)}

    def predict(shadows: Sequence[OpenedVersion]) -> list[Prediction]:
        recipe, made = champion.panel_recipe(), list[Prediction]()
        windows: dict[object, Windows | None] = {(recipe.window, recipe.panel): newest}  # one recipe is cut once
        for each in shadows:
            recipe = each.panel_recipe()
            key = recipe.window, recipe.panel
            if key not in windows:
                windows[key] = _decided(windows_of_version(each, bars), decisions)
            if (found := windows[key]) is not None:
                after_training = found.decided_at >= to_datetime64(each.version.trained_until)
                made += panel_predictions(workspace, each, found.take(np.flatnonzero(after_training)), written_at)
        return made

    return store_shadow_predictions(workspace, champion.version.version, decisions, spec, predict)


def _decided(windows: Windows | None, decisions: set[tuple[str, datetime]]) -> Windows | None:
    """Return the windows of some decisions."""
    if windows is None:
        return None
    first = min(to_datetime64(at) for _, at in decisions)
    recent = windows.take(np.flatnonzero(windows.decided_at >= first))
    keys = zip(recent.symbols, recent.decided_at, strict=True)
    wanted = [place for place, (symbol, at) in enumerate(keys) if (str(symbol), to_datetime(at)) in decisions]
    return recent.take(np.array(wanted, dtype=np.int64))
