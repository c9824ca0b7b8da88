"""The leak audit passes honest code and detects each leak planted in a copy."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from synthetic_bars import random_walk

from model.bars import Bars
from model.errors import AuditFailed
from model.folds import Fold, FoldSpec, split_folds
from model.labels import UNRESOLVED
from model.leak_audit import Audit, Finding, audit, with_later_scrambled, without_later
from model.record import Record
from model.windows import Windows, WindowSpec, cut_windows, standardise

FOLDS = FoldSpec(test_bars=90, count=3)
SPEC = WindowSpec(lookback_bars=10)
AHEAD = WindowSpec(lookback_bars=10, horizon_bars=5)
HONEST_CHECKS = 7


def failed(found: Audit) -> set[str]:
    return {finding.name for finding in found.findings if not finding.passed}


@pytest.fixture(params=["whole", "gappy"])
def bars(request: pytest.FixtureRequest, walk_bars: Bars, gappy_bars: Bars) -> Bars:
    chosen: Bars = walk_bars if request.param == "whole" else gappy_bars
    return chosen


def decided(windows: Windows, at: np.datetime64 | None) -> Windows:
    return windows if at is None else windows.take(np.flatnonzero(windows.decided_at == at))


def last_change(bars: Bars, at: np.datetime64 | None) -> tuple[np.ndarray, np.ndarray]:
    """Predict by the standardised last close of each window."""
    windows = decided(cut_windows(bars, SPEC), at)
    return windows.decided_at, 1 / (1 + np.exp(-standardise(windows.values())[:, -1, -1]))


def record_of(bars: Bars, spec: WindowSpec = SPEC) -> Record:
    windows = cut_windows(bars, spec).resolved()
    test = np.concatenate([fold.test for fold in split_folds(windows, FOLDS)])
    tested = windows.take(test)
    fold = np.repeat(np.arange(FOLDS.count), FOLDS.test_bars // FOLDS.count)
    return Record(tested.decided_at, tested.resolved_at, tested.labels, np.full(len(test), 0.5), fold)


@pytest.mark.parametrize("spec", [SPEC, AHEAD, WindowSpec(lookback_bars=4, horizon_bars=2, stride_bars=3)])
def test_honest_code_passes(bars: Bars, spec: WindowSpec) -> None:
    folds = FOLDS if spec.stride_bars == 1 else FoldSpec(test_bars=30, count=3)
    found = audit(bars, spec, folds, sample=40)
    assert failed(found) == set()
    assert len(found.findings) == HONEST_CHECKS
    assert all(finding.checked > 0 for finding in found.findings)
    found.require("walk")


def test_honest_predictions_and_their_record_pass(bars: Bars) -> None:
    found = audit(bars, SPEC, FOLDS, record_of(bars), last_change, sample=12)
    assert failed(found) == set()
    assert len(found.findings) == HONEST_CHECKS + 3


def scaled_over_the_whole_series(bars: Bars, spec: WindowSpec) -> Windows:
    windows = cut_windows(bars, spec)
    features = (windows.features - windows.features.mean(axis=0)) / windows.features.std(axis=0)
    return replace(windows, features=features)


def without_purge(windows: Windows, spec: FoldSpec) -> tuple[Fold, ...]:
    folds = split_folds(windows, spec)
    return tuple(
        replace(fold, validation=np.arange(fold.validation[0], fold.test[0], dtype=np.int64)) for fold in folds
    )


def without_purge_before_validation(windows: Windows, spec: FoldSpec) -> tuple[Fold, ...]:
    folds = split_folds(windows, spec)
    return tuple(replace(fold, train=np.arange(fold.validation[0], dtype=np.int64)) for fold in folds)


def labelled_one_bar_early(bars: Bars, spec: WindowSpec) -> Windows:
    """Label by the move that the window has just shown: what an index that is off by one does."""
    windows = cut_windows(bars, spec)
    close = bars.column("close")
    early = (close[windows.ends] > close[windows.ends - 1]).astype(np.int8)
    return replace(windows, labels=np.where(windows.labels == UNRESOLVED, UNRESOLVED, early).astype(np.int8))


def resolved_one_bar_early(bars: Bars, spec: WindowSpec) -> Windows:
    """Claim that an outcome was known a bar before it was: the folds then purge one bar too little."""
    windows = cut_windows(bars, spec)
    return replace(windows, resolved_at=windows.resolved_at - bars.delta)


def scaled_prediction(bars: Bars, at: np.datetime64 | None) -> tuple[np.ndarray, np.ndarray]:
    windows = decided(scaled_over_the_whole_series(bars, SPEC), at)
    return windows.decided_at, 1 / (1 + np.exp(-windows.features[windows.ends, -1]))


def test_a_summary_counts_the_values_or_names_each_failure() -> None:
    fine = Finding("windows", passed=True, checked=1_200, detail="1200 checked")
    late = Finding("purge", passed=False, checked=3, detail="1 of 3")
    early = Finding("labels", passed=False, checked=5, detail="2 of 5")
    assert Audit((fine, fine)).summary() == "passed: 2,400 values"
    assert Audit((fine, late, early)).summary() == "failed: purge: 1 of 3; labels: 2 of 5"
    assert len(Audit((late,) * 1_000).summary()) == 5_000


def test_scaling_over_the_whole_series_is_caught(bars: Bars) -> None:
    found = audit(bars, SPEC, FOLDS, sample=8, cut=scaled_over_the_whole_series)
    assert failed(found) == {"windows with later bars removed", "windows with later bars scrambled"}
    with pytest.raises(AuditFailed, match=r"walk: 2 of 7 checks of the leak audit failed .*first decided at 20"):
        found.require("walk")


def test_a_missing_purge_is_caught(bars: Bars) -> None:
    for spec in (SPEC, AHEAD):
        assert failed(audit(bars, spec, FOLDS, sample=4, split=without_purge)) == {"purge before each test fold"}
        leaning = audit(bars, spec, FOLDS, sample=4, split=without_purge_before_validation)
        assert failed(leaning) == {"purge before each validation"}


def test_a_label_one_bar_early_is_caught(bars: Bars) -> None:
    found = audit(bars, SPEC, FOLDS, sample=8, cut=labelled_one_bar_early)
    assert "labels vs. the closes" in failed(found)


def test_an_outcome_known_one_bar_early_is_caught_by_labels_and_folds(bars: Bars) -> None:
    found = audit(bars, SPEC, FOLDS, sample=8, cut=resolved_one_bar_early)
    assert {"labels vs. the closes", "purge before each test fold"} <= failed(found)


def test_a_label_that_is_known_before_its_bar_is_caught(walk_bars: Bars) -> None:
    def hasty(bars: Bars, spec: WindowSpec) -> Windows:
        windows = cut_windows(bars, spec)
        hastened = np.where(windows.labels == UNRESOLVED, 1, windows.labels).astype(np.int8)
        resolved_at = windows.decided_at + spec.horizon_bars * bars.delta
        return replace(windows, labels=hastened, resolved_at=resolved_at)

    assert "labels with later bars removed" in failed(audit(walk_bars, SPEC, FOLDS, sample=8, cut=hasty))


def test_a_prediction_that_looks_ahead_is_caught(bars: Bars) -> None:
    found = audit(bars, SPEC, FOLDS, predict=scaled_prediction, sample=8)
    assert failed(found) == {"predictions with later bars removed", "predictions with later bars scrambled"}


def test_a_prediction_that_depends_on_the_other_windows_of_its_batch_is_caught(bars: Bars) -> None:
    """As a batch norm would that is not told that it predicts."""

    def centred(bars: Bars, at: np.datetime64 | None) -> tuple[np.ndarray, np.ndarray]:
        times, outputs = last_change(bars, at)
        return times, outputs - outputs.mean()

    found = audit(bars, SPEC, FOLDS, predict=centred, sample=8)
    assert failed(found) == {"predictions with later bars removed", "predictions with later bars scrambled"}


def test_a_prediction_that_is_missing_without_the_later_bars_is_caught(bars: Bars) -> None:
    def one_bar_late(bars: Bars, at: np.datetime64 | None) -> tuple[np.ndarray, np.ndarray]:
        times, outputs = last_change(bars, at)
        kept = times < bars.closed_at[-1]
        return times[kept], outputs[kept]

    found = audit(bars, SPEC, FOLDS, predict=one_bar_late, sample=8)
    assert failed(found) == {"predictions with later bars removed"}


def test_blocks_tested_twice_are_caught(walk_bars: Bars) -> None:
    def overlapping(windows: Windows, spec: FoldSpec) -> tuple[Fold, ...]:
        folds = split_folds(windows, spec)
        return (*folds[:-1], replace(folds[-1], test=np.append(folds[-2].test[-1:], folds[-1].test)))

    assert "test folds disjoint" in failed(audit(walk_bars, SPEC, FOLDS, sample=4, split=overlapping))


@pytest.mark.parametrize("change", ["label", "resolution", "missing", "twice"])
def test_a_record_that_does_not_fit_the_bars_is_caught(change: str, walk_bars: Bars) -> None:
    record = record_of(walk_bars)
    everything = np.arange(len(record))
    changed = {
        "label": lambda: replace(record, labels=np.where(everything == 5, 1 - record.labels, record.labels)),
        "resolution": lambda: replace(record, resolved_at=record.resolved_at + np.timedelta64(1, "D")),
        "missing": lambda: record.take(everything[1:]),
        "twice": lambda: record.take(np.append(everything, everything[-1])),
    }[change]()
    assert failed(audit(walk_bars, SPEC, FOLDS, changed, sample=4)) == {"record vs. folds and closes"}


def test_the_sample_repeats_and_has_both_ends(walk_bars: Bars) -> None:
    seen: list[int] = []

    def watched(bars: Bars, spec: WindowSpec) -> Windows:
        seen.append(len(bars))
        return cut_windows(bars, spec)

    audit(walk_bars, SPEC, FOLDS, sample=6, cut=watched)
    first = list(seen)
    assert 10 in first  # the oldest window alone
    seen.clear()
    audit(walk_bars, SPEC, FOLDS, sample=6, cut=watched)
    assert seen == first
    seen.clear()
    audit(walk_bars, SPEC, FOLDS, sample=6, seed=1, cut=watched)
    assert seen != first


def test_later_bars_are_cut_off_or_scrambled_and_earlier_ones_left() -> None:
    bars = random_walk(50)
    assert len(without_later(bars, 20)) == 21
    other = with_later_scrambled(bars, 20, np.random.default_rng(1))
    assert (other.ohlcv[:21] == bars.ohlcv[:21]).all()
    assert (other.ohlcv[21:] != bars.ohlcv[21:]).all()
    opened, high, low, close = other.ohlcv[:, :4].T
    assert (low <= np.minimum(opened, close)).all()
    assert (high >= np.maximum(opened, close)).all()
    assert all(later > former for former, later in pairwise(other.opened_at))
