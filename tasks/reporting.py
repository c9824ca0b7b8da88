"""Write the report of a retrain as one HTML page: to the home, where a browser opens it, and to its MLflow run."""

from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact

from model.baseline_comparison import comparison_metrics
from model.recipe import Recipe
from tasks.console.progress import current_progress
from tasks.pages.report_gathering import gather_report
from tasks.pages.retrain_report import report_page
from tasks.registry.run_artifacts import REPORT, log_artifacts
from tasks.results import FoldOutcome, Retrain
from tasks.workspace import open_workspace


@task(name="report")
def report(result: Retrain, recipe: Recipe, folds: list[FoldOutcome]) -> str:
    """Write the report of a retrain, log it to the run, link it in Prefect; return its path."""
    with current_progress().step("report"):
        workspace = open_workspace(recipe.series)
        settings = workspace.settings
        content = gather_report(result, recipe, folds, workspace)
        text = report_page(content)
        path = settings.report_path(workspace.name, f"{result.run_id}.html")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        log_artifacts(workspace.runs, result.run_id, {REPORT: text.encode()})
        if content.champion is not None:
            workspace.runs.log_values(result.run_id, metrics=comparison_metrics("champion", content.champion))
        link = settings.link(path)
        create_link_artifact(link, link_text="the report", key="report", description=f"[the report]({link})")
        get_run_logger().info("report: %s", path)
    return str(path)
