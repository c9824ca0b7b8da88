"""The feature matrix of raw columns."""

import numpy as np
import pytest

from model.bars import Bars
from model.errors import SpecError
from model.features import feature_matrix


def test_columns_are_raw_and_in_order(walk_bars: Bars) -> None:
    matrix = feature_matrix(walk_bars, ("close", "volume", "open"))
    np.testing.assert_array_equal(matrix, walk_bars.ohlcv[:, [3, 4, 0]])
    assert matrix.flags.c_contiguous


def test_a_column_that_is_not_finite_is_refused_by_name(walk_bars: Bars) -> None:
    ohlcv = walk_bars.ohlcv.copy()
    ohlcv[[7, 9], 4] = np.nan
    bars = Bars(walk_bars.interval, walk_bars.opened_at, ohlcv)
    assert feature_matrix(bars, ("open", "close")).shape == (300, 2)
    with pytest.raises(SpecError, match=r"found 2 that are not, the first in volume .* 2018-01-08"):
        feature_matrix(bars, ("open", "volume"))


def test_repeated_columns_and_no_column_are_refused(walk_bars: Bars) -> None:
    for names in ((), ("open", "open")):
        with pytest.raises(SpecError, match="none twice"):
            feature_matrix(walk_bars, names)
