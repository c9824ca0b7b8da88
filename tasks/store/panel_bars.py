"""Read the stored bars of several series as one panel, all at one version of the table."""

from datetime import datetime

from model.bars import Bars, Series
from model.panel import PanelSpec
from model.panel_recipe import choose_series
from tasks.store.bar_store import BarStore
from tasks.store.bars_ref import PanelBarsRef


def panel_ref(store: BarStore, interval: str, panel: PanelSpec, as_of: datetime | None = None) -> PanelBarsRef:
    """Return a reference to the newest bars of the series of a panel, those closed by `as_of` only.

    Raises:
        SpecError: a symbol has no bars, or there are too few series; see `choose_series`.
    """
    stored = [each.symbol for each in store.stored_series() if each.interval == interval]
    chosen = choose_series(stored, interval, panel)
    version = store.ref(Series(chosen.symbols[0], interval), as_of=as_of).version
    refs, held_out = (
        tuple(store.ref(Series(symbol, interval), version, as_of) for symbol in symbols)
        for symbols in (chosen.symbols, chosen.held_out)
    )
    return PanelBarsRef(refs, chosen, held_out)


def read_panel(store: BarStore, ref: PanelBarsRef) -> dict[str, Bars]:
    """Return exactly the bars of the panel that a reference names, by symbol; see `BarStore.read_bars`."""
    return {each.symbol: store.read_bars(each) for each in ref.refs}


def read_held_out(store: BarStore, ref: PanelBarsRef) -> dict[str, Bars]:
    """Return exactly the bars of the held-out series that a reference names, by symbol."""
    return {each.symbol: store.read_bars(each) for each in ref.held_out}
