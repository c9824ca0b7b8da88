"""Promote a registered version by hand: by the rule on the newest bars, or against the rule with a reason.

A promotion by force is marked in the decision log and noted on the pages of the versions and in the names of their runs
in MLflow. No version becomes champion unless it loads and predicts.
"""

import getpass
from dataclasses import replace

from model.bars import Series
from model.errors import SpecError
from model.promotion_rule import PromotionRule
from tasks.champion.challenger_vs_champion import compare_with_champion
from tasks.champion.commit_decision import commit_decision, sync_champion_alias
from tasks.champion.decision_by_hand import note_by_person, require_other, row_about
from tasks.registry.mlflow_run_names import DONE
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision
from tasks.store.stated_reason import require_one_line
from tasks.workspace import Workspace


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
    require_one_line(reason)
    if force and not reason.strip():
        raise SpecError(
            'promote: expected a reason with --force, found none. Give --reason "..."; it goes into the decision log.'
        )
    workspace = Workspace(settings, series)
    state, challenger = sync_champion_alias(workspace), workspace.registry.version(version)
    require_other(workspace, state, challenger)
    row = replace(row_about(series, challenger, state, workspace.decision_log), rule=rule.kind)
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
        reasons=(*found.reasons, *((f"asked for by {getpass.getuser()}: {reason}",) if reason else ())),
        marks=(*found.marks, *(("",) if reason else ())),
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
        what = f"promoted by force, in place of version {row.champion_before or 'none'}"
    else:
        what = f"decided by the rule again: {DONE[row.action]}; {'; '.join(row.reasons[:2])}"
    note_by_person(workspace, row.version, row, what)
    if row.action == "promote" and row.champion_before:
        note_by_person(workspace, row.champion_before, row, f"replaced as champion by version {row.version}")
    return row
