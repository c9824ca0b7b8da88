"""Champion and shadows on the same live decisions: each version vs. what was served, whoever was champion.

Reads predictions that were stored before their outcome, served ones and shadows; decides nothing. So "what would the
held version have done" has an answer. Losses are in nats, paired by decision; a negative difference means that the
version was better than what was served. Caution: a version that was promoted yesterday has one live decision.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from model.bars import Bars
from model.bootstrap import compare_losses
from model.errors import NoChampion
from model.live_score import outcomes
from model.metrics import Record, log_losses
from model.plurals import counted
from model.times import column_times
from tasks.registry.model_registry import Version
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
    known, since = _compared(workspace, champion), None
    if known:
        since = min(each.trained_until for each in known.values())
    logs, versions = (workspace.prediction_log, workspace.shadow_log), tuple(known)
    served = live_predictions([workspace.prediction_log.read(workspace.name, since=since)])
    read = [log.read(workspace.name, versions=versions, since=since) for log in logs]
    every = live_predictions(read, ["version", "decided_at"])
    both = every.merge(served, on=["decided_at", "resolves_at"], suffixes=("", "_served"))  # the same outcome only
    both = both.assign(label=outcomes(column_times(both["decided_at"]), column_times(both["resolves_at"]), bars))
    by_version = {str(number): rows for number, rows in both[both["label"] >= 0].groupby("version")}
    numbers = sorted(every["version"].unique(), key=int, reverse=True)
    order = [each for each in (champion,) if each in numbers] + [each for each in numbers if each != champion]
    return tuple(
        _compare(each, by_version[each], seed, champion=each == champion)
        for each in order[:NEWEST_VERSIONS]
        if each in by_version
    )


def _compared(workspace: Workspace, champion: str | None) -> dict[str, Version]:
    """Return the versions that may be compared, by number; empty where they are not known: all are.

    A log of ten years is not read whole for the newest ones: they predict after the end of their training only.
    """
    newest = workspace.registry.newest_versions(2 * NEWEST_VERSIONS)  # rejected ones make no predictions
    if len(newest) < 2 * NEWEST_VERSIONS or champion is None:
        return {}
    try:
        return {each: workspace.registry.version(each) for each in (*newest, champion)}
    except NoChampion:  # deleted since
        return {}


def live_predictions(frames: Iterable["pd.DataFrame"], key: Sequence[str] = ("decided_at",)) -> "pd.DataFrame":
    """Return predictions that were not stored late, oldest first; of those with the same key the first stored."""
    import pandas as pd  # imported here: pandas takes a second

    rows = pd.concat(list(frames), ignore_index=True)
    kept = rows[~rows["late"].astype(bool)].sort_values(["decided_at", "stored_at"], kind="stable")
    return kept.drop_duplicates(list(key))


def _compare(version: str, rows: "pd.DataFrame", seed: int, *, champion: bool) -> LiveComparison:
    """Compare a version with what was served, on predictions of both with an outcome, oldest first."""
    record = Record(
        column_times(rows["decided_at"]),
        column_times(rows["resolves_at"]),
        rows["label"].to_numpy(dtype=np.int8),
        rows["probability"].to_numpy(dtype=np.float64),
        np.zeros(len(rows), dtype=np.int64),
    )
    theirs = rows["probability_served"].to_numpy(dtype=np.float64)
    losses = [float(log_losses(record.labels, each).mean()) for each in (record.probabilities, theirs)]
    interval = compare_losses(record, theirs, seed) if len(record) >= MIN_DECISIONS else None
    return LiveComparison(
        version, champion, len(record), losses[0], losses[1], losses[0] - losses[1],
        interval.low if interval else None, interval.high if interval else None,
    )  # fmt: skip
