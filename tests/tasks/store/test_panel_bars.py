"""Which stored series form a panel: those with bars by the time of the run, all of one clock."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from panel_home import store_coins
from synthetic_bars import random_walk

from model.bars import Bars
from model.errors import SpecError
from model.panel import PanelSpec
from tasks.settings import Settings
from tasks.store.bar_store import BarStore
from tasks.store.panel_bars import panel_ref
from tasks.workspace import Workspace

BEFORE_ETH = datetime(2018, 2, 10, tzinfo=UTC)


def stored(home: Path, coins: dict[str, Bars]) -> BarStore:
    settings = Settings(home=home, tracking_uri="", store="", public_url="")
    store_coins(settings, coins)
    return Workspace(settings).bar_store


def later(bars: Bars, *, start: int = 0, hours: int = 0) -> Bars:
    return Bars(bars.interval, bars.opened_at[start:] + np.timedelta64(hours, "h"), bars.ohlcv[start:])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BarStore:
    """ADA-USD and BTC-USD from the first day, ETH-USD 60 days later."""
    coins = {symbol: random_walk(90, seed=seed) for seed, symbol in enumerate(("ADA-USD", "BTC-USD", "ETH-USD"))}
    return stored(tmp_path_factory.mktemp("store"), coins | {"ETH-USD": later(coins["ETH-USD"], start=60)})


def test_a_series_that_was_listed_after_the_time_of_the_run_is_no_part_of_the_panel(store: BarStore) -> None:
    found = panel_ref(store, "1d", PanelSpec(), BEFORE_ETH)
    assert found.panel.symbols == tuple(each.symbol for each in found.refs) == ("ADA-USD", "BTC-USD")
    assert panel_ref(store, "1d", PanelSpec()).panel.symbols == ("ADA-USD", "BTC-USD", "ETH-USD")
    with pytest.raises(SpecError, match=r"closed by 2018-02-10.*missing ETH-USD; stored: ADA-USD, BTC-USD\."):
        panel_ref(store, "1d", PanelSpec(symbols=("BTC-USD", "ETH-USD")), BEFORE_ETH)


def test_series_whose_bars_close_at_other_times_form_no_panel(tmp_path: Path) -> None:
    coins = {symbol: random_walk(40, seed=seed) for seed, symbol in enumerate("ABC")}
    store = stored(tmp_path, coins | {"C": later(coins["C"], hours=9)})
    with pytest.raises(SpecError, match=r"00:00.*A, B.*09:00.*C"):
        panel_ref(store, "1d", PanelSpec())
    with pytest.raises(SpecError, match=r"09:00.*C"):
        panel_ref(store, "1d", PanelSpec(held_out=("C",)))
    assert panel_ref(store, "1d", PanelSpec(symbols=("A", "B"))).panel.symbols == ("A", "B")
