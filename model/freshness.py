"""Refuse to predict with a champion or with bars that are too old.

Knows times, no clock: the current time is a parameter. Caution: the newest bar may be fresh while there is a gap in its
window, so the newest whole window counts.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from model.bars import Bars, Series
from model.errors import SpecError, StaleChampion
from model.times import to_datetime
from model.windows import WindowSpec, cut_windows


class ForecastSpec(BaseModel):
    """Staleness limits of a forecast."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Maximum ages")

    max_age_days: float = Field(
        default=90.0,
        gt=0,
        le=100_000,
        description="Largest age of the champion's newest training bar, or of that of the newest challenger held "
        "against it (days)",
    )
    max_bars_behind: float = Field(
        default=2.0, gt=0, le=10_000, description="Largest age of the newest window's close (bars of the series)"
    )


def require_fresh(
    series: Series,
    name: str,
    trained_until: datetime,
    compared_until: datetime,
    bars: Bars,
    window: WindowSpec,
    now: datetime,
    spec: ForecastSpec,
    *,
    retrain_command: Callable[[], str],
) -> datetime:
    """Return the close of the newest whole window; raise where it, or the champion, is too old.

    Args:
        series: the series or the panel whose champion it is, for the message.
        name: of the series and version, for the message.
        trained_until: close of the champion's newest training bar, UTC.
        compared_until: the same of the newest challenger that was held against it, UTC; its own without one. A
            champion that each retrain compares and keeps is not forgotten, however old it is.
        bars: shape (bar,), oldest first.
        window: window of the champion.
        now: current time, UTC.
        spec: limits.
        retrain_command: returns the command that trains a version, for the message.

    Raises:
        StaleChampion: one of the two is too old.
        SpecError: the champion was trained on later bars.
        BarsTooShort: there is no whole window.
    """
    age = (now - trained_until) / timedelta(days=1)
    if age < 0:
        raise SpecError(
            f"{name}: expected a champion trained on bars before {now:%Y-%m-%d %H:%M}, found one trained "
            f"until {trained_until:%Y-%m-%d %H:%M}. Use a later as_of"
            f"{'' if series.is_panel else ', or `riseorfall replay` for the past'}."
        )
    compared_at = max(trained_until, compared_until)
    if now - compared_at > timedelta(days=spec.max_age_days):
        held = "" if compared_at == trained_until else f", and compared with challengers until {compared_at:%Y-%m-%d}"
        raise StaleChampion(
            f"{name}: expected a champion trained at most {spec.max_age_days:g} days before {now:%Y-%m-%d %H:%M}, or "
            f"compared with a challenger since, found one trained until {trained_until:%Y-%m-%d} ({age:.1f} days)"
            f"{held}. Run `{retrain_command()}`, or allow more with --staleness.max-age-days."
        )
    decided_at = to_datetime(cut_windows(bars, window.model_copy(update={"stride_bars": 1})).decided_at[-1])
    behind = (now - decided_at).total_seconds() / (bars.delta / np.timedelta64(1, "s"))
    if behind > spec.max_bars_behind:
        newest = to_datetime(bars.closed_at[-1])
        gap = "" if newest == decided_at else f"; bars reach {newest:%Y-%m-%d %H:%M}, but their last window has a gap"
        raise StaleChampion(
            f"{name}: expected a window that closed at most {spec.max_bars_behind:g} bars before {now:%Y-%m-%d %H:%M}, "
            f"found the newest at {decided_at:%Y-%m-%d %H:%M} ({behind:.1f} bars){gap}. Ingest newer bars, or allow "
            "more with --staleness.max-bars-behind."
        )
    return decided_at
