"""Read the stored bars of several series as one panel, all at one version of the table."""

from collections.abc import Iterable
from datetime import datetime

from model.bars import Bars, Series
from model.errors import SpecError
from model.panel import PanelSpec
from model.panel_recipe import choose_series
from model.times import as_utc, to_timedelta
from tasks.store.bar_store import BarStore
from tasks.store.bars_ref import BarsRef, PanelBarsRef


def panel_ref(store: BarStore, interval: str, panel: PanelSpec, as_of: datetime | None = None) -> PanelBarsRef:
    """Return a reference to the newest bars of the series of a panel, those closed by `as_of` only.

    A series without a bar by then is not stored yet: without chosen symbols it is no part of the panel.

    Raises:
        SpecError: a symbol has no bars, there are too few series (see `choose_series`), or their bars close at
            different times.
    """
    stored = [each for each in store.stored_series() if each.interval == interval]
    if as_of is not None:
        stored = [each for each in stored if _has_closed(store, each, as_of)]
    chosen = choose_series([each.symbol for each in stored], interval, panel, as_of)
    version = store.ref(Series(chosen.symbols[0], interval), as_of=as_of).version
    refs, held_out = (
        tuple(store.ref(Series(symbol, interval), version, as_of) for symbol in symbols)
        for symbols in (chosen.symbols, chosen.held_out)
    )
    _require_one_clock((*refs, *held_out))
    return PanelBarsRef(refs, chosen, held_out)


def _has_closed(store: BarStore, series: Series, as_of: datetime) -> bool:
    """Return whether a series has a bar that had closed by a time."""
    oldest = store.oldest(series)
    return oldest is not None and oldest + to_timedelta(series.delta) <= as_utc(as_of)


def _require_one_clock(refs: Iterable[BarsRef]) -> None:
    """Raise SpecError unless all bars close at the same times; at others no series would have others to compare with.

    The bars of one series are on one grid: `BarStore.merge` refuses others.
    """
    by_clock: dict[str, list[str]] = {}
    for each in refs:
        midnight = each.first.replace(hour=0, minute=0, second=0, microsecond=0)
        after = (each.first - midnight) % to_timedelta(each.series.delta)
        by_clock.setdefault(f"{midnight + after:%H:%M}", []).append(each.symbol)
    if len(by_clock) > 1:
        found = "; ".join(f"{clock} ({', '.join(symbols)})" for clock, symbols in sorted(by_clock.items()))
        raise SpecError(
            f"panel: expected series whose bars close at the same times, found first bars of the day that open at "
            f"{found}, UTC. Choose series of one clock with --panel.symbols; the bars of a file in another time zone "
            "need --source.timezone when they are ingested, under another symbol."
        )


def read_panel(store: BarStore, ref: PanelBarsRef) -> dict[str, Bars]:
    """Return exactly the bars of the panel that a reference names, by symbol; see `BarStore.read_bars`."""
    return {each.symbol: store.read_bars(each) for each in ref.refs}


def read_held_out(store: BarStore, ref: PanelBarsRef) -> dict[str, Bars]:
    """Return exactly the bars of the held-out series that a reference names, by symbol."""
    return {each.symbol: store.read_bars(each) for each in ref.held_out}
