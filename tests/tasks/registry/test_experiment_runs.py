"""What the MLflow adapter says when MLflow cannot do what it is asked."""

from pathlib import Path

import pytest

from model.bars import Series
from model.errors import StoreUnavailable
from tasks.settings import Settings
from tasks.workspace import Workspace


def test_files_that_find_no_place_say_which_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for good
    settings = Settings(home=tmp_path / "home", tracking_uri="", store="")
    workspace = Workspace(settings, Series("BTC-USD", "1d"))
    run_id = workspace.runs.start_run("retrain", {})
    workspace.runs.log_files(run_id, {"record.parquet": b"12345"}, "evaluation")
    place = Path(workspace.runs.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    (place / "network").write_text("a file where a folder must be", encoding="utf-8")
    with pytest.raises(
        StoreUnavailable, match=r"put a\.onnx, b\.keras \(5 bytes\) into .*/network, found: .*store is full or"
    ):
        workspace.runs.log_files(run_id, {"a.onnx": b"12", "b.keras": b"345"}, "network")
    assert workspace.runs.read_file(run_id, "evaluation/record.parquet") == b"12345"
