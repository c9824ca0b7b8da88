"""Housekeeping: end the runs of killed processes, and delete what the home does not keep."""

from prefect import flow

from tasks.housekeeping import Housekeeping, run_housekeeping
from tasks.pages.prefect_artifacts import shown
from tasks.repair.retention_spec import RetentionSpec

HOUR = 3600


@flow(name="housekeeping", timeout_seconds=HOUR)
def housekeeping(retention: RetentionSpec = RetentionSpec()) -> Housekeeping:
    """Delete old versions, runs of folds, reports, logs and table files; champions and the decision log stay.

    Args:
        retention: What is kept, and how long.
    """
    with shown("housekeeping"):
        return run_housekeeping(retention)
