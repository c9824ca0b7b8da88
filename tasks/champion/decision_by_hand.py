"""What manual decisions share: the row of a decision about a version, the notes on its pages, and a refusal."""

import getpass
import uuid
from datetime import UTC, datetime

from model.bars import Series
from model.errors import SpecError
from tasks.champion.commit_decision import ChampionState
from tasks.registry.model_registry import Version
from tasks.store.decision_log import DecisionLog, LoggedDecision
from tasks.workspace import Workspace


def row_about(series: Series, version: Version, state: ChampionState, log: DecisionLog) -> LoggedDecision:
    """Return a decision that promotes a version, with the bars that it was trained on."""
    earlier = next((row for row in reversed(log.rows(series.name)) if row.run_id == version.run_id), None)
    return LoggedDecision(
        decision_id=uuid.uuid4().hex,
        decided_at=datetime.now(UTC),
        series_name=series.name,
        symbol=series.symbol,
        interval=series.interval,
        action="promote",
        version=version.version,
        champion_before=state.number,
        champion_after=version.version,
        run_id=version.run_id,
        bars_version=-1 if version.bars_version is None else version.bars_version,
        bars_sha256=earlier.bars_sha256 if earlier else version.tags.get("bars_sha256", ""),
    )


def note_by_person(workspace: Workspace, version: str, row: LoggedDecision, what: str) -> None:
    """Append what a person did to the pages of a version and of its run in MLflow, and to the name of the run."""
    reason = f": {row.forced_reason}" if row.forced_reason else ""
    text = f"{row.decided_at:%Y-%m-%d %H:%M} UTC, {getpass.getuser()}: {what}{reason}"
    workspace.registry.append_note(version, text)
    workspace.registry.note_on_run(version, workspace.decision_log.rows(workspace.name), text)


def require_other(workspace: Workspace, state: ChampionState, version: Version) -> None:
    """Raise SpecError if the version already is the champion."""
    if version.version == state.number:
        raise SpecError(
            f"{workspace.name}: version {version.version} is already the champion. "
            f"`riseorfall decisions{workspace.series_flags}` shows the others."
        )
