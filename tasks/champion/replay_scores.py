"""Scores of a replay: the champion of each day vs. never promoting and always promoting, on the same decisions."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import numpy as np

from model.bars import Bars
from model.bootstrap import paired_block_bars, paired_difference
from model.metrics import score
from model.recipe import Recipe
from model.times import column_times, to_datetimes
from model.windows import cut_windows
from tasks.champion.live_comparison import MIN_DECISIONS
from tasks.champion.replay_summary import STRATEGIES, ReplaySummary
from tasks.store.decision_log import LoggedDecision, former_champions
from tasks.workspace import Workspace

DAY = timedelta(days=1)


def score_replay(workspace: Workspace, recipe: Recipe, bars: Bars, first: date, last: date) -> ReplaySummary:
    """Score the strategies of a replay from its logged decisions and stored predictions.

    Args:
        workspace: of the replay.
        recipe: what was retrained.
        bars: shape (bar,), those after the last day included, from which outcomes are known.
        first: first day.
        last: last day.
    """
    every = workspace.decision_log.rows(workspace.name)
    rows = tuple(row for row in every if first <= row.decided_at.date() <= last)
    never = next(iter(former_champions(every)), None)
    scored = _scored_decisions(workspace, recipe, bars, rows, never)
    labels, probabilities = scored["labels"].astype(np.int8), {name: scored[name] for name in STRATEGIES}
    scores = {name: score(labels, given) for name, given in probabilities.items()}
    cost = None
    if len(labels) >= MIN_DECISIONS:
        overlap, seed = recipe.window.horizon_bars, recipe.training.seed
        block = paired_block_bars(len(labels), overlap)
        cost = paired_difference(
            labels, probabilities["never promoting"], probabilities["replayed"], seed, block, overlap
        )
    return ReplaySummary(workspace.name, first, last, rows, scores, len(labels), cost)


def _scored_decisions(
    workspace: Workspace, recipe: Recipe, bars: Bars, rows: Sequence[LoggedDecision], never: str | None
) -> dict[str, np.ndarray]:
    """Return labels and each strategy's probabilities on the decisions that all three made and that resolved."""
    windows = cut_windows(bars, recipe.window.model_copy(update={"stride_bars": 1})).resolved()
    outcome = dict(zip(to_datetimes(windows.decided_at), windows.labels.tolist(), strict=True))
    stored = {
        (moment, version): probability
        for frame in (each.read(workspace.name) for each in (workspace.shadow_log, workspace.prediction_log))
        for moment, version, probability in zip(
            to_datetimes(column_times(frame["decided_at"])), frame["version"], frame["probability"], strict=True
        )
    }
    found: dict[str, list[float]] = {name: [] for name in ("labels", *STRATEGIES)}
    for moment, label in outcome.items():
        row = _row_of(rows, moment)
        if row is None:
            continue
        versions = (row.champion_after, never, row.version)
        given = [stored.get((moment, version)) for version in versions if version is not None]
        if len(given) < len(versions) or any(each is None for each in given):
            continue
        found["labels"].append(float(label))
        for name, each in zip(STRATEGIES, given, strict=True):
            found[name].append(float(each))  # type: ignore[arg-type]  # None was skipped above
    return {name: np.array(values, dtype=np.float64) for name, values in found.items()}


def _row_of(rows: Sequence[LoggedDecision], moment: datetime) -> LoggedDecision | None:
    """Return the decision that was in force before a moment, until the next day's."""
    for row in rows:
        if row.decided_at < moment <= row.decided_at + DAY:
            return row
    return None
