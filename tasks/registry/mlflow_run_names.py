"""Names of runs in MLflow: the newest close, version and decision, then what a person decided about the version later.

Names say what happened, because MLflow's table of runs shows no other column by default.
"""

import re
from collections.abc import Sequence
from datetime import datetime

from tasks.store.decision_log import LoggedDecision

SHORT_HASH = 12  # characters of a hash that a person sees; names of replays and searches contain it
DONE = {"promote": "promoted", "hold": "held", "reject": "rejected", "unchanged": "unchanged"}
LATER = {"promote": "promoted", "hold": "held again", "reject": "rejected", "lift": "hold lifted"}
FORCED = "promoted by force"
REPLACED = "rolled back"
RESTORED = "champion again"
LATER_ENDING = re.compile(f"(, ({'|'.join([*LATER.values(), FORCED, REPLACED, RESTORED])}))+$")


def as_of_text(closed_at: datetime) -> str:
    """Return the close of the newest bar as it stands in names: the date, with the time where it is not midnight."""
    return f"{closed_at:%Y-%m-%d}" if closed_at.strftime("%H:%M") == "00:00" else f"{closed_at:%Y-%m-%d %H:%M}"


def decided_name(closed_at: datetime, version: str, action: str, label: str = "") -> str:
    """Return the name of a run after its decision, such as `2019-10-17 v3 promoted`; of a panel with its label."""
    return " ".join(each for each in (as_of_text(closed_at), f"v{version}", label, DONE[action]) if each)


def later_outcomes(version: str, run_id: str, rows: Sequence[LoggedDecision]) -> tuple[str, ...]:
    """Return what people decided about a version, or let the rule decide, after the decision of its retrain.

    Args:
        version: number of the version.
        run_id: of its retrain; the first decision about this run is the retrain's own.
        rows: all decisions about the series, oldest first.

    Returns:
        Each outcome once, in the order in which it was decided last.
    """
    own = next((place for place, row in enumerate(rows) if row.is_about_challenger and row.run_id == run_id), -1)
    found = [outcome for row in rows[own + 1 :] if (outcome := _later_outcome(version, row))]
    return tuple(dict.fromkeys(found[::-1]))[::-1]


def _later_outcome(version: str, row: LoggedDecision) -> str:
    if row.action == "rollback":
        return {row.champion_before: REPLACED, row.version: RESTORED}.get(version, "")
    if row.version != version:
        return ""
    return FORCED if row.action == "promote" and row.forced else LATER.get(row.action, "")


def name_with_outcomes(name: str, outcomes: Sequence[str]) -> str:
    """Return the name of a run followed by later outcomes, in place of those that it has.

    >>> name_with_outcomes("2019-10-17 v3 promoted, rolled back", ("rolled back", "champion again"))
    '2019-10-17 v3 promoted, rolled back, champion again'
    """
    return ", ".join([LATER_ENDING.sub("", name), *outcomes])
