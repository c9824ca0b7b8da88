"""Compare challenger and champion on the same out-of-sample bars, by the rule of `model/promotion_rule.py`.

The challenger's registered files are loaded and must reproduce the probabilities of training. The champion is scored by
its own out-of-sample record up to the end of its training and by its predictions after it, so neither version is scored
on bars that it was trained on. A panel is compared in the same way, window by window; left out for it are the
comparison with past champions and the strict rule. Caution: a champion that cannot be loaded is scored by the record of
its run, and a challenger that passes the sanity check and the check of its final network replaces it; callers must
report `GateResult.problem`.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from model.agreement_with_folds import (
    PANEL_RULE,
    FinalNetworkRule,
    check_final_network,
    final_network_clause,
    unchecked_final_network,
)
from model.bars import Bars
from model.bootstrap import compare_losses
from model.errors import NoChampion, StoreUnavailable, UnsoundModel, UntrustedModel
from model.panel_recipe import PanelRecipe
from model.promotion_rule import (
    Clause,
    Decision,
    PromotionRule,
    decide,
    different_question,
    hold_because,
    replace_broken_champion,
)
from model.recipe import Recipe
from model.record import Record
from model.trading import TradingResult, trade
from tasks.champion.commit_decision import ChampionState
from tasks.champion.corrected_skill import recipes_tried
from tasks.champion.out_of_sample_record import out_of_sample_record
from tasks.champion.panel_comparison import other_panel_question, panel_record
from tasks.champion.past_champions import MOST_CANDIDATES, compare_with_references
from tasks.champion.recipe_hold import hold_on
from tasks.champion.registered_network import RegisteredNetwork, check_registered_network
from tasks.registry.model_registry import Version
from tasks.registry.run_artifacts import FOLD_NETWORKS, read_evaluation, read_fold_networks, read_validation
from tasks.registry.unreachable_store import is_store_failure, store_unavailable
from tasks.store.decision_log import SAME_AS, former_champions
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

AnyBars = Bars | Mapping[str, Bars]  # of a series, or of a panel by symbol

SAME = "equal probabilities, trained until the same bar"


@dataclass(frozen=True, slots=True)
class ChampionRecord:
    """Out-of-sample record of the champion on the challenger's bars.

    Attributes:
        record: None if there is no champion, or if its record is lost.
        problem: why the champion cannot be loaded; empty if it can.
        recipe: None if it cannot be loaded.
    """

    record: Record | None
    problem: str = ""
    recipe: Recipe | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """Outcome of the comparison.

    Attributes:
        decision: by the rule.
        reasons: why, in sentences, the deciding one first.
        marks: of the last reasons, as in `LoggedDecision`.
        problem: why the champion cannot be loaded; empty if it can.
    """

    decision: Decision
    reasons: tuple[str, ...]
    marks: tuple[str, ...]
    problem: str


def compare_with_champion(
    workspace: Workspace,
    challenger: Version,
    state: ChampionState,
    bars: AnyBars,
    rule: PromotionRule,
    seed: int,
) -> GateResult:
    """Decide on a challenger by the rule.

    A challenger that fails the sanity check is rejected. Else it is held if its final network disagrees with the fold
    networks, if it is worse than base rate, champion or a past champion by more than the rule allows, if it predicts
    another horizon than the champion, if its recipe was rolled back, if it is the champion's network again, or if its
    training bars end before the champion's. If it is the network of a past champion, the decision says so, and that is
    no reason to hold it.

    Args:
        workspace: registry, runs and decision log.
        challenger: the registered version.
        state: the champion.
        bars: shape (bar,), oldest first; of a panel by symbol.
        rule: what the challenger must show.
        seed: of the bootstrap.

    Raises:
        StoreUnavailable: a store could not be read; nothing is known about either version then.
        UntrustedModel: files of a version are not those of the decision log, or lie outside the artifact store.
    """
    record, base_rate = read_evaluation(workspace.runs, challenger.run_id)
    champion = champion_record(workspace, state, bars, record)
    first = record.decided_at.min() if len(record) else None
    network = check_registered_network(workspace, challenger, bars, first)
    sanity = network.sanity_check
    further: tuple[Clause, ...] = ()
    trades, tried = None, None
    if network.recipe:
        further = (check_against_folds(workspace, challenger, record, network),)
    if isinstance(bars, Bars):
        if network.recipe and rule.kind == "daily":
            horizon = network.recipe.window.horizon_bars
            further += (compare_with_references(workspace, record, base_rate, horizon, bars),)
        if rule.kind == "strict":
            trades = _trade(workspace, challenger, record, bars, rule, seed)
            tried = recipes_tried(workspace, challenger.run_id, record)
    other = _other_question(workspace, challenger, network.recipe, champion.recipe, state, rule, seed)
    opponent = None if other else champion.record
    decision = decide(rule, sanity, record, base_rate, opponent, seed, trades, other, further=further, tried=tried)
    hold = hold_on(workspace, challenger)

    def same_as(version: Version) -> bool:
        """Whether both serve equal probabilities; their recipes may differ, and the networks of their folds."""
        return (
            challenger.trained_until == version.trained_until
            and np.array_equal(
                network.uncalibrated, check_registered_network(workspace, version, bars, first).uncalibrated
            )
            and _calibration(workspace, challenger) == _calibration(workspace, version)
        )

    if champion.problem:
        decision = decision if hold else replace_broken_champion(decision)
        log.error("%s: %s", workspace.name, champion.problem)
    elif state.version and not other and same_as(state.version):
        same = f"the same network as champion version {state.number}"
        decision = hold_because(decision, f"{same}, so there is nothing to promote: {SAME}")
    elif state.version and challenger.trained_until < state.version.trained_until:
        decision = hold_because(decision, _older_than_champion(challenger, state.version))
    if hold:
        decision = hold_because(decision, str(hold))
    return _result(decision, champion.problem, _same_past_champion(workspace, challenger, state, same_as))


def _result(decision: Decision, problem: str, past: str) -> GateResult:
    """Add the reasons that are no clause: first where they explain a promotion, else after the deciding reason.

    Args:
        decision: by the rule and the holds.
        problem: why the champion cannot be loaded; empty if it can.
        past: the past champion whose network the challenger is; empty if it is none of them.
    """
    again = f"the same network as past champion version {past}: {SAME}" if past else ""
    if past:
        decision = replace(decision, numbers=decision.numbers | {SAME_AS: float(past)})
    reasons, marks = decision.reasons, tuple[str, ...](decision.marks)
    if decision.action == "promote":
        return GateResult(decision, (*filter(None, (problem, again)), *reasons), marks, problem)
    if problem:
        reasons, marks = (reasons[0], problem, *reasons[1:]), (marks[0], "", *marks[1:])
    return GateResult(decision, reasons, marks, problem)


def _trade(
    workspace: Workspace, challenger: Version, record: Record, bars: Bars, rule: PromotionRule, seed: int
) -> TradingResult:
    """Trade the challenger's record by the policy of the rule; only some policies need the validation windows."""
    learns = rule.trading.policy != "sign"
    validation = read_validation(workspace.runs, challenger.run_id) if learns else ()
    return trade(record, bars, rule.trading, seed, validation)


def _older_than_champion(challenger: Version, champion: Version) -> str:
    """Return why a challenger from a retrain of an earlier day, or from an old file, does not replace the champion."""
    ours, theirs = (f"{each.trained_until:%Y-%m-%d %H:%M}" for each in (challenger, champion))
    return (
        f"its training bars end {ours} UTC, before those of champion version {champion.version} ({theirs}). Retrain on "
        "the newest bars of the source that the champion was trained on, or promote this version with force"
    )


def _same_past_champion(
    workspace: Workspace, challenger: Version, state: ChampionState, same_as: Callable[[Version], bool]
) -> str:
    """Return the first of the past champions whose network the challenger is; empty where it is none of them.

    Daily refits of two seeds on the same bars, for example, can replace one another again and again.
    """
    for number in former_champions(workspace.decision_log.rows(workspace.name))[-MOST_CANDIDATES:]:
        if number in (challenger.version, state.number):
            continue
        try:
            if same_as(workspace.registry.version(number)):
                return number
        except (NoChampion, UnsoundModel, UntrustedModel) as error:
            log.warning("%s: past champion version %s is not compared: %s", workspace.name, number, error)
    return ""


def _calibration(workspace: Workspace, version: Version) -> dict[str, object]:
    return workspace.registry.read_version(version.version).calibrator().plain()


def _other_question(
    workspace: Workspace,
    challenger: Version,
    ours: Recipe | None,
    theirs: Recipe | None,
    state: ChampionState,
    rule: PromotionRule,
    seed: int,
) -> Clause | None:
    """Return the clause that replaces the paired comparison where the two predict different outcomes; else None."""
    if ours is None or theirs is None or state.version is None:
        return None
    if isinstance(ours, PanelRecipe) and isinstance(theirs, PanelRecipe):
        return other_panel_question(ours, theirs, challenger.version)
    horizons = ours.window.horizon_bars, theirs.window.horizon_bars
    if horizons[0] == horizons[1]:
        return None
    record, base_rate = read_evaluation(workspace.runs, state.version.run_id)
    return different_question(rule, *horizons, compare_losses(record, base_rate, seed))


def champion_record(workspace: Workspace, state: ChampionState, bars: AnyBars, challenger: Record) -> ChampionRecord:
    """Return the champion's record on the challenger's bars; the record of its run if it cannot be loaded.

    Raises:
        StoreUnavailable: the store of its files could not be read, which says nothing about the champion.
    """
    if state.number is None:
        return ChampionRecord(None)
    try:
        version = state.require(workspace)
        loaded = workspace.registry.read_version(version.version)
        if isinstance(bars, Bars):
            record = out_of_sample_record(workspace, version, loaded, bars, challenger)
        else:
            record = panel_record(version, loaded, bars, challenger)
        return ChampionRecord(record, recipe=loaded.recipe())
    except (UnsoundModel, NoChampion) as error:
        return _record_of_run(workspace, state, error)


def _record_of_run(workspace: Workspace, state: ChampionState, error: Exception) -> ChampionRecord:
    """Return the record in the run of a champion that cannot be loaded."""
    problem = f"champion version {state.number} cannot be loaded ({error})"
    try:
        record, _ = read_evaluation(workspace.runs, _run_of(workspace, state))
    except StoreUnavailable:
        raise
    except Exception as lost:  # pandas and pyarrow raise classes of their own for broken content
        if is_store_failure(lost):
            raise store_unavailable(f"{workspace.name} version {state.number}", lost) from lost
        return ChampionRecord(None, f"{problem}, and its record is lost too ({lost})")
    return ChampionRecord(record, f"{problem}; it is scored by the record of its run")


def _run_of(workspace: Workspace, state: ChampionState) -> str:
    """Return the run of the champion: by the registry, else by the decision log.

    Raises:
        UnsoundModel: neither knows it.
    """
    if state.version is not None:
        return state.version.run_id
    runs = [
        row.run_id for row in workspace.decision_log.rows(workspace.name) if row.version == state.number and row.run_id
    ]
    if not runs:
        raise UnsoundModel(
            f"{workspace.name}: neither registry nor decision log knows the run of version {state.number}"
        )
    return runs[-1]


def check_against_folds(
    workspace: Workspace, challenger: Version, record: Record, network: RegisteredNetwork
) -> Clause:
    """Check that the registered network agrees with the fold networks, whose record it carries.

    The windows of a panel that share a close count as one observation.
    """
    try:
        fold_networks = read_fold_networks(workspace.runs, challenger.run_id)
    except UnsoundModel:
        return unchecked_final_network(f"its run has no file {FOLD_NETWORKS}, which is written since version 0.2")
    folds = np.unique(record.fold, return_inverse=True)[1].astype(np.int64)
    if len(fold_networks) < 2:  # noqa: PLR2004 - a single fold has no later network to compare with
        return unchecked_final_network("the recipe has one fold, and the check needs two")
    ours, theirs = record.places_of(network.decided_at, network.symbols)
    uncalibrated = fold_networks[folds, np.arange(len(folds))]
    found = check_final_network(
        uncalibrated[ours],
        folds[ours],
        fold_networks[:, ours],
        network.uncalibrated[theirs],
        PANEL_RULE if len(record.symbols) else FinalNetworkRule(),
        record.bar_numbers()[ours],
    )
    return final_network_clause(found)
