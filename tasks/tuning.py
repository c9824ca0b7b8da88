"""Search for a better recipe; the work is `tasks/champion/hyperparameter_search.py`'s."""

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from model.recipe import Recipe
from model.search_space import TuneSpec
from tasks.champion.hyperparameter_search import RecipeSearch, SearchResult
from tasks.console.progress import current_progress


@task(name="search")
def search(recipe: Recipe, spec: TuneSpec) -> SearchResult:
    """Run the remaining trials, and show the best recipe."""
    run = current_progress()
    with run.step("search"):
        found = RecipeSearch(recipe, spec, report_line=run.report_line).search()
    for line in found.lines():
        get_run_logger().info("%s", line)
    page = "\n\n".join(found.lines())
    create_markdown_artifact(f"# {found.study}\n\n{page}\n", key="tune", description="Result of a search")
    return found
