"""What was served: the stored predictions of a series, or of each series of a panel, with their outcomes."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int8, Shaped

from model.bars import Bars
from model.label_names import LABEL_NAMES, LabelKind, opinion_text
from model.live_score import outcomes
from model.metrics import CLASSES, predicts_rise
from model.times import column_times, to_datetime
from tasks.champion.panel_labels import first_stored, panel_labels
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
        probabilities: shape (prediction,), float64: of label 1.
        labels: shape (prediction,), int8: 1 rise, 0 fall, -1 not known yet; of a panel those of `kinds`.
        versions: of the predictions.
        late: whether each was stored after its outcome was known.
        symbols: of a panel, the series of each prediction; empty for one series.
        kinds: of a panel, the label of each prediction; empty for one series.
        opinions: of a panel, whether there was an opinion on each, None where it was not stated; empty for one series.
    """

    decided_at: Shaped[np.ndarray, " prediction"]
    resolves_at: Shaped[np.ndarray, " prediction"]
    probabilities: Float64[np.ndarray, " prediction"]
    labels: Int8[np.ndarray, " prediction"]
    versions: tuple[str, ...]
    late: tuple[bool, ...]
    symbols: tuple[str, ...] = ()
    kinds: tuple[LabelKind, ...] = ()
    opinions: tuple[bool | None, ...] = ()

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
        known, classes = label >= 0, LABEL_NAMES[self.kinds[place]].classes if self.kinds else CLASSES
        of_panel = (
            {
                "symbol": self.symbols[place],
                "label": self.kinds[place],
                "opinion": opinion_text(self.opinions[place], self.kinds[place], rises),
            }
            if self.kinds
            else {}
        )
        return of_panel | {
            "decided_at": to_datetime(self.decided_at[place]).isoformat(),
            "resolves_at": to_datetime(self.resolves_at[place]).isoformat(),
            "probability": float(self.probabilities[place]),
            "predicted": classes[int(rises)],
            "outcome": classes[label] if known else None,
            "right": rises == bool(label) if known else None,
            "version": self.versions[place],
            "late": self.late[place],
        }


def maker_text(version: str, champion: str | None) -> str:
    """Return by which version a served prediction was made: named so where another one is champion now.

    >>> maker_text("2", "4"), maker_text("4", "4")
    ('made by version 2, the champion at that time', 'version 4')
    """
    return (
        f"version {version}" if champion in {None, version} else f"made by version {version}, the champion at that time"
    )


def predictions_with_outcomes(stored: "pd.DataFrame", bars: Bars) -> LivePredictions:
    """Return the stored predictions of a series with their outcomes; the first stored of each decision."""
    kept = first_stored(stored)
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
    """Return the stored predictions of a series or a panel with their outcomes; reads no bar where there is none.

    Args:
        workspace: of the series or the panel.
        since: earlier decisions are left out; None for all.
    """
    stored = workspace.prediction_log.read(workspace.name, since=since)
    series = workspace.runs.series
    if series.is_panel:
        kept = first_stored(stored)
        found = predictions_with_outcomes(kept, no_bars(series))
        symbols, kinds = tuple(kept["symbol"]), tuple(kept["label"])
        opinions = tuple(None if each is None else bool(each) for each in kept["has_opinion"])
        labels = panel_labels(workspace, kept).labels
        return replace(found, labels=labels, symbols=symbols, kinds=kinds, opinions=opinions)
    return predictions_with_outcomes(stored, stored_bars(workspace, column_times(stored["decided_at"])))


def stored_bars(workspace: Workspace, decided_at: Shaped[np.ndarray, " prediction"]) -> Bars:
    """Return the stored bars of a series from the first of some decisions on, which give their outcomes.

    Args:
        workspace: of the series.
        decided_at: shape (prediction,), datetime64[us], UTC, in any order; no bar is read where there is none.
    """
    series = workspace.runs.series
    if not len(decided_at):
        return no_bars(series)
    return workspace.bar_store.bars(series, closed_since=to_datetime(decided_at.min()))
