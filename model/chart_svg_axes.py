"""Axes of a chart drawn as SVG: from values (numbers, times, names) to coordinates, and the ticks.

An axis is built from plotly's settings and the traces that it shows. Coordinates of SVG count downwards. Caution: a
range of a logarithmic axis is given in powers of ten, as plotly wants it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

PADDING = 0.04  # of the span, where the settings give no range
TICKS = 5
DAY = 86_400.0
STEPS = (1, 2, 3, 6, 12, 24, 48)  # of a unit of time: of months and hours they are parts of a year and of a day
UNITS: tuple[tuple[Literal["Y", "M", "D", "h"], float], ...] = (
    ("Y", 365.25 * DAY), ("M", 30.44 * DAY), ("D", DAY), ("h", 3600.0),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Attributes:
        kind: number, time (seconds since 1970) or name (position in `names`).
        low: value at `start`; its power of ten where logarithmic.
        high: value at `end`.
        start: coordinate of `low`.
        end: coordinate of `high`.
        log: whether it is logarithmic.
        names: categories.
        percent: whether labels are percentages.
        title: of the axis.
    """

    kind: Literal["number", "time", "name"]
    low: float
    high: float
    start: float
    end: float
    log: bool = False
    names: tuple[str, ...] = ()
    percent: bool = False
    title: str = ""

    def pixels(self, values: Float64[np.ndarray, " point"]) -> Float64[np.ndarray, " point"]:
        """Return the coordinates of values; NaN where there is none, such as that of 0 on a logarithmic axis."""
        with np.errstate(invalid="ignore", divide="ignore"):
            scaled = np.log10(values) if self.log else values
        places = self.start + (scaled - self.low) / (self.high - self.low) * (self.end - self.start)
        return np.where(np.isfinite(places), places, np.nan)


def axis_for(
    settings: Sequence[Mapping[str, Any]], traces: Sequence[Mapping[str, Any]], name: str, span: tuple[float, float]
) -> Axis:
    """Return the axis that shows traces.

    Args:
        settings: plotly's, of the axes that this one stands for.
        traces: what it shows.
        name: `x` or `y`.
        span: coordinates of its ends.
    """
    merged: dict[str, Any] = {}
    for each in settings:
        merged |= {key: value for key, value in each.items() if value is not None}
    names = _names(traces, name)
    log = merged.get("type") == "log"
    kind: Literal["number", "time", "name"] = "name" if names else "time" if _is_time(traces, name) else "number"
    plain = Axis(kind, 0, 1, *span, names=names)
    if "range" in merged:
        low, high = numbers(merged["range"], plain)
    else:
        low, high = _limits(traces, name, plain, log=log)
    if merged.get("autorange") == "reversed":
        low, high = high, low
    title = merged.get("title", {}).get("text", "")
    percent = "%" in merged.get("tickformat", "") and kind == "number"
    return Axis(kind, float(low), float(high), *span, log=log, names=names, percent=percent, title=title)


def numbers(values: Sequence[Any], axis: Axis) -> Float64[np.ndarray, " point"]:
    """Return values as numbers: seconds since 1970, positions of names, NaN for None."""
    if axis.kind == "name" and all(isinstance(each, str) for each in values):
        return np.array([axis.names.index(each) if each in axis.names else np.nan for each in values], dtype=np.float64)
    if axis.kind == "time":
        return np.array(values, dtype="datetime64[us]").astype("datetime64[s]").astype(np.float64)
    return np.array([np.nan if each is None else each for each in values], dtype=np.float64)


def ticks(axis: Axis) -> list[tuple[float, str]]:
    """Return coordinate and label of each tick."""
    low, high = sorted((axis.low, axis.high))
    if axis.kind == "name":
        step = max(1, len(axis.names) // 10)
        return [(float(axis.pixels(np.array([float(k)]))[0]), axis.names[k]) for k in range(0, len(axis.names), step)]
    if axis.kind == "time":
        values, texts = _time_ticks(low, high)
    elif axis.log:
        values = [
            10.0**power * digit
            for power in range(math.floor(low), math.ceil(high) + 1)
            for digit in ((1, 2, 5) if high - low < TICKS / 2 else (1,))
        ]
        values = [each for each in values if low <= math.log10(each) <= high]
        texts = [_plain(each) for each in values]
    else:
        apart = _step((high - low) / TICKS)
        values = [apart * k for k in range(math.ceil(low / apart), math.floor(high / apart) + 1)]
        decimals = max(0, -math.floor(math.log10(apart)) - 2)
        texts = [f"{each:.{decimals}%}" if axis.percent else _plain(each) for each in values]
    return list(zip(axis.pixels(np.array(values, dtype=np.float64)).tolist(), texts, strict=True))


def _plain(number: float) -> str:
    """Return a number without an exponent, such as 60,000 and 0.00002."""
    return f"{number:,.12f}".rstrip("0").rstrip(".")


def _step(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * (1 - 1e-9))


def _time_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Return ticks at the start of years, months, days or hours."""
    unit, seconds = next((each for each in UNITS if (high - low) / each[1] >= TICKS / 2), UNITS[-1])
    first, last = (np.array(int(each), dtype="datetime64[s]").astype(f"datetime64[{unit}]") for each in (low, high))
    every = next((step for step in STEPS if step * TICKS >= (high - low) / seconds), STEPS[-1])
    start = int(first.astype(np.int64)) // every * every
    found = np.arange(start, int(last.astype(np.int64)) + 1, every).astype(f"datetime64[{unit}]")
    values = found.astype("datetime64[s]").astype(np.float64)
    shown = (values >= low) & (values <= high)
    texts = np.datetime_as_string(found[shown]).tolist()
    return values[shown].tolist(), [text.replace("T", " ") + (":00" if unit == "h" else "") for text in texts]


def _names(traces: Sequence[Mapping[str, Any]], name: str) -> tuple[str, ...]:
    """Return the categories of a vertical axis."""
    if name == "x":
        return ()
    found = [value for trace in traces for value in trace.get("y", ()) if isinstance(value, str)]
    return tuple(dict.fromkeys(found))


def _is_time(traces: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(isinstance(value, str) for trace in traces for value in trace.get(name, ())[:1])


def _limits(traces: Sequence[Mapping[str, Any]], name: str, axis: Axis, *, log: bool) -> tuple[float, float]:
    """Return the limits of what the traces show, with some room."""
    values = np.concatenate([np.ravel(_extent(trace, name, axis)) for trace in traces] or [np.zeros(1)])
    values = values[np.isfinite(values)]
    if log:
        values = np.log10(values[values > 0])
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    if any(trace["type"] == "heatmap" for trace in traces) or axis.kind == "name":
        return low - 0.5 * _gap(values), high + 0.5 * _gap(values)
    room = PADDING * (high - low) or max(abs(high), 1.0) * PADDING
    return low - room, high + room


def _gap(values: Float64[np.ndarray, " point"]) -> float:
    steps = np.diff(np.unique(values))
    return float(np.median(steps)) if len(steps) else 1.0


def _extent(trace: Mapping[str, Any], name: str, axis: Axis) -> Float64[np.ndarray, " point"]:
    """Return the values that a trace reaches on an axis."""
    kind = trace["type"]
    if kind == "candlestick" and name == "y":
        return numbers([*trace["low"], *trace["high"]], axis)
    if kind == "histogram" and name == "y":
        counts, _ = np.histogram(np.asarray(trace["x"], dtype=np.float64), bins=trace["nbinsx"])
        return np.array([0.0, counts.max()])
    if kind == "heatmap" and name not in trace:
        return np.arange(float(len(trace["z"][0] if name == "x" else trace["z"])))
    values = numbers(trace[name], axis)
    error = trace.get(f"error_{name}")
    if error:
        return np.concatenate([values - numbers(error["arrayminus"], axis), values + numbers(error["array"], axis)])
    return np.append(values, 0.0) if kind == "bar" and name == "y" else values
