"""The hash of bars: equal bars, equal hash, wherever they are kept."""

import hashlib

import numpy as np

from model.bars import Bars
from tasks.store.bar_rows import BATCH_BARS


def hash_bars(bars: Bars) -> str:
    """Hash times and values of bars, sha256 in hexadecimal: equal bars, equal hash, wherever they are kept.

    Hashed are, bar by bar, the open time (microseconds since 1970, int64) and open, high, low, close, volume (float64),
    little-endian, every NaN the same and no negative zero.
    Source: own.
    """
    digest = hashlib.sha256()
    for start in range(0, len(bars), BATCH_BARS):
        rows = slice(start, start + BATCH_BARS)
        values = bars.ohlcv[rows] + 0.0  # -0.0 becomes 0.0, which it equals
        values[np.isnan(values)] = np.nan
        block = np.empty((len(values), 6), dtype="<i8")
        block[:, 0] = bars.opened_at[rows].astype("datetime64[us]").astype(np.int64)
        block[:, 1:] = values.astype("<f8").view("<i8")
        digest.update(block.data)
    return digest.hexdigest()
