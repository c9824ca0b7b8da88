"""The charts of an explanation hold their data, and name three bars upright."""

import numpy as np
import pytest

from model.chart_style import FALL, RISE
from model.explanation import Attribution, Explanation
from model.explanation_charts import attribution_chart, filters_chart, map_chart

OPENED_AT = np.datetime64("2024-04-20", "us") + np.arange(24) * np.timedelta64(1, "D")


def test_a_map_names_three_bars_upright_and_hours_where_there_are_several_a_day() -> None:
    for step, form in (("h", "%b %-d<br>%H:%M"), ("D", "%b %-d")):
        opened_at = np.datetime64("2024-04-20", "us") + np.arange(24) * np.timedelta64(1, step)
        axis = map_chart(np.ones((24, 3)), opened_at, row="unit", opens=True).layout.xaxis
        assert (axis.tickformat, axis.tickangle) == (form, 0)
        assert list(axis.tickvals) == list(opened_at[[4, 12, 19]])


def explanation(features: tuple[str, ...]) -> Explanation:
    rng = np.random.default_rng(1)
    shape = (len(OPENED_AT), len(features))
    attribution = Attribution(rng.normal(0, 0.01, shape), 0.55, 0.5, 0.0, 128)
    return Explanation("cnn", features, rng.random(shape), rng.normal(size=shape), None, (), (), attribution, ())


def test_an_attribution_shows_prices_bars_and_channels() -> None:
    found = explanation(("open", "high", "low", "close"))
    candles, bars, channels = attribution_chart(found, OPENED_AT).data
    np.testing.assert_allclose(candles.close, found.window[:, 3], rtol=1e-6)
    np.testing.assert_allclose(bars.y, 100 * found.attribution.by_bar(), rtol=1e-6)
    assert list(bars.marker.color) == [RISE if each > 0 else FALL for each in found.attribution.by_bar()]
    np.testing.assert_allclose(np.array(channels.z), 100 * found.attribution.values.T, rtol=1e-6)
    assert list(channels.y) == ["open", "high", "low", "close"]


def test_an_attribution_without_all_prices_shows_the_first_feature_as_a_line() -> None:
    found = explanation(("close", "volume"))
    line, *_ = attribution_chart(found, OPENED_AT).data
    assert line.type == "scatter"
    np.testing.assert_allclose(line.y, found.window[:, 0], rtol=1e-6)


@pytest.mark.parametrize(("opens", "limits"), [(True, (0.0, 1.0)), (False, (-3.0, 3.0))])
def test_a_map_shows_one_row_per_unit(opens: bool, limits: tuple[float, float]) -> None:
    values = np.linspace(-3, 2, 48).reshape(24, 2)
    (cells,) = map_chart(values, OPENED_AT, row="unit", opens=opens).data
    np.testing.assert_allclose(np.array(cells.z), values.T, rtol=1e-6)
    assert list(cells.y) == ["1", "2"]
    assert (cells.zmin, cells.zmax) == limits


def test_filters_are_separated_by_an_empty_column() -> None:
    filters = np.arange(1.0, 13.0).reshape(3, 2, 2)  # kernel, feature, filter
    (cells,) = filters_chart(filters, ("open", "close")).data
    assert [list(row) for row in cells.z] == [[1, 5, 9, None, 2, 6, 10], [3, 7, 11, None, 4, 8, 12]]
    assert list(cells.y) == ["open", "close"]
