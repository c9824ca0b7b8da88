"""Find an earlier decision on the same bars, recipe, rule and code; then there is nothing to train.

What counts as the same, and when a decision is not repeated (a rejection, a changed champion, unreadable files), is
decided in `tasks/champion/unchanged_inputs.py`. Here the repetition is logged as `unchanged`, its event emitted and
shown in Prefect. Caution: another decision may be committed in the meantime; then the evidence is not the same, and the
retrain goes on.
"""

from datetime import UTC, datetime

from prefect import get_run_logger, task

from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from tasks.champion.challenger_decision import name_decided_run
from tasks.champion.commit_decision import commit_decision
from tasks.champion.unchanged_inputs import evidence_digest, find_repeated_decision, unchanged_row
from tasks.console.progress import current_progress
from tasks.pages.prefect_artifacts import show_page
from tasks.registry.experiment_page import NOTE_TAG, decision_tags
from tasks.results import Promotion
from tasks.services.events import decision_event, emit_event_for
from tasks.store.bars_ref import AnyBarsRef
from tasks.store.decision_log import ChampionChanged
from tasks.workspace import open_workspace


@task(name="find earlier decision", task_run_name="find earlier decision")
def find_earlier_decision(ref: AnyBarsRef, recipe: Recipe, rule: PromotionRule, run_id: str) -> Promotion | None:
    """Log and return the decision that a retrain would repeat; None where there is something to train.

    Args:
        ref: the stored bars, of a series or a panel.
        recipe: what would be trained.
        rule: what it would have to show.
        run_id: MLflow run of this retrain.
    """
    with current_progress().step("find earlier decision"):
        workspace = open_workspace(recipe.series)
        earlier = find_repeated_decision(workspace, evidence_digest(ref.sha256, recipe, rule))
        if earlier is None:
            return None
        row = unchanged_row(earlier, run_id, datetime.now(UTC))
        try:
            commit_decision(workspace, row)
        except ChampionChanged as changed:
            get_run_logger().warning("%s", changed)
            return None
        force = "To retrain all the same, add `--force` to the command, or choose `force` in the form `retrain`."
        message = f"{row.reasons[0]}. {force}"
        tags = {**decision_tags(row), "reasons": message, NOTE_TAG: message}
        workspace.runs.log_values(run_id, tags=tags)
        name_decided_run(workspace, run_id, row, ref.closed_at)
        emit_event_for(
            decision_event(row.action), workspace.name, message, version=row.version, champion=row.champion_after
        )
        get_run_logger().info("%s", message)
        show_page("decision", f"# Unchanged\n\n{message}\n", "Nothing to do")
    return Promotion(row.action, (row.reasons[0], force), {}, row.champion_before, row.champion_after)
