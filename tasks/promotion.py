"""Promotion as a task: a decision about the challenger, made real, shown, and told where somebody listens.

How it is judged stands in `tasks/champion/challenger_vs_champion.py`, how a decision becomes alias and ledger row in `tasks/champion/commit_decision.py`.
A retry of this task finds its own decision in the ledger and repeats nothing.
"""

import logging
from dataclasses import replace
from datetime import UTC, datetime

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from model.errors import UnsoundModel
from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from tasks.champion.challenger_vs_champion import GateResult, compare_with_champion
from tasks.champion.commit_decision import ChampionState, commit_decision, sync_champion_alias, timeline_steps
from tasks.console.progress import current_progress
from tasks.registry.model_registry import Version
from tasks.registry.run_artifacts import picture_path
from tasks.results import Promotion, WindowsRef
from tasks.services.events import decision_event, emit_event_for
from tasks.settings import Settings
from tasks.store.decision_log import ChampionChanged, LoggedDecision
from tasks.workspace import Workspace, open_workspace

log = logging.getLogger(__name__)

ATTEMPTS = 5  # decisions of others that may come first before this one gives up


@task(name="promote")
def promote(ref: WindowsRef, recipe: Recipe, challenger: Version, rule: PromotionRule, run_id: str) -> Promotion:
    """Decide about the challenger, write the ledger, let the alias follow, and show the decision."""
    run = current_progress()
    with run.step("promote"):
        workspace = open_workspace(recipe.series)
        row = workspace.decision_log.find_decision(run_id) or _decide(
            workspace, ref, challenger, rule, recipe.training.seed
        )
        sync_champion_alias(workspace)
        show_decision(workspace, row, challenger)
        message = f"{row.action} version {row.version}: {row.reasons[0]}"
        emit_event_for(
            decision_event(row.action), workspace.name, message, version=row.version, champion=row.champion_after
        )
        get_run_logger().info("%s version %s: %s", row.action, row.version, "; ".join(row.reasons))
        settings = Settings()
        report = settings.link(settings.report_path(workspace.name, f"{run_id}.html"))
        page = decision_page(row, challenger, workspace.runs.run_link(run_id), report)
        create_markdown_artifact(page, key="decision", description="What was decided")
    numbers = {name: value for name, value in row.numbers.items() if value is not None}
    return Promotion(row.action, row.reasons, numbers, row.champion_before, row.champion_after)


def _decide(
    workspace: Workspace, ref: WindowsRef, challenger: Version, rule: PromotionRule, seed: int
) -> LoggedDecision:
    """Judge the challenger and commit the decision; again where another decision came first.

    Raises:
        ChampionChanged: others came first every time.
    """
    bars = open_workspace().bar_store.read_bars(ref.bars)
    for attempt in range(1, ATTEMPTS + 1):
        state = sync_champion_alias(workspace)
        judgement = compare_with_champion(workspace, challenger, state, bars, rule, seed)
        if judgement.problem:
            emit_event_for("riseorfall.champion.found-broken", workspace.name, judgement.problem, version=state.number)
        row = _row(workspace, ref, challenger, rule, state, judgement)
        try:
            return _committed(workspace, row)
        except ChampionChanged as changed:
            log.warning("%s", changed)
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _row(
    workspace: Workspace,
    ref: WindowsRef,
    challenger: Version,
    rule: PromotionRule,
    state: ChampionState,
    judgement: GateResult,
) -> LoggedDecision:
    decision, series = judgement.decision, workspace.runs.series
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
        reasons=judgement.reasons,
        numbers=decision.numbers,
        run_id=challenger.run_id,
        bars_version=ref.bars.version,
        bars_sha256=ref.bars.sha256,
        rule=rule.kind,
    )


def _committed(workspace: Workspace, row: LoggedDecision) -> LoggedDecision:
    """Enact a decision; a challenger that cannot be served after all is rejected, and the champion stays."""
    try:
        commit_decision(workspace, row)
    except UnsoundModel as error:
        log.error("%s: challenger version %s fails its smoke test: %s", workspace.name, row.version, error)  # noqa: TRY400
        reasons = (f"unsound: {error}", *row.reasons)
        row = replace(row, action="reject", champion_after=row.champion_before, reasons=reasons)
        commit_decision(workspace, row)
    return row


def show_decision(workspace: Workspace, row: LoggedDecision, challenger: Version) -> None:
    """Log a decision to the challenger's run, with the champion's history as a picture, and to its version's page."""
    workspace.runs.log_values(
        row.run_id,
        metrics={f"decision.{name}": value for name, value in row.numbers.items() if value is not None},
        tags={
            "decision": row.action,
            "version": row.version,
            "reasons": "\n".join(row.reasons),
            "mlflow.note.content": describe(row, challenger),
        },
    )
    from model.champion_timeline_picture import champion_history_picture  # here: matplotlib takes a second

    workspace.registry.describe(row.version, describe(row, challenger))
    workspace.runs.log_figure(
        row.run_id,
        champion_history_picture(timeline_steps(workspace.decision_log.rows(workspace.name))),
        picture_path("champion_history"),
    )


def describe(row: LoggedDecision, challenger: Version) -> str:
    """Word what a version's page in the registry should say."""
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in challenger.metrics.items())
    return (
        f"{row.action}: {'; '.join(row.reasons)}\n\nTrained until {challenger.trained_until}. Unseen bars: {numbers}."
    )


def decision_page(row: LoggedDecision, challenger: Version, link: str, report: str) -> str:
    """Word a decision as markdown."""
    numbers = "\n".join(f"| {name} | {value:.4f} |" for name, value in challenger.metrics.items())
    reasons = "\n".join(f"- {reason}" for reason in row.reasons)
    return (
        f"# {row.action} version {row.version} of {row.series_name}\n\n{reasons}\n\n"
        f"Champion before: {row.champion_before or 'none'}, now: {row.champion_after or 'none'}.\n\n"
        f"| on unseen bars | |\n|---|---|\n{numbers}\n\n[Report]({report}) (written next), [MLflow run]({link})\n"
    )
