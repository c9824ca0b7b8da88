"""A chart as SVG: coordinates lead back to the values, and ticks stand where their labels claim."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from plotly.subplots import make_subplots

from model.chart_svg import LEFT, RIGHT, TOP, WIDTH, chart_svg
from model.chart_svg_axes import Axis, axis_for, ticks
from model.plotly_figures import add_trace, new_figure, new_panels

BLUE = "#0072b2"


def as_dict(figure: Any) -> Mapping[str, Any]:
    return json.loads(figure.to_json())


def test_dots_stand_at_their_values() -> None:
    figure = new_figure(400)
    add_trace(figure, "Scatter", x=[0, 4, 10], y=[1.0, 3.0, 2.0], mode="markers", marker={"color": BLUE, "size": 6})
    figure.update_xaxes(range=[0, 10])
    figure.update_yaxes(range=[1, 3])
    svg = chart_svg(as_dict(figure), "three dots")
    (path,) = re.findall(r'<path d="((?:M[\d.]+ [\d.]+h0)+)" stroke="var\(--rise\)" stroke-width="6"', svg)
    places = [tuple(map(float, each)) for each in re.findall(r"M([\d.]+) ([\d.]+)h0", path)]
    width, height = WIDTH - RIGHT - LEFT, 400 - TOP - 38
    by_hand = [(LEFT, TOP + height), (LEFT + 0.4 * width, TOP), (WIDTH - RIGHT, TOP + height / 2)]
    np.testing.assert_allclose(places, by_hand, atol=0.25)  # rounded to half a unit


def test_a_line_is_broken_where_a_value_is_missing() -> None:
    figure = new_figure(300)
    add_trace(figure, "Scatter", x=[0, 1, 2, 3], y=[1.0, 2.0, None, 1.0], mode="lines", line={"color": BLUE})
    (path,) = re.findall(r'<path d="(M[^"]*l[^"]*)" stroke="var\(--rise\)"', chart_svg(as_dict(figure), "x"))
    (x, y, right, up) = re.fullmatch(r"M([\d.]+) ([\d.]+)l([\d.]+)(-[\d.]+)M[\d.]+ ([\d.]+)", path).groups()[:4]
    width, height = WIDTH - RIGHT - LEFT, 300 - TOP - 38
    assert float(right) == pytest.approx(width / 3, rel=0.1)
    assert path.endswith(f" {y}")  # the last point has the value of the first
    assert float(y) + float(up) == pytest.approx(TOP + 0.04 * height, abs=5)
    assert float(x) < LEFT + 0.1 * width


def test_an_equity_curve_ends_at_a_total_loss() -> None:
    """A logarithmic axis has no place for 0, and a path with a number that is none is not valid."""
    figure = new_figure(300)
    add_trace(figure, "Scatter", x=[0, 1, 2, 3], y=[1.0, 0.5, 0.0, 0.0], mode="lines", line={"color": BLUE})
    figure.update_yaxes(type="log")
    (path,) = re.findall(r'<path d="(M[^"]*)" stroke="var\(--rise\)"', chart_svg(as_dict(figure), "x"))
    assert re.fullmatch(r"M[\d.]+ [\d.]+l[\d.]+ [\d.]+", path)


def test_what_leaves_a_panel_is_cut_off() -> None:
    figure = new_figure(400)
    add_trace(figure, "Scatter", x=[0, 1], y=[0.0, 1.0], mode="markers", marker={"color": BLUE})
    figure.add_shape(type="line", x0=-9, x1=9, y0=-9, y1=9)
    inner = re.findall(
        r'<svg x="[\d.]+" y="[\d.]+" width="([\d.]+)" height="([\d.]+)"', chart_svg(as_dict(figure), "x")
    )
    assert [tuple(map(float, each)) for each in inner] == [(WIDTH - LEFT - RIGHT + 8, 400 - TOP - 38 + 8)]


def test_panels_do_not_overlap_and_share_the_time_axis() -> None:
    figure = new_panels(500, [0.5, 0.5])
    days = np.array(["2019-01-01", "2019-01-11"], dtype="datetime64[s]")
    for row in (1, 2):
        add_trace(figure, "Scatter", row=row, x=days, y=[0.0, 1.0], mode="markers", marker={"color": BLUE, "size": 5})
    paths = re.findall(r'<path d="((?:M[\d.]+ [\d.]+h0){2})"', chart_svg(as_dict(figure), "x"))
    (upper, lower) = ([float(y) for y in re.findall(r" ([\d.]+)h0", path)] for path in paths)
    assert max(upper) < min(lower)
    assert [re.findall(r"M([\d.]+) ", path) for path in paths] == [re.findall(r"M([\d.]+) ", paths[0])] * 2


@pytest.mark.parametrize("shares", [[1.0], [0.75, 0.25], [0.38, 0.27, 0.35]])
def test_panels_lie_where_those_of_plotly_lie(shares: list[float]) -> None:
    count = len(shares)
    plotly = make_subplots(rows=count, cols=1, row_heights=shares, vertical_spacing=0.05, shared_xaxes=True)
    ours, theirs = as_dict(new_panels(500, shares))["layout"], as_dict(plotly)["layout"]
    for axis in (name for name in theirs if name[1:5] == "axis"):
        domain = theirs[axis].pop("domain")
        assert ours[axis]["domain"] == pytest.approx(domain, abs=1e-6)
        assert {name: ours[axis].get(name) for name in theirs[axis]} == theirs[axis]
    add_trace(figure := new_panels(500, shares), "Scatter", row=count, x=[1], y=[2])
    assert figure.data[0].yaxis == f"y{count if count > 1 else ''}"


def test_a_heatmap_has_one_cell_for_each_number_but_zero_and_missing() -> None:
    figure = new_figure(200)
    z = [[1.0, -1.0, 0.0], [None, 0.5, -0.5]]
    add_trace(figure, "Heatmap", z=z, y=["a", "b"], zmin=-1.0, zmax=1.0)
    svg = chart_svg(as_dict(figure), "x")
    cells = re.findall(r'<path d="M(\d) (\d)h1" stroke="var\(--(\w+)\)" stroke-opacity="([\d.]+)"', svg)
    assert [(int(column), int(row), side, float(share)) for column, row, side, share in cells] == [
        (1, 0, "fall", 1.0), (2, 1, "fall", 0.5), (1, 1, "rise", 0.5), (0, 0, "rise", 1.0)
    ]  # fmt: skip


def test_rows_of_a_heatmap_are_beside_their_names() -> None:
    figure = new_figure(200)
    add_trace(figure, "Heatmap", z=[[1.0, 0.5], [0.2, 0.7]], y=["a", "b"], zmin=-1.0, zmax=1.0)
    svg = chart_svg(as_dict(figure), "x")
    ((_, top, _, step),) = re.findall(r"translate\(([\d.-]+) ([\d.-]+)\) scale\(([\d.-]+) ([\d.-]+)\)", svg)
    labels = [float(re.findall(rf'y="([\d.]+)" text-anchor="end">{name}<', svg)[0]) - 4 for name in "ab"]
    assert [float(top), float(top) + float(step)] == pytest.approx(labels, abs=0.1)


def test_thousands_of_dots_at_one_place_are_drawn_once() -> None:
    figure = new_figure(400)
    rng = np.random.default_rng(1)
    x, y = rng.random(20_000) / 9, rng.random(20_000) / 9
    add_trace(figure, "Scattergl", x=x, y=y, mode="markers", marker={"color": BLUE, "size": 2})
    few = new_figure(400)
    add_trace(few, "Scatter", x=x[:2000], y=y[:2000], mode="lines", line={"color": BLUE})
    line = chart_svg(as_dict(few), "x")
    assert len(line) < 40_000
    dots = re.findall(r"M[\d.]+ [\d.]+h0", chart_svg(as_dict(figure), "x"))
    assert len(dots) == len(set(dots)) < 20_000


def test_texts_are_escaped() -> None:
    figure = new_figure(300)
    add_trace(figure, "Scatter", x=[1], y=["<b>"], mode="markers", marker={"color": BLUE}, name="<img>")
    figure.update_yaxes(title="<script>")
    svg = chart_svg(as_dict(figure), '"><script>')
    assert not re.findall(r"<(?:b|img|script)\b", svg)
    assert svg.count("&lt;") == 4


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ("2017-08-01", "2019-10-17", ["2018-01", "2018-07", "2019-01", "2019-07"]),
        ("2019-01-15", "2019-06-15", ["2019-02", "2019-03", "2019-04", "2019-05", "2019-06"]),
        ("2019-01-01T06:00", "2019-01-04T06:00", ["2019-01-02", "2019-01-03", "2019-01-04"]),
        ("2019-01-01T00:00", "2019-01-01T04:00", [f"2019-01-01 0{hour}:00" for hour in range(5)]),
    ],
)  # fmt: skip
def test_time_ticks_stand_at_the_start_of_what_they_name(low: str, high: str, expected: list[str]) -> None:
    seconds = [datetime.fromisoformat(each).replace(tzinfo=UTC).timestamp() for each in (low, high)]
    found = ticks(Axis("time", *seconds, 0.0, 1000.0))
    assert [text for _, text in found] == expected
    for place, text in found:
        whole = {4: f"{text}-01-01", 7: f"{text}-01"}.get(len(text), text)
        at = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()
        assert place == pytest.approx(1000 * (at - seconds[0]) / (seconds[1] - seconds[0]))


def test_number_ticks_are_round_and_percentages_are_percentages() -> None:
    axis = axis_for([{"range": [0.482, 0.553], "tickformat": ".0%"}], [{"type": "scatter", "y": [0.5]}], "y", (100, 0))
    assert [text for _, text in ticks(axis)] == ["50%", "52%", "54%"]
    log = axis_for([{"type": "log"}], [{"type": "scatter", "y": [10.0, 1000.0]}], "y", (100, 0))
    assert [text for _, text in ticks(log)] == ["10", "20", "50", "100", "200", "500", "1,000"]
    np.testing.assert_allclose([place for place, text in ticks(log) if text == "100"], [50.0])


def test_small_and_large_numbers_are_plain() -> None:
    small = axis_for([{"type": "log", "range": [-5, -3]}], [{"type": "scatter", "y": [1e-4]}], "y", (100, 0))
    assert [text for _, text in ticks(small)] == [
        "0.00001",
        "0.00002",
        "0.00005",
        "0.0001",
        "0.0002",
        "0.0005",
        "0.001",
    ]
    tiny = axis_for([{"range": [0, 0.00005]}], [{"type": "scatter", "y": [0.0]}], "y", (100, 0))
    assert [text for _, text in ticks(tiny)] == ["0", "0.00001", "0.00002", "0.00003", "0.00004", "0.00005"]
    large = axis_for([{"type": "log", "range": [5, 7]}], [{"type": "scatter", "y": [1e6]}], "y", (100, 0))
    assert "1,000,000" in [text for _, text in ticks(large)]


def test_a_reversed_axis_of_names_begins_at_the_top() -> None:
    traces = [{"type": "heatmap", "z": [[1.0], [2.0]], "y": ["open", "close"]}]
    axis = axis_for([{"autorange": "reversed"}], traces, "y", (200, 0))
    assert ticks(axis) == [(50.0, "open"), (150.0, "close")]
