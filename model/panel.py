"""Cut the windows of many series as one panel: one network learns from all of them, each scaled by itself.

A panel is a `Windows` whose feature matrix holds all series one below the other and whose windows are in the order of
time, so folds, training, baselines and records work on it as on one series. Folds are cut by time, the same for all;
a series enters when it is listed. Labels: `rise`, or `rank` (above the median of the others at that close). Caution:
the windows of one close share the market's move, so they are never independent; intervals draw them together. A bar
filled into a gap shows prices to its own series only and takes no part in ranks or the market's move: it exists only
where a later bar does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import BaseModel, ConfigDict, Field

from model.bars import Bars
from model.cross_section import CONTEXT, FURTHER_FACTORS, PLAIN_RANKS, cross_section, further_factors
from model.errors import BarsTooShort, SpecError
from model.folds import Fold
from model.gap_filling import fill_gaps
from model.label_names import LabelKind
from model.rank_labels import label_ranks
from model.windows import Windows, WindowSpec, cut_windows

# Inputs of the linear factor model: columns of `model.cross_section`.
FACTORS = ("rank_of_move", "rank_of_trend", "rank_of_volatility", "rank_of_momentum", "rank_of_volume")


class PanelSpec(BaseModel):
    """Which series form a panel, what is predicted for each, and what a window shows of the others."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Panel")

    symbols: tuple[str, ...] = Field(
        default=(),
        description="Symbols of stored series, one an entry, such as BTC-USD; empty: every stored series of the "
        "interval. A panel of other symbols is another recipe",
    )
    held_out: tuple[str, ...] = Field(
        default=(),
        description="Symbols of stored series that no network is trained on and nothing is chosen by, one an entry. "
        "The networks of the folds predict them in their test periods, so the report shows what the panel is worth for "
        "series that it was not trained on",
    )
    label: LabelKind = Field(
        default="rise",
        description="rise: the close at the horizon is higher; rank: the return until then is above the median of the "
        "panel's other series at the same close",
    )
    inputs: Literal["own", "cross_section"] = Field(
        default="own",
        description="own: a window shows its own series only, so any series can be predicted; cross_section: also the "
        "ranks of its moves and volatility among the panel, the market's and the reference's moves, so only the "
        "panel's series can be predicted",
    )
    reference: str = Field(
        default="", description="cross_section: symbol whose own move every window shows, such as BTC-USD; empty: none"
    )
    least_series: int = Field(
        default=5,
        ge=2,
        le=10_000,
        description="rank: fewest series at a close. A close with fewer has no labels: its windows are neither trained "
        "on nor tested, but are predicted like all others",
    )


@dataclass(frozen=True, slots=True)
class Panel:
    """The windows of a panel, with what was known about the others at each bar.

    Attributes:
        windows: of all series, in the order of decision times, then symbols.
        context: shape (bar, 5), float64: the rows of `model.cross_section` for the rows of `windows.features`. A
            filled row has no ranks; its moves of the market and the reference are those of series with a bar.
        returns: shape (window,), float64: simple return from the decision to the outcome; NaN where unresolved.
        further: shape (bar, 3), float64: the rows of `model.cross_section.further_factors` for the same rows.
    """

    windows: Windows
    context: Float64[np.ndarray, "bar context"]
    returns: Float64[np.ndarray, " window"]
    further: Float64[np.ndarray, "bar further"]

    def resolved(self) -> "Panel":
        """Return the panel with the windows whose outcome is known."""
        return self.take(np.flatnonzero(self.windows.labels >= 0))

    def tested(self, folds: Sequence[Fold]) -> "Panel":
        """Return the panel with the test windows of the folds of its resolved windows, in the order of the folds."""
        return self.take(np.concatenate([fold.test for fold in folds]))

    def plain_ranks(self) -> dict[str, Float64[np.ndarray, " window"]]:
        """Return scores that need no model, by the names of `PLAIN_RANKS`, shape (window,), from -1 to 1.

        Time: a score depends on bars of all series up to the decision; 0 where nothing is known.
        """
        rows = self.context[self.windows.ends]
        return {name: -rows[:, CONTEXT.index(column)] for name, column in PLAIN_RANKS.items()}

    def factors(self) -> Float64[np.ndarray, "window factor"]:
        """Return the ranks of `FACTORS` at each decision, shape (window, factor), from -1 to 1.

        Time: a row depends on bars of all series up to the decision; 0 where nothing is known.
        """
        known = np.concatenate([self.context, self.further], axis=1)
        columns = [(*CONTEXT, *FURTHER_FACTORS).index(name) for name in FACTORS]
        return np.asarray(known[self.windows.ends][:, columns])

    def unusual_moves(self) -> Float64[np.ndarray, " window"]:
        """Return each series' own last move in multiples of its typical size, shape (window,).

        0 where unknown, as after a gap, filled or not.
        """
        return np.asarray(self.further[self.windows.ends, FURTHER_FACTORS.index("unusual_move")])

    def take(self, index: Int64[np.ndarray, " index"]) -> "Panel":
        """Return the panel with the windows at these indices."""
        return Panel(self.windows.take(index), self.context, self.returns[index], self.further)


def cut_panel(bars: Mapping[str, Bars], window: WindowSpec, panel: PanelSpec) -> Panel:
    """Cut the windows of every series and put them in the order of time.

    Args:
        bars: by symbol, oldest first, all of one interval. A series too short for a window adds none.
        window: how windows are cut, the same for all.
        panel: label and inputs.

    Raises:
        BarsTooShort: no series has a window.
        SpecError: series of several intervals, a chosen column that is not finite throughout, or a stride above one
            bar: each series counts its windows from its own oldest bar, so they would decide at different closes.

    Returns:
        The windows in the order of time, context rows and returns.

    Time: a window, the context and the further factors of bar t depend on bars up to t of all series (a window with
        inputs `own`: of its own series); a label on the closes of all series at t and t + horizon. Whether a series
        has a bar after t changes nothing: ranks and moves of the market are those of real bars.
    Source: pooling over assets, each standardised by itself: Jaquart, Koepke and Weinhardt, 2022.
    """
    intervals = {each.interval for each in bars.values()}
    if len(intervals) > 1:
        raise SpecError(f"panel: expected series of one interval, found {', '.join(sorted(intervals))}")
    if window.stride_bars > 1:
        raise SpecError(
            f"panel: expected --window.stride-bars 1, found {window.stride_bars}: series would not share closes"
        )
    real = {symbol: each for symbol, each in sorted(bars.items()) if len(each)}
    parts: dict[str, Windows] = {}
    for symbol, each in real.items():
        try:
            parts[symbol] = cut_windows(each, window)
        except BarsTooShort:
            continue
        except SpecError as error:
            raise SpecError(f"{symbol}: {error}") from error
    if not parts:
        raise BarsTooShort(
            f"panel: expected at least one series of {window.lookback_bars} bars in a row without a gap, found none "
            f"among {len(bars)}. Give more bars, or lower --window.lookback-bars."
        )
    windows = _stack(parts)
    # A filled bar exists only where a later bar does, so the cross-section is that of the real bars.
    filled = {symbol: fill_gaps(each, window.gaps)[0] for symbol, each in real.items()}
    opened_at = {symbol: each.opened_at for symbol, each in filled.items()}
    context, further = cross_section(real, panel.reference, opened_at), further_factors(real, opened_at)
    rows, more = (np.concatenate([each[symbol] for symbol in parts]) for each in (context, further))
    returns = _returns(windows, np.concatenate([filled[symbol].column("close") for symbol in parts]), window)
    if panel.label == "rank":
        windows = label_ranks(windows, returns, panel.least_series)
        returns = np.where(windows.labels >= 0, returns, np.nan)
    if panel.inputs == "cross_section":
        features = np.ascontiguousarray(np.concatenate([windows.features, rows], axis=1))
        windows = replace(windows, features=features, context_count=len(CONTEXT))
    return Panel(windows, rows, returns, more)


def cut_held_out(
    bars: Mapping[str, Bars], held_out: Mapping[str, Bars], window: WindowSpec, panel: PanelSpec
) -> dict[str, Panel]:
    """Cut the windows of each held-out series as if it alone had joined the panel.

    So its ranks, its label `rank` and the market's move are those of the panel and itself, and no window of the panel
    or of another held-out series depends on it.

    Args:
        bars: of the panel, by symbol.
        held_out: of the held-out series, by symbol; one too short for a window has none.
        window: how windows are cut.
        panel: label and inputs.

    Raises:
        BarsTooShort: the panel has no window.

    Time: as `cut_panel`.
    """
    found = {symbol: cut_panel({**bars, symbol: each}, window, panel) for symbol, each in sorted(held_out.items())}
    return {symbol: each.take(np.flatnonzero(each.windows.symbols == symbol)) for symbol, each in found.items()}


def series_left_out(panel: PanelSpec, window: WindowSpec, resolved: Panel, folds: Sequence[Fold]) -> dict[str, str]:
    """Return why a symbol of a panel is not tested, or not even learned from, by symbol; empty where all are tested.

    Args:
        panel: its symbols listed.
        window: how the windows were cut.
        resolved: the windows with an outcome.
        folds: over these windows.
    """
    tested = np.unique(resolved.tested(folds).windows.symbols)
    few = f", or its closes have fewer than {panel.least_series} series" if panel.label == "rank" else ""
    unused = (
        f"neither trained on nor tested: it has fewer than {window.lookback_bars + window.horizon_bars} bars in a row "
        f"without a gap{few}"
    )
    untested = f"trained on, but not tested: it has no window in the test period{few}"
    learned = np.unique(resolved.windows.symbols)
    return {each: untested if each in learned else unused for each in panel.symbols if each not in tested}


def windows_of_fold(windows: Windows, tested: Windows) -> Windows:
    """Return the resolved windows decided in the period of a fold's test windows."""
    first, last = tested.decided_at[[0, -1]]
    inside = (windows.decided_at >= first) & (windows.decided_at <= last) & (windows.labels >= 0)
    return windows.take(np.flatnonzero(inside))


def _stack(parts: Mapping[str, Windows]) -> Windows:
    """Put feature matrices one below the other and windows in the order of their decisions, then of their symbols."""
    starts = np.cumsum([0, *(len(part.features) for part in parts.values())])[:-1]
    symbols = np.concatenate([np.full(len(part), symbol) for symbol, part in parts.items()])
    decided_at = np.concatenate([part.decided_at for part in parts.values()])
    stacked = Windows(
        interval=next(iter(parts.values())).interval,
        features=np.concatenate([part.features for part in parts.values()]),
        ends=np.concatenate([part.ends + start for part, start in zip(parts.values(), starts, strict=True)]),
        labels=np.concatenate([part.labels for part in parts.values()]),
        decided_at=decided_at,
        resolved_at=np.concatenate([part.resolved_at for part in parts.values()]),
        last_moves=np.concatenate([part.last_moves for part in parts.values()]),
        label_moves=np.concatenate([part.label_moves for part in parts.values()]),
        lookback_bars=next(iter(parts.values())).lookback_bars,
        filled=np.concatenate([part.filled + start for part, start in zip(parts.values(), starts, strict=True)]),
        symbols=symbols,
    )
    return stacked.take(np.lexsort((symbols, decided_at)).astype(np.int64))


def _returns(windows: Windows, closes: Float64[np.ndarray, " bar"], spec: WindowSpec) -> Float64[np.ndarray, " window"]:
    """Return the simple return of each resolved window; a resolved label crosses no gap, so its bar is a row ahead."""
    known = windows.labels >= 0
    returns = np.full(len(windows), np.nan)
    ends = windows.ends[known]
    returns[known] = closes[ends + spec.horizon_bars] / closes[ends] - 1
    return returns
