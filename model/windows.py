"""Cut windows from bars: the last `lookback_bars` bars before a decision, with their label.

`Windows` keeps one feature matrix and, for each window, the index of its last bar; the windows themselves are a lazy
view, so memory grows with the bars and not with bars times lookback. Features are raw columns (see `model.features`),
times are closes, UTC. No window crosses a gap, unless a short one was filled (see `model.gap_filling`). A window whose
label crosses a gap or lies beyond the newest bar can be predicted, but is unresolved. Caution: indices count windows,
`ends` counts rows of the matrix; with a stride, a gap or a filled bar the two differ. Find the bar of a window by its
time, `decided_at`.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64, Shaped
from pydantic import BaseModel, ConfigDict, Field, field_validator

from model.bars import Bars
from model.errors import BarsTooShort
from model.features import FeatureName, feature_matrix
from model.gap_filling import GapRule, fill_gaps
from model.labels import UNRESOLVED, label_rises, stretch_numbers

# Own choice: distances are clipped at six typical moves, so that a bad tick does not dominate.
MAX_MOVES = 6.0
LONGEST_LOOKBACK = 10_000
CHUNK_VALUES = 32_768  # values standardised at once: 256 kB, which fit the cache of a core


class WindowSpec(BaseModel):
    """How windows are cut from the bars, and when their label is due."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Window")

    lookback_bars: int = Field(default=30, ge=2, le=LONGEST_LOOKBACK, description="Bars in a window")
    horizon_bars: int = Field(default=1, ge=1, le=10_000, description="Bars from the decision to the outcome")
    stride_bars: int = Field(default=1, ge=1, le=10_000, description="Bars from one window to the next")
    features: tuple[FeatureName, ...] = Field(
        default=("open", "high", "low", "close"),
        min_length=1,
        description="Columns of a window: prices in the quote currency, volume in the unit of the source",
    )
    gaps: GapRule = Field(default=GapRule(), description="Treatment of missing bars")

    @field_validator("features")
    @classmethod
    def _name_each_once(cls, features: tuple[FeatureName, ...]) -> tuple[FeatureName, ...]:
        if len(set(features)) < len(features):
            raise ValueError(f"features: expected each column once, found {', '.join(features)}")
        return features


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of one series or of a panel, oldest first, as a lazy view over one feature matrix.

    Attributes:
        interval: name of the interval, such as `1d`.
        features: shape (bar, feature), float64, raw; shared by all windows and by every `take`.
        ends: shape (window,), int64: index into `features` of each window's last bar.
        labels: shape (window,), int8: 1 rise, 0 fall, -1 unresolved.
        decided_at: shape (window,), datetime64[us], UTC: close of the window's last bar.
        resolved_at: shape (window,), datetime64[us], UTC: close of the bar that fixes the label; NaT if unresolved.
        last_moves: shape (window,), int8: sign of the close's move from the last bar but one to the last: 1, 0, -1.
        label_moves: shape (window,), float64: log return from the decision to the outcome; its sign is the label. For
            ranks of a panel (a set of series) the median return of the others is subtracted; NaN if unresolved.
        lookback_bars: bars in a window.
        filled: shape (filled,), int64: rows of `features` that were filled into gaps; empty unless the spec allows it.
        symbols: shape (window,), text: the series of each window of a panel (see `model.panel`); empty for one series.
        context_count: how many of the last features are context of a panel: in one unit for all series, never scaled.
    """

    interval: str
    features: Float64[np.ndarray, "bar feature"]
    ends: Int64[np.ndarray, " window"]
    labels: Int8[np.ndarray, " window"]
    decided_at: Shaped[np.ndarray, " window"]
    resolved_at: Shaped[np.ndarray, " window"]
    last_moves: Int8[np.ndarray, " window"]
    label_moves: Float64[np.ndarray, " window"]
    lookback_bars: int
    filled: Int64[np.ndarray, " filled"] = field(default_factory=lambda: np.empty(0, np.int64))
    symbols: Shaped[np.ndarray, " _"] = field(default_factory=lambda: np.empty(0, np.str_))
    context_count: int = 0

    def __len__(self) -> int:
        """Count the windows."""
        return len(self.ends)

    @property
    def view(self) -> Float64[np.ndarray, "_ lookback feature"]:
        """All runs of `lookback_bars` rows, gaps included: shape (bar - lookback + 1, lookback, feature), not copied.

        Window w is `view[ends[w] - lookback_bars + 1]`.
        """
        return np.lib.stride_tricks.sliding_window_view(self.features, self.lookback_bars, axis=0).swapaxes(1, 2)

    def values(self) -> Float64[np.ndarray, "window lookback feature"]:
        """Copy the windows out: shape (window, lookback, feature), float64, raw, oldest bar first.

        Needs window x lookback x feature x 8 bytes: for many windows, `take` a part at a time.
        """
        return np.ascontiguousarray(self.view[self.ends - self.lookback_bars + 1])

    def standardised(self) -> Float64[np.ndarray, "window lookback feature"]:
        """Return `standardise(self.values())`, bit for bit, without copying the raw windows first."""
        by_feature = np.ascontiguousarray(self.features.T)
        runs = np.lib.stride_tricks.sliding_window_view(by_feature, self.lookback_bars, axis=1).transpose(2, 0, 1)
        starts = self.ends - self.lookback_bars + 1
        result = np.empty((len(self), self.lookback_bars, len(by_feature)))
        chunks, buffers = _chunks(result.shape)
        for part in chunks:
            chosen = starts[part]
            consecutive = (np.diff(chosen) == 1).all()
            raw = runs[:, :, chosen[0] : chosen[-1] + 1] if consecutive else runs[:, :, chosen]
            _standardise(raw, result[part], buffers)
        return result

    def take(self, chosen: Int64[np.ndarray, " index"] | Bool[np.ndarray, " window"]) -> "Windows":
        """Return the windows at these indices, or where this mask holds; the feature matrix is shared."""
        return Windows(
            interval=self.interval,
            features=self.features,
            ends=self.ends[chosen],
            labels=self.labels[chosen],
            decided_at=self.decided_at[chosen],
            resolved_at=self.resolved_at[chosen],
            last_moves=self.last_moves[chosen],
            label_moves=self.label_moves[chosen],
            lookback_bars=self.lookback_bars,
            filled=self.filled,
            symbols=self.symbols[chosen] if len(self.symbols) else self.symbols,
            context_count=self.context_count,
        )

    def resolved(self) -> "Windows":
        """Return the windows whose outcome is known."""
        return self.take(self.labels >= 0)


def cut_windows(bars: Bars, spec: WindowSpec) -> Windows:
    """Cut every window that crosses no gap, unresolved ones included.

    Window ends lie at bars lookback - 1 + k * stride, counted from the oldest bar, so bars appended later move none.

    Args:
        bars: shape (bar,), oldest first.
        spec: lookback, horizon, stride, features and treatment of gaps.

    Returns:
        Windows, oldest first, each ending at a real bar. Where the bar of the label is missing or lies beyond a gap,
        filled or not, the label is -1 and `resolved_at` NaT.

    Raises:
        BarsTooShort: there is no window at all.
        SpecError: a chosen column is not finite throughout.

    Time: the values, `decided_at` and `last_moves` of a window ending at bar t depend on bars t-lookback+1..t; its
        label, `resolved_at` and `label_moves` on bars t..t+horizon.
    Source: the article's windows of WINDOW, STEP and FORECAST; gaps are our own.

    Examples:
        >>> opened_at = np.arange("2024-01-01", "2024-01-05", dtype="datetime64[D]").astype("datetime64[us]")
        >>> close = np.array([10.0, 12.0, 11.0, 13.0])
        >>> bars = Bars("1d", opened_at, np.repeat(close[:, None], 5, axis=1))
        >>> windows = cut_windows(bars, WindowSpec(lookback_bars=2, features=("close",)))
        >>> windows.values()[:, :, 0].tolist()
        [[10.0, 12.0], [12.0, 11.0], [11.0, 13.0]]
        >>> windows.labels.tolist()
        [0, 1, -1]
    """
    found = label_rises(bars, spec.horizon_bars)
    bars, is_filled = fill_gaps(bars, spec.gaps)
    stretch = stretch_numbers(bars)
    first_end = spec.lookback_bars - 1
    same = stretch[first_end :: spec.stride_bars] == stretch[: max(0, len(bars) - first_end) : spec.stride_bars]
    ends = np.arange(first_end, len(bars), spec.stride_bars, dtype=np.int64)[same]
    ends = ends[~is_filled[ends]]
    if not len(ends):
        raise BarsTooShort(_no_window(bars, spec, stretch))
    labels = np.full(len(bars), UNRESOLVED, np.int8)
    labels[~is_filled] = found  # labels of the real bars only: none crosses a gap, filled or not
    labels = labels[ends]
    decided_at = bars.closed_at[ends]
    # A resolved label crosses no gap, so its bar is horizon_bars rows ahead and closes as many intervals later.
    known, close = labels >= 0, bars.column("close")
    resolved_at = np.where(known, decided_at + spec.horizon_bars * bars.delta, np.datetime64("NaT"))
    label_moves = np.full(len(ends), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):  # a close of zero or less has no logarithm; checks refuse it
        label_moves[known] = np.log(close[ends[known] + spec.horizon_bars] / close[ends[known]])
    change = np.diff(close, prepend=np.nan)
    moves = (change > 0).astype(np.int8) - (change < 0).astype(np.int8)
    return Windows(
        interval=bars.interval,
        features=feature_matrix(bars, spec.features),
        ends=ends,
        labels=labels,
        decided_at=decided_at,
        resolved_at=resolved_at,
        last_moves=moves[ends],
        label_moves=label_moves,
        lookback_bars=spec.lookback_bars,
        filled=np.flatnonzero(is_filled),
    )


def _no_window(bars: Bars, spec: WindowSpec, stretch: Int64[np.ndarray, " bar"]) -> str:
    """Describe why there is no window, and what to do."""
    reach = f", {bars.opened_at[0]} to {bars.opened_at[-1]}" if len(bars) else ""
    longest, gaps = (int(np.bincount(stretch).max()), int(stretch[-1])) if len(bars) else (0, 0)
    on_grid = f", ending on every {spec.stride_bars}th bar" if spec.stride_bars > 1 else ""
    return (
        f"windows {bars.interval}: expected at least {spec.lookback_bars} bars in a row without a gap{on_grid}; found "
        f"{len(bars)} bars{reach}, with {gaps} gaps, the longest "
        f"stretch {longest} bars. Give more bars, or lower --window.lookback-bars."
    )


def standardise(
    values: Float64[np.ndarray, "window lookback feature"],
) -> Float64[np.ndarray, "window lookback feature"]:
    """Standardise each window and channel to mean 0 and standard deviation 1 over its own lookback (z-score).

    The first bar of the window is subtracted first. Differences of nearby prices are exact, so 60,000.01 and 60,000.02
    stay different, and a constant channel is exactly zero instead of rounding noise scaled to deviation 1.

    Args:
        values: shape (window, lookback, feature), float64, finite.

    Returns:
        The same shape, float64; a channel that is constant over its window is zero throughout.

    Time: an entry depends on its own window alone.
    Source: the article's `(x - mean(x)) / std(x)`, population deviation.

    Examples:
        >>> standardise(np.array([[[60_000.01, 7.0], [60_000.03, 7.0]]])).round(6).tolist()
        [[[-1.0, 0.0], [1.0, 0.0]]]
    """
    result = np.empty(values.shape)
    chunks, buffers = _chunks(values.shape)
    for part in chunks:
        _standardise(values[part].transpose(1, 2, 0), result[part], buffers)
    return result


def _chunks(shape: tuple[int, ...]) -> tuple[list[slice], np.ndarray]:
    """Split windows of shape (window, lookback, feature) into chunks that fit the cache, and allocate two buffers."""
    windows, lookback, features = shape
    size = max(1, CHUNK_VALUES // (lookback * features))
    chunks = [slice(start, min(start + size, windows)) for start in range(0, windows, size)]
    return chunks, np.empty((2, lookback, features, min(size, windows)))


def _standardise(raw: np.ndarray, result: np.ndarray, buffers: np.ndarray) -> None:
    """Standardise windows of shape (lookback, feature, window) into shape (window, lookback, feature).

    With the windows innermost, each operation runs over long rows, which vectorises, and no result depends on the
    chunk. The two buffers are reused, because allocating memory costs as much as the arithmetic.
    """
    centred, squares = buffers[..., : raw.shape[2]]
    np.subtract(raw, raw[0], out=centred)
    centred -= np.add.reduce(centred, axis=0) / len(raw)
    deviation = np.sqrt(np.add.reduce(np.multiply(centred, centred, out=squares), axis=0) / len(raw))
    centred *= np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    result[...] = centred.transpose(2, 0, 1)


def anchor(
    values: Float64[np.ndarray, "window lookback feature"],
) -> Float64[np.ndarray, "window lookback feature"]:
    """Express each price as its distance from the window's last close, in typical moves over that time.

    A price k bars before the last one is divided by the window's typical move from close to close (root of the mean
    square) times the root of k + 1: the move that a random walk is expected to make in that time. So an entry states
    how unusual the move since that bar is, on one scale for near and far bars, and unlike z-scores it keeps the
    position of the last close relative to the window.

    Args:
        values: shape (window, lookback, feature), float64, finite; prices only, the last feature is the close.

    Returns:
        The same shape, float64, within -6 and 6; a window whose closes do not move is zero throughout.

    Time: an entry depends on its own window alone.
    Source: own; the root of time is that of a random walk.
    """
    distances = values - values[:, -1:, -1:]
    step = np.sqrt(np.square(np.diff(values[:, :, -1:], axis=1)).mean(axis=1, keepdims=True))
    reach = np.sqrt(np.arange(values.shape[1], 0, -1.0))[None, :, None]
    scaled: Float64[np.ndarray, "window lookback feature"] = np.zeros_like(distances)
    np.divide(distances, step * reach, out=scaled, where=step > 0)
    return np.clip(scaled, -MAX_MOVES, MAX_MOVES, out=scaled)
