"""The article's windowing loop in plain Python: one list in, standardised windows and labels out.

Its FORECAST counts from one bar past the window, so FORECAST = f asks for the close f + 1 bars after the last one.
"""

import math

Row = tuple[float, ...]
CLOSE = 3  # open, high, low, close


def article_windows(rows: list[Row], window: int, step: int, forecast: int) -> tuple[list[list[Row]], list[int]]:
    """Return (windows, labels) of rows given oldest first; a window is a list of rows of z-scores."""
    windows, labels = [], []
    for i in range(0, len(rows), step):
        x = rows[i : i + window]
        outcome = i + window + forecast
        if outcome >= len(rows):
            break
        labels.append(1 if rows[outcome][CLOSE] > x[-1][CLOSE] else 0)
        windows.append(_z_scores(x))
    return windows, labels


def _z_scores(rows: list[Row]) -> list[Row]:
    channels = [_z_score(channel) for channel in zip(*rows, strict=True)]
    return list(zip(*channels, strict=True))


def _z_score(values: Row) -> list[float]:
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return [(value - mean) / deviation for value in values]
