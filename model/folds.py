"""Folds: which windows a model learns from, stops by, and is judged on, walking forward in time.

Everything is decided by two times of each window, `decided_at` and `resolved_at`, so gaps, horizons and strides need
no special case: whoever decides at time s may have learned only from what was resolved before s. Indices count
windows of the `Windows` passed. The trap: a window decided before a test block may still be resolved inside it;
dropping those is the purge, `horizon_bars` wide where there is no gap.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64
from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.errors import BarsTooShort, SpecError
from model.windows import Windows

# Own choice: from fewer windows not even the base rate is known to better than 0.18 (two standard errors).
MINIMUM_TRAINING_WINDOWS = 30
WHERE = frozenset({"runner", "address", "seeds"})  # fields of the spec that change no number of the record


class FoldSpec(BaseModel):
    """How the newest windows are held out, and how often the model is trained anew to predict them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    test_bars: int = Field(
        default=750,
        ge=1,
        le=10_000_000,
        description="Newest resolved windows to be predicted unseen: one a bar, at a stride of one bar",
    )
    count: int = Field(default=5, ge=1, le=1_000, description="Blocks the test is cut into; one training for each")
    validation_share: float = Field(
        default=0.15,
        ge=0.01,
        le=0.5,
        description="Newest share of the training windows that training stops by and does not learn from",
    )
    seeds: int = Field(
        default=1,
        ge=1,
        le=50,
        description="Seeds that a retrain trains each fold with; the first one's record counts, the others show what "
        "a seed moves",
    )
    runner: Literal["serial", "threads", "dask"] = Field(
        default="threads",
        description="Where folds are trained: one after the other, side by side on this machine's cores, or on a Dask "
        "cluster (extra distributed); the numbers are the same",
    )
    address: str = Field(
        default="", description="Address of the Dask scheduler, tcp://host:port; empty: a cluster on this machine"
    )

    @model_validator(mode="after")
    def _address_a_cluster(self) -> "FoldSpec":
        if self.address and self.runner != "dask":
            raise ValueError(f"expected an address with runner dask only, found {self.address} with {self.runner}")
        return self

    @model_validator(mode="after")
    def _fill_each_block(self) -> "FoldSpec":
        if self.count > self.test_bars:
            raise ValueError(f"expected count at most test_bars, found {self.count} blocks of {self.test_bars} windows")
        return self


@dataclass(frozen=True, slots=True)
class Fold:
    """One train, validation and test set, as indices into the windows, each oldest first.

    Attributes:
        index: number of the fold, 0 for the oldest test block.
        train: shape (train,), int64; resolved before the first decision of `validation`.
        validation: shape (validation,), int64; resolved before the first decision of `test`.
        test: shape (test,), int64; consecutive.
    """

    index: int
    train: Int64[np.ndarray, " train"]
    validation: Int64[np.ndarray, " validation"]
    test: Int64[np.ndarray, " test"]


def resolved_before(windows: Windows, decided_at: np.datetime64) -> Bool[np.ndarray, " window"]:
    """Say which windows had their outcome strictly before a decision: the only ones it may have learned from.

    Returns:
        Shape (window,), bool; False for unresolved windows.

    Time: entry w depends on `resolved_at` of window w alone.
    Source: purging, Lopez de Prado, Advances in Financial Machine Learning, 2018, section 7.4.1.
    """
    return np.asarray(windows.resolved_at < decided_at, dtype=np.bool_)


def split_folds(windows: Windows, spec: FoldSpec) -> tuple[Fold, ...]:
    """Split resolved windows for walking forward: the newest `test_bars` of them in `count` consecutive blocks.

    Args:
        windows: resolved windows, oldest first.
        spec: size of the test, number of blocks, share of the validation.

    Returns:
        One fold a block, oldest first. Block sizes differ by at most one. Each trains on everything resolved before
        its block; the newest `validation_share` of that is its validation, and the rest is purged against it.

    Raises:
        BarsTooShort: the oldest fold would train on fewer than `MINIMUM_TRAINING_WINDOWS` windows.
        SpecError: a window is unresolved, or times do not increase.

    Time: `train` and `validation` of a fold depend on windows resolved before the first decision of its `test`.
    Source: own, after walk-forward testing; purge as in `resolved_before`.
    """
    _require_order(windows)
    _require_enough(windows, spec)
    blocks = np.array_split(np.arange(len(windows) - spec.test_bars, len(windows), dtype=np.int64), spec.count)
    return tuple(_fold(windows, spec, index, test) for index, test in enumerate(blocks))


def _fold(windows: Windows, spec: FoldSpec, index: int, test: Int64[np.ndarray, " test"]) -> Fold:
    past = np.flatnonzero(resolved_before(windows, windows.decided_at[test[0]])).astype(np.int64)
    validation = past[len(past) - _validation_count(len(past), spec) :]
    train = np.flatnonzero(resolved_before(windows, windows.decided_at[validation[0]])).astype(np.int64)
    return Fold(index=index, train=train, validation=validation, test=test)


def _validation_count(past_count: int, spec: FoldSpec) -> int:
    return max(1, round(spec.validation_share * past_count))


def _require_order(windows: Windows) -> None:
    unresolved = int((windows.labels < 0).sum() + np.isnat(windows.resolved_at).sum())
    if unresolved:
        raise SpecError("folds: expected resolved windows only, found unresolved ones. Pass windows.resolved().")
    for name, times in (("decided_at", windows.decided_at), ("resolved_at", windows.resolved_at)):
        standing = np.flatnonzero(np.diff(times) <= np.timedelta64(0))
        if len(standing):
            first = int(standing[0])
            raise SpecError(
                f"folds: expected windows oldest first, found {name} {times[first + 1]} after {times[first]} "
                f"(window {first + 1})."
            )


def _require_enough(windows: Windows, spec: FoldSpec) -> None:
    """Raise unless the oldest fold, purged twice at the widest, keeps enough to train on."""
    decided_before = np.arange(len(windows))
    purge = int(
        np.max(decided_before - np.searchsorted(windows.resolved_at, windows.decided_at, side="left"), initial=0)
    )
    past = MINIMUM_TRAINING_WINDOWS + purge
    while past - _validation_count(past, spec) < MINIMUM_TRAINING_WINDOWS + purge:
        past += 1
    needed = spec.test_bars + purge + past
    if len(windows) < needed:
        raise BarsTooShort(
            f"folds {windows.interval}: expected at least {needed} resolved windows ({spec.test_bars} to test, {past} "
            f"to train and validate the oldest fold, {purge} purged between), found {len(windows)}. Give more bars, "
            "or lower --folds.test-bars, --window.lookback-bars or --window.stride-bars."
        )
