"""The leak self-test as a task of every retrain, in a short form, before anything is registered.

The checks are `model/leak_audit.py`'s. What failed is logged before it is raised, and nothing is promoted after it.
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


@task(name="audit")
def audit_retrain(ref: WindowsRef, recipe: Recipe, run_id: str) -> int:
    """Look for leaks in a retrain's windows, folds, record and network; log what was found, and return how much.

    Raises:
        AuditFailed: something depends on bars that came later; nothing is registered then.
    """
    with current_progress().step("audit"):
        workspace = open_workspace(recipe.series)
        record, _ = read_evaluation(workspace.runs, run_id)
        # Without the calibrator, which sees one probability at a time: a steep one would make much of a rounding.
        predictor = Predictor(workspace.runs.read_file(run_id, ONNX), recipe.window)
        bars = open_workspace().bar_store.read_bars(ref.bars)
        found = audit(bars, recipe.window, recipe.folds, record, predictor.predict, sample=SHORT_SAMPLE)
        workspace.runs.log_values(run_id, **values(found))
        for finding in found.findings:
            get_run_logger().info("audit: %s: %s", finding.name, finding.detail)
        found.require(ref.bars.series.name)
        return found.looked_at
