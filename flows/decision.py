"""Show a decision that a person made in a shell: a run with the decision as its result, and its event.

The decision is committed before this runs; nothing is decided here.
"""

from prefect import flow

from tasks.pages.prefect_artifacts import show_manual_decision
from tasks.services.events import announce
from tasks.services.prefect_run_page import readable
from tasks.store.decision_log import LoggedDecision


@flow(name="decision by hand", flow_run_name="{row.action} version {row.version} of {row.series_name}",
      validate_parameters=False)  # fmt: skip
@readable
def decision(row: LoggedDecision) -> LoggedDecision:
    """Show a committed decision, and return it.

    Args:
        row: As committed.
    """
    show_manual_decision(row)
    announce(row)
    return row
