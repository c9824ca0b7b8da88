"""Promotion as a task: champion and challenger on the same unseen bars, a decision, an alias, a row in the ledger.

The rule is `model.promotion`'s. Here its inputs are gathered: the stored files are loaded back and must repeat what
training saw; the champion is scored by its own out-of-sample record up to its training end and by its predictions
after it, so neither side is judged on bars it learned from.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from model.errors import RiseOrFallError
from model.metrics import Record
from model.predictor import Predictor
from model.promotion import Decision, PromotionRule, Soundness, decide, judge_soundness
from model.recipe import Recipe
from tasks.decisions import enact
from tasks.evaluation import read_evaluation
from tasks.ingestion import open_store
from tasks.ledger import Ledger, LedgerRow
from tasks.registration import read_probe
from tasks.reporting import current_progress
from tasks.settings import Settings
from tasks.tracking import Tracking, Version
from tasks.training import tracking_for
from tasks.windowing import WindowsRef

RELOAD_TOLERANCE = 1e-5  # largest difference between the stored network's probabilities and those of training


@dataclass(frozen=True, slots=True)
class Promotion:
    """What was decided about a version, and who is champion now."""

    action: str
    reasons: tuple[str, ...]
    numbers: dict[str, float]
    champion_before: str | None
    champion_after: str | None


def open_ledger() -> Ledger:
    """Return the ledger of the settings."""
    settings = Settings()
    return Ledger(settings.store_root, settings.storage_options())


@task(name="promote")
def promote(ref: WindowsRef, recipe: Recipe, challenger: Version, rule: PromotionRule, run_id: str) -> Promotion:
    """Decide about the challenger, set the alias, write the ledger, and show the decision."""
    run = current_progress()
    with run.step("promote"):
        tracking, ledger = tracking_for(recipe), open_ledger()
        champion = tracking.aliased("champion")
        record, base_rate = read_evaluation(tracking, run_id)
        rival, note = (None, "") if champion is None else champion_record(tracking, champion, ref, record)
        soundness = check_soundness(tracking, challenger, ref, run_id)
        decision = decide(rule, soundness, record, base_rate, rival, recipe.training.seed)
        reasons = (*((note,) if note else ()), *decision.reasons)
        before = champion.version if champion else None
        after = challenger.version if decision.action == "promote" else before
        row = LedgerRow(
            decision_id=run_id,
            decided_at=datetime.now(UTC),
            series_name=tracking.series.name,
            symbol=recipe.symbol,
            interval=recipe.interval,
            action=decision.action,
            version=challenger.version,
            champion_before=before,
            champion_after=after,
            reasons=reasons,
            numbers=decision.numbers,
            run_id=run_id,
            bars_version=ref.bars.version,
            bars_sha256=ref.bars.sha256,
            rule=rule.kind,
        )
        enact(tracking, ledger, row)
        tracking.log_values(
            run_id,
            metrics={f"decision.{name}": value for name, value in decision.numbers.items()},
            tags={"decision": decision.action, "version": challenger.version, "reasons": "\n".join(reasons)},
        )
        tracking.describe(challenger.version, describe(decision, challenger, reasons))
        get_run_logger().info("%s version %s: %s", decision.action, challenger.version, "; ".join(reasons))
        create_markdown_artifact(
            decision_page(row, challenger, tracking.run_link(run_id)), key="decision", description="What was decided"
        )
    return Promotion(decision.action, reasons, decision.numbers, before, after)


def champion_record(
    tracking: Tracking, champion: Version, ref: WindowsRef, challenger: Record
) -> tuple[Record | None, str]:
    """Return what the champion said about the challenger's bars before it could know, and a note if that is not whole.

    Up to its training end its own out-of-sample record counts, after it its predictions. A champion whose files are
    broken is judged by the record that its run kept; without that there is nothing to compare with.
    """
    try:
        loaded = tracking.read_version(champion.version)
        stored = loaded.record()
        later = _later_predictions(loaded.onnx(), loaded.recipe(), ref, champion, challenger)
    except (RiseOrFallError, OSError, ValueError) as error:
        note = f"champion version {champion.version} cannot be loaded ({error}); it is judged by the record of its run"
        try:
            return read_evaluation(tracking, champion.run_id)[0], note
        except (RiseOrFallError, OSError, ValueError) as lost:
            return None, f"champion version {champion.version} cannot be loaded, and its record is lost too ({lost})"
    return _joined(stored, later), ""


def _later_predictions(onnx: bytes, recipe: Recipe, ref: WindowsRef, champion: Version, challenger: Record) -> Record:
    """Return the champion's predictions for the challenger's bars decided after the champion was trained."""
    until = np.datetime64(champion.trained_until.astimezone(UTC).replace(tzinfo=None), "us")
    unseen = challenger.take(challenger.decided_at >= until)
    decided_at, probabilities = Predictor(onnx, recipe.window).predict(open_store().read_bars(ref.bars))
    _, ours, theirs = np.intersect1d(unseen.decided_at, decided_at, return_indices=True)
    chosen = unseen.take(ours)
    return Record(chosen.decided_at, chosen.resolved_at, chosen.labels, probabilities[theirs], chosen.fold)


def _joined(stored: Record, later: Record) -> Record:
    """Return both records as one; of a bar in both the stored one counts."""
    fresh = later.take(~np.isin(later.decided_at, stored.decided_at))
    parts = [stored, fresh]
    return Record(
        np.concatenate([part.decided_at for part in parts]),
        np.concatenate([part.resolved_at for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.fold for part in parts]),
    )


def check_soundness(tracking: Tracking, challenger: Version, ref: WindowsRef, run_id: str) -> Soundness:
    """Load the registered files back and hold their probabilities against those of training."""
    probe = read_probe(tracking.read_file(run_id, "network/probe.parquet"))
    try:
        loaded = tracking.read_version(challenger.version)
        predictor = Predictor(loaded.onnx(), loaded.recipe().window)
        decided_at, probabilities = predictor.predict(open_store().read_bars(ref.bars))
    except (RiseOrFallError, OSError, ValueError, RuntimeError) as error:
        return Soundness(
            finite=False, not_constant=False, both_classes_possible=False, reloads_equal=False, detail=str(error)
        )
    expected = probe["probability"].to_numpy()
    place = np.searchsorted(decided_at, probe["decided_at"].to_numpy().astype("datetime64[us]"))
    difference = float(np.abs(probabilities[place] - expected).max())
    return judge_soundness(probabilities, reloads_equal=difference <= RELOAD_TOLERANCE)


def describe(decision: Decision, challenger: Version, reasons: tuple[str, ...]) -> str:
    """Word what a version's page in the registry should say."""
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in challenger.metrics.items())
    return (
        f"{decision.action}: {'; '.join(reasons)}\n\nTrained until {challenger.trained_until}. Unseen bars: {numbers}."
    )


def decision_page(row: LedgerRow, challenger: Version, link: str) -> str:
    """Word a decision as markdown."""
    numbers = "\n".join(f"| {name} | {value:.4f} |" for name, value in challenger.metrics.items())
    reasons = "\n".join(f"- {reason}" for reason in row.reasons)
    return (
        f"# {row.action} version {row.version} of {row.series_name}\n\n{reasons}\n\n"
        f"Champion before: {row.champion_before or 'none'}, now: {row.champion_after or 'none'}.\n\n"
        f"| on unseen bars | |\n|---|---|\n{numbers}\n\n[MLflow run]({link})\n"
    )
