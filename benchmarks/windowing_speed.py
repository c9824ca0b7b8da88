"""Windowing speed vs. the article's loop, with equal output, and vs. `keras.utils.timeseries_dataset_from_array`."""

import numpy as np
from five_million_bars import article_loop
from synthetic_series import walk
from timed_comparison import Line, versus

from model.windows import WindowSpec, cut_windows

BARS = 20_000
BATCH = 256


def lines(rounds: int) -> list[Line]:
    """Compare."""
    import keras

    bars, spec = walk(BARS), WindowSpec()

    def ours() -> tuple[np.ndarray, np.ndarray]:
        windows = cut_windows(bars, spec).resolved()
        return windows.standardised(), windows.labels

    (found, labels), (expected, outcomes) = ours(), article_loop(bars)
    assert np.array_equal(labels, outcomes)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)

    def raw() -> None:
        windows = cut_windows(bars, spec).resolved()
        for start in range(0, len(windows), BATCH):
            windows.take(np.arange(start, min(start + BATCH, len(windows)))).values()

    def keras_dataset() -> None:
        prices = bars.ohlcv[:, :4]
        outcomes = (prices[spec.lookback_bars :, 3] > prices[spec.lookback_bars - 1 : -1, 3]).astype(np.int8)
        dataset = keras.utils.timeseries_dataset_from_array(prices[:-1], outcomes, spec.lookback_bars, batch_size=BATCH)
        for _ in dataset:
            pass

    return [
        versus(
            f"cut {BARS:,} bars of windows, standardise all: the article's loop",
            ours, lambda: article_loop(bars), rounds, 100,
        ),
        versus(f"raw windows in batches of {BATCH}: keras timeseries_dataset_from_array", raw, keras_dataset, rounds),
    ]  # fmt: skip
