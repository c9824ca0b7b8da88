"""The leak self-test of a registered version: silent on an honest one, loud where the record does not fit the bars."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from synthetic_bars import random_walk
from tiny_network import tiny_onnx

from model.bars import Series
from model.errors import AuditFailed, NoChampion
from model.folds import FoldSpec, split_folds
from model.recipe import Recipe
from model.record import Record
from model.windows import WindowSpec, cut_windows
from tasks.champion.version_audit import audit_version
from tasks.registry.model_files import ModelFiles
from tasks.settings import Settings
from tasks.workspace import Workspace

SERIES = Series("BTC-USD", "1d")
RECIPE = Recipe(window=WindowSpec(lookback_bars=5), folds=FoldSpec(test_bars=60, count=2))
BARS = random_walk(200)
AT = datetime(2018, 8, 1, tzinfo=UTC)


def honest_record() -> Record:
    windows = cut_windows(BARS, RECIPE.window).resolved()
    test = windows.take(np.concatenate([fold.test for fold in split_folds(windows, RECIPE.folds)]))
    return Record(test.decided_at, test.resolved_at, test.labels, np.full(60, 0.5), np.repeat(np.arange(2), 30))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Settings(home=tmp_path, tracking_uri="", store="")


def test_an_honest_version_passes_and_a_shifted_one_fails(settings: Settings) -> None:
    store = Workspace(settings).bar_store
    store.merge(SERIES, BARS.frame(), {}, merged_at=AT)
    ref = store.ref(SERIES)
    workspace = Workspace(settings, SERIES)
    honest = honest_record()
    shifted = replace(honest, labels=np.roll(honest.labels, 1))
    tags = {
        "trained_until": f"{BARS.closed_at[-1]}+00:00",
        "bars_version": str(ref.version),
        "bars_sha256": ref.sha256,
    }
    for record in (honest, shifted):
        run_id = workspace.runs.start_run("retrain", {})
        workspace.registry.add_version(run_id, ModelFiles(b"not asked for", tiny_onnx(5), RECIPE, record), tags)
    with pytest.raises(NoChampion):
        audit_version(SERIES, settings)
    workspace.decision_log.tables[0].create()  # as long as it has no row, the alias counts
    workspace.registry.set_alias("champion", "1")
    found = audit_version(SERIES, settings, sample=10)
    assert (found.version, found.same_bars, found.audit.passed) == ("1", True, True)
    assert len(found.to_dict()["findings"]) == 10
    store.merge(SERIES, random_walk(230).frame().iloc[200:], {}, merged_at=AT)  # later bars are none of its business
    failed = audit_version(SERIES, settings, "2", sample=10)
    assert (failed.same_bars, failed.audit.passed) == (True, False)
    with pytest.raises(AuditFailed, match=r"record vs\. folds and closes: .* decisions differ"):
        failed.audit.require("BTC-USD-1d version 2")
    runs = workspace.runs.client.search_runs([workspace.runs.experiment_id()])
    told = {run.data.tags["audit"].split(":")[0] for run in runs}
    assert told == {"passed", "failed"}
    workspace.runs.client.delete_run(workspace.registry.version("1").run_id)  # a run in MLflow's trash takes no tag
    assert audit_version(SERIES, settings, "1", sample=10).audit.passed
