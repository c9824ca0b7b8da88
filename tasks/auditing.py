"""Audit a retrain for look-ahead before anything is registered, on a short sample.

The checks are `model/leak_audit.py`'s. A failure is logged, then raised, and nothing is promoted.
"""

from prefect import get_run_logger, task

from model.leak_audit import SHORT_SAMPLE, audit
from model.predictor import Predictor
from model.recipe import Recipe
from tasks.champion.version_audit import values
from tasks.console.progress import current_progress
from tasks.registry.run_artifacts import ONNX, read_evaluation
from tasks.results import WindowsRef
from tasks.workspace import open_workspace


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
        bars = workspace.bar_store.read_bars(ref.bars)
        found = audit(bars, recipe.window, recipe.folds, record, predictor.predict, sample=SHORT_SAMPLE)
        workspace.runs.log_values(run_id, **values(found))
        for finding in found.findings:
            get_run_logger().info("audit: %s: %s", finding.name, finding.detail)
        found.require(ref.bars.series.name)
        return found.checked
