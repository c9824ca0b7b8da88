"""Compare a challenger of a panel with its champion, on the windows that both decided: the same close and series.

As for one series, the registered files must reproduce the probabilities of training, and the champion is scored by its
own out-of-sample record up to the end of its training, then by what its network predicts for later windows. Those
predictions are computed now, because panels store none. Left out, as the guide states: the check of the final
network against the folds, and the comparison with past champions.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model.bars import Bars
from model.errors import BarsTooShort, NoChampion, StoreUnavailable, UnsoundModel, UntrustedModel
from model.metrics import Record
from model.panel import cut_panel
from model.panel_recipe import PanelRecipe
from model.plurals import counted
from model.promotion_rule import Clause, PromotionRule, decide, hold_because, replace_broken_champion
from model.sanity_check import SanityCheck, run_sanity_check
from model.times import to_datetime64
from model.walk_forward import pool_records
from tasks.champion.challenger_vs_champion import RELOAD_TOLERANCE, ChampionRecord, GateResult, record_of_run
from tasks.champion.commit_decision import ChampionState
from tasks.champion.recipe_hold import hold_on
from tasks.registry.model_files import LoadedVersion
from tasks.registry.model_registry import Version
from tasks.registry.run_artifacts import read_evaluation, read_probe
from tasks.registry.unreachable_store import is_store_failure, store_unavailable
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

CHECKED_WINDOWS = 5_000  # own choice: newest windows of the sanity check; a second to predict


@dataclass(frozen=True, slots=True)
class RegisteredPanelNetwork:
    """The registered files of a version, loaded and checked.

    Attributes:
        sanity_check: whether it may be served at all.
        uncalibrated: shape (window,), float64: its probabilities for the newest windows before calibration; empty if it
            cannot predict.
        recipe: None if it cannot be read.
    """

    sanity_check: SanityCheck
    uncalibrated: np.ndarray
    recipe: PanelRecipe | None


def compare_with_panel_champion(
    workspace: Workspace,
    challenger: Version,
    state: ChampionState,
    bars: Mapping[str, Bars],
    rule: PromotionRule,
    seed: int,
) -> GateResult:
    """Decide on a challenger of a panel by the daily rule.

    Args:
        workspace: registry, runs and decision log.
        challenger: the registered version.
        state: the champion.
        bars: by symbol, of the challenger's panel.
        rule: what the challenger must show.
        seed: of the bootstrap.
    """
    record, base_rate = read_evaluation(workspace.runs, challenger.run_id)
    network = _check_registered_network(workspace, challenger, bars)
    champion, theirs = _champion_record(workspace, state, bars, record)
    other = _other_question(network.recipe, theirs) if network.recipe and theirs else None
    opponent = None if other else champion.record
    decision = decide(rule, network.sanity_check, record, base_rate, opponent, seed, instead_of_champion=other)
    hold = hold_on(workspace, challenger)
    if champion.problem:
        decision = decision if hold else replace_broken_champion(decision)
        log.error("%s: %s", workspace.name, champion.problem)
    elif state.version and _is_same_network(workspace, challenger, network, state.version, bars):
        same = f"the same network as champion version {state.number}"
        decision = hold_because(decision, f"{same}: equal probabilities, trained until the same bar")
    if hold:
        decision = hold_because(decision, str(hold))
    reasons = (*((champion.problem,) if champion.problem else ()), *decision.reasons)
    return GateResult(decision, reasons, champion.problem)


def _is_same_network(
    workspace: Workspace,
    challenger: Version,
    network: RegisteredPanelNetwork,
    champion: Version,
    bars: Mapping[str, Bars],
) -> bool:
    """Return whether two versions were trained until the same bar and predict the same."""
    if challenger.trained_until != champion.trained_until or not len(network.uncalibrated):
        return False
    served = _check_registered_network(workspace, champion, bars)
    return network.recipe == served.recipe and np.array_equal(network.uncalibrated, served.uncalibrated)


def _other_question(ours: PanelRecipe, theirs: PanelRecipe) -> Clause | None:
    """Return the clause that replaces the comparison where the two predict different outcomes; else None."""
    questions = [(each.panel.label, each.window.horizon_bars) for each in (ours, theirs)]
    if questions[0] == questions[1]:
        return None
    described = [f"label {label}, {counted(horizon, 'bar')} ahead" for label, horizon in questions]
    reason = (
        f"the challenger predicts {described[0]}, the champion {described[1]}: they are not compared; a person may "
        "promote it by force"
    )
    return Clause("champion", passed=False, reason=reason, numbers={})


def _check_registered_network(
    workspace: Workspace, version: Version, bars: Mapping[str, Bars]
) -> RegisteredPanelNetwork:
    """Load the registered files and compare their probabilities with those of training."""
    try:
        probe = read_probe(workspace.runs, version.run_id)["probability"].to_numpy(dtype=np.float64)
        loaded = workspace.registry.read_version(version.version)
        recipe = _panel_recipe(loaded)
        windows = cut_panel(bars, recipe.window, recipe.panel).windows
        newest = windows.take(np.arange(max(0, len(windows) - CHECKED_WINDOWS), len(windows)))
        uncalibrated = loaded.predictor(calibrated=False).predict_windows(newest)
        probabilities = loaded.calibrator().apply(uncalibrated)
    except (StoreUnavailable, UntrustedModel):
        raise
    except Exception as error:  # any exception of a broken file is the reason of the rejection
        if is_store_failure(error):
            raise store_unavailable(f"{workspace.name} version {version.version}", error) from error
        log.error("%s: version %s is broken: %s", workspace.name, version.version, error)  # noqa: TRY400
        broken = SanityCheck(
            finite=False, not_constant=False, both_classes_possible=False, reloads_equal=False, detail=str(error)
        )
        return RegisteredPanelNetwork(broken, np.empty(0), None)
    probed = uncalibrated[-len(probe) :]
    equal = len(probed) == len(probe) > 0 and float(np.abs(probed - probe).max()) <= RELOAD_TOLERANCE
    return RegisteredPanelNetwork(run_sanity_check(probabilities, reloads_equal=equal), uncalibrated, recipe)


def _champion_record(
    workspace: Workspace, state: ChampionState, bars: Mapping[str, Bars], challenger: Record
) -> tuple[ChampionRecord, PanelRecipe | None]:
    """Return the champion's record on the challenger's windows, and its recipe; of its run if it cannot be loaded.

    Raises:
        StoreUnavailable: the store of its files could not be read, which says nothing about the champion.
    """
    if state.number is None:
        return ChampionRecord(None), None
    try:
        version = state.require(workspace)
        loaded = workspace.registry.read_version(version.version)
        recipe = _panel_recipe(loaded)
        later = challenger.decided_at >= to_datetime64(version.trained_until)
        record = loaded.record()
        if later.any():
            record = pool_records([record, *_later_record(loaded, recipe, bars, challenger.decided_at[later][0])])
        return ChampionRecord(record), recipe
    except (UnsoundModel, NoChampion) as error:
        return record_of_run(workspace, state, error), None


def _later_record(
    loaded: LoadedVersion, recipe: PanelRecipe, bars: Mapping[str, Bars], first: np.datetime64
) -> list[Record]:
    """Return what a champion predicts for the resolved windows from a close on; none where it cannot be computed.

    A champion whose inputs describe its panel predicts no other panel.
    """
    if recipe.context_count and set(recipe.panel.symbols) != set(bars):
        return []
    predictor = loaded.predictor()
    try:
        windows = cut_panel(bars, predictor.window, recipe.panel).resolved().windows
    except BarsTooShort:
        return []
    windows = windows.take(windows.decided_at >= first)
    fold = np.full(len(windows), -1, dtype=np.int64)
    probabilities = predictor.predict_windows(windows)
    return [Record(windows.decided_at, windows.resolved_at, windows.labels, probabilities, fold, windows.symbols)]


def _panel_recipe(loaded: LoadedVersion) -> PanelRecipe:
    recipe = loaded.recipe()
    if isinstance(recipe, PanelRecipe):
        return recipe
    raise UnsoundModel(f"{loaded.place}: expected the recipe of a panel, found that of {recipe.symbol}")
