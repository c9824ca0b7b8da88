"""Count recent decisions whose prediction is missing or was stored late, of a series and of a panel."""

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from model.bars import Bars
from model.errors import BarsTooShort
from model.monitor_alarms import MonitorSpec
from model.panel_recipe import PanelRecipe
from model.times import column_times, to_datetime64
from model.windows import WindowSpec, cut_windows

if TYPE_CHECKING:
    import pandas as pd

COUNTS = ("decisions", "missing", "late")


def count_missing(stored: "pd.DataFrame", bars: Bars, window: WindowSpec, spec: MonitorSpec) -> dict[str, float]:
    """Count recent decisions since the first prediction, those without one in time, and those with a late one.

    Args:
        stored: predictions of the series, with columns decided_at and late.
        bars: shape (bar,), oldest first.
        window: of the champion.
        spec: how many bars are recent.

    Returns:
        `decisions`, `missing` and `late`. The newest decision is left out: it may still be predicted in time.
    """
    if stored.empty:
        return dict.fromkeys(COUNTS, 0.0)
    decided = cut_windows(bars, window.model_copy(update={"stride_bars": 1})).decided_at[-spec.recent_bars :]
    first = column_times(stored["decided_at"]).min()
    return _counts(decided[(decided >= first) & (decided < bars.closed_at[-1])], stored)


def count_missing_of_panel(
    stored: "pd.DataFrame",
    bars: dict[str, Bars],
    recipe: PanelRecipe,
    spec: MonitorSpec,
    promoted_at: datetime | None,
) -> dict[str, float]:
    """Count the same over all series of a panel, each since its own first prediction.

    A series that was never predicted counts since the promotion, and a panel that never was not at all.

    Args:
        stored: predictions of the panel, with columns symbol, decided_at and late.
        bars: by symbol.
        recipe: of the champion.
        spec: how many bars are recent.
        promoted_at: promotion of the champion, UTC; None if unknown: the first prediction of the panel.
    """
    counts = dict.fromkeys(COUNTS, 0.0)
    if stored.empty:
        return counts
    newest, began = max(each.closed_at[-1] for each in bars.values()), to_datetime64(stored["decided_at"].min())
    promoted = began if promoted_at is None else max(began, to_datetime64(promoted_at))
    recent = newest - spec.recent_bars * next(iter(bars.values())).delta
    for symbol, each in bars.items():
        try:
            decided = cut_windows(each, recipe.window).decided_at
        except BarsTooShort:
            continue
        own = stored[stored["symbol"] == symbol]
        first = promoted if own.empty else to_datetime64(own["decided_at"].min())
        found = _counts(decided[(decided >= max(first, recent)) & (decided < newest)], own)
        counts = {name: count + found[name] for name, count in counts.items()}
    return counts


def _counts(decided: Shaped[np.ndarray, " decision"], stored: "pd.DataFrame") -> dict[str, float]:
    """Count decisions, those without a prediction in time, and those of them with a late one."""
    predicted, late = column_times(stored["decided_at"]), stored["late"].to_numpy().astype(bool)
    absent = ~np.isin(decided, predicted[~late])
    late_only = np.isin(decided, predicted[late]) & absent
    return dict(zip(COUNTS, map(float, (len(decided), absent.sum(), late_only.sum())), strict=True))
