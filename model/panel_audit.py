"""Audit a panel for look-ahead across series: a later bar of ANY series must change no window, label or prediction.

Recomputes the windows of sampled closes, the ranks and factors that baselines use, and what a network predicts, with
the later bars of all series removed and with them scrambled. The sample includes closes inside gaps of a series: there
a window could depend on whether the series has later bars. Compares every label and the move that it states with the
closes by a formula of its own, and requires that folds are cut by time: nothing that a fold is trained on may be
resolved at or after its first test decision, whatever the series. The audited functions are parameters, so the tests
can pass leaky copies. The audit of one series is `model.leak_audit`.
"""

import math
from collections.abc import Callable, Mapping
from statistics import median

import numpy as np
from jaxtyping import Float64, Shaped

from model.bars import Bars, gap_sizes
from model.errors import BarsTooShort
from model.folds import Fold, FoldSpec, split_folds
from model.labels import UNRESOLVED
from model.leak_audit import (
    SAME_PROBABILITY,
    SHORT_SAMPLE,
    Audit,
    Finding,
    finding_of,
    sample_indices,
    with_later_scrambled,
    without_later,
)
from model.panel import Panel, PanelSpec, cut_panel
from model.windows import Windows, WindowSpec

CutPanel = Callable[[Mapping[str, Bars], WindowSpec, PanelSpec], Panel]
Split = Callable[[Windows, FoldSpec], tuple[Fold, ...]]
Outputs = Float64[np.ndarray, "window output"]
PredictWindows = Callable[[Windows], Outputs]
CHANGES = (REMOVED, SCRAMBLED) = ("removed", "scrambled")  # of later bars
SAME_MOVE = 1e-9  # rounding of two formulas of a log return


def predict_nothing(windows: Windows) -> Outputs:
    """Return no outputs: the audit of windows, labels and folds alone."""
    return np.empty((len(windows), 0))


def audit_panel(
    bars: Mapping[str, Bars],
    window: WindowSpec,
    panel: PanelSpec,
    folds: FoldSpec,
    predict: PredictWindows = predict_nothing,
    *,
    sample: int = SHORT_SAMPLE,
    seed: int = 0,
    cut: CutPanel = cut_panel,
    split: Split = split_folds,
) -> Audit:
    """Audit the windows, labels, folds and predictions of a panel for look-ahead.

    Args:
        bars: by symbol, oldest first.
        window: how windows are cut.
        panel: label and inputs.
        folds: how the panel is split.
        predict: windows -> all outputs of a network, shape (window, output), not calibrated.
        sample: closes whose windows are recomputed, each twice: newest, oldest and random ones; up to half as many
            further ones are first closes of gaps of a series, the shortest gaps first, as only these may be filled.
        seed: of the sample and of the scrambling.
        cut: cuts the panel.
        split: splits its resolved windows into folds.

    Raises:
        BarsTooShort: there is no window, or too few for the folds.
    """
    rng = np.random.default_rng(seed)
    found = cut(bars, window, panel)
    closes = np.unique(found.windows.decided_at)
    at_gaps = _first_closes_of_gaps(bars, closes, rng)[: sample // 2]
    chosen = np.union1d(closes[sample_indices(len(closes), sample, rng)], at_gaps)
    early: list[np.datetime64] = []
    differ: dict[str, list[np.datetime64]] = {how: [] for how in CHANGES}
    unequal: dict[str, list[np.datetime64]] = {how: [] for how in CHANGES}
    for moment in chosen:
        expected = _at(found, moment)
        outputs = predict(expected.windows)
        changed = (
            {symbol: without_later(each, _last(each, moment)) for symbol, each in bars.items()},
            {symbol: with_later_scrambled(each, _last(each, moment), rng) for symbol, each in bars.items()},
        )
        for how, kept in zip(CHANGES, changed, strict=True):
            again = _recut(cut, kept, window, panel, moment)
            if not _same(expected, again):
                differ[how].append(moment)
            if again is None or not _same_outputs(outputs, predict(again.windows)):
                unequal[how].append(moment)
            if how == REMOVED and again is not None and (again.windows.labels >= 0).any():
                early.append(moment)
    resolved = found.resolved().windows
    return Audit(
        (
            *(finding_of(f"panel windows with later bars {how}", differ[how], len(chosen), "closes differ")
              for how in CHANGES),
            *(finding_of(f"panel predictions with later bars {how}", unequal[how], len(chosen), "closes differ")
              for how in CHANGES if predict is not predict_nothing),
            finding_of("panel labels with later bars removed", early, len(chosen), "labels are known too early"),
            _audit_labels(bars, window, panel, found),
            _audit_folds(bars, window, resolved, split(resolved, folds)),
        )
    )  # fmt: skip


def _last(bars: Bars, moment: np.datetime64) -> int:
    """Return the index of the last bar closed by a moment; -1 where there is none."""
    return int(np.searchsorted(bars.closed_at, moment, side="right")) - 1


def _first_closes_of_gaps(
    bars: Mapping[str, Bars], closes: Shaped[np.ndarray, " close"], rng: np.random.Generator
) -> Shaped[np.ndarray, " _"]:
    """Return the given closes at which a gap of a series begins, each once: shortest gaps first, else at random."""
    missing = {symbol: gap_sizes(each) for symbol, each in bars.items()}
    at = np.concatenate([each.closed_at[:-1][missing[symbol] > 0] + each.delta for symbol, each in bars.items()])
    sizes = np.concatenate([each[each > 0] for each in missing.values()])
    ordered = at[np.lexsort((rng.random(len(at)), sizes))]
    _, first = np.unique(ordered, return_index=True)
    found: np.ndarray = ordered[np.sort(first)]
    return found[np.isin(found, closes)]


def _at(panel: Panel, moment: np.datetime64) -> Panel:
    return panel.take(np.flatnonzero(panel.windows.decided_at == moment).astype(np.int64))


def _recut(
    cut: CutPanel, bars: Mapping[str, Bars], window: WindowSpec, panel: PanelSpec, moment: np.datetime64
) -> Panel | None:
    """Return the windows of a close, cut from other bars; None where there are none."""
    try:
        return _at(cut(bars, window, panel), moment)
    except BarsTooShort:
        return None


def _same(expected: Panel, found: Panel | None) -> bool:
    """Return whether both hold the same series with exactly the same values, context and further factors."""
    if found is None or not np.array_equal(expected.windows.symbols, found.windows.symbols):
        return False
    return all(
        np.array_equal(ours, theirs) for ours, theirs in zip(_known_at_end(expected), _known_at_end(found), strict=True)
    )


def _known_at_end(panel: Panel) -> tuple[np.ndarray, ...]:
    windows = panel.windows
    return windows.values(), panel.context[windows.ends], panel.further[windows.ends]


def _same_outputs(expected: Outputs, found: Float64[np.ndarray, "_ _"]) -> bool:
    return expected.shape == found.shape and bool((np.abs(expected - found) <= SAME_PROBABILITY).all())


def _audit_labels(bars: Mapping[str, Bars], spec: WindowSpec, panel: PanelSpec, found: Panel) -> Finding:
    """Compare every label, known or not, its resolution, return and move with the closes, found by their times."""
    windows, delta = found.windows, next(iter(bars.values())).delta
    due = _stamps(windows.decided_at + spec.horizon_bars * delta)
    stamps, symbols = _stamps(windows.decided_at), windows.symbols.tolist()
    places = {
        symbol: {stamp: place for place, stamp in enumerate(_stamps(each.closed_at))} for symbol, each in bars.items()
    }
    returns: list[float] = []
    by_close: dict[int, list[float]] = {}
    for symbol, moment, later in zip(symbols, stamps, due, strict=True):
        now, then = places[symbol].get(moment), places[symbol].get(later)
        known = now is not None and then is not None and then - now == spec.horizon_bars
        closes = bars[symbol].column("close")
        returns.append(float(closes[then] / closes[now] - 1) if known else math.nan)
        if known:
            by_close.setdefault(moment, []).append(returns[-1])
    bad = []
    for place, (moment, expected) in enumerate(zip(stamps, returns, strict=True)):
        others = list(by_close.get(moment, []))
        known = not math.isnan(expected) and (panel.label == "rise" or len(others) >= panel.least_series)
        if known and panel.label == "rank":
            others.remove(expected)
        limit = median(others) if known and panel.label == "rank" else 0.0
        move = math.log((1 + expected) / (1 + limit)) if known else math.nan
        label = int(expected > limit) if known else UNRESOLVED
        resolved = np.datetime64(due[place], "us") if known else np.datetime64("NaT", "us")
        if (
            windows.labels[place] != label
            or not np.array_equal(windows.resolved_at[place], resolved, equal_nan=True)
            or not np.array_equal(found.returns[place], expected if known else math.nan, equal_nan=True)
            or not np.isclose(windows.label_moves[place], move, rtol=0, atol=SAME_MOVE, equal_nan=True)
        ):
            bad.append(windows.decided_at[place])
    return finding_of(
        "panel labels vs. the closes", bad, len(windows), "labels, their resolution, returns or moves differ"
    )


def _audit_folds(bars: Mapping[str, Bars], spec: WindowSpec, resolved: Windows, folds: tuple[Fold, ...]) -> Finding:
    """Require that what a fold is trained on was resolved before its first test decision, by the bars' times."""
    known_at = resolved.decided_at + spec.horizon_bars * next(iter(bars.values())).delta
    bad: list[np.datetime64] = []
    checked = 0
    for fold in folds:
        validation_at, test_at = (resolved.decided_at[part].min() for part in (fold.validation, fold.test))
        bad += list(resolved.decided_at[fold.train[known_at[fold.train] >= validation_at]])
        learned = np.concatenate([fold.train, fold.validation])
        bad += list(resolved.decided_at[learned[known_at[learned] >= test_at]])
        checked += len(learned)
    tested = np.concatenate([fold.test for fold in folds]) if folds else np.empty(0, np.int64)
    values, counts = np.unique(tested, return_counts=True)
    bad += list(resolved.decided_at[values[counts > 1]])
    if not folds:
        bad.append(np.datetime64("NaT", "us"))
    return finding_of("panel folds cut by time", bad, checked, "windows were not resolved when a later part began")


def _stamps(times: Shaped[np.ndarray, " window"]) -> list[int]:
    stamps: list[int] = times.astype("datetime64[us]").astype(np.int64).tolist()
    return stamps
