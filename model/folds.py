"""Split windows into folds for walk-forward evaluation: expanding training window, validation tail, purged test fold.

Everything follows from two times of each window, `decided_at` and `resolved_at`, so gaps, horizons and strides need no
special case: a model that decides at time s may be trained only on windows resolved before s. Caution: a window decided
before a test fold may be resolved inside it; dropping those is the purge, `horizon_bars` wide where there is no gap.
There is no embargo: it protects training windows that come AFTER a test fold, and here training always precedes the
test. Indices count windows of the `Windows` passed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64, Shaped
from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.errors import BarsTooShort, SpecError
from model.windows import Windows, WindowSpec

# Own choice: with fewer, two standard errors of the base rate exceed 0.18.
MINIMUM_TRAINING_WINDOWS = 30
EXECUTION_FIELDS = frozenset({"runner", "address", "seeds"})  # fields of the spec that change no number of the record


class FoldSpec(BaseModel):
    """How the newest windows are held out, and in how many folds they are predicted."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Folds")

    test_bars: int = Field(
        default=750,
        ge=1,
        le=10_000_000,
        description="Newest resolved windows, predicted out of sample: one per bar at a stride of one bar",
    )
    count: int = Field(
        default=5, ge=1, le=1_000, description="Number of consecutive test folds; the model is trained once for each"
    )
    validation_share: float = Field(
        default=0.15,
        ge=0.01,
        le=0.5,
        description="Newest share of the training windows, held out for early stopping",
    )
    seeds: int = Field(
        default=1,
        ge=1,
        le=50,
        description="Number of seeds that a retrain trains each fold with; the first one gives the record, the others "
        "show the variation by seed",
    )
    runner: Literal["serial", "threads", "dask"] = Field(
        default="threads",
        description="Where folds are trained: in sequence, in parallel on this machine's cores, or on a Dask cluster "
        "(extra distributed); the numbers are the same",
    )
    address: str = Field(
        default="", description="Address of the Dask scheduler, tcp://host:port; empty: a cluster on this machine"
    )

    @property
    def threads(self) -> int:
        """Folds that one process fits at once: one in sequence, else one for each core."""
        return 1 if self.runner == "serial" else os.cpu_count() or 1

    @model_validator(mode="after")
    def _address_a_cluster(self) -> "FoldSpec":
        if self.address and self.runner != "dask":
            raise ValueError(f"expected an address with runner dask only, found {self.address} with {self.runner}")
        return self

    @model_validator(mode="after")
    def _fill_each_fold(self) -> "FoldSpec":
        if self.count > self.test_bars:
            raise ValueError(f"expected count at most test_bars, found {self.count} folds of {self.test_bars} windows")
        return self


@dataclass(frozen=True, slots=True)
class Fold:
    """One training, validation and test set, as indices into the windows, each oldest first.

    Attributes:
        index: number of the fold, 0 for the oldest.
        train: shape (train,), int64; resolved before the first decision of `validation`.
        validation: shape (validation,), int64; resolved before the first decision of `test`.
        test: shape (test,), int64; consecutive.
    """

    index: int
    train: Int64[np.ndarray, " train"]
    validation: Int64[np.ndarray, " validation"]
    test: Int64[np.ndarray, " test"]


def resolved_before(windows: Windows, decided_at: np.datetime64) -> Bool[np.ndarray, " window"]:
    """Return which windows were resolved strictly before a decision: the only ones its model may be trained on.

    Returns:
        Shape (window,), bool; False for unresolved windows.

    Time: entry w depends on `resolved_at` of window w alone.
    Source: purging, Lopez de Prado, Advances in Financial Machine Learning, 2018, section 7.4.1.
    """
    return np.asarray(windows.resolved_at < decided_at, dtype=np.bool_)


def split_folds(windows: Windows, spec: FoldSpec) -> tuple[Fold, ...]:
    """Split resolved windows for walk-forward evaluation: the newest `test_bars` in `count` consecutive test folds.

    Args:
        windows: resolved windows, oldest first; of a panel, folds are cut by time, the same for all series.
        spec: size of the test, number of folds, share of the validation.

    Returns:
        The folds, oldest first; test sizes differ by at most one bar. The training window expands: each fold uses
        everything resolved before its test. The newest `validation_share` of that is its validation tail, and the
        rest is purged against it in the same way.

    Raises:
        BarsTooShort: the oldest fold would be trained on fewer than `MINIMUM_TRAINING_WINDOWS` windows.
        SpecError: a window is unresolved, or times do not increase.

    Time: `train` and `validation` of a fold depend on windows resolved before the first decision of its `test`.
    Source: own, after walk-forward testing; purge as in `resolved_before`.

    Examples:
        With a horizon of 5 bars, the 5 windows before each test fold are purged, and as many before each validation.

        >>> from model.bars import Bars
        >>> from model.windows import WindowSpec, cut_windows
        >>> opened_at = np.datetime64("2024-01-01", "us") + np.arange(100) * np.timedelta64(1, "D")
        >>> bars = Bars("1d", opened_at, np.ones((100, 5)))
        >>> windows = cut_windows(bars, WindowSpec(lookback_bars=2, horizon_bars=5)).resolved()
        >>> for fold in split_folds(windows, FoldSpec(test_bars=20, count=2)):
        ...     print(len(fold.train), len(fold.validation), fold.validation[-1], fold.test[0])
        54 10 68 74
        62 12 78 84
    """
    _require_order(windows)
    _require_enough(windows, spec)
    tests = np.array_split(np.unique(windows.decided_at)[-spec.test_bars :], spec.count)
    return tuple(_fold(windows, spec, index, closes) for index, closes in enumerate(tests))


def _fold(windows: Windows, spec: FoldSpec, index: int, closes: Shaped[np.ndarray, " close"]) -> Fold:
    """Return the fold whose test windows are decided at these closes; a close of a panel holds several windows."""
    test = _decided_from(windows, closes[0], closes[-1])
    past = np.flatnonzero(resolved_before(windows, closes[0])).astype(np.int64)
    earlier = np.unique(windows.decided_at[past])
    validation = past[windows.decided_at[past] >= earlier[-_validation_count(len(earlier), spec)]]
    train = np.flatnonzero(resolved_before(windows, windows.decided_at[validation[0]])).astype(np.int64)
    return Fold(index=index, train=train, validation=validation, test=test)


def _decided_from(windows: Windows, first: np.datetime64, last: np.datetime64) -> Int64[np.ndarray, " window"]:
    """Return the indices of the windows decided from the first close to the last one, both included."""
    start = np.searchsorted(windows.decided_at, first, side="left")
    return np.arange(start, np.searchsorted(windows.decided_at, last, side="right"), dtype=np.int64)


def _validation_count(past_count: int, spec: FoldSpec) -> int:
    return max(1, round(spec.validation_share * past_count))


def _require_order(windows: Windows) -> None:
    unresolved = int((windows.labels < 0).sum() + np.isnat(windows.resolved_at).sum())
    if unresolved:
        raise SpecError("folds: expected resolved windows only, found unresolved ones. Pass windows.resolved().")
    least = np.timedelta64(0 if len(windows.symbols) else 1, "us")  # the windows of a panel's close share their times
    for name, times in (("decided_at", windows.decided_at), ("resolved_at", windows.resolved_at)):
        stalled = np.flatnonzero(np.diff(times) < least)
        if len(stalled):
            first = int(stalled[0])
            raise SpecError(
                f"folds: expected windows oldest first, found {name} {times[first + 1]} after {times[first]} "
                f"(window {first + 1})."
            )


def _require_enough(windows: Windows, spec: FoldSpec) -> None:
    """Raise unless the oldest fold keeps enough training windows after both purges."""
    decided_at, resolved_at = np.unique(windows.decided_at), np.unique(windows.resolved_at)
    decided_before = np.arange(len(decided_at))
    purge = int(np.max(decided_before - np.searchsorted(resolved_at, decided_at, side="left"), initial=0))
    past = _fewest_past(spec, purge)
    needed = spec.test_bars + purge + past
    if len(decided_at) < needed:
        raise BarsTooShort(
            f"folds {windows.interval}: expected at least {needed} resolved windows ({spec.test_bars} for the test, "
            f"{past} to train and validate the oldest fold, {purge} purged), found {len(decided_at)}. Give more bars, "
            "or lower --folds.test-bars, --window.lookback-bars or --window.stride-bars."
        )


def _fewest_past(spec: FoldSpec, purge: int) -> int:
    """Return the fewest windows that train and validate the oldest fold."""
    past = MINIMUM_TRAINING_WINDOWS + purge
    while past - _validation_count(past, spec) < MINIMUM_TRAINING_WINDOWS + purge:
        past += 1
    return past


def bars_needed(window: WindowSpec, spec: FoldSpec) -> int:
    """Return the fewest bars, without a gap among them, that suffice for the folds.

    >>> bars_needed(WindowSpec(lookback_bars=30), FoldSpec(test_bars=750))
    817
    """
    purge = window.horizon_bars // window.stride_bars
    windows = spec.test_bars + purge + _fewest_past(spec, purge)
    return window.lookback_bars + (windows - 1) * window.stride_bars + window.horizon_bars


@contextmanager
def naming_bars_needed(found: str, window: WindowSpec, spec: FoldSpec) -> Iterator[None]:
    """Add the bars found and those needed to a BarsTooShort raised inside the context, whose text counts windows.

    Args:
        found: which bars, and how many.
        window: of the recipe.
        spec: of the recipe.
    """
    try:
        yield
    except BarsTooShort as error:
        raise BarsTooShort(
            f"{found}, and this recipe needs at least {bars_needed(window, spec)} without a gap. {error}"
        ) from error
