"""Audit a panel for look-ahead across series: a later bar of ANY series must change no window and no label.

Recomputes the windows of sampled closes with the later bars of all series removed and with them scrambled, compares
every label with the closes by a formula of its own, and requires that folds are cut by time: nothing that a fold is
trained on may be resolved at or after its first test decision, whatever the series. The audited functions are
parameters, so the tests can pass leaky copies. The audit of one series is `model.leak_audit`.
"""

from collections.abc import Callable, Mapping
from statistics import median

import numpy as np
from jaxtyping import Shaped

from model.bars import Bars
from model.errors import BarsTooShort
from model.folds import Fold, FoldSpec, split_folds
from model.leak_audit import (
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


def audit_panel(
    bars: Mapping[str, Bars],
    window: WindowSpec,
    panel: PanelSpec,
    folds: FoldSpec,
    *,
    sample: int = SHORT_SAMPLE,
    seed: int = 0,
    cut: CutPanel = cut_panel,
    split: Split = split_folds,
) -> Audit:
    """Audit the windows, labels and folds of a panel for look-ahead.

    Args:
        bars: by symbol, oldest first.
        window: how windows are cut.
        panel: label and inputs.
        folds: how the panel is split.
        sample: closes whose windows are recomputed, each twice: newest, oldest and random ones.
        seed: of the sample and of the scrambling.
        cut: cuts the panel.
        split: splits its resolved windows into folds.

    Raises:
        BarsTooShort: there is no window, or too few for the folds.
    """
    rng = np.random.default_rng(seed)
    found = cut(bars, window, panel)
    closes = np.unique(found.windows.decided_at)
    chosen = closes[sample_indices(len(closes), sample, rng)]
    removed: list[np.datetime64] = []
    scrambled: list[np.datetime64] = []
    early: list[np.datetime64] = []
    for moment in chosen:
        before = {symbol: without_later(each, _last(each, moment)) for symbol, each in bars.items()}
        again = {symbol: with_later_scrambled(each, _last(each, moment), rng) for symbol, each in bars.items()}
        cut_before, cut_again = (_recut(cut, kept, window, panel, moment) for kept in (before, again))
        for bad, recut in ((removed, cut_before), (scrambled, cut_again)):
            if not _same(_at(found.windows, moment), recut):
                bad.append(moment)
        if cut_before is not None and (cut_before.labels >= 0).any():
            early.append(moment)
    resolved = found.resolved().windows
    return Audit(
        (
            finding_of("panel windows with later bars removed", removed, len(chosen), "closes differ"),
            finding_of("panel windows with later bars scrambled", scrambled, len(chosen), "closes differ"),
            finding_of("panel labels with later bars removed", early, len(chosen), "labels are known too early"),
            _audit_labels(bars, window, panel, found.windows),
            _audit_folds(bars, window, resolved, split(resolved, folds)),
        )
    )


def _last(bars: Bars, moment: np.datetime64) -> int:
    """Return the index of the last bar closed by a moment; -1 where there is none."""
    return int(np.searchsorted(bars.closed_at, moment, side="right")) - 1


def _at(windows: Windows, moment: np.datetime64) -> Windows:
    return windows.take(np.flatnonzero(windows.decided_at == moment).astype(np.int64))


def _recut(
    cut: CutPanel, bars: Mapping[str, Bars], window: WindowSpec, panel: PanelSpec, moment: np.datetime64
) -> Windows | None:
    """Return the windows of a close, cut from other bars; None where there are none."""
    try:
        return _at(cut(bars, window, panel).windows, moment)
    except BarsTooShort:
        return None


def _same(expected: Windows, found: Windows | None) -> bool:
    """Return whether both hold the same series with exactly the same values."""
    if found is None or not np.array_equal(expected.symbols, found.symbols):
        return False
    return bool(np.array_equal(expected.values(), found.values()))


def _audit_labels(bars: Mapping[str, Bars], spec: WindowSpec, panel: PanelSpec, windows: Windows) -> Finding:
    """Compare every label with the closes, found by their times."""
    closes = {
        symbol: dict(zip(_stamps(each.closed_at), each.column("close"), strict=True)) for symbol, each in bars.items()
    }
    horizon = spec.horizon_bars * int(next(iter(bars.values())).delta.astype("timedelta64[us]").astype(np.int64))
    returns: dict[int, dict[str, float]] = {}
    stamps = _stamps(windows.decided_at)
    for symbol, moment, label in zip(windows.symbols.tolist(), stamps, windows.labels.tolist(), strict=True):
        if label >= 0 and moment + horizon in closes[symbol]:
            returns.setdefault(moment, {})[symbol] = closes[symbol][moment + horizon] / closes[symbol][moment] - 1
    bad = []
    for place, (symbol, moment) in enumerate(zip(windows.symbols.tolist(), stamps, strict=True)):
        if windows.labels[place] < 0:
            continue
        known = returns.get(moment, {})
        limit = median(known.values()) if panel.label == "rank" and known else 0.0
        due = windows.decided_at[place] + np.timedelta64(horizon, "us")
        if symbol not in known or windows.labels[place] != (known[symbol] > limit) or windows.resolved_at[place] != due:
            bad.append(windows.decided_at[place])
    return finding_of("panel labels vs. the closes", bad, len(windows), "labels or their resolution differ")


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
