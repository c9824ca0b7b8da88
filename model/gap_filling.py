"""What is done about a gap: nothing (no window crosses it), or a short one is filled with flat bars that are marked.

A filled bar repeats the close before it as open, high, low and close, with a volume of zero: what a market without a
trade looks like. It is invented, so it may only be looked AT: no window ends at it, for nobody could have decided
there, and no label crosses it, for its outcome would be a fall by construction. The trap: filling adds rows, so an
index into filled bars is none into the bars that came; what holds for both is the time.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict, Field

from model.bars import Bars, gap_sizes


class GapRule(BaseModel):
    """What is done about bars that are missing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["drop_windows", "fill"] = Field(
        default="drop_windows",
        description="drop_windows: no window crosses a gap; fill: short gaps are filled with flat bars of no volume",
    )
    max_fill_bars: int = Field(
        default=3, ge=1, le=1_000, description="Bars of the longest gap that is filled; a longer one stays a gap"
    )


def fill_gaps(bars: Bars, rule: GapRule) -> tuple[Bars, Bool[np.ndarray, " bar"]]:
    """Fill the gaps that the rule allows.

    Args:
        bars: shape (bar,), oldest first.
        rule: whether gaps are filled, and up to which length; a longer gap is not filled in part.

    Returns:
        The bars, oldest first, and a mask over them, shape (bar,), that is true for each bar that was filled in: open,
        high, low and close are the close before it, its volume is zero.

    Time: a filled bar depends on the last real bar before it; that it is there at all, on the next real bar, which
        closed before any window that shows it is decided.
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
