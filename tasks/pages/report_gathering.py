"""Gathers the content of a retrain report from its results, its MLflow run, the bar store and the decision log.

Only the comparison with the champion, the periods and the explanation are computed here, by `model/`. Caution: after
the decision the champion alias may name the challenger itself, so the comparison is with the champion BEFORE it.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.bars import Bars
from model.baseline_comparison import Comparison, compare_records
from model.errors import RiseOrFallError
from model.network_files import network_from_bytes
from model.plurals import counted
from model.recipe import Recipe
from model.record import Record
from model.scores_by_period import periods_by_fold, periods_by_year
from model.times import column_times
from tasks.champion.live_comparison import compare_live
from tasks.champion.out_of_sample_record import out_of_sample_record
from tasks.pages.champion_explanation import explain_at
from tasks.pages.report_inputs import QUARANTINE_ROWS, DataFacts, Lineage, ReportContent
from tasks.registry.run_artifacts import CALIBRATOR, KERAS, read_calibrator, read_equity, read_evaluation
from tasks.registry.run_metrics import logged_trading
from tasks.results import FoldOutcome, PanelRetrain, Retrain
from tasks.store.bar_store import BarStore
from tasks.store.decision_log import mark_reasons
from tasks.workspace import Workspace

log = logging.getLogger(__name__)


def gather_report(result: Retrain, recipe: Recipe, folds: list[FoldOutcome], workspace: Workspace) -> ReportContent:
    """Return the content of the report of a retrain.

    Args:
        result: of the retrain.
        recipe: of the trained network.
        folds: outcome of each fold, oldest first.
        workspace: stores and settings.
    """
    run_id, promotion, version = result.run_id, result.promotion, result.version
    settings, store = workspace.settings, workspace.bar_store
    bars = store.read_bars(result.windows.series_bars)
    record, base_rate = read_evaluation(workspace.runs, run_id)
    equity = read_equity(workspace.runs, run_id)
    seed = recipe.training.seed
    network = network_from_bytes(workspace.runs.read_file(run_id, KERAS))
    calibrator = read_calibrator(workspace.runs, run_id, CALIBRATOR)
    decision = workspace.decision_log.find_decision(run_id)
    params, tags = workspace.runs.run_values(run_id)
    return ReportContent(
        version=version.version,
        action=promotion.action,
        reasons=mark_reasons(promotion.reasons, promotion.marks),
        champions=(promotion.champion_before or "none", promotion.champion_after or "none"),
        decided_at=f"{decision.decided_at:%Y-%m-%d %H:%M} UTC" if decision else "",
        recipe=recipe,
        evaluation=result.evaluation,
        champion=compare_with_previous_champion(workspace, promotion.champion_before, record, bars, seed),
        record=record,
        close=_close_at(record, bars),
        closed_at=column_times(equity.pop("closed_at")),
        costs=logged_trading(params),
        equity={str(name): equity[name].to_numpy(dtype=np.float64) for name in equity.columns},
        periods=(*periods_by_fold(record, base_rate, seed), *periods_by_year(record, base_rate, seed)),
        histories=[workspace.runs.read_curves(fold.run_id) for fold in folds],
        explained=explain_at(network, bars, recipe.window, version.trained_until, calibrator=calibrator),
        calibrator=str(calibrator),
        data=data_facts(result, store),
        lineage=lineage(result, recipe, f"{workspace.name} version {version.version}", params, tags),
        links={
            "MLflow run": workspace.runs.run_link(run_id),
            "Data Docs": result.checked.docs,
            "this page": settings.link(settings.report_path(workspace.name, run_id)),
        },
        live=compare_live(workspace, bars, promotion.champion_after, seed),
    )


def compare_with_previous_champion(
    workspace: Workspace, champion_before: str | None, record: Record, bars: Bars, seed: int
) -> Comparison | None:
    """Compare with the champion before the decision; None if there was none, or it cannot be read any more."""
    if champion_before is None:
        return None
    try:
        champion = workspace.registry.version(champion_before)
        loaded = workspace.registry.read_version(champion_before)
        theirs = out_of_sample_record(workspace, champion, loaded, bars, record)
    except (RiseOrFallError, OSError) as error:
        log.warning("report: champion version %s cannot be compared: %s", champion_before, error)
        return None
    return compare_records(record, theirs, seed)


def data_facts(result: Retrain, store: BarStore) -> DataFacts:
    """Return what is known about the bars, as text."""
    landing, checked, merge, ref = result.landing, result.checked, result.stored.merge, result.windows.bars
    quarantined = store.read_quarantine(landing.series)
    newest = quarantined.sort_values("timestamp", ascending=False).head(QUARANTINE_ROWS)
    layout = {name.replace("_", " "): value for name, value in landing.layout.items() if name != "source"}
    by_rule = ", ".join(f"{rule} {count}" for rule, count in checked.refused_by.items())
    facts = {
        "Source": landing.layout.get("source", ""),
        "Read": f"{landing.rows:,} bars closed by {landing.as_of:%Y-%m-%d %H:%M} UTC, {landing.unfinished} unfinished",
        "Accepted": f"{checked.rows:,}, with {checked.gaps} gaps",
        "Refused": f"{checked.refused:,}" + (f": {by_rule}" if by_rule else ""),
        "Merged into the store": f"{merge.added:,} added, {merge.revised:,} revised, {merge.unchanged:,} unchanged",
        "Used": f"{ref.rows:,} bars opened {ref.first:%Y-%m-%d %H:%M} to {ref.last:%Y-%m-%d %H:%M} UTC",
        "Windows": f"{result.windows.windows:,}, {result.windows.resolved:,} with an outcome, "
        f"{result.windows.rises_share:.1%} of them rises",
    }
    return DataFacts(
        facts=facts,
        layout=layout,
        failed=failed_checks(checked.failed),
        quarantined=[
            (str(row.timestamp), str(row.rule), str(row.severity), str(row.value), str(row.source))
            for row in newest.itertuples()
        ],
        quarantined_count=len(quarantined),
        docs=checked.docs,
    )


def failed_checks(failed: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str, str]]:
    """Return rule, severity, what it requires, what was found and what to do, from the summary of a check."""
    return [
        (
            each["rule"],
            each["severity"],
            each["required"],
            each["observed"] + (f" (first at {each['first_at']})" if each["first_at"] else ""),
            each["advice"],
        )
        for each in failed
    ]


def lineage(
    result: Retrain | PanelRetrain,
    recipe: Recipe,
    registered: str,
    params: Mapping[str, str],
    tags: Mapping[str, str],
) -> Lineage:
    """Return where the model comes from, as text, from the parameters and tags of its run."""
    ref, final = result.windows.bars, result.final
    dirty = ", with uncommitted changes" if tags.get("git_dirty") == "True" else ""
    commit = tags.get("mlflow.source.git.commit", "")
    return Lineage(
        facts={
            "Bars": f"version {ref.version} of the table {ref.uri.rpartition('/')[2]}, SHA-256 {ref.sha256}",
            "Code": f"{commit}{dirty}" if commit else "no repository",
            "Recipe": f"{recipe.digest} (hash of all settings of the retrain, the seed included): "
            f"{recipe.network.kind}, lookback {recipe.window.lookback_bars} bars of "
            f"{', '.join(recipe.window.features)}; horizon {recipe.window.horizon_bars}",
            "Seed": recipe.training.seed,
            "Device": final.device,
            "Final fit": f"{counted(final.epochs, 'epoch')} on all windows resolved until {final.trained_until}, "
            f"{final.seconds:.1f} s",
            "Registered": registered,
            "Run": result.run_id,
            "Trigger": tags.get("trigger", ""),
            "Leak self-test": tags.get("audit", ""),
        },
        specs=params,
    )


def _close_at(record: Record, bars: Bars) -> np.ndarray:
    """Return the close at each decision, shape (window,)."""
    close: np.ndarray = bars.column("close")[np.searchsorted(bars.closed_at, record.decided_at)]
    return close
