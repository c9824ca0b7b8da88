"""Ask a person before the champion changes: the run pauses, its page shows the decision and a form to answer it.

The run keeps its place among those that `up` runs at a time until it is answered, or nobody has answered for
`PATIENCE_SECONDS`. Nothing is committed here.
"""

from dataclasses import replace
from datetime import UTC, datetime

from prefect import get_run_logger
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import ConfigDict, Field

from model.errors import RiseOrFallError
from tasks.pages.prefect_artifacts import show_page
from tasks.store.decision_log import LoggedDecision

PATIENCE_SECONDS, POLL_SECONDS = 8 * 3600, 5


class Approval(RunInput):
    """Answer of the person who approves or declines."""

    model_config = ConfigDict(title="Approval")

    approve: bool = Field(default=False, description="Make this version the champion")
    comment: str = Field(default="", description="Comment, for the decision log")


def ask_for_approval(row: LoggedDecision) -> LoggedDecision | None:
    """Pause the flow run until a person answers; return the decision, dated now, with the comment, or None if declined.

    Args:
        row: a planned decision that promotes a version.

    Raises:
        RiseOrFallError: nobody answered in time.
    """
    reasons = "\n".join(f"- {reason}" for reason in row.reasons)
    question = f"Make version {row.version} the champion, in place of {row.champion_before or 'none'}?\n\n{reasons}"
    title = f"# Proposed: version {row.version} of {row.series_name}"
    show_page("proposed-decision", f"{title}\n\n{question}\n\nTo answer: Resume.\n", "Waits for approval")
    get_run_logger().info("waits for approval: Resume, a button in the V1 UI, in the menu at the top right in V2")
    try:
        answer = pause_flow_run(
            wait_for_input=Approval.with_initial_data(description=question, approve=False, comment=""),
            timeout=PATIENCE_SECONDS,
            poll_interval=POLL_SECONDS,
            key="approval",
        )
    except FlowPauseTimeout as error:
        raise RiseOrFallError(
            f"{row.series_name}: expected an approval within {PATIENCE_SECONDS // 3600} hours, found none; the "
            "champion has not changed. Start the run again."
        ) from error
    get_run_logger().info("%s: %s", "approved" if answer.approve else "declined", answer.comment or "no comment")
    if not answer.approve:
        return None
    approved = f"approved: {answer.comment}" if answer.comment else "approved"
    return replace(row, decided_at=datetime.now(UTC), reasons=(*row.reasons, approved))
