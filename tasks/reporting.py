"""Write the report of a retrain as one HTML page: to the home, where a browser opens it, and to its MLflow run.

`gather_report` reads what the steps stored, `report_page` turns it into HTML. The decision is committed by then and
does not depend on it. The tag `report` is a retrain's last mark: without it the next retrain repeats no decision.
"""

import json
from collections.abc import Sequence

from prefect import get_run_logger, task

from model.recipe import Recipe
from tasks.champion.live_comparison import LiveComparison
from tasks.champion.unchanged_inputs import REPORTED
from tasks.console.progress import current_progress
from tasks.pages.local_paths import hide_local_paths
from tasks.pages.prefect_artifacts import show_links
from tasks.pages.report_gathering import gather_report
from tasks.pages.retrain_report import report_page
from tasks.pages.written_pages import write_report
from tasks.registry.metric_names import LIVE
from tasks.registry.run_artifacts import LIVE_PREDICTIONS, log_artifacts
from tasks.results import FoldOutcome, Retrain
from tasks.workspace import Workspace, open_workspace


@task(name="report", task_run_name="report")
def report(result: Retrain, recipe: Recipe, folds: list[FoldOutcome]) -> str:
    """Write the report of a retrain, log it to the run, link it in Prefect; return its path."""
    with current_progress().step("report"):
        workspace = open_workspace(recipe.series)
        settings = workspace.settings
        content = gather_report(result, recipe, folds, workspace)
        text = hide_local_paths(report_page(content), settings)
        path = write_report(workspace, result.run_id, text)
        log_live(workspace, result.run_id, content.live)
        link = settings.link(path)
        workspace.runs.log_values(result.run_id, tags={REPORTED: link})
        show_links({"Report": link})
        get_run_logger().info("report: %s", path)
    return str(path)


def log_live(workspace: Workspace, run_id: str, live: Sequence[LiveComparison]) -> None:
    """Log champion and shadows on live decisions: all as a file, the champion's numbers as metrics."""
    if not live:
        return
    log_artifacts(workspace.runs, run_id, {LIVE_PREDICTIONS: json.dumps([each.to_dict() for each in live]).encode()})
    champion = {name: getattr(each, name) for each in live if each.champion for name in LIVE}
    metrics = {f"live/champion_{name}": float(value) for name, value in champion.items() if value is not None}
    workspace.runs.log_values(run_id, metrics=metrics)
