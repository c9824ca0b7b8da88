"""The outcomes of a panel's stored predictions: what each series did, and which closes may still change.

Knows stored closes, times and the panel's question; no store and no clock. A rise is the series' own; a rank is one
among the returns of the panel's other series from the same close to the same outcome, so it needs their bars too.
Caution: while a series waits for its bar of the outcome, the median may still move, and so may the mean over the close;
such a close is open (`open_outcomes`), and evidence is taken from the others only.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int8, Int64, Shaped

from model.bars import Bars
from model.errors import BarsTooShort
from model.labels import UNRESOLVED
from model.live_score import bar_closing, outcomes
from model.panel import PanelSpec, cut_panel
from model.windows import WindowSpec

PATIENCE_BARS = 3  # own choice, as in the freshness check: a series whose bar is still missing then counts as ended


def panel_outcomes(
    symbols: Shaped[np.ndarray, " prediction"],
    decided_at: Shaped[np.ndarray, " prediction"],
    resolves_at: Shaped[np.ndarray, " prediction"],
    window: WindowSpec,
    panel: PanelSpec,
    bars: Mapping[str, Bars],
) -> Int8[np.ndarray, " prediction"]:
    """Return the actual outcomes of predictions: 1, 0, or -1 where they are not known, or not final.

    A rank is the label that a retrain would cut: among the panel's series that have a whole window at the decision. A
    series outside the panel is ranked among them, and changes no other rank.

    Args:
        symbols: shape (prediction,), text: the predicted series; it need not belong to the panel.
        decided_at: shape (prediction,), datetime64[us], UTC: a close.
        resolves_at: shape (prediction,), datetime64[us], UTC: a later close.
        window: lookback and horizon of the version that predicted.
        panel: label, and for ranks the series and how many of them a close needs; its symbols are listed.
        bars: by symbol, shape (bar,), oldest first: of the predicted series, and of those of the panel.

    Time: entry p depends on the bars that close at decided_at[p] and resolves_at[p], of a rank those of all series of
        the panel; whether it is known also on which bars are stored.
    """
    labels = np.full(len(symbols), UNRESOLVED, dtype=np.int8)
    predicted = [str(each) for each in np.unique(symbols) if each in bars]
    if panel.label == "rise":
        for symbol in predicted:
            own = symbols == symbol
            labels[own] = outcomes(decided_at[own], resolves_at[own], bars[symbol])
        return labels
    if not predicted:
        return labels
    # A window may begin with filled bars: its first real bar is then before it.
    before = window.lookback_bars + (window.gaps.max_fill_bars if window.gaps.kind == "fill" else 0)
    first = decided_at.min() - before * bars[predicted[0]].delta
    members = {each: _closed_from(bars[each], first) for each in panel.symbols if each in bars}
    ranks = _cut_ranks(members, window, panel)
    for symbol in (each for each in predicted if each not in members):
        found = _cut_ranks({**members, symbol: _closed_from(bars[symbol], first)}, window, panel)
        ranks |= {key: label for key, label in found.items() if key[0] == symbol}
    keys = zip(symbols.tolist(), decided_at.astype(np.int64).tolist(), strict=True)
    labels = np.array([ranks.get(key, UNRESOLVED) for key in keys], dtype=np.int8)
    labels[open_outcomes(decided_at, resolves_at, panel, bars)] = UNRESOLVED
    return labels


def open_outcomes(
    decided_at: Shaped[np.ndarray, " prediction"],
    resolves_at: Shaped[np.ndarray, " prediction"],
    panel: PanelSpec,
    bars: Mapping[str, Bars],
) -> Bool[np.ndarray, " prediction"]:
    """Return whether the outcome of a close may still change, because a series of the panel waits for its bar.

    A series that had a bar at the decision waits until it has one at the outcome or later, or until `PATIENCE_BARS`
    more bars have closed elsewhere in the panel.

    Args:
        decided_at: shape (prediction,), datetime64[us], UTC.
        resolves_at: shape (prediction,), datetime64[us], UTC.
        panel: its symbols are listed.
        bars: by symbol, shape (bar,), oldest first.
    """
    pairs, place = _pairs(decided_at, resolves_at)
    return np.asarray(_is_waiting(pairs[0], pairs[1], panel, bars)[place], dtype=np.bool_)


def _pairs(
    decided_at: Shaped[np.ndarray, " prediction"], resolves_at: Shaped[np.ndarray, " prediction"]
) -> tuple[Shaped[np.ndarray, "2 pair"], Int64[np.ndarray, " prediction"]]:
    """Return the distinct pairs of a decision and its outcome, and the place of each prediction's pair."""
    times = np.stack([decided_at, resolves_at]).astype("datetime64[us]").astype(np.int64)
    pairs, place = np.unique(times, axis=1, return_inverse=True)
    return pairs.astype("datetime64[us]"), place.reshape(-1).astype(np.int64)


def _is_waiting(
    decided_at: Shaped[np.ndarray, " pair"],
    resolves_at: Shaped[np.ndarray, " pair"],
    panel: PanelSpec,
    bars: Mapping[str, Bars],
) -> Bool[np.ndarray, " pair"]:
    members = [bars[each] for each in panel.symbols if each in bars and len(bars[each])]
    if not members:
        return np.ones(len(decided_at), dtype=bool)
    newest = max(each.closed_at[-1] for each in members)
    waiting = np.zeros(len(decided_at), dtype=bool)
    for each in members:
        waiting |= (bar_closing(each, decided_at) >= 0) & (each.closed_at[-1] < resolves_at)
    return np.asarray(waiting & (newest < resolves_at + PATIENCE_BARS * members[0].delta), dtype=np.bool_)


def _closed_from(bars: Bars, moment: np.datetime64) -> Bars:
    start = int(np.searchsorted(bars.closed_at, moment))
    return Bars(bars.interval, bars.opened_at[start:], bars.ohlcv[start:])


def _cut_ranks(bars: Mapping[str, Bars], window: WindowSpec, panel: PanelSpec) -> dict[tuple[str, int], int]:
    """Return the label of each window by symbol and decision, in microseconds."""
    try:
        windows = cut_panel(bars, window, panel).windows
    except BarsTooShort:
        return {}
    keys = zip(windows.symbols.tolist(), windows.decided_at.astype(np.int64).tolist(), strict=True)
    return dict(zip(keys, windows.labels.tolist(), strict=True))
