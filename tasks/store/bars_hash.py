"""The hash of bars: equal bars, equal hash, wherever they are kept."""

import hashlib
from collections.abc import Collection, Iterator

import numpy as np
from jaxtyping import Int64

from model.bars import Bars
from tasks.store.bar_rows import BATCH_BARS


def hash_bars(bars: Bars) -> str:
    """Hash times and values of bars, sha256 in hexadecimal: equal bars, equal hash, wherever they are kept.

    Hashed are, bar by bar, the open time (microseconds since 1970, int64) and open, high, low, close, volume (float64),
    little-endian, every NaN the same and no negative zero.
    Source: own.
    """
    digest = hashlib.sha256()
    for block in _blocks(bars):
        digest.update(block.data)
    return digest.hexdigest()


def count_prefixes(bars: Bars, wanted: Collection[str]) -> dict[str, int]:
    """Return the number of the oldest bars that have each of these hashes, for those that are found.

    A reference to bars "as of" an earlier time has the hash of the bars that were closed then.
    """
    digest, found, count = hashlib.sha256(), dict[str, int](), 0
    for block in _blocks(bars):
        for bar in block:
            digest.update(bar.data)
            count += 1
            if (hashed := digest.hexdigest()) in wanted:
                found[hashed] = count
    return found


def _blocks(bars: Bars) -> Iterator[Int64[np.ndarray, "bar 6"]]:
    """Yield the hashed content of bars, row by row."""
    for start in range(0, len(bars), BATCH_BARS):
        rows = slice(start, start + BATCH_BARS)
        values = bars.ohlcv[rows] + 0.0  # -0.0 becomes 0.0, which it equals
        values[np.isnan(values)] = np.nan
        block = np.empty((len(values), 6), dtype="<i8")
        block[:, 0] = bars.opened_at[rows].astype("datetime64[us]").astype(np.int64)
        block[:, 1:] = values.astype("<f8").view("<i8")
        yield block
