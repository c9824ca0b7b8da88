"""The out-of-sample record: probabilities of walk-forward folds, with the actual labels.

Knows which decisions two records share, and its form as a frame; what the probabilities are worth is computed
elsewhere (`model/metrics.py` and others). Serving does not import it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int8, Int64, Shaped

from model.cost_classes import CLASS_COLUMNS
from model.errors import SpecError
from model.expected_moves import expected_returns
from model.labels import require_labels
from model.times import column_times, utc_index

if TYPE_CHECKING:
    import pandas as pd

RECORD_COLUMNS = ("decided_at", "resolved_at", "label", "probability", "fold")


@dataclass(frozen=True, slots=True)
class Record:
    """Out-of-sample probabilities with the actual labels, oldest first.

    Attributes:
        decided_at: shape (window,), datetime64[us], UTC: close of the window's last bar.
        resolved_at: shape (window,), datetime64[us], UTC: close of the bar that fixes the label.
        labels: shape (window,), int8: 1 rise, 0 fall.
        probabilities: shape (window,), float64: P(rise).
        fold: shape (window,), int64: number of the test fold that holds the window.
        symbols: shape (window,), text: the series of each window of a panel; empty for one series.
        expected_moves: shape (window,), float64: expected absolute log return; empty without a magnitude head.
        class_probabilities: shape (window, 3), float64: of the classes of `model.cost_classes`; empty without them.
    """

    decided_at: Shaped[np.ndarray, " window"]
    resolved_at: Shaped[np.ndarray, " window"]
    labels: Int8[np.ndarray, " window"]
    probabilities: Float64[np.ndarray, " window"]
    fold: Int64[np.ndarray, " window"]
    symbols: Shaped[np.ndarray, " _"] = field(default_factory=lambda: np.empty(0, np.str_))
    expected_moves: Float64[np.ndarray, " _"] = field(default_factory=lambda: np.empty(0, np.float64))
    class_probabilities: Float64[np.ndarray, "_ _"] = field(default_factory=lambda: np.empty((0, 3), np.float64))

    def __len__(self) -> int:
        """Count the windows."""
        return len(self.labels)

    def expected_returns(self) -> Float64[np.ndarray, " _"]:
        """Return direction times size, (2 P - 1) times the expected move: shape (window,); empty without moves."""
        return expected_returns(self.probabilities, self.expected_moves)

    def bar_numbers(self) -> Int64[np.ndarray, " window"]:
        """Number the closes at which windows were decided, from 0; the windows of a panel's close share a number."""
        return np.unique(self.decided_at, return_inverse=True)[1].astype(np.int64)

    def take(self, index: Shaped[np.ndarray, " chosen"]) -> "Record":
        """Return the windows of an index array or a mask, shape (chosen,), in its order."""
        return Record(
            self.decided_at[index],
            self.resolved_at[index],
            self.labels[index],
            self.probabilities[index],
            self.fold[index],
            self.symbols[index] if len(self.symbols) else self.symbols,
            self.expected_moves[index] if len(self.expected_moves) else self.expected_moves,
            self.class_probabilities[index] if len(self.class_probabilities) else self.class_probabilities,
        )

    def overlap_bars(self) -> int:
        """Count the closes until a label is resolved, its own included: 1 where labels do not overlap.

        Above 1, neighbouring labels share bars, and a test that assumes independence is too optimistic.
        """
        if not len(self):
            return 1
        closes = np.unique(self.decided_at)
        later = np.searchsorted(closes, self.resolved_at, side="left") - np.searchsorted(closes, self.decided_at)
        return max(1, int(later.max()))

    def independent_windows(self) -> Int64[np.ndarray, " chosen"]:
        """Return the indices of every n-th window, n being `overlap_bars`, so that no two labels share a bar.

        Of a panel, one window of every n-th close, its series in rotation: the labels of one close are correlated.
        """
        if not len(self.symbols):
            return np.arange(0, len(self), self.overlap_bars(), dtype=np.int64)
        starts = np.flatnonzero(np.diff(self.decided_at, prepend=np.datetime64(0, "us")) > np.timedelta64(0))
        sizes = np.diff(starts, append=len(self))
        chosen = np.arange(0, len(starts), self.overlap_bars(), dtype=np.int64)
        return np.asarray(starts[chosen] + np.arange(len(chosen)) % sizes[chosen], dtype=np.int64)

    def common_decisions(self, other: "Record") -> tuple["Record", "Record"]:
        """Return the windows that both records decided, from each; the other's NaN probabilities are no decisions."""
        other = other.take(np.isfinite(other.probabilities))
        ours, theirs = self.places_of(other.decided_at, other.symbols)
        return self.take(ours), other.take(theirs)

    def places_of(
        self, decided_at: Shaped[np.ndarray, " decision"], symbols: Shaped[np.ndarray, " _"]
    ) -> tuple[Int64[np.ndarray, " common"], Int64[np.ndarray, " common"]]:
        """Return where the decisions that another forecaster made too stand in this record, and where in its own.

        Args:
            decided_at: shape (decision,), datetime64[us], UTC: decisions of the other forecaster, in any order.
            symbols: shape (decision,), text: the series of each decision of a panel; empty for one series.
        """
        _, numbers = np.unique(
            np.concatenate([_symbols(self.symbols, len(self)), _symbols(symbols, len(decided_at))]), return_inverse=True
        )
        times = np.concatenate([self.decided_at, decided_at]).astype("datetime64[us]").astype(np.int64)
        keys = times * (int(numbers.max(initial=0)) + 1) + numbers
        return common_places(keys[: len(self)], keys[len(self) :])

    def with_probabilities(
        self, decided_at: Shaped[np.ndarray, " decision"], probabilities: Float64[np.ndarray, " decision"]
    ) -> "Record":
        """Return the windows that another forecaster decided too, with its probabilities in place of these.

        Args:
            decided_at: shape (decision,), datetime64[us], UTC: decisions of the other forecaster.
            probabilities: shape (decision,), float64: its P(rise).
        """
        ours, theirs = common_places(self.decided_at, decided_at)
        chosen = self.take(ours)
        return Record(chosen.decided_at, chosen.resolved_at, chosen.labels, probabilities[theirs], chosen.fold)

    def extended_by(self, later: "Record") -> "Record":
        """Return this record followed by the windows of another that it does not hold itself."""
        parts = [self, later.take(~np.isin(later.decided_at, self.decided_at))]
        return Record(
            np.concatenate([part.decided_at for part in parts]),
            np.concatenate([part.resolved_at for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.probabilities for part in parts]),
            np.concatenate([part.fold for part in parts]),
        )

    def frame(self) -> "pd.DataFrame":
        """Return a frame with the columns of `RECORD_COLUMNS`, times UTC-aware; with what else is known."""
        import pandas as pd  # imported here: pandas takes a second

        frame = pd.DataFrame(
            {
                "decided_at": utc_index(self.decided_at),
                "resolved_at": utc_index(self.resolved_at),
                "label": self.labels,
                "probability": self.probabilities,
                "fold": self.fold,
            }
        )
        if len(self.expected_moves):
            frame = frame.assign(expected_move=self.expected_moves)
        if len(self.class_probabilities):
            frame = frame.assign(**dict(zip(CLASS_COLUMNS, self.class_probabilities.T, strict=True)))
        return frame.assign(symbol=self.symbols) if len(self.symbols) else frame


def validation_by_fold(
    record: Record, validation: Sequence[Record], purpose: str, remedy: str = "Retrain."
) -> dict[int, Record]:
    """Return the validation windows of each fold of a record, by the fold's number, in ascending order.

    Args:
        record: out-of-sample probabilities.
        validation: each fold's probabilities of its validation windows, in any order.
        purpose: what they are used for, in the message.
        remedy: last sentence of the message.

    Raises:
        SpecError: a fold has no validation windows.
    """
    known = {int(each.fold[0]): each for each in validation if len(each)}
    numbers = [int(number) for number in np.unique(record.fold)]
    lacking = [number for number in numbers if number not in known]
    if lacking:
        raise SpecError(
            f"{purpose}: expected the validation windows of every fold, found none of fold {lacking[0] + 1}. {remedy}"
        )
    return {number: known[number] for number in numbers}


def _symbols(symbols: Shaped[np.ndarray, " _"], count: int) -> Shaped[np.ndarray, " decision"]:
    return symbols if len(symbols) else np.full(count, "", np.str_)


def common_places(
    a: Shaped[np.ndarray, " a"], b: Shaped[np.ndarray, " b"]
) -> tuple[Int64[np.ndarray, " common"], Int64[np.ndarray, " common"]]:
    """Return where the decisions that two forecasters share stand in each, oldest first.

    Args:
        a: unique times, or other keys, of the decisions of one.
        b: those of the other.

    >>> common_places(np.array([3, 5, 7]), np.array([7, 3]))
    (array([0, 2]), array([1, 0]))
    """
    _, ours, theirs = np.intersect1d(a, b, return_indices=True)
    return ours, theirs


def record_from_frame(frame: "pd.DataFrame") -> Record:
    """Return a record from a frame with the columns of `RECORD_COLUMNS`, times UTC-aware or naive UTC.

    Raises:
        SpecError: a column is missing, or a label is neither 0 nor 1.
    """
    missing = [name for name in RECORD_COLUMNS if name not in frame.columns]
    if missing:
        raise SpecError(f"record: expected columns {', '.join(RECORD_COLUMNS)}; missing {', '.join(missing)}")
    times = [column_times(frame[name]) for name in ("decided_at", "resolved_at")]
    order = np.argsort(times[0], kind="stable")
    labels = frame["label"].to_numpy(dtype=np.int8)
    require_labels(labels)
    symbols = frame["symbol"].to_numpy(dtype=np.str_)[order] if "symbol" in frame.columns else np.array([], np.str_)
    moves = (
        frame["expected_move"].to_numpy(dtype=np.float64)[order] if "expected_move" in frame.columns else np.empty(0)
    )
    classed = CLASS_COLUMNS[0] in frame.columns
    classes = frame[list(CLASS_COLUMNS)].to_numpy(dtype=np.float64)[order] if classed else np.empty((0, 3))
    return Record(
        decided_at=times[0][order],
        resolved_at=times[1][order],
        labels=labels[order],
        probabilities=frame["probability"].to_numpy(dtype=np.float64)[order],
        fold=frame["fold"].to_numpy(dtype=np.int64)[order],
        symbols=symbols,
        expected_moves=moves,
        class_probabilities=classes,
    )
