"""A report is stored once, under two names, and each of them can be replaced or deleted alone."""

from pathlib import Path

import pytest

from model.bars import Series
from tasks.pages.written_pages import write_page, write_report
from tasks.settings import Settings
from tasks.workspace import Workspace

TEXT = "<p>a report</p>" * 1000


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Workspace(Settings(home=tmp_path, tracking_uri="", store="", public_url=""), Series("BTC-USD", "1d"))


def copy_in_run(workspace: Workspace, run_id: str) -> Path:
    folder = workspace.runs.local_folder(run_id)
    assert folder is not None
    return folder / "report.html"


def test_page_and_copy_share_their_place_and_change_apart(workspace: Workspace) -> None:
    run_id = workspace.runs.start_run("retrain", {})
    path = write_report(workspace, run_id, TEXT)
    copy = copy_in_run(workspace, run_id)
    assert path.samefile(copy)
    assert workspace.runs.read_file(run_id, "report.html") == TEXT.encode()
    write_page(workspace.settings, workspace.name, path.name, "another text")
    assert (path.read_text(), copy.read_text()) == ("another text", TEXT)
    again = write_report(workspace, run_id, f"{TEXT}, again")  # as a task that is tried again
    assert again.read_text() == copy.read_text() == f"{TEXT}, again"
    copy.unlink()  # as housekeeping does
    assert path.read_text() == f"{TEXT}, again"
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_disk_without_links_holds_two_files(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    run_id = workspace.runs.start_run("retrain", {})
    path = write_report(workspace, run_id, TEXT)
    copy = copy_in_run(workspace, run_id)
    assert not path.samefile(copy)
    assert path.read_text() == copy.read_text() == TEXT
