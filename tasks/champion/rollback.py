"""Roll back to a former champion, and lift the hold on a recipe that a rollback leaves.

A rollback holds the recipe of the version that it replaces until the hold is lifted. No version becomes champion unless
it loads and predicts.
"""

import getpass
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from model.bars import Series
from model.errors import NoChampion, SpecError
from tasks.champion.commit_decision import commit_decision, sync_champion_alias
from tasks.champion.decision_by_hand import note_by_person, require_other, row_about
from tasks.champion.recipe_hold import RecipeHold, held_recipes, open_holds, recipe_of
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision, former_champions
from tasks.store.stated_reason import require_one_line
from tasks.workspace import Workspace


def roll_back(series: Series, settings: Settings, to: str = "", reason: str = "") -> LoggedDecision:
    """Make a former champion the champion again, and hold the recipe of the version that it replaces.

    A rollback to a version that was rolled back undoes that rollback: its hold ends, and nothing new is held.

    Args:
        series: whose champion.
        settings: addresses of registry and decision log.
        to: the version; empty takes the champion that the current one replaced when it was promoted last, so that a
            second rollback goes back further and does not return to the version that was rolled back.
        reason: why, for the decision log.

    Returns:
        The decision as logged.

    Raises:
        NoChampion: there is no champion, or none before it.
        SpecError: the version already is the champion, or never was.
        UnsoundModel: the version cannot be loaded; the champion stays.
        ChampionChanged: another decision was committed first.
    """
    require_one_line(reason)
    workspace = Workspace(settings, series)
    state = sync_champion_alias(workspace)
    if state.number is None:
        state.require(workspace)
    if to:
        _require_former(workspace, to)
    rows, why = workspace.decision_log.rows(series.name), "as requested"
    if not to:
        promotion = _promotion_of(rows, series, str(state.number))
        to, why = str(promotion.champion_before), f"which it replaced on {promotion.decided_at:%Y-%m-%d}"
    version = workspace.registry.version(to)
    require_other(workspace, state, version)
    held = _effect_on_holds(workspace, str(state.number), version.version)
    reasons = (
        *((reason,) if reason else ()),
        f"{getpass.getuser()} rolled back from version {state.number} to version {to}, {why}",
        held,
    )
    row = replace(
        row_about(series, version, state, workspace.decision_log), action="rollback", reasons=reasons, rule="rollback",
        forced=True, forced_reason=reason,
    )  # fmt: skip
    commit_decision(workspace, row)
    note_by_person(workspace, str(state.number), row, f"rolled back; {held}")
    note_by_person(workspace, version.version, row, f"champion again, in place of version {state.number}")
    return row


def what_next(series: Series, settings: Settings, row: LoggedDecision) -> str:
    """Return how to undo a rollback, and where a further one without --to goes."""
    workspace = Workspace(settings, series)
    command = f"riseorfall rollback{workspace.series_flags}"
    undo = f"To undo it: `{command} --to {row.champion_before}`."
    try:
        further = _promotion_of(workspace.decision_log.rows(series.name), series, row.version).champion_before
    except NoChampion:
        return f"{undo} There is no champion before version {row.version}."
    return f"{undo} `{command}` without --to goes back further, to version {further}."


def _effect_on_holds(workspace: Workspace, replaced: str, restored: str) -> str:
    """Return what a rollback does to the holds, in words."""
    if any(hold.version == restored for hold in open_holds(workspace)):
        return f"this undoes the rollback from version {restored}, whose hold ends; no new hold"
    recipe = recipe_of(workspace, replaced, workspace.decision_log.rows(workspace.name))
    return f"recipe {recipe} is on hold until a person lifts it" if recipe else "its recipe is unknown: no hold"


def lift_hold(series: Series, settings: Settings, reason: str, version: str = "") -> LoggedDecision:
    """Let a recipe that a rollback holds be promoted again; the champion stays.

    Args:
        series: whose recipe.
        settings: addresses of registry and decision log.
        reason: why, for the decision log.
        version: the version that was rolled back; may be empty where one recipe is held.

    Returns:
        The decision as logged.

    Raises:
        SpecError: there is no reason, no such hold, or a choice between several.
        ChampionChanged: another decision was committed first.
    """
    workspace = Workspace(settings, series)
    if not reason.strip():
        raise SpecError('rollback: expected a reason with --lift, found none. Give --reason "...".')
    require_one_line(reason)
    hold = _hold_to_lift(workspace, version)
    state, runs = sync_champion_alias(workspace), workspace.decision_log.rows(series.name)
    row = LoggedDecision(
        decision_id=uuid.uuid4().hex,
        decided_at=datetime.now(UTC),
        series_name=series.name,
        symbol=series.symbol,
        interval=series.interval,
        action="lift",
        version=hold.version,
        champion_before=state.number,
        champion_after=state.number,
        reasons=(
            reason,
            f"{getpass.getuser()} lifted the hold on recipe {hold.recipe}: its next retrain may be promoted",
        ),
        run_id=next((each.run_id for each in runs if each.version == hold.version), ""),
        rule="lift",
        forced=True,
        forced_reason=reason,
    )
    commit_decision(workspace, row)
    note_by_person(workspace, hold.version, row, f"hold on recipe {hold.recipe} lifted")
    return row


def _hold_to_lift(workspace: Workspace, version: str) -> RecipeHold:
    """Return the hold made by rolling back from a version; with no version the only one."""
    found = open_holds(workspace) if version else tuple(held_recipes(workspace).values())
    holds = [hold for hold in found if version in ("", hold.version)]
    if not holds:
        which = f"by rolling back from version {version}, " if version else ""
        raise SpecError(
            f"{workspace.name}: expected a recipe that a rollback holds, {which}found none. `riseorfall status` lists "
            "the holds."
        )
    if len(holds) > 1:
        listed = ", ".join(f"{hold.recipe} (rolled back with version {hold.version})" for hold in holds)
        raise SpecError(
            f"{workspace.name}: expected one held recipe, found {len(holds)}: {listed}. Choose one by the version that "
            f"was rolled back, such as --to {holds[-1].version}."
        )
    return holds[0]


def _require_former(workspace: Workspace, version: str) -> None:
    """Raise SpecError if the version never was the champion."""
    champions = former_champions(workspace.decision_log.rows(workspace.name))
    if version not in champions:
        former = ", ".join(sorted(champions, key=int))
        raise SpecError(
            f"{workspace.name}: expected a former champion ({former}), found version {version}, which never was "
            f"champion. To promote it against the rule: `riseorfall promote{workspace.series_flags} "
            f'--version {version} --force --reason "..."`.'
        )


def _promotion_of(rows: Sequence[LoggedDecision], series: Series, champion: str) -> LoggedDecision:
    """Return the newest promotion of a champion in place of another."""
    for row in reversed(rows):
        promoted = row.action == "promote" and row.champion_after == champion
        if promoted and row.champion_before not in (None, champion):
            return row
    raise NoChampion(
        f"{series.name}: expected a champion before version {champion} in the decision log, found none. "
        "Name one with --to."
    )
