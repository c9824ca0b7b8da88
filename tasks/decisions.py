"""A decision made real: the alias `champion` and the ledger change together, or not at all. Plain; no Prefect."""

from tasks.ledger import Ledger, LedgerRow
from tasks.tracking import Tracking


def enact(tracking: Tracking, ledger: Ledger, row: LedgerRow) -> None:
    """Let the alias `champion` follow a decision and write it down; if it cannot be written, the alias goes back."""
    changed = row.champion_after is not None and row.champion_after != row.champion_before
    if changed and row.champion_after is not None:
        tracking.set_alias("champion", row.champion_after)
    try:
        ledger.append(row)
    except BaseException:
        if changed and row.champion_before is not None:
            tracking.set_alias("champion", row.champion_before)
        elif changed:
            tracking.drop_alias("champion")
        raise
