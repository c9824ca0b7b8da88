"""The MLflow run around one retrain: recipe, promotion rule, source, trigger and code version, and how it ended.

`open_run` first makes sure that the home may be written to. It refuses one whose local MLflow database is gone,
damaged, copied from another folder, or without any version although decisions were made; a database that lost only
some versions is accepted. It ends MLflow runs whose process is gone and deletes their landing files. `track_run` ends
the run as FINISHED, FAILED (an error; the tag `failure` has its text) or KILLED (cancelled, interrupted, timed out).
"""

import getpass
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from prefect import runtime, task
from prefect.client.orchestration import get_client

from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from tasks.console.progress import current_progress
from tasks.pages.prefect_artifacts import shown
from tasks.registry.code_version import code_version
from tasks.registry.experiment_page import NOTE_TAG
from tasks.registry.experiment_runs import flatten_specs
from tasks.registry.run_cache import run_cache
from tasks.repair.registry_damage import require_registry
from tasks.series_submission import RETRAIN_ALL
from tasks.services.dead_runs import clean_up_after_dead_runs
from tasks.services.group_runs import GROUP
from tasks.services.leftover_files import use_own_temporary_folder
from tasks.settings import Settings
from tasks.sources.source_spec import SourceSpec
from tasks.workspace import open_workspace

HOURS_6 = 6 * 3600  # enough for a large recipe on two cores; a run that takes longer is taken to hang
STEPS = (
    "ingest",
    "check",
    "find earlier decision",
    "window",
    "train",
    "evaluate",
    "audit",
    "register",
    "promote",
    "report",
)  # names of `current_progress().step`; the share of those finished is the run's progress
CLEAN_UP_SECONDS = 600.0  # own choice: a group of daily series takes minutes
_CLEANED_UP: dict[str, float] = {}  # by address of MLflow: time of the last clean-up in this process, time.monotonic()
PANEL_STEPS = ("find earlier decision", "window", "train", "evaluate", "audit", "register", "promote", "report")


@task(name="open run", task_run_name="open run")
def open_run(recipe: Recipe, source: SourceSpec | None, rule: PromotionRule) -> str:
    """Start the MLflow run of a retrain, with recipe, rule and source as parameters, and return its id.

    Args:
        recipe: what is trained.
        source: where its bars come from; None for a panel, which reads stored bars.
        rule: what the new version must show.
    """
    with current_progress().step("open run"):
        workspace = open_workspace(recipe.series)
        if runtime.deployment.id:  # a shell has one already
            use_own_temporary_folder()
        require_registry(workspace.settings)
        _clean_up(workspace.settings)
        tags = {
            "recipe": recipe.digest,
            "symbol": recipe.symbol,
            "interval": recipe.interval,
            "seed": str(recipe.training.seed),
            "cores": str(os.cpu_count()),  # with several threads per operation the weights repeat on as many cores only
            "trigger": trigger(),
            "flow_run": str(runtime.flow_run.id or ""),
            "mlflow.source.name": "flows/retrain.py" if source else "flows/retrain_panel.py",
            "mlflow.source.type": "PROJECT",
            "mlflow.user": getpass.getuser(),
            **code_version(),
        }
        run_id = workspace.runs.start_run(str(runtime.flow_run.name or "retrain"), tags)
        specs = {"recipe": recipe.model_dump(), "promotion": rule.model_dump()}
        if source:
            specs["source"] = source.model_dump(exclude={"symbol", "interval"})  # those of the recipe
        flat = {name.removeprefix("recipe."): value for name, value in flatten_specs(specs).items()}
        workspace.runs.log_values(run_id, params=flat)
        return run_id


@contextmanager
def track_run(recipe: Recipe, run_id: str, steps: Sequence[str] = STEPS) -> Iterator[None]:
    """Show the steps in Prefect, and end the MLflow run as the flow ends; the run's page says why it failed."""
    try:
        with run_cache(), shown(*steps):
            yield
    except BaseException as error:
        workspace = open_workspace(recipe.series)
        reason = f"{type(error).__name__}: {error}"[:5000]
        workspace.runs.log_values(run_id, tags={"failure": reason, NOTE_TAG: f"Not finished: {reason}"})
        workspace.runs.finish_run(run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    open_workspace(recipe.series).runs.finish_run(run_id)


def _clean_up(settings: Settings) -> None:
    """End what dead runs left, at most every `CLEAN_UP_SECONDS` in one process: all experiments are read each time."""
    now = time.monotonic()
    before = _CLEANED_UP.get(settings.mlflow_uri)
    if GROUP in (runtime.flow_run.tags or ()) and before is not None and now - before < CLEAN_UP_SECONDS:
        return
    clean_up_after_dead_runs(settings)
    _CLEANED_UP[settings.mlflow_uri] = now


def trigger() -> str:
    """Return what started this run: `schedule`, `alarm`, `retrain_all`, `manual` (Prefect's UI or API) or `shell`."""
    if not runtime.deployment.id:
        return "shell"
    tags = runtime.flow_run.tags or []
    if "auto-scheduled" in tags:
        return "schedule"
    if RETRAIN_ALL in tags:
        return RETRAIN_ALL
    with get_client(sync_client=True) as client:
        created_by = client.read_flow_run(UUID(runtime.flow_run.id)).created_by
    return "alarm" if created_by is not None and created_by.type == "AUTOMATION" else "manual"
