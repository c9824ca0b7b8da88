"""Delete what exceeds the retention, and what killed runs left; show what was deleted in Prefect."""

from prefect import get_run_logger, task

from tasks.console.progress import current_progress
from tasks.pages.prefect_artifacts import show_table
from tasks.repair.retention import apply_removals, find_removals
from tasks.repair.retention_spec import RetentionSpec
from tasks.results import Housekeeping
from tasks.services.dead_runs import clean_up_after_dead_runs
from tasks.services.scheduled_runs import with_local_registry
from tasks.settings import Settings


@task(name="delete what exceeds the retention", task_run_name="delete what exceeds the retention")
def run_housekeeping(retention: RetentionSpec) -> Housekeeping:
    """End runs whose process is gone, delete what exceeds the retention, and show a table of it."""
    with current_progress().step("housekeeping"):
        settings = Settings()
        ended = clean_up_after_dead_runs(settings)
        removed = apply_removals(find_removals(with_local_registry(settings), retention))
        result = Housekeeping(tuple(ended), tuple(removed))
        show_table("housekeeping", result.rows(), f"{len(ended)} runs whose process was gone were ended. Deleted:")
        get_run_logger().info("%d runs whose process was gone were ended, %d removals", len(ended), len(removed))
        return result
