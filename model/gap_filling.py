"""Fill short gaps with flat bars, if the spec allows it; otherwise no window crosses a gap.

A filled bar repeats the close before it as open, high, low and close, with zero volume, as in a market without trades.
It may be an input only: no window ends at it, and no label crosses it, because its outcome would be a fall by
construction. Cautions: a bar is filled only once the next real bar has closed, so no other series may depend on it
(see `model.panel`); filling adds rows, so an index into filled bars is not an index into the original bars: use times.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict, Field

from model.bars import Bars, gap_sizes


class GapRule(BaseModel):
    """The treatment of missing bars."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Gaps")

    kind: Literal["drop_windows", "fill"] = Field(
        default="drop_windows",
        description="drop_windows: no window crosses a gap; fill: short gaps are filled with flat bars of zero volume",
    )
    max_fill_bars: int = Field(
        default=3, ge=1, le=1_000, description="Longest gap that is filled; a longer one stays a gap (bars)"
    )


def fill_gaps(bars: Bars, rule: GapRule) -> tuple[Bars, Bool[np.ndarray, " bar"]]:
    """Fill the gaps that the rule allows.

    Args:
        bars: shape (bar,), oldest first.
        rule: whether gaps are filled, and up to which length; a longer gap is not filled partly.

    Returns:
        The bars, oldest first, and a mask over them, shape (bar,), that is true for each filled bar: its open,
        high, low and close are the close before it, its volume is zero.

    Time: the values of a filled bar depend on the last real bar before it; that it exists, on the next real bar. That
        bar has closed when a window of the SAME series that contains the filled bar is decided. At a close inside the
        gap it has not, so nothing of another series may depend on a filled bar.
    Source: own.
    """
    missing = np.append(gap_sizes(bars), 0) if len(bars) else np.empty(0, np.int64)
    missing[missing > rule.max_fill_bars] = 0
    if rule.kind == "drop_windows" or not missing.any():
        return bars, np.zeros(len(bars), dtype=bool)
    origin = np.repeat(np.arange(len(bars)), missing + 1)
    filled = np.concatenate(([False], origin[1:] == origin[:-1]))
    steps = np.arange(len(origin)) - np.searchsorted(origin, origin)
    ohlcv = bars.ohlcv[origin]
    ohlcv[filled, :3] = ohlcv[filled, 3:4]
    ohlcv[filled, 4] = 0.0
    return Bars(bars.interval, bars.opened_at[origin] + steps * bars.delta, ohlcv), filled
