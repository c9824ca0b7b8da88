"""What was served: the stored predictions of a series with their outcomes."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int8, Shaped

from model.bars import Bars, bars_from_frame
from model.live_score import outcomes
from model.metrics import CLASSES, predicts_rise
from model.times import column_times, to_datetime
from tasks.store.bar_rows import no_bars
from tasks.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class LivePredictions:
    """Stored predictions of the versions that served, oldest first.

    Attributes:
        decided_at: shape (prediction,), datetime64[us], UTC.
        resolves_at: shape (prediction,), datetime64[us], UTC.
        probabilities: shape (prediction,), float64: P(rise).
        labels: shape (prediction,), int8: 1 rise, 0 fall, -1 not known yet.
        versions: of the predictions.
        late: whether each was stored after its outcome was known.
    """

    decided_at: Shaped[np.ndarray, " prediction"]
    resolves_at: Shaped[np.ndarray, " prediction"]
    probabilities: Float64[np.ndarray, " prediction"]
    labels: Int8[np.ndarray, " prediction"]
    versions: tuple[str, ...]
    late: tuple[bool, ...]

    def __len__(self) -> int:
        """Return their number."""
        return len(self.versions)

    def rows(self, last: int = 0) -> list[dict[str, Any]]:
        """Return the newest predictions ready for JSON, oldest first; all if `last` is 0.

        `outcome` and `right` are None where the outcome is not known yet.
        """
        return [self.row(place) for place in range(max(0, len(self) - last) if last else 0, len(self))]

    def row(self, place: int) -> dict[str, Any]:
        """Return one prediction ready for JSON."""
        rises, label = bool(predicts_rise(self.probabilities)[place]), int(self.labels[place])
        known = label >= 0
        return {
            "decided_at": to_datetime(self.decided_at[place]).isoformat(),
            "resolves_at": to_datetime(self.resolves_at[place]).isoformat(),
            "probability": float(self.probabilities[place]),
            "predicted": CLASSES[int(rises)],
            "outcome": CLASSES[label] if known else None,
            "right": rises == bool(label) if known else None,
            "version": self.versions[place],
            "late": self.late[place],
        }


def predictions_with_outcomes(stored: "pd.DataFrame", bars: Bars) -> LivePredictions:
    """Return the stored predictions with their outcomes; the first stored of each decision."""
    kept = stored.sort_values(["decided_at", "stored_at"], kind="stable").drop_duplicates("decided_at")
    decided_at, resolves_at = column_times(kept["decided_at"]), column_times(kept["resolves_at"])
    return LivePredictions(
        decided_at,
        resolves_at,
        kept["probability"].to_numpy(dtype=np.float64),
        outcomes(decided_at, resolves_at, bars),
        tuple(kept["version"].astype(str)),
        tuple(bool(late) for late in kept["late"]),
    )


def served_predictions(workspace: Workspace, since: datetime | None = None) -> LivePredictions:
    """Return the stored predictions of a series with their outcomes; reads no bar where there is none.

    Args:
        workspace: of the series.
        since: earlier decisions are left out; None for all.
    """
    stored = workspace.prediction_log.read(workspace.name, since=since)
    series = workspace.runs.series
    bars = workspace.bar_store.read_frame(series) if len(stored) else no_bars(series).frame()
    return predictions_with_outcomes(stored, bars_from_frame(bars, series.interval))
