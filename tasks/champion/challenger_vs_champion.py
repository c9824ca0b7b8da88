"""Champion and challenger on the same unseen bars: what the rule of `model/promotion_rule.py` is given. Plain.

The challenger's stored files are loaded back and must repeat what training saw. The champion is scored by its own
out-of-sample record up to its training end and by its predictions after it, so neither side is judged on bars it
learned from. The trap: a champion that cannot be loaded predicts nothing, so it is judged by the record that its run
kept, and any sound challenger replaces it; that is told loudly, by whoever asks here.
"""

import logging
from dataclasses import dataclass

import numpy as np

from model.bars import Bars
from model.errors import RiseOrFallError, UnsoundModel
from model.metrics import Record
from model.promotion_rule import Decision, PromotionRule, SanityCheck, decide, replace_broken_champion, run_sanity_check
from model.times import to_datetime64
from model.trading import trade
from tasks.champion.commit_decision import ChampionState
from tasks.registry.model_registry import Version
from tasks.registry.run_artifacts import read_evaluation, read_probe
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

RELOAD_TOLERANCE = 1e-5  # largest difference between the stored network's probabilities and those of training


@dataclass(frozen=True, slots=True)
class ChampionRecord:
    """What the champion said about the challenger's bars before it could know.

    Attributes:
        record: its probabilities; None where there is no champion, or nothing of it is left.
        problem: why the champion cannot predict any more; empty where it can.
    """

    record: Record | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class GateResult:
    """A decision, with what was found about the champion on the way."""

    decision: Decision
    reasons: tuple[str, ...]
    problem: str


def compare_with_champion(
    workspace: Workspace,
    challenger: Version,
    state: ChampionState,
    bars: Bars,
    rule: PromotionRule,
    seed: int,
) -> GateResult:
    """Decide about a challenger by its rule; a champion that cannot be loaded gives way to any sound one."""
    record, base_rate = read_evaluation(workspace.runs, challenger.run_id)
    rival = champion_record(workspace, state, bars, record)
    soundness = check_registered_network(workspace, challenger, bars)
    trades = trade(record, bars, rule.trading, seed) if rule.kind == "strict" else None
    decision = decide(rule, soundness, record, base_rate, rival.record, seed, trades)
    if rival.problem:
        decision = replace_broken_champion(decision)
        log.error("%s: %s", workspace.name, rival.problem)
    reasons = (*((rival.problem,) if rival.problem else ()), *decision.reasons)
    return GateResult(decision, reasons, rival.problem)


def champion_record(workspace: Workspace, state: ChampionState, bars: Bars, challenger: Record) -> ChampionRecord:
    """Return the champion's record on the challenger's bars, or what is left of it and why."""
    if state.number is None:
        return ChampionRecord(None)
    try:
        champion = state.require(workspace.name)
        loaded = workspace.registry.read_version(champion.version)
        stored = loaded.record()
        decided_at, probabilities = loaded.predictor().predict(bars)
    except (RiseOrFallError, OSError) as error:
        return _what_is_left(workspace, state, error)
    until = to_datetime64(champion.trained_until)
    return ChampionRecord(joined(stored, later_record(decided_at, probabilities, until, challenger)))


def _what_is_left(workspace: Workspace, state: ChampionState, error: Exception) -> ChampionRecord:
    """Return the record that the broken champion's run kept."""
    problem = f"champion version {state.number} cannot be loaded ({error})"
    try:
        record, _ = read_evaluation(workspace.runs, _run_of(workspace, state))
    except Exception as lost:  # noqa: BLE001 - whatever a store without the file raises: mlflow's, boto's, pandas'
        return ChampionRecord(None, f"{problem}, and its record is lost too ({lost})")
    return ChampionRecord(record, f"{problem}; it is judged by the record of its run")


def _run_of(workspace: Workspace, state: ChampionState) -> str:
    """Return the run of the champion: by the registry, else by the ledger.

    Raises:
        UnsoundModel: neither knows.
    """
    if state.version is not None:
        return state.version.run_id
    runs = [
        row.run_id for row in workspace.decision_log.rows(workspace.name) if row.version == state.number and row.run_id
    ]
    if not runs:
        raise UnsoundModel(f"{workspace.name}: neither registry nor ledger knows the run of version {state.number}")
    return runs[-1]


def later_record(
    decided_at: np.ndarray, probabilities: np.ndarray, trained_until: np.datetime64, challenger: Record
) -> Record:
    """Return a model's predictions for the challenger's bars that were decided after the model was trained.

    Args:
        decided_at: shape (window,), datetime64[us], UTC: when the model's predictions were decided.
        probabilities: shape (window,), float64: P(rise).
        trained_until: close of the last bar that the model learned from, datetime64[us], UTC.
        challenger: decisions and labels that are asked for.
    """
    unseen = challenger.take(challenger.decided_at >= trained_until)
    _, ours, theirs = np.intersect1d(unseen.decided_at, decided_at, return_indices=True)
    chosen = unseen.take(ours)
    return Record(chosen.decided_at, chosen.resolved_at, chosen.labels, probabilities[theirs], chosen.fold)


def joined(stored: Record, later: Record) -> Record:
    """Return both records as one; of a bar in both the stored one counts."""
    parts = [stored, later.take(~np.isin(later.decided_at, stored.decided_at))]
    return Record(
        np.concatenate([part.decided_at for part in parts]),
        np.concatenate([part.resolved_at for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.fold for part in parts]),
    )


def check_registered_network(workspace: Workspace, challenger: Version, bars: Bars) -> SanityCheck:
    """Load the registered files back and hold their probabilities against those of training."""
    try:
        probe = read_probe(workspace.runs, challenger.run_id)
        loaded = workspace.registry.read_version(challenger.version)
        decided_at, said = loaded.predictor(calibrated=False).predict(bars)
        probabilities = loaded.calibrator().apply(said)
    except Exception as error:  # noqa: BLE001 - whatever a broken file raises, it is the reason of the rejection
        log.error("%s: challenger version %s is broken: %s", workspace.name, challenger.version, error)  # noqa: TRY400
        return SanityCheck(
            finite=False, not_constant=False, both_classes_possible=False, reloads_equal=False, detail=str(error)
        )
    asked = probe["decided_at"].to_numpy().astype("datetime64[us]")
    _, ours, theirs = np.intersect1d(decided_at, asked, return_indices=True)
    expected = probe["probability"].to_numpy(dtype=np.float64)[theirs]
    difference = float(np.abs(said[ours] - expected).max(initial=0.0)) if len(ours) else float("inf")
    return run_sanity_check(probabilities, reloads_equal=difference <= RELOAD_TOLERANCE)
