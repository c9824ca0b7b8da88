"""Audit windows, labels, folds and predictions for look-ahead: dependence on bars after the decision.

Recomputes a sample of windows, labels and predictions with all later bars removed and with later bars scrambled, and
compares labels, resolution times and folds with independent formulas that use bars and times alone. The audited
functions are parameters, so the tests can pass a leaky copy. The times that those functions report are not trusted:
when a label is known is computed here, from the bars.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from model.bars import Bars
from model.errors import AuditFailed, BarsTooShort
from model.folds import Fold, FoldSpec, split_folds
from model.record import Record
from model.windows import Windows, WindowSpec, cut_windows

Cut = Callable[[Bars, WindowSpec], Windows]
Split = Callable[[Windows, FoldSpec], tuple[Fold, ...]]
Predict = Callable[[Bars, np.datetime64 | None], tuple[np.ndarray, np.ndarray]]

FULL_SAMPLE, SHORT_SAMPLE = 64, 8
SAME_PROBABILITY = 1e-6  # a window alone and in a batch of thousands: float32 sums differ by some 1e-7
MAX_BARS = 20_000  # newest bars on which predictions are repeated: each repetition cuts all their windows
SCRAMBLE = (0.2, 5.0)  # range of the factors of later prices
SUMMARY_LENGTH = 5_000  # own choice, characters: enough for every finding of one series


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: of the check.
        passed: no look-ahead was found.
        checked: windows, labels or predictions checked.
        detail: the result, with the first offending time.
    """

    name: str
    passed: bool
    checked: int
    detail: str


@dataclass(frozen=True, slots=True)
class Audit:
    """The results of a leak audit."""

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """All checks passed."""
        return all(finding.passed for finding in self.findings)

    @property
    def checked(self) -> int:
        """Number of items checked, over all checks."""
        return sum(finding.checked for finding in self.findings)

    def summary(self) -> str:
        """Return the result in a line of at most `SUMMARY_LENGTH`: the number of values checked, or each failure."""
        if self.passed:
            return f"passed: {self.checked:,} values"
        failures = "; ".join(f"{each.name}: {each.detail}" for each in self.findings if not each.passed)
        return f"failed: {failures}"[:SUMMARY_LENGTH]

    def require(self, name: str) -> None:
        """Raise where look-ahead was found.

        Args:
            name: the audited series or version.

        Raises:
            AuditFailed: with each finding that failed.
        """
        failed = [f"{finding.name}: {finding.detail}" for finding in self.findings if not finding.passed]
        if failed:
            raise AuditFailed(
                f"{name}: {len(failed)} of {len(self.findings)} checks of the leak audit failed - {'; '.join(failed)}. "
                "The scores are invalid; nothing was promoted."
            )


def audit(
    bars: Bars,
    window: WindowSpec,
    folds: FoldSpec,
    record: Record | None = None,
    predict: Predict | None = None,
    *,
    sample: int = FULL_SAMPLE,
    seed: int = 0,
    cut: Cut = cut_windows,
    split: Split = split_folds,
) -> Audit:
    """Audit windows, labels, folds and predictions for look-ahead.

    Args:
        bars: shape (bar,), oldest first.
        window: how windows are cut.
        folds: how they are split.
        record: an out-of-sample record on these windows; None skips it.
        predict: bars, time of a decision or None for all -> (decided_at, outputs), of shape (window,) or
            (window, output): probability, expected move; None skips predictions.
        sample: windows and predictions recomputed, each twice: newest, oldest and random ones.
        seed: of the sample and of the scrambling.
        cut: cuts windows.
        split: splits resolved windows into folds.

    Returns:
        One finding per check.

    Raises:
        BarsTooShort: there is no window, or too few for the folds.
    """
    rng = np.random.default_rng(seed)
    windows = cut(bars, window)
    chosen = sample_indices(len(windows), sample, rng)
    resolved = windows.resolved()
    all_folds = split(resolved, folds)
    findings = [
        *_audit_windows(bars, window, windows, chosen, cut, rng),
        _audit_labels(bars, window, windows),
        *_audit_folds(bars, window, resolved, all_folds),
    ]
    if record is not None:
        findings.append(_audit_record(bars, window, record, resolved, all_folds))
    if predict is not None:
        findings += _audit_predictions(bars, predict, sample, rng)
    return Audit(tuple(findings))


def sample_indices(count: int, size: int, rng: np.random.Generator) -> Int64[np.ndarray, " chosen"]:
    """Choose the oldest, the newest and random indices below `count`, ascending, at most `size`."""
    if count <= size:
        return np.arange(count, dtype=np.int64)
    inner = rng.choice(np.arange(1, count - 1), size=max(size - 2, 0), replace=False)
    return np.unique(np.concatenate([[0, count - 1], inner])).astype(np.int64)


def without_later(bars: Bars, end: int) -> Bars:
    """Return the bars up to and including index `end`."""
    return Bars(bars.interval, bars.opened_at[: end + 1], bars.ohlcv[: end + 1])


def with_later_scrambled(bars: Bars, end: int, rng: np.random.Generator) -> Bars:
    """Return the bars with all numbers after index `end` multiplied by random factors; low <= open, close <= high."""
    ohlcv = bars.ohlcv.copy()
    factors = rng.uniform(*SCRAMBLE, size=(len(bars) - end - 1, 1))
    ohlcv[end + 1 :, :4] *= factors
    ohlcv[end + 1 :, 4:] *= rng.uniform(*SCRAMBLE, size=factors.shape)
    return Bars(bars.interval, bars.opened_at, ohlcv)


def _audit_windows(
    bars: Bars,
    spec: WindowSpec,
    windows: Windows,
    chosen: Int64[np.ndarray, " chosen"],
    cut: Cut,
    rng: np.random.Generator,
) -> list[Finding]:
    """Recompute sampled windows and labels with later bars removed and scrambled."""
    removed: list[np.datetime64] = []
    scrambled: list[np.datetime64] = []
    early: list[np.datetime64] = []
    values = windows.take(chosen).values()
    for number, which in enumerate(chosen):
        decided_at = windows.decided_at[which]
        end = int(np.searchsorted(bars.closed_at, decided_at))
        for bad, kept in (
            (removed, without_later(bars, end)),
            (scrambled, with_later_scrambled(bars, end, rng)),
        ):
            if not _same_window(cut, kept, spec, decided_at, values[number]):
                bad.append(decided_at)
        if not _label_waits(bars, cut, spec, windows, int(which)):
            early.append(decided_at)
    return [
        finding_of("windows with later bars removed", removed, len(chosen), "windows differ"),
        finding_of("windows with later bars scrambled", scrambled, len(chosen), "windows differ"),
        finding_of("labels with later bars removed", early, len(chosen), "labels are known too early or differ"),
    ]


def _same_window(
    cut: Cut, bars: Bars, spec: WindowSpec, decided_at: np.datetime64, expected: Float64[np.ndarray, "lookback feature"]
) -> bool:
    """Return whether the window decided at a time has exactly the same values when cut from other bars."""
    try:
        again = cut(bars, spec)
    except BarsTooShort:
        return False
    place = np.flatnonzero(again.decided_at == decided_at)
    return len(place) == 1 and bool(np.array_equal(again.take(place).values()[0], expected))


def _label_waits(bars: Bars, cut: Cut, spec: WindowSpec, windows: Windows, which: int) -> bool:
    """Return whether a label is unresolved until its bar has closed, and unchanged from then on."""
    decided_at, label = windows.decided_at[which], int(windows.labels[which])
    end = int(np.searchsorted(bars.closed_at, decided_at))
    # The bar that resolves the label, found by its time; where it is missing the window is never resolved.
    target = int(np.searchsorted(bars.closed_at, decided_at + spec.horizon_bars * bars.delta))
    before = cut(without_later(bars, max(end, min(target, len(bars)) - 1)), spec)
    waits = int(before.labels[before.decided_at == decided_at][0]) == -1
    if label < 0 or target >= len(bars):
        return waits and label < 0
    after = cut(without_later(bars, target), spec)
    return waits and int(after.labels[after.decided_at == decided_at][0]) == label


def _audit_labels(bars: Bars, spec: WindowSpec, windows: Windows) -> Finding:
    """Compare every label and its resolution time with the closes, found by their times."""
    labels, resolved_at = _expected_labels(bars, spec, windows.decided_at)
    same_time = (windows.resolved_at == resolved_at) | (np.isnat(windows.resolved_at) & np.isnat(resolved_at))
    bad = windows.decided_at[(windows.labels != labels) | ~same_time]
    return finding_of("labels vs. the closes", list(bad), len(windows), "labels or their resolution differ")


def _expected_labels(
    bars: Bars, spec: WindowSpec, decided_at: Shaped[np.ndarray, " window"]
) -> tuple[np.ndarray, np.ndarray]:
    """Return label and resolution of each decision from the closes; -1 and NaT where a bar is missing."""
    place = {moment: index for index, moment in enumerate(bars.closed_at.astype(np.int64).tolist())}
    step, close = int(bars.delta.astype(np.int64)), bars.column("close")
    labels = np.full(len(decided_at), -1, np.int8)
    resolved_at = np.full(len(decided_at), np.datetime64("NaT", "us"))
    for number, moment in enumerate(decided_at.astype("datetime64[us]").astype(np.int64).tolist()):
        now, later = place.get(moment), place.get(moment + spec.horizon_bars * step)
        if now is None or later is None or later - now != spec.horizon_bars:
            continue
        labels[number] = int(close[later] > close[now])
        resolved_at[number] = np.datetime64(moment + spec.horizon_bars * step, "us")
    return labels, resolved_at


def _audit_folds(bars: Bars, spec: WindowSpec, resolved: Windows, folds: Sequence[Fold]) -> list[Finding]:
    """Require that training and validation windows of a fold were resolved before its test, by the bars' times."""
    known_at = resolved.decided_at + spec.horizon_bars * bars.delta
    unpurged: list[np.datetime64] = []
    unpurged_training: list[np.datetime64] = []
    tested = np.zeros(len(resolved), np.int64)
    for fold in folds:
        test_starts_at = resolved.decided_at[fold.test].min()
        learned = np.concatenate([fold.train, fold.validation])
        unpurged += list(resolved.decided_at[learned[known_at[learned] >= test_starts_at]])
        validation_starts_at = resolved.decided_at[fold.validation].min()
        unpurged_training += list(resolved.decided_at[fold.train[known_at[fold.train] >= validation_starts_at]])
        np.add.at(tested, fold.test, 1)
    twice = list(resolved.decided_at[tested > 1])
    checked = sum(len(fold.train) + len(fold.validation) for fold in folds)
    if not folds:
        unpurged.append(np.datetime64("NaT", "us"))
    return [
        finding_of("purge before each test fold", unpurged, checked,
                 "training or validation windows were not yet resolved when the test fold began"),
        finding_of("purge before each validation", unpurged_training, checked, "windows resolve inside the validation"),
        finding_of("test folds disjoint", twice, int(tested.sum()), "windows are tested twice"),
    ]  # fmt: skip


def _audit_record(bars: Bars, spec: WindowSpec, record: Record, resolved: Windows, folds: Sequence[Fold]) -> Finding:
    """Require that the record holds each test window once, with the label from the closes."""
    labels, resolved_at = _expected_labels(bars, spec, record.decided_at)
    bad = list(record.decided_at[(record.labels != labels) | (record.resolved_at != resolved_at)])
    tested = resolved.decided_at[np.concatenate([fold.test for fold in folds])]
    bad += list(np.setxor1d(record.decided_at, tested))
    values, counts = np.unique(record.decided_at, return_counts=True)
    bad += list(values[counts > 1])
    return finding_of("record vs. folds and closes", bad, len(record), "decisions differ")


def _audit_predictions(bars: Bars, predict: Predict, sample: int, rng: np.random.Generator) -> list[Finding]:
    """Recompute sampled predictions with later bars removed and scrambled."""
    bars = Bars(bars.interval, bars.opened_at[-MAX_BARS:], bars.ohlcv[-MAX_BARS:])
    decided_at, outputs = predict(bars, None)
    chosen = sample_indices(len(decided_at), sample, rng)
    removed: list[np.datetime64] = []
    scrambled: list[np.datetime64] = []
    ends = np.searchsorted(bars.closed_at, decided_at)
    for which in chosen:
        end = int(ends[which])
        for bad, kept in (
            (removed, without_later(bars, end)),
            (scrambled, with_later_scrambled(bars, end, rng)),
        ):
            times, again = predict(kept, decided_at[which])
            same_time = len(times) == 1 and times[0] == decided_at[which]
            if not same_time or not float(np.abs(again[0] - outputs[which]).max()) <= SAME_PROBABILITY:
                bad.append(decided_at[which])
    return [
        finding_of("predictions with later bars removed", removed, len(chosen), "predictions differ"),
        finding_of("predictions with later bars scrambled", scrambled, len(chosen), "predictions differ"),
    ]


def finding_of(name: str, bad: list[np.datetime64], checked: int, problem: str) -> Finding:
    """Return the finding of a check."""
    if not bad:
        return Finding(name, passed=True, checked=checked, detail=f"{checked} checked")
    detail = f"{len(bad)} of {checked} {problem}, the first decided at {min(bad)}"
    return Finding(name, passed=False, checked=checked, detail=detail)
