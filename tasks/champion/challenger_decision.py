"""Decide about a challenger: compare it with the champion, commit the decision, log it to MLflow.

Another decision may be committed in between; the challenger is then compared with the new champion. A challenger that
fails its smoke test is rejected and the champion stays.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from model.bars import PANEL, Series
from model.errors import UnsoundModel
from model.metrics import METRIC_NAMES
from model.promotion_rule import PromotionRule
from tasks.champion.challenger_vs_champion import AnyBars, GateResult, compare_with_champion
from tasks.champion.commit_decision import ChampionState, commit_decision, sync_champion_alias, timeline_steps
from tasks.champion.promotion_summary import what_to_do
from tasks.registry.experiment_page import NOTE_TAG, decision_tags
from tasks.registry.mlflow_run_names import DONE, decided_name
from tasks.registry.model_registry import Version
from tasks.registry.run_artifacts import picture_path
from tasks.registry.run_metrics import decision_metrics
from tasks.store.bars_ref import AnyBarsRef, PanelBarsRef
from tasks.store.decision_log import ChampionChanged, LoggedDecision
from tasks.store.panel_bars import read_panel
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

MAX_COMPARISONS = 5  # own choice: up to four decisions of others may be committed first


def decide_on_challenger(
    workspace: Workspace,
    challenger: Version,
    rule: PromotionRule,
    ref: AnyBarsRef,
    seed: int,
    on_broken_champion: Callable[[GateResult, ChampionState], None] = lambda _result, _state: None,
) -> LoggedDecision:
    """Compare a challenger with the champion and commit the decision.

    Args:
        workspace: registry, runs, bars and decision log.
        challenger: the registered version.
        rule: what it must show.
        ref: the bars that it was trained on.
        seed: of the bootstrap.
        on_broken_champion: called where the champion cannot be loaded.

    Raises:
        ChampionChanged: another decision was committed first, `MAX_COMPARISONS` times.
    """
    bars, attempt = _read(workspace, ref), 1
    while True:
        state = sync_champion_alias(workspace)
        result = compare_with_champion(workspace, challenger, state, bars, rule, seed)
        if result.problem:
            on_broken_champion(result, state)
        row = logged_decision(workspace, challenger, state, result, rule, ref)
        try:
            return _commit_or_reject(workspace, row)
        except ChampionChanged as changed:
            log.warning("%s", changed)
            if attempt == MAX_COMPARISONS:
                raise
            attempt += 1


def _read(workspace: Workspace, ref: AnyBarsRef) -> AnyBars:
    store = workspace.bar_store
    return read_panel(store, ref) if isinstance(ref, PanelBarsRef) else store.read_bars(ref)


def logged_decision(
    workspace: Workspace,
    challenger: Version,
    state: ChampionState,
    result: GateResult,
    rule: PromotionRule,
    ref: AnyBarsRef,
) -> LoggedDecision:
    """Return the decision log's row for the result of a comparison, decided now; its id is the challenger's run."""
    decision, series = result.decision, workspace.runs.series
    return LoggedDecision(
        decision_id=challenger.run_id,
        decided_at=datetime.now(UTC),
        series_name=workspace.name,
        symbol=series.symbol,
        interval=series.interval,
        action=decision.action,
        version=challenger.version,
        champion_before=state.number,
        champion_after=challenger.version if decision.action == "promote" else state.number,
        reasons=result.reasons,
        marks=result.marks,
        numbers=decision.numbers,
        run_id=challenger.run_id,
        bars_version=ref.version,
        bars_sha256=ref.sha256,
        rule=rule.kind,
    )


def log_decision(workspace: Workspace, row: LoggedDecision, challenger: Version, closed_at: datetime) -> None:
    """Log a decision to the challenger's run, with the timeline of champions, and to the pages of the versions.

    Args:
        workspace: runs, registry and decision log.
        row: the decision.
        challenger: the version that it is about.
        closed_at: close of the newest bar, for the name of the run.
    """
    from model.champion_timeline_picture import champion_history_picture  # imported here: matplotlib takes a second

    description = describe_decision(row, challenger)
    workspace.runs.log_values(row.run_id, tags={"reasons": "\n".join(row.reasons), NOTE_TAG: description})
    log_outcome(workspace, row, closed_at)
    workspace.registry.describe(row.version, description)
    if row.action == "promote" and row.champion_before not in (None, row.version):
        note = f"{row.decided_at:%Y-%m-%d %H:%M} UTC: replaced as champion by version {row.version}"
        workspace.registry.append_note(str(row.champion_before), note)
    picture = champion_history_picture(timeline_steps(workspace.decision_log.rows(workspace.name)))
    workspace.runs.log_figure(row.run_id, picture, picture_path("champion_history"))


def log_outcome(workspace: Workspace, row: LoggedDecision, closed_at: datetime) -> None:
    """Log the numbers of a decision to its run, and name the run after it."""
    workspace.runs.log_values(row.run_id, decision_metrics(row.action, row.numbers), tags=decision_tags(row))
    name_decided_run(workspace, row.run_id, row, closed_at)


def name_decided_run(workspace: Workspace, run_id: str, row: LoggedDecision, closed_at: datetime) -> None:
    """Name a run after a decision, of a panel with its label; see `decided_name`."""
    label = workspace.runs.run_params(run_id).get("panel.label", "") if row.symbol == PANEL else ""
    workspace.runs.rename_run(run_id, decided_name(closed_at, row.version, row.action, label))


def describe_decision(row: LoggedDecision, challenger: Version) -> str:
    """Return the description of a version for its page in the registry."""
    known = {METRIC_NAMES.get(name, name): each for name, each in challenger.metrics.items() if not math.isnan(each)}
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in known.items())
    reasons = "\n".join(f"- {f'{mark}: ' if mark else ''}{reason}" for mark, reason in row.marked_reasons())
    to_do = what_to_do(row.action, row.marks, row.version, Series(row.symbol, row.interval))
    parts = (
        f"{DONE[row.action]} on {row.decided_at:%Y-%m-%d %H:%M} UTC",
        reasons,
        f"What to do: {to_do}" if to_do else "",
        f"Trained until {challenger.trained_until:%Y-%m-%d %H:%M} UTC. Out of sample: {numbers}.",
    )
    return "\n\n".join(filter(None, parts))


def _commit_or_reject(workspace: Workspace, row: LoggedDecision) -> LoggedDecision:
    """Commit a decision; where the challenger fails its smoke test, commit its rejection instead."""
    try:
        commit_decision(workspace, row)
    except UnsoundModel as error:
        log.error("%s: challenger version %s fails its smoke test: %s", workspace.name, row.version, error)  # noqa: TRY400
        reasons = (f"fails its smoke test: {error}", *row.reasons)
        row = replace(row, action="reject", champion_after=row.champion_before, reasons=reasons)
        commit_decision(workspace, row)
    return row
