"""Promote: decide about the challenger, log the decision, emit its event, show it in Prefect.

`decide_on_challenger` compares the challenger with the champion by the rule and commits promote, hold or reject; a
challenger that fails a clause is held, one that cannot be served is rejected. A store that cannot be reached ends the
run without a decision, and so do files that are not those of the decision log. A retry finds its own decision in the
decision log and commits nothing again.
"""

from prefect import get_run_logger, task

from model.errors import UntrustedModel
from model.metrics import METRIC_NAMES
from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from tasks.champion.challenger_decision import decide_on_challenger, log_decision
from tasks.champion.challenger_vs_champion import GateResult
from tasks.champion.commit_decision import ChampionState, sync_champion_alias
from tasks.champion.promotion_summary import deciding_reason
from tasks.console.progress import current_progress
from tasks.pages.number_format import number_text
from tasks.pages.prefect_artifacts import OUTCOMES, decision_page, show_page
from tasks.registry.model_registry import Version
from tasks.results import Promotion, WindowsRef
from tasks.services.events import decision_event, emit_event_for
from tasks.store.decision_log import LoggedDecision
from tasks.workspace import open_workspace


@task(name="promote", task_run_name="promote")
def promote(ref: WindowsRef, recipe: Recipe, challenger: Version, rule: PromotionRule, run_id: str) -> Promotion:
    """Decide about the challenger by its rule, and show the decision."""
    with current_progress().step("promote"):
        workspace = open_workspace(recipe.series)

        def report_broken_champion(result: GateResult, state: ChampionState) -> None:
            emit_event_for("riseorfall.champion.found-broken", workspace.name, result.problem, version=state.number)

        try:
            row = workspace.decision_log.find_decision(run_id) or decide_on_challenger(
                workspace, challenger, rule, ref.bars, recipe.training.seed, report_broken_champion
            )
        except UntrustedModel as error:
            emit_event_for("riseorfall.champion.found-broken", workspace.name, str(error))
            raise
        sync_champion_alias(workspace)
        log_decision(workspace, row, challenger, ref.bars.closed_at)
        message = f"{row.action} version {row.version}: {row.reasons[0]}"
        emit_event_for(
            decision_event(row.action), workspace.name, message, version=row.version, champion=row.champion_after
        )
        get_run_logger().info("%s version %s: %s", row.action, row.version, "; ".join(row.reasons))
        report = workspace.settings.link(workspace.settings.report_path(workspace.name, run_id))
        page = _decision_page(row, challenger, workspace.runs.run_link(run_id), report)
        show_page("decision", page, f"{OUTCOMES[row.action]}: {deciding_reason(row.reasons, row.marks)}")
    numbers = {name: value for name, value in row.numbers.items() if value is not None}
    return Promotion(row.action, row.reasons, numbers, row.champion_before, row.champion_after, row.marks)


def _decision_page(row: LoggedDecision, challenger: Version, link: str, report: str) -> str:
    """Return a decision as Markdown, with the scores of the version and where to read on."""
    scores = {METRIC_NAMES.get(name, name): number_text(each, ".4f") for name, each in challenger.metrics.items()}
    numbers = "\n".join(f"| {name} | {text} |" for name, text in scores.items())
    return (
        f"{decision_page(row)}\n| out of sample | |\n|---|---|\n{numbers}\n\n"
        f"[Report]({report}) (written by the task `report`), [MLflow run]({link})\n"
    )
