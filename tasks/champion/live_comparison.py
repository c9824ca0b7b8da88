"""Champion and shadows on the same live decisions: each version vs. what was served, whoever was champion.

Reads predictions that were stored before their outcome, served ones and shadows; decides nothing. So "what would the
held version have done" has an answer. Losses are in nats, paired by decision; a negative difference means that the
version was better than what was served. Caution: a version that was promoted yesterday has one live decision.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from model.bars import Bars
from model.bootstrap import compare_losses
from model.errors import NoChampion
from model.live_score import outcomes
from model.metrics import Record, log_losses
from model.plurals import counted
from model.times import column_times
from tasks.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

MIN_DECISIONS = 20  # own choice: with fewer, the bootstrap interval of a mean difference is not informative
NEWEST_VERSIONS = 30


@dataclass(frozen=True, slots=True)
class LiveComparison:
    """One version vs. what was served, on the live decisions of both.

    Attributes:
        version: registered version.
        champion: whether it serves now.
        decisions: live decisions with an outcome that both predicted, for the same outcome.
        log_loss: of the version, mean, nats.
        served_log_loss: of what was served on the same decisions.
        difference: mean of the version's minus that of what was served.
        low: lower bound of its 95 % interval; None with fewer than `MIN_DECISIONS`.
        high: upper bound.
    """

    version: str
    champion: bool
    decisions: int
    log_loss: float
    served_log_loss: float
    difference: float
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields ready for JSON."""
        return asdict(self)

    def text(self) -> str:
        """Return the comparison as a line."""
        interval = "" if self.low is None else f" [{self.low:+.4f}, {self.high:+.4f}]"
        return (
            f"version {self.version} ({'champion' if self.champion else 'shadow'}): log loss {self.log_loss:.4f}, "
            f"{self.difference:+.4f}{interval} vs. served, on {counted(self.decisions, 'live decision')}"
        )


def compare_live(workspace: Workspace, bars: Bars, champion: str | None, seed: int = 7) -> tuple[LiveComparison, ...]:
    """Compare the champion and the newest other versions with what was served; the champion first, then newest first.

    Args:
        workspace: the logs.
        bars: shape (bar,), oldest first; they give the outcomes.
        champion: the version that serves; None without one.
        seed: of the bootstrap.

    Returns:
        One comparison for each version with at least one live decision with an outcome.
    """
    since, known = _compared(workspace, champion)
    logs = (workspace.prediction_log, workspace.shadow_log)
    served = live_predictions([workspace.prediction_log.read(workspace.name, since=since)])
    every = _on_time([log.read(workspace.name, since=since) for log in logs])
    numbers = sorted((each for each in every["version"].unique() if each in (known or {each})), key=int, reverse=True)
    order = [each for each in (champion,) if each in numbers] + [each for each in numbers if each != champion]
    found = (
        _compare(
            each, live_predictions([every[every["version"] == each]]), served, bars, seed, champion=each == champion
        )
        for each in order[:NEWEST_VERSIONS]
    )
    return tuple(each for each in found if each is not None)


def _compared(workspace: Workspace, champion: str | None) -> tuple[datetime | None, frozenset[str]]:
    """Return the versions that may be compared, and a time before which none of them predicted; no bounds if unknown.

    A version predicts after the end of its training, so a log of ten years is not read whole for the newest ones.
    """
    newest = workspace.registry.newest_versions(2 * NEWEST_VERSIONS)  # rejected ones make no predictions
    if len(newest) < 2 * NEWEST_VERSIONS or champion is None:
        return None, frozenset()
    known = frozenset({*newest, champion})
    try:
        return min(workspace.registry.version(each).trained_until for each in known), known
    except NoChampion:  # deleted since
        return None, frozenset()


def live_predictions(frames: Iterable["pd.DataFrame"]) -> "pd.DataFrame":
    """Return predictions that were not stored late, the first stored of each decision, oldest first."""
    kept = _on_time(frames).sort_values(["decided_at", "stored_at"], kind="stable")
    return kept.drop_duplicates("decided_at")


def _on_time(frames: Iterable["pd.DataFrame"]) -> "pd.DataFrame":
    import pandas as pd  # imported here: pandas takes a second

    rows = pd.concat(list(frames), ignore_index=True)
    return rows[~rows["late"].astype(bool)]


def _compare(
    version: str, ours: "pd.DataFrame", served: "pd.DataFrame", bars: Bars, seed: int, *, champion: bool
) -> LiveComparison | None:
    both = ours.merge(served, on=["decided_at", "resolves_at"], suffixes=("", "_served"))  # the same outcome only
    decided_at, resolves_at = column_times(both["decided_at"]), column_times(both["resolves_at"])
    labels = outcomes(decided_at, resolves_at, bars)
    known = labels >= 0
    if not known.any():
        return None
    record = Record(
        decided_at[known],
        resolves_at[known],
        labels[known],
        both["probability"].to_numpy(dtype=np.float64)[known],
        np.zeros(int(known.sum()), dtype=np.int64),
    )
    theirs = both["probability_served"].to_numpy(dtype=np.float64)[known]
    losses = [float(log_losses(record.labels, each).mean()) for each in (record.probabilities, theirs)]
    interval = compare_losses(record, theirs, seed) if len(record) >= MIN_DECISIONS else None
    return LiveComparison(
        version, champion, len(record), losses[0], losses[1], losses[0] - losses[1],
        interval.low if interval else None, interval.high if interval else None,
    )  # fmt: skip
