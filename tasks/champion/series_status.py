"""Status of a series: champion, challenger, bars, the last decisions. `series_health.py` says whether all is well."""

from typing import Any

from model.bars import Series
from tasks.champion.commit_decision import sync_champion_alias
from tasks.settings import Settings
from tasks.workspace import Workspace

LAST_DECISIONS = 5


def series_status(series: Series, settings: Settings) -> dict[str, Any]:
    """Return champion and challenger (None where there is none), bars, and the last decisions, newest last.

    An alias that a crash left out of date is corrected first; `problem` says what could not be corrected.
    """
    workspace = Workspace(settings, series)
    state, challenger = sync_champion_alias(workspace), workspace.registry.aliased("challenger")
    summary = workspace.bar_store.summary(series)
    bars = {"symbol": series.symbol, "interval": series.interval, "rows": 0, "first": None, "last": None}
    rows = workspace.decision_log.rows(series.name, last=LAST_DECISIONS)
    return {
        "series": series.name,
        "champion": state.version.summary() if state.version else None,
        "problem": state.problem,
        "challenger": challenger.summary() if challenger else None,
        "bars": summary.to_dict() if summary else bars,
        "decisions": [row.to_dict() for row in rows],
    }
