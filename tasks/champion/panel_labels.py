"""The outcomes of a panel's stored predictions, each by the question that its version predicted.

`model/panel_outcomes.py` decides what an outcome is; here bars and recipes are read. Caution: a version that cannot be
read has no question, so its ranks have no outcome; `unread` says why.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int8

from model.bars import Bars, Series
from model.errors import NoChampion, UnsoundModel, UntrustedModel
from model.labels import UNRESOLVED
from model.panel_outcomes import open_outcomes, panel_outcomes
from model.times import column_times, to_datetime64
from tasks.registry.model_files import LoadedVersion
from tasks.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class PanelLabels:
    """The outcomes of rows of the prediction log, in their order.

    Attributes:
        labels: shape (row,), int8: 1, 0, or -1 where it is not known.
        is_open: shape (row,), whether the outcomes of the row's close may still change.
        versions: files of each version that could be read.
        unread: by version, why it could not be read.
    """

    labels: Int8[np.ndarray, " row"]
    is_open: Bool[np.ndarray, " row"]
    versions: dict[str, LoadedVersion] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


def first_stored(stored: "pd.DataFrame") -> "pd.DataFrame":
    """Return the first stored prediction of each decision, by close; of a panel one for each series."""
    kept = stored.sort_values(["decided_at", "stored_at"], kind="stable")
    return kept.drop_duplicates(["decided_at", "symbol"])


def panel_labels(workspace: Workspace, rows: "pd.DataFrame", as_of: datetime | None = None) -> PanelLabels:
    """Return the outcomes of stored predictions of a panel.

    Args:
        workspace: of the panel.
        rows: of its prediction log.
        as_of: only bars closed by then are used, UTC; None for all stored bars.
    """
    found = PanelLabels(np.full(len(rows), UNRESOLVED, dtype=np.int8), np.ones(len(rows), dtype=bool))
    decided_at, resolves_at = column_times(rows["decided_at"]), column_times(rows["resolves_at"])
    symbols, versions = rows["symbol"].to_numpy().astype(np.str_), rows["version"].to_numpy().astype(np.str_)
    bars: dict[str, Bars] = {}
    for version in np.unique(versions).tolist():
        try:
            loaded = workspace.registry.read_version(version)
            recipe = loaded.panel_recipe()
        except (NoChampion, UnsoundModel, UntrustedModel) as error:
            found.unread[version] = str(error)
            continue
        own = versions == version
        wanted = {*symbols[own].tolist(), *recipe.panel.symbols} - bars.keys()
        bars |= {symbol: read_closed_bars(workspace, symbol, as_of) for symbol in sorted(wanted)}
        times = decided_at[own], resolves_at[own]
        found.versions[version] = loaded
        found.labels[own] = panel_outcomes(symbols[own], *times, recipe.window, recipe.panel, bars)
        found.is_open[own] = open_outcomes(*times, recipe.panel, bars)
    return found


def read_closed_bars(workspace: Workspace, symbol: str, as_of: datetime | None) -> Bars:
    """Return the stored bars of a series of a panel's interval, those closed by `as_of`; None for all."""
    series = Series(symbol, workspace.runs.series.interval)
    bars = workspace.bar_store.bars(series)
    return bars.closed_by(to_datetime64(as_of)) if as_of else bars
