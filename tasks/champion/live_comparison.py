"""Champion and shadows on the same live decisions: each version vs. what was served, whoever was champion.

Reads predictions that were stored before their outcome, served ones and shadows; decides nothing. So "what would the
held version have done" has an answer. Losses are in nats, paired by decision; a negative difference means that the
version was better than what was served. Of a panel the series of one close are one decision: their losses are averaged
first, as the monitor does. Caution: a version that was promoted yesterday has one live decision.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from model.bars import Bars
from model.bootstrap import mean_difference, record_block_bars
from model.errors import NoChampion, UnsoundModel, UntrustedModel
from model.labels import UNRESOLVED
from model.live_score import outcomes
from model.metrics import log_losses
from model.panel_live_score import close_means
from model.panel_recipe import PanelRecipe
from model.plurals import counted
from model.record import Record
from model.times import column_times
from tasks.champion.panel_comparison import other_panel_question
from tasks.champion.panel_labels import PanelLabels, panel_labels
from tasks.champion.served_predictions import stored_bars
from tasks.registry.model_registry import Version
from tasks.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

MIN_DECISIONS = 20  # own choice: with fewer, the bootstrap interval of a mean difference is not informative
NEWEST_VERSIONS = 30


@dataclass(frozen=True, slots=True)
class LiveComparison:
    """One version vs. what was served, on the live decisions of both.

    Attributes:
        version: registered version.
        champion: whether it serves now.
        decisions: live decisions with an outcome that both predicted, for the same outcome; of a panel its closes.
        log_loss: of the version, mean, nats.
        served_log_loss: of what was served on the same decisions.
        difference: mean of the version's minus that of what was served.
        low: lower bound of its 95 % interval; None with fewer than `MIN_DECISIONS`.
        high: upper bound.
        predictions: of a panel, the predictions of these closes; 0 of one series.
    """

    version: str
    champion: bool
    decisions: int
    log_loss: float
    served_log_loss: float
    difference: float
    low: float | None
    high: float | None
    predictions: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields ready for JSON."""
        return asdict(self)

    def text(self) -> str:
        """Return the comparison as a line."""
        interval = "" if self.low is None else f" [{self.low:+.4f}, {self.high:+.4f}]"
        live = counted(self.decisions, "live decision")
        if self.predictions:
            live = f"{counted(self.decisions, 'live close')} ({counted(self.predictions, 'prediction')})"
        return (
            f"version {self.version} ({'champion' if self.champion else 'shadow'}): log loss {self.log_loss:.4f}, "
            f"{self.difference:+.4f}{interval} vs. served, on {live}"
        )


def compare_live(
    workspace: Workspace, bars: Bars | None, champion: str | None, seed: int = 7, versions: int = NEWEST_VERSIONS
) -> tuple[LiveComparison, ...]:
    """Compare the champion and the newest other versions with what was served; the champion first, then newest first.

    Args:
        workspace: the logs.
        bars: shape (bar,), oldest first; they give the outcomes. None for the stored ones.
        champion: the version that serves; None without one.
        seed: of the bootstrap.
        versions: how many to compare at most.

    Returns:
        One comparison for each version with at least one live decision with an outcome.
    """
    found: tuple[LiveComparison, ...] = ()
    for newest in dict.fromkeys((2 * min(versions, NEWEST_VERSIONS), 2 * NEWEST_VERSIONS)):  # of few first
        known = _newest_and(champion, workspace, newest)
        both = _paired(workspace, known)
        times = column_times(both["decided_at"]), column_times(both["resolves_at"])
        known_bars = stored_bars(workspace, times[0]) if bars is None else bars
        found = _compare_all(workspace, both.assign(outcome=outcomes(*times, known_bars)), champion, seed, versions)
        if len(found) == versions or not known:
            break
    return found


def compare_live_panel(
    workspace: Workspace,
    champion: str | None,
    as_of: datetime | None = None,
    seed: int = 7,
    versions: int = NEWEST_VERSIONS,
) -> tuple[LiveComparison, ...]:
    """Compare the versions of a panel as `compare_live` those of a series, on closes whose outcomes are final.

    Counted are predictions of series that both versions were trained on, where both predict the same outcome: a rank
    among other series is another one.

    Args:
        workspace: the logs of the panel.
        champion: the version that serves; None without one.
        as_of: only bars closed by then are used, UTC; None for all stored bars.
        seed: of the bootstrap.
        versions: how many to compare at most.
    """
    both = _paired(workspace, _newest_and(champion, workspace, 2 * NEWEST_VERSIONS))
    found = panel_labels(workspace, both, as_of)
    recipes = _panel_recipes(workspace, both, found)
    comparable = np.zeros(len(both), dtype=bool)
    for _, rows in both.groupby(["version", "version_served"]):
        own, served = (recipes.get(str(rows[name].iloc[0])) for name in ("version", "version_served"))
        if own is None or served is None or other_panel_question(own, served, "") is not None:
            continue
        common = {*own.panel.symbols} & {*served.panel.symbols}
        comparable[rows.index] = rows["symbol"].isin(common)
    outcome = np.where(found.is_open | ~comparable, UNRESOLVED, found.labels)
    return _compare_all(workspace, both.assign(outcome=outcome), champion, seed, versions)


def _panel_recipes(workspace: Workspace, both: "pd.DataFrame", found: PanelLabels) -> dict[str, PanelRecipe]:
    """Return the recipes of all versions, those that served included; one that cannot be read is left out."""
    recipes = {number: files.panel_recipe() for number, files in found.versions.items()}
    for number, reason in found.unread.items():
        log.info("%s: predictions of version %s are not compared: %s", workspace.name, number, reason)
    for number in sorted({*both["version_served"]} - recipes.keys() - found.unread.keys()):
        try:
            recipes[number] = workspace.registry.read_version(number).panel_recipe()
        except (NoChampion, UnsoundModel, UntrustedModel) as error:
            log.info("%s: predictions of version %s are not compared: %s", workspace.name, number, error)
    return recipes


def _paired(workspace: Workspace, known: dict[str, Version]) -> "pd.DataFrame":
    """Return what each of these versions predicted in time, with what was served for the same series and outcome.

    Of all versions where none is named.
    """
    since = min((each.trained_until for each in known.values()), default=None)
    stored = workspace.prediction_log.read(workspace.name, since=since)
    shadows = workspace.shadow_log.read(workspace.name, versions=tuple(known), since=since)
    compared = stored[stored["version"].isin(known)] if known else stored
    served = live_predictions([stored])
    every = live_predictions([compared, shadows], ["version", "symbol", "decided_at"])
    return every.merge(served, on=["symbol", "decided_at", "resolves_at", "label"], suffixes=("", "_served"))


def _compare_all(
    workspace: Workspace, both: "pd.DataFrame", champion: str | None, seed: int, versions: int
) -> tuple[LiveComparison, ...]:
    """Compare each version, the champion first, then newest first; `outcome` is 1, 0, or -1 where it does not count."""
    by_version = {str(number): rows for number, rows in both[both["outcome"] >= 0].groupby("version")}
    numbers = sorted(both["version"].unique(), key=int, reverse=True)
    order = [each for each in (champion,) if each in numbers] + [each for each in numbers if each != champion]
    of_panel = workspace.runs.series.is_panel
    chosen = [each for each in order[:NEWEST_VERSIONS] if each in by_version][:versions]
    return tuple(
        _compare(each, by_version[each], seed, champion=each == champion, of_panel=of_panel) for each in chosen
    )


def _newest_and(champion: str | None, workspace: Workspace, count: int) -> dict[str, Version]:
    """Return the champion and the newest versions, by number; empty, which means all, where there are fewer.

    A log of ten years is not read whole for the newest ones: they predict after the end of their training only.
    """
    newest = workspace.registry.newest_versions(count)  # twice as many as asked: rejected ones make no predictions
    if len(newest) < count or champion is None:
        return {}
    try:
        return {each: workspace.registry.version(each) for each in (*newest, champion)}
    except (NoChampion, UnsoundModel):  # deleted since, or its tags were edited
        return {}


def live_predictions(frames: Iterable["pd.DataFrame"], key: Sequence[str] = ("symbol", "decided_at")) -> "pd.DataFrame":
    """Return predictions that were not stored late, oldest first; of those with the same key the first stored."""
    import pandas as pd  # imported here: pandas takes a second

    rows = pd.concat(list(frames), ignore_index=True)
    kept = rows[~rows["late"].astype(bool)].sort_values(["decided_at", "stored_at"], kind="stable")
    return kept.drop_duplicates(list(key))


def _compare(version: str, rows: "pd.DataFrame", seed: int, *, champion: bool, of_panel: bool) -> LiveComparison:
    """Compare a version with what was served, on predictions of both with an outcome, oldest first."""
    labels, fold = rows["outcome"].to_numpy(dtype=np.int8), np.zeros(len(rows), dtype=np.int64)
    ours, theirs = (rows[name].to_numpy(dtype=np.float64) for name in ("probability", "probability_served"))
    record = Record(column_times(rows["decided_at"]), column_times(rows["resolves_at"]), labels, ours, fold)
    closes = record.bar_numbers()
    own, served = (close_means(closes, log_losses(labels, each)) for each in (ours, theirs))
    interval = None
    if len(own) >= MIN_DECISIONS:
        interval = mean_difference(own - served, seed, record_block_bars(record), record.overlap_bars())
    return LiveComparison(
        version, champion, len(own), float(own.mean()), float(served.mean()), float((own - served).mean()),
        interval.low if interval else None, interval.high if interval else None, len(rows) if of_panel else 0,
    )  # fmt: skip
