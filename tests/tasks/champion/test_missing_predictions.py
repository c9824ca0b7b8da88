"""Missing predictions of a panel: each series counts from its first prediction, or else from the promotion."""

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from panel_home import panel_recipe
from synthetic_bars import random_walk

from model.monitor_alarms import MonitorSpec
from model.times import to_datetime, utc_index
from tasks.champion.missing_predictions import count_missing_of_panel

SYMBOLS = ("ADA-USD", "BTC-USD", "ETH-USD", "NEW-USD")
BARS = {symbol: random_walk(400, seed=seed) for seed, symbol in enumerate(SYMBOLS)}
CLOSES = BARS["BTC-USD"].closed_at
RECIPE, SPEC = panel_recipe(symbols=SYMBOLS), MonitorSpec(recent_bars=120)


def served(closes: dict[str, int]) -> pd.DataFrame:
    """Return predictions in time at the newest closes of each series, as many as stated."""
    rows = [(symbol, close) for symbol, count in closes.items() for close in CLOSES[len(CLOSES) - count :]]
    symbols, decided = zip(*rows, strict=True)
    return pd.DataFrame({"symbol": symbols, "decided_at": utc_index(np.array(decided)), "late": False})


def missing(stored: pd.DataFrame, promoted_at: datetime | None) -> tuple[float, float]:
    counts = count_missing_of_panel(stored, BARS, RECIPE, SPEC, promoted_at)
    return counts["missing"], counts["decisions"]


def test_a_series_that_joins_counts_from_its_first_prediction() -> None:
    """The newest close is left out: 120 decisions of each old series, two of the new one, all predicted."""
    old = dict.fromkeys(SYMBOLS[:3], 250)
    assert missing(served(old | {"NEW-USD": 3}), to_datetime(CLOSES[-3])) == (0, 3 * 120 + 2)


@pytest.mark.parametrize(("promoted", "count"), [(-11, 10), (-300, 120), (None, 120)])
def test_a_series_that_was_never_predicted_counts_from_the_promotion(promoted: int | None, count: int) -> None:
    """Without a promotion in the decision log it counts from the first prediction of the panel."""
    promoted_at = None if promoted is None else to_datetime(CLOSES[promoted])
    assert missing(served(dict.fromkeys(SYMBOLS[:3], 250)), promoted_at) == (count, 3 * 120 + count)


def test_nothing_counts_before_the_first_prediction_of_the_panel() -> None:
    """The champion was promoted before it first predicted."""
    assert missing(served(dict.fromkeys(SYMBOLS[:3], 6)), to_datetime(CLOSES[-100])) == (5, 3 * 5 + 5)
