"""Register the final network as a version in MLflow, with the alias `challenger`; nothing is served yet.

A version holds the network twice (`network.keras`, `network.onnx`), the recipe, the folds' out-of-sample record and,
where the recipe calibrates, the calibrator; no pickle. Its tags name bars, scores, the end of its training and the
evidence of its decision. `ModelRegistry.register` gives it a number that no decision and no prediction ever named. The
SHA-256 of its files are recorded with the decision (`promote`), and compared by everything that opens them later.
"""

from collections.abc import Mapping
from typing import Any

from prefect import task

from model.cross_section import MIN_TREND_BARS
from model.evaluation import NETWORK, Evaluation
from model.panel_recipe import panel_frame
from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from tasks.champion.unchanged_inputs import EVIDENCE, evidence_digest
from tasks.console.progress import current_progress
from tasks.registry.experiment_runs import Measured
from tasks.registry.mlflow_run_names import SHORT_HASH, as_of_text
from tasks.registry.model_files import ModelFiles
from tasks.registry.model_registry import Version
from tasks.registry.run_artifacts import CALIBRATOR, KERAS, ONNX, pooled_record, read_calibrator
from tasks.registry.run_metrics import score_metrics
from tasks.results import FinalFit, FoldOutcome, WindowsRef
from tasks.store.bars_ref import AnyBarsRef, PanelBarsRef
from tasks.store.panel_bars import read_panel
from tasks.windowing import read_windows
from tasks.workspace import open_workspace

EXAMPLE_WINDOWS = 3  # own choice: windows in the input example of a version


@task(name="register", task_run_name="register")
def register(
    ref: WindowsRef,
    recipe: Recipe,
    folds: list[FoldOutcome],
    final: FinalFit,
    evaluation: Evaluation,
    rule: PromotionRule,
    run_id: str,
) -> Version:
    """Register the final network with its recipe, its out-of-sample record and the evidence for its decision."""
    with current_progress().step("register"):
        workspace = open_workspace(recipe.series)
        files = ModelFiles(
            keras=workspace.runs.read_file(run_id, KERAS),
            onnx=workspace.runs.read_file(run_id, ONNX),
            recipe=recipe,
            record=pooled_record(workspace.runs, [fold.run_id for fold in folds]),
            calibrator=read_calibrator(workspace.runs, run_id, CALIBRATOR),
        )
        scores = {name: each.value for name, each in evaluation.numbers[NETWORK].items()}
        tags = version_tags(ref.bars, recipe, final, scores, rule)
        name = as_of_text(ref.bars.closed_at).replace(":", "")
        # The evaluation has logged this dataset.
        measured = Measured(score_metrics(scores), *workspace.runs.dataset_of(ref.bars, "test", evaluation.span))
        return workspace.registry.register(run_id, files, input_example(ref), tags, name, measured)


def version_tags(
    bars: AnyBarsRef, recipe: Recipe, final: FinalFit, scores: Mapping[str, float], rule: PromotionRule
) -> dict[str, str]:
    """Return the tags of a version: what it was trained on, its scores, and the evidence for its decision."""
    return {
        "trained_until": final.trained_until,
        "recipe": recipe.digest,
        "bars_version": str(bars.version),
        "bars_sha256": bars.sha256[:SHORT_HASH],
        EVIDENCE: evidence_digest(bars.sha256, recipe, rule),
        **{f"metric.{name}": f"{value:.6f}" for name, value in scores.items()},
    }


def input_example(ref: WindowsRef) -> Any:
    """Return the input example: the bars that end with the newest whole window, enough for `EXAMPLE_WINDOWS`.

    Of a panel, those of each series until then. The newest bars alone may hold no whole window, where one was refused
    lately; of a panel, after an outage of the exchange.
    """
    store, count = open_workspace().bar_store, ref.window.lookback_bars + EXAMPLE_WINDOWS - 1
    newest = read_windows(ref.bars, ref.window).decided_at[-1]
    if isinstance(ref.bars, PanelBarsRef):
        bars = {symbol: each.closed_by(newest) for symbol, each in read_panel(store, ref.bars).items()}
        return panel_frame(bars, count + MIN_TREND_BARS)
    return store.read_bars(ref.bars).closed_by(newest).frame().tail(count).reset_index(drop=True)
