"""Write the report of a retrain of a panel as one HTML page: to the home, and to its MLflow run."""

from prefect import get_run_logger, task

from model.panel_recipe import PanelRecipe
from model.scores_by_period import periods_by_fold, periods_by_year
from tasks.champion.live_comparison import compare_live_panel
from tasks.champion.unchanged_inputs import REPORTED
from tasks.console.progress import current_progress
from tasks.pages.local_paths import hide_local_paths
from tasks.pages.panel_report import PanelReportContent, panel_report_page
from tasks.pages.prefect_artifacts import show_links
from tasks.pages.report_gathering import lineage
from tasks.pages.written_pages import write_report
from tasks.registry.run_artifacts import read_evaluation
from tasks.reporting import log_live
from tasks.results import FoldOutcome, PanelRetrain
from tasks.store.decision_log import mark_reasons
from tasks.workspace import Workspace, open_workspace


@task(name="report", task_run_name="report")
def report_panel(result: PanelRetrain, recipe: PanelRecipe, folds: list[FoldOutcome]) -> str:
    """Write the report of a retrain of a panel, log it to the run, link it in Prefect; return its path."""
    with current_progress().step("report"):
        workspace = open_workspace(recipe.series)
        settings = workspace.settings
        content = _gather(result, recipe, folds, workspace)
        text = hide_local_paths(panel_report_page(content), settings)
        path = write_report(workspace, result.run_id, text)
        log_live(workspace, result.run_id, content.live)
        link = settings.link(path)
        workspace.runs.log_values(result.run_id, tags={REPORTED: link})
        show_links({"Report": link})
        get_run_logger().info("report: %s", path)
    return str(path)


def _gather(
    result: PanelRetrain, recipe: PanelRecipe, folds: list[FoldOutcome], workspace: Workspace
) -> PanelReportContent:
    """Return the content of the report, from the results and their run."""
    promotion, number = result.promotion, result.version.version
    params, tags = workspace.runs.run_values(result.run_id)
    decision = workspace.decision_log.find_decision(result.run_id)
    record, base_rate = read_evaluation(workspace.runs, result.run_id)
    seed = recipe.training.seed
    return PanelReportContent(
        version=number,
        action=promotion.action,
        reasons=mark_reasons(promotion.reasons, promotion.marks),
        champions=(promotion.champion_before or "none", promotion.champion_after or "none"),
        decided_at=f"{decision.decided_at:%Y-%m-%d %H:%M} UTC" if decision else "",
        recipe=recipe,
        found=result.evaluation,
        record=record,
        periods=(*periods_by_fold(record, base_rate, seed), *periods_by_year(record, base_rate, seed)),
        histories=[workspace.runs.read_curves(fold.run_id) for fold in folds],
        lineage=lineage(result, recipe, f"{workspace.name} version {number}", params, tags),
        links={"MLflow run": workspace.runs.run_link(result.run_id)},
        live=compare_live_panel(workspace, promotion.champion_after, result.windows.bars.closed_at, seed),
    )
