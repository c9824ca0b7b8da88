"""Audit a retrain for look-ahead before anything is registered; a failure is logged, then raised.

`model/leak_audit.py` recomputes `SHORT_SAMPLE` windows (the oldest, the newest, random ones) and as many predictions of
the final network, twice each: with every later bar removed, and with later prices multiplied by random factors. It also
compares every label with the closes, the purge of every fold with the times of the bars, and the record with folds and
closes. Windows and labels must be equal, outputs within 1e-6. A panel has the checks of `model/panel_audit.py`.
"""

from prefect import get_run_logger, task

from model.leak_audit import SHORT_SAMPLE, Audit, audit
from model.panel_audit import audit_panel
from model.panel_recipe import PanelRecipe
from model.predictor import Predictor
from model.recipe import Recipe
from tasks.console.progress import current_progress
from tasks.registry.run_artifacts import ONNX, read_evaluation
from tasks.results import WindowsRef
from tasks.store.bars_ref import PanelBarsRef
from tasks.store.panel_bars import read_panel
from tasks.workspace import Workspace, open_workspace


@task(name="audit", task_run_name="audit")
def audit_retrain(ref: WindowsRef, recipe: Recipe, run_id: str) -> int:
    """Look for look-ahead in a retrain's windows, folds, record and network; return the number of values checked.

    Raises:
        AuditFailed: something depends on bars that came later; nothing is registered then.
    """
    with current_progress().step("audit"):
        workspace = open_workspace(recipe.series)
        record, _ = read_evaluation(workspace.runs, run_id)
        # Without the calibrator: it maps one probability at a time, and a steep one would magnify rounding.
        predictor = Predictor(workspace.runs.read_file(run_id, ONNX), recipe.window)
        bars = workspace.bar_store.read_bars(ref.series_bars)
        found = audit(bars, recipe.window, recipe.folds, record, predictor.predict_outputs, sample=SHORT_SAMPLE)
        return _require_passed(found, workspace, run_id)


@task(name="audit", task_run_name="audit")
def audit_panel_retrain(bars: PanelBarsRef, recipe: PanelRecipe, run_id: str) -> int:
    """Look for look-ahead across series in a panel's windows, labels, folds and network; return the values checked.

    Raises:
        AuditFailed: something depends on bars of any series that came later; nothing is registered then.
    """
    with current_progress().step("audit"):
        workspace = open_workspace(recipe.series)
        predictor = Predictor(workspace.runs.read_file(run_id, ONNX), recipe.window, context_count=recipe.context_count)
        stored = read_panel(workspace.bar_store, bars)
        found = audit_panel(stored, recipe.window, recipe.panel, recipe.folds, predictor.run)
        return _require_passed(found, workspace, run_id)


def _require_passed(found: Audit, workspace: Workspace, run_id: str) -> int:
    """Log an audit to the run; raise AuditFailed where it found something, else return the number of values checked."""
    workspace.runs.log_values(run_id, tags={"audit": found.summary()})
    for finding in found.findings:
        get_run_logger().info("audit: %s: %s", finding.name, finding.detail)
    found.require(workspace.name)
    return found.checked
