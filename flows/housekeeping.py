"""Housekeeping: end the runs of killed processes, and delete what exceeds the retention."""

from prefect import flow

from tasks.housekeeping import run_housekeeping
from tasks.pages.prefect_artifacts import shown
from tasks.repair.retention_spec import RetentionSpec
from tasks.results import Housekeeping
from tasks.services.flow_run_names import flow_run_name
from tasks.services.prefect_run_page import readable

HOUR = 3600


@flow(name="housekeeping", flow_run_name=flow_run_name, timeout_seconds=HOUR)
@readable
def housekeeping(retention: RetentionSpec = RetentionSpec()) -> Housekeeping:
    """Delete old versions, runs of folds, reports, logs and table files; champions and the decision log stay.

    Args:
        retention: What is kept, and how long.
    """
    with shown("housekeeping"):
        return run_housekeeping(retention)
