"""A retrain whose baselines learned from the newest windows only says so, in MLflow and in the terminal."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from synthetic_bars import random_walk

from model.bars import Series
from model.evaluation import Evaluation, evaluate_record
from model.folds import FoldSpec, split_folds
from model.recipe import Recipe
from model.record import Record
from model.walk_forward import walk_baselines_forward
from model.windows import WindowSpec, cut_windows
from tasks.console.command_output import metrics_table
from tasks.evaluation import log_numbers, with_further
from tasks.results import WindowsRef
from tasks.settings import Settings
from tasks.store.bars_ref import BarsRef
from tasks.workspace import Workspace

WINDOWS = cut_windows(random_walk(300, seed=6), WindowSpec(lookback_bars=5)).resolved()  # 295
FOLDS = split_folds(WINDOWS, FoldSpec(test_bars=120, count=2))
TESTED = WINDOWS.take(np.arange(FOLDS[0].test[0], len(WINDOWS)))
AT = datetime(2026, 1, 1, tzinfo=UTC)
REF = WindowsRef(BarsRef("file:///bars", "BTC-USD", "1d", 1, "0" * 64, 300, AT, AT), WindowSpec(), 295, 295, 0.5)
NOTE = "Logistic regression and gradient boosting learned from the newest 100 windows of a fold, of up to 233."


def evaluation() -> Evaluation:
    baselines = walk_baselines_forward(WINDOWS, FOLDS, seed=7, max_windows=100)
    labels = TESTED.labels
    record = Record(TESTED.decided_at, TESTED.resolved_at, labels, baselines["base_rate"], labels.astype("int64") * 0)
    return with_further(evaluate_record(record, baselines, {}, 7), record, WINDOWS, FOLDS, Recipe())


@pytest.mark.parametrize(("limit", "note"), [(100, NOTE), (233, "")])
def test_mlflow_and_terminal_name_the_windows_that_baselines_left_out(
    limit: int, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    """The second fold has 295 windows less 60 of its test and a purge of one before test and validation each."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("model.baselines.MAX_TRAINING_WINDOWS", limit)
    found = evaluation()
    assert found.baselines_note == note
    workspace = Workspace(Settings(home=tmp_path, tracking_uri="", store=""), Series("BTC-USD", "1d"))
    run_id = workspace.runs.start_run("retrain", {})
    log_numbers(workspace, run_id, found, replace(REF, filled_bars=3))
    tags = workspace.runs.run_tags(run_id)
    assert (tags["filled_bars"], tags.get("baselines", "")) == ("3", note)
    Console(width=80).print(metrics_table(found))
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.endswith(f"[95 % block bootstrap interval] {note}".strip())
