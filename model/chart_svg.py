"""Draw a plotly chart as SVG: what a page shows, and prints, where plotly's script cannot be loaded.

Knows the charts of this project, given as plotly's JSON: lines, dots, bars, histograms, heatmaps and candlesticks in
stacked panels with a common horizontal axis. Colours of the palette are CSS variables, so that a page may redefine
them. Coordinates are rounded to half a unit and dots at one place are drawn once, so the size is bounded.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from markupsafe import escape

from model.chart_svg_axes import Axis, axis_for, numbers, ticks

WIDTH = 640
LEFT, RIGHT, TOP, BOTTOM = 72, 12, 24, 38  # room for labels and legend
MAX_POINTS = 1500  # of a line: more do not fit the width
SHADES = 21  # of a heatmap
CANDLE_SHARE = 0.7  # width of a bar's body
DASHES = {"dash": "6 4", "dot": "2 3"}
VARIABLES = {"#222222": "ink", "#9a9a9a": "mark", "#ececec": "grid", "#0072b2": "rise", "#d55e00": "fall"}


def chart_svg(chart: Mapping[str, Any], label: str) -> str:
    """Return a chart as an `svg` element.

    Args:
        chart: `data` and `layout`, as `Figure.to_json` writes them.
        label: name of the picture.
    """
    layout, height = chart["layout"], int(chart["layout"].get("height", 400))
    panels: dict[str, list[Mapping[str, Any]]] = {}
    for trace in chart["data"]:
        panels.setdefault(trace.get("yaxis", "y"), []).append(trace)
    across = axis_for(
        [layout.get(f"xaxis{name[1:]}", {}) for name in panels], chart["data"], "x", (LEFT, WIDTH - RIGHT)
    )
    parts = []
    for name, traces in panels.items():
        settings = layout.get(f"yaxis{name[1:]}", {})
        low, high = (
            TOP + (1 - share) * (height - TOP - BOTTOM) for share in reversed(settings.get("domain", (0.0, 1.0)))
        )
        up = axis_for([settings], traces, "y", (high, low))
        drawn = [*_shapes(layout.get("shapes", ()), name, across, up)]
        drawn += [element for trace in traces for element in _trace(trace, across, up)]
        parts += [*_frame(across, up), _clipped(drawn, across, up)]
    parts += [*_time_labels(across, height), *_legend(chart["data"])]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def standalone_svg(svg: str) -> str:
    """Return an `svg` element as a file: on white, with the colours and fonts that a page has in its style sheet.

    It has the size of its view box: MLflow shows a picture without a size as an empty page.
    """
    colours = "".join(f"--{name}:{colour};" for colour, name in VARIABLES.items())
    style = f"svg{{{colours}fill:none;font:11px system-ui,sans-serif}}text{{fill:var(--ink)}}"
    opening, _, rest = svg.partition(">")
    width, height = opening.partition('viewBox="')[2].partition('"')[0].split()[2:]
    return (
        f'{opening} width="{width}" height="{height}"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{rest}'
    )


def _clipped(drawn: Sequence[str], across: Axis, up: Axis) -> str:
    """Return what is drawn in a panel, cut off at its edges; half a dot may stand out."""
    x, y, width, height = across.start - 4, up.end - 4, across.end - across.start + 8, up.start - up.end + 8
    box = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f'<svg {box} viewBox="{x:g} {y:g} {width:g} {height:g}">{"".join(drawn)}</svg>'


def _frame(across: Axis, up: Axis) -> Iterator[str]:
    """Draw the grid, the labels and the title of a panel's vertical axis."""
    for place, text in ticks(up):
        yield f'<path d="M{across.start:g} {place:g}H{across.end:g}" stroke="var(--grid)"/>'
        yield f'<text x="{across.start - 6:g}" y="{place + 4:g}" text-anchor="end">{escape(text)}</text>'
    if up.title:
        middle = (up.start + up.end) / 2
        yield (
            f'<text transform="translate(12 {middle:g}) rotate(-90)" text-anchor="middle" class="title">'
            f"{escape(up.title)}</text>"
        )


def _time_labels(across: Axis, height: int) -> Iterator[str]:
    for place, text in ticks(across):
        yield f'<text x="{place:g}" y="{height - BOTTOM + 16:g}" text-anchor="middle">{escape(text)}</text>'
    if across.title:
        middle = f'x="{(across.start + across.end) / 2:g}" y="{height - 6:g}"'
        yield f'<text {middle} text-anchor="middle" class="title">{escape(across.title)}</text>'


def _legend(traces: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    place = float(LEFT)
    for trace in traces:
        if trace.get("name") and trace.get("showlegend", True):
            shade = trace.get("line", {}).get("color") or trace.get("marker", {}).get("color", "#222222")
            yield f'<circle cx="{place + 4:g}" cy="10" r="4" fill="{_shade(shade)}"/>'
            yield f'<text x="{place + 12:g}" y="14">{escape(trace["name"])}</text>'
            place += 30 + 6.5 * len(trace["name"])


def _shapes(shapes: Sequence[Mapping[str, Any]], panel: str, across: Axis, up: Axis) -> Iterator[str]:
    """Draw lines: across a panel, up a panel, or from one point to another."""
    for shape in shapes:
        if shape.get("yref", "y").partition(" ")[0] != panel:
            continue
        line = _stroke(shape.get("line", {}))
        first, last = across.pixels(numbers([shape["x0"], shape["x1"]], across))
        top, bottom = up.pixels(numbers([shape["y0"], shape["y1"]], up))
        if shape.get("xref", "x").endswith("domain"):
            first, last = across.start, across.end
        if shape.get("yref", "y").endswith("domain"):
            top, bottom = up.start, up.end
        yield f'<path d="M{first:g} {top:g}L{last:g} {bottom:g}" {line}/>'


def _trace(trace: Mapping[str, Any], across: Axis, up: Axis) -> Iterator[str]:
    kind = trace["type"].removesuffix("gl")
    draw = {
        "scatter": _scatter, "bar": _bars, "histogram": _histogram, "heatmap": _heatmap, "candlestick": _candles,
    }[kind]  # fmt: skip
    return draw(trace, across, up)


def _scatter(trace: Mapping[str, Any], across: Axis, up: Axis) -> Iterator[str]:
    x, y = (axis.pixels(numbers(trace[name], axis)) for name, axis in (("x", across), ("y", up)))
    fade = f' opacity="{trace["opacity"]:g}"' if trace.get("opacity", 1) < 1 else ""
    if "lines" in trace["mode"]:
        step = max(1, len(x) // MAX_POINTS)
        yield f'<path d="{_line(x[::step], y[::step])}" {_stroke(trace.get("line", {}))}{fade}/>'
    for name, axis in (("error_x", across), ("error_y", up)):
        if name in trace:
            yield _whiskers(trace, name, axis, x, y)
    if "markers" in trace["mode"]:
        yield from _dots(trace.get("marker", {}), x, y)


def _line(x: Float64[np.ndarray, " point"], y: Float64[np.ndarray, " point"]) -> str:
    """Return the path through points, each relative to the one before; it is broken where one is missing."""
    words, before = [], (math.nan, math.nan)
    for place, level in _halves(np.column_stack([x, y])).tolist():
        if not math.isnan(place + level):
            moved = f"l{place - before[0]:g} {level - before[1]:g}"
            words.append(f"M{place:g} {level:g}" if math.isnan(before[0]) else moved)
        before = (place, level) if not math.isnan(place + level) else (math.nan, math.nan)
    return "".join(words).replace(" -", "-")


def _dots(
    marker: Mapping[str, Any], x: Float64[np.ndarray, " point"], y: Float64[np.ndarray, " point"]
) -> Iterator[str]:
    """Draw dots: one path of each colour and size, whose subpaths have no length and round ends."""
    shades, sizes = (
        np.array(each if isinstance(each, list) else [each] * len(x))
        for each in (marker.get("color", "#222222"), marker.get("size", 6))
    )
    shown = ~np.isnan(x) & ~np.isnan(y) & (sizes > 0)
    for shade, size in dict.fromkeys(zip(shades[shown].tolist(), sizes[shown].tolist(), strict=True)):
        those = shown & (shades == shade) & (sizes == size)
        places = np.unique(_halves(np.column_stack([x[those], y[those]])), axis=0)
        path = "".join(f"M{place:g} {level:g}h0" for place, level in places.tolist())
        yield (
            f'<path d="{path}" stroke="{_shade(shade)}" stroke-width="{size:g}" stroke-linecap="round" '
            f'opacity="{marker.get("opacity", 1):g}"/>'
        )


def _whiskers(
    trace: Mapping[str, Any], name: str, axis: Axis, x: Float64[np.ndarray, " point"], y: Float64[np.ndarray, " point"]
) -> str:
    error = trace[name]
    middle = numbers(trace[name[-1]], axis)
    low = axis.pixels(middle - numbers(error["arrayminus"], axis))
    high = axis.pixels(middle + numbers(error["array"], axis))
    along = zip(low, y, high, y, strict=True) if name == "error_x" else zip(x, low, x, high, strict=True)
    path = "".join(f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" for a, b, c, d in along if not np.isnan([a, b, c, d]).any())
    return f'<path d="{path}" stroke="{_shade(error.get("color", "#0072b2"))}" fill="none"/>'


def _bars(trace: Mapping[str, Any], across: Axis, up: Axis) -> Iterator[str]:
    x, y = across.pixels(numbers(trace["x"], across)), up.pixels(numbers(trace["y"], up))
    floor, width = up.pixels(np.zeros(1))[0], CANDLE_SHARE * _spacing(x)
    shades = trace["marker"]["color"]
    for place, level, shade in zip(x, y, shades, strict=True):
        yield (
            f'<rect x="{place - width / 2:.1f}" y="{min(level, floor):.1f}" width="{width:.1f}" '
            f'height="{abs(level - floor):.1f}" fill="{_shade(shade)}"/>'
        )


def _histogram(trace: Mapping[str, Any], across: Axis, up: Axis) -> Iterator[str]:
    counts, edges = np.histogram(np.asarray(trace["x"], dtype=np.float64), bins=trace["nbinsx"])
    left, floor = across.pixels(edges), up.pixels(np.zeros(1))[0]
    for first, last, level in zip(left, left[1:], up.pixels(counts.astype(np.float64)), strict=False):
        yield (
            f'<rect x="{first:.1f}" y="{level:.1f}" width="{max(last - first - 1, 1):.1f}" '
            f'height="{floor - level:.1f}" fill="var(--rise)" opacity="0.6"/>'
        )


def _heatmap(trace: Mapping[str, Any], across: Axis, up: Axis) -> Iterator[str]:
    """Draw cells: one path of each shade, in units of a cell; the columns are equally spaced."""
    z = np.array([[np.nan if cell is None else cell for cell in row] for row in trace["z"]], dtype=np.float64)
    x = across.pixels(numbers(trace["x"], across) if "x" in trace else np.arange(float(z.shape[1])))
    first, second = up.pixels(np.arange(2.0))
    shades = np.clip((z - trace["zmin"]) / (trace["zmax"] - trace["zmin"]), 0, 1)
    width = _spacing(x)
    yield f'<g transform="translate({x[0] - width / 2:.1f} {first:.1f}) scale({width:g} {second - first:g})">'
    for shade in range(SHADES):
        cells = np.argwhere(np.round(shades * (SHADES - 1)) == shade).tolist()
        share = 2 * shade / (SHADES - 1) - 1
        if cells and share:
            path = "".join(f"M{column} {row}h1" for row, column in cells)
            side = "rise" if share > 0 else "fall"
            yield f'<path d="{path}" stroke="var(--{side})" stroke-opacity="{abs(share):.2f}"/>'
    yield "</g>"


def _candles(trace: Mapping[str, Any], across: Axis, up: Axis) -> Iterator[str]:
    x = across.pixels(numbers(trace["x"], across))
    opened, high, low, closed = (up.pixels(numbers(trace[name], up)) for name in ("open", "high", "low", "close"))
    width = max(2.0, CANDLE_SHARE * _spacing(x))
    for side, those in (("rise", closed <= opened), ("fall", closed > opened)):  # pixels count downwards
        wicks = "".join(f"M{x[k]:.1f} {low[k]:.1f}V{high[k]:.1f}" for k in np.flatnonzero(those))
        bodies = "".join(f"M{x[k]:.1f} {opened[k]:.1f}V{closed[k]:.1f}" for k in np.flatnonzero(those))
        yield f'<path d="{wicks}" stroke="var(--{side})"/>'
        yield f'<path d="{bodies}" stroke="var(--{side})" stroke-width="{width:.1f}"/>'


def _stroke(line: Mapping[str, Any]) -> str:
    dash = DASHES.get(line.get("dash", ""))
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    shade, width = _shade(line.get("color", "#222222")), line.get("width", 1.5)
    return f'stroke="{shade}" stroke-width="{width:g}" fill="none"{dashes}'


def _shade(colour: str) -> str:
    """Return a colour; one of the palette as the page's CSS variable."""
    return f"var(--{VARIABLES[colour]})" if colour in VARIABLES else str(escape(colour))


def _spacing(places: Float64[np.ndarray, " point"]) -> float:
    return float(np.median(np.abs(np.diff(places)))) if len(places) > 1 else 20.0


def _halves(points: Float64[np.ndarray, "point 2"]) -> Float64[np.ndarray, "point 2"]:
    """Round to half a unit."""
    return np.asarray(np.round(2 * points) / 2)
