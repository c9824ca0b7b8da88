"""Manual decisions: roll back to a former champion, or promote a version; logged like every other decision.

A person may override the rule with a reason, which is marked in the decision log and noted on the pages of the
versions and in the names of their runs in MLflow. A rollback holds the recipe of the version that it replaces until the
hold is lifted. No version becomes champion unless it loads and predicts.
"""

import getpass
import uuid
from dataclasses import replace
from datetime import UTC, datetime

from model.bars import Series
from model.errors import NoChampion, SpecError
from model.promotion_rule import PromotionRule
from tasks.champion.challenger_vs_champion import compare_with_champion
from tasks.champion.commit_decision import ChampionState, commit_decision, sync_champion_alias
from tasks.champion.recipe_hold import RecipeHold, held_recipes, open_holds, recipe_of
from tasks.registry.experiment_page import DONE
from tasks.registry.model_registry import Version
from tasks.settings import Settings
from tasks.store.decision_log import DecisionLog, LoggedDecision, former_champions
from tasks.workspace import Workspace


def roll_back(series: Series, settings: Settings, to: str = "", reason: str = "") -> LoggedDecision:
    """Make a former champion the champion again, and hold the recipe of the version that it replaces.

    A rollback to a version that was rolled back undoes that rollback: its hold ends, and nothing new is held.

    Args:
        series: whose champion.
        settings: addresses of registry and decision log.
        to: the version; empty takes the champion before the current one.
        reason: why, for the decision log.

    Returns:
        The decision as logged.

    Raises:
        NoChampion: there is no champion, or none before it.
        SpecError: the version already is the champion, or never was.
        UnsoundModel: the version cannot be loaded; the champion stays.
        ChampionChanged: another decision was committed first.
    """
    workspace = Workspace(settings, series)
    state = sync_champion_alias(workspace)
    if state.number is None:
        state.require(workspace)
    if to:
        _require_former(workspace, to)
    version = workspace.registry.version(to or _former(workspace.decision_log, series, str(state.number)))
    _require_other(workspace, state, version)
    held = _effect_on_holds(workspace, str(state.number), version.version)
    reasons = (
        *((reason,) if reason else ()),
        f"rolled back from version {state.number} by {getpass.getuser()}",
        held,
    )
    row = replace(
        _row(series, version, state, workspace.decision_log), action="rollback", reasons=reasons, rule="rollback",
        forced=True, forced_reason=reason,
    )  # fmt: skip
    commit_decision(workspace, row)
    _note(workspace, str(state.number), row, f"rolled back; {held}")
    _note(workspace, version.version, row, f"champion again, in place of version {state.number}")
    return row


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
    _note(workspace, hold.version, row, f"hold on recipe {hold.recipe} lifted")
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


def promote_by_hand(
    series: Series,
    settings: Settings,
    version: str,
    rule: PromotionRule = PromotionRule(),
    *,
    force: bool = False,
    reason: str = "",
) -> LoggedDecision:
    """Decide on a registered version and commit the decision; see `plan_promotion` and `commit_promotion`."""
    row = plan_promotion(series, settings, version, rule, force=force, reason=reason)
    return commit_promotion(series, settings, row)


def plan_promotion(
    series: Series,
    settings: Settings,
    version: str,
    rule: PromotionRule = PromotionRule(),
    *,
    force: bool = False,
    reason: str = "",
) -> LoggedDecision:
    """Decide on a registered version: by the rule on the newest bars, or by force with a reason; commit nothing.

    Args:
        series: whose champion.
        settings: addresses of registry, decision log and bars.
        version: number of the version.
        rule: what it must show, unless forced.
        force: promote it against the rule; it must still load and predict.
        reason: why, for the decision log.

    Returns:
        The decision, not yet logged.

    Raises:
        SpecError: forced without a reason, the version already is the champion, or no bars are stored.
        NoChampion: there is no such version.
        UnsoundModel: unless forced, a file of the version is missing or damaged.
        UntrustedModel: unless forced, a file of the version is not the recorded one.
        StoreUnavailable: unless forced, the store of the files cannot be read.
    """
    if force and not reason.strip():
        raise SpecError(
            'promote: expected a reason with --force, found none. Give --reason "..."; it goes into the decision log.'
        )
    workspace = Workspace(settings, series)
    state, challenger = sync_champion_alias(workspace), workspace.registry.version(version)
    _require_other(workspace, state, challenger)
    row = replace(_row(series, challenger, state, workspace.decision_log), rule=rule.kind)
    if force:
        reasons = (f"forced: {reason}", f"promoted against the rule by {getpass.getuser()}")
        return replace(row, reasons=reasons, rule="forced", forced=True, forced_reason=reason)

    if series.is_panel:
        raise SpecError(
            f"{series.name}: expected --force with a reason, found neither: a version of a panel is decided about by "
            "the rule only while it is retrained."
        )
    store = Workspace(settings).bar_store
    ref = store.ref(series)
    seed = workspace.registry.read_version(version).recipe().training.seed
    found = compare_with_champion(workspace, challenger, state, store.read_bars(ref), rule, seed)
    return replace(
        row,
        action=found.decision.action,
        champion_after=version if found.decision.action == "promote" else state.number,
        reasons=(*((reason,) if reason else ()), *found.reasons),
        marks=found.decision.marks,
        numbers=found.decision.numbers,
        bars_version=ref.version,
        bars_sha256=ref.sha256,
    )


def commit_promotion(series: Series, settings: Settings, row: LoggedDecision) -> LoggedDecision:
    """Commit a planned decision, and return it.

    Raises:
        UnsoundModel: the version cannot be loaded; the champion stays.
        UntrustedModel: its files are not those of an earlier decision; the champion stays.
        ChampionChanged: another decision was committed since it was planned.
    """
    workspace = Workspace(settings, series)
    commit_decision(workspace, row)
    if row.forced:
        _note(workspace, row.version, row, f"promoted by force, in place of version {row.champion_before or 'none'}")
    else:
        _note(
            workspace, row.version, row, f"decided by the rule again: {DONE[row.action]}; {'; '.join(row.reasons[:2])}"
        )
    if row.action == "promote" and row.champion_before:
        _note(workspace, row.champion_before, row, f"replaced as champion by version {row.version}")
    return row


def _row(series: Series, version: Version, state: ChampionState, log: DecisionLog) -> LoggedDecision:
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
        bars_version=int(version.tags.get("bars_version", "-1")),
        bars_sha256=earlier.bars_sha256 if earlier else version.tags.get("bars_sha256", ""),
    )


def _note(workspace: Workspace, version: str, row: LoggedDecision, what: str) -> None:
    """Append what a person did to the pages of a version and of its run in MLflow, and to the name of the run."""
    reason = f": {row.forced_reason}" if row.forced_reason else ""
    text = f"{row.decided_at:%Y-%m-%d %H:%M} UTC, {getpass.getuser()}: {what}{reason}"
    workspace.registry.append_note(version, text)
    workspace.registry.note_on_run(version, workspace.decision_log.rows(workspace.name), text)


def _require_other(workspace: Workspace, state: ChampionState, version: Version) -> None:
    """Raise SpecError if the version already is the champion."""
    if version.version == state.number:
        raise SpecError(
            f"{workspace.name}: version {version.version} is already the champion. "
            f"`riseorfall decisions{workspace.series_flags}` shows the others."
        )


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
