"""Manual decisions: roll back to a former champion, or promote a version; logged like every other decision.

A person may override the rule with a reason, which is marked in the decision log. No version becomes champion unless it
loads and predicts.
"""

import uuid
from dataclasses import replace
from datetime import UTC, datetime

from model.bars import Series
from model.errors import NoChampion, SpecError
from model.promotion_rule import PromotionRule
from tasks.champion.challenger_vs_champion import compare_with_champion
from tasks.champion.commit_decision import ChampionState, commit_decision, sync_champion_alias
from tasks.registry.model_registry import Version
from tasks.settings import Settings
from tasks.store.decision_log import DecisionLog, LoggedDecision
from tasks.workspace import Workspace


def roll_back(series: Series, settings: Settings, to: str = "", reason: str = "") -> LoggedDecision:
    """Make a former champion the champion again.

    Args:
        series: whose champion.
        settings: addresses of registry and decision log.
        to: the version; empty takes the champion before the current one.
        reason: why, for the decision log.

    Returns:
        The decision as logged.

    Raises:
        NoChampion: there is no champion, or none before it.
        SpecError: the version already is the champion.
        UnsoundModel: the version cannot be loaded; the champion stays.
        ChampionChanged: another decision was committed first.
    """
    workspace = Workspace(settings, series)
    state = sync_champion_alias(workspace)
    if state.number is None:
        state.require(series.name)
    version = workspace.registry.version(to or _former(workspace.decision_log, series, str(state.number)))
    _require_other(series, state, version)
    why = reason or f"rolled back from version {state.number}"
    row = replace(
        _row(series, version, state), action="rollback", reasons=(why,), rule="rollback", forced=True,
        forced_reason=reason,
    )  # fmt: skip
    commit_decision(workspace, row)
    return row


def promote_by_hand(
    series: Series,
    settings: Settings,
    version: str,
    rule: PromotionRule = PromotionRule(),
    *,
    force: bool = False,
    reason: str = "",
) -> LoggedDecision:
    """Decide on a registered version: by the rule on the newest bars, or by force with a reason.

    Args:
        series: whose champion.
        settings: addresses of registry, decision log and bars.
        version: number of the version.
        rule: what it must show, unless forced.
        force: promote it against the rule; it must still load and predict.
        reason: why, for the decision log.

    Returns:
        The decision as logged.

    Raises:
        SpecError: forced without a reason, or the version already is the champion.
        NoChampion: there is no such version.
        UnsoundModel: the version cannot be loaded; the champion stays.
        ChampionChanged: another decision was committed first.
    """
    if force and not reason.strip():
        raise SpecError(
            'promote: expected a reason with --force, found none. Give --reason "..."; it goes into the decision log.'
        )
    workspace = Workspace(settings, series)
    state, challenger = sync_champion_alias(workspace), workspace.registry.version(version)
    _require_other(series, state, challenger)
    row = replace(_row(series, challenger, state), rule=rule.kind)
    if force:
        row = replace(row, reasons=(f"forced: {reason}",), rule="forced", forced=True, forced_reason=reason)
        commit_decision(workspace, row)
        return row

    store = Workspace(settings).bar_store
    ref = store.ref(series)
    seed = workspace.registry.read_version(version).recipe().training.seed
    found = compare_with_champion(workspace, challenger, state, store.read_bars(ref), rule, seed)
    row = replace(
        row,
        action=found.decision.action,
        champion_after=version if found.decision.action == "promote" else state.number,
        reasons=(*((reason,) if reason else ()), *found.reasons),
        numbers=found.decision.numbers,
        bars_version=ref.version,
        bars_sha256=ref.sha256,
    )
    commit_decision(workspace, row)
    return row


def _row(series: Series, version: Version, state: ChampionState) -> LoggedDecision:
    """Return a decision that promotes a version, with the bars that it was trained on."""
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
        bars_version=int(version.tags.get("bars_version", "-1")),
        bars_sha256=version.tags.get("bars_sha256", ""),
    )


def _require_other(series: Series, state: ChampionState, version: Version) -> None:
    """Raise SpecError if the version already is the champion."""
    if version.version == state.number:
        raise SpecError(
            f"{series.name}: version {version.version} is already the champion. "
            "`riseorfall decisions` shows the others."
        )


def _former(log: DecisionLog, series: Series, champion: str) -> str:
    """Return the champion that this one replaced, by the decision log."""
    for row in reversed(log.rows(series.name)):
        promoted = row.action == "promote" and row.champion_after == champion
        if promoted and row.champion_before not in (None, champion):
            return str(row.champion_before)
    raise NoChampion(
        f"{series.name}: expected a champion before version {champion} in the decision log, found none. "
        "Name one with --to."
    )
