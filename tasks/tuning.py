"""Search for a better recipe; the work is `tasks/champion/hyperparameter_search.py`'s."""

from collections.abc import Callable

from prefect import get_run_logger, task

from model.recipe import Recipe
from model.search_space import TuneSpec
from tasks.champion.hyperparameter_search import RecipeSearch, SearchResult
from tasks.console.progress import current_progress
from tasks.pages.prefect_artifacts import show_page


@task(name="search", task_run_name="search")
def search(recipe: Recipe, spec: TuneSpec) -> SearchResult:
    """Run the remaining trials, and show the best recipe."""
    run = current_progress()
    with run.step("search"):
        searched = RecipeSearch(recipe, spec, report_line=run.report_line)
        found = searched.search()
    for line in found.lines():
        get_run_logger().info("%s", line)
    show_page("tune", _page(found, searched.workspace.runs.run_link), "Result of a search, and its trials")
    return found


def _page(found: SearchResult, link_of: Callable[[str], str]) -> str:
    """Return the result as Markdown: the best recipe, then every trial with its MLflow run, best first."""
    names = list(found.values)
    rows = [
        f"| [{each.number}]({link_of(each.run_id)}) | {each.log_loss:.4f} | "
        + " | ".join(str(each.values.get(name, "")) for name in names)
        + " |"
        for each in found.scored
    ]
    head = ["trial", "log loss", *names]
    table = "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows])
    lines = [f"# {found.study}", *found.lines(), f"[MLflow run of the search]({link_of(found.run_id)})", table]
    return "\n\n".join(lines) + "\n"
