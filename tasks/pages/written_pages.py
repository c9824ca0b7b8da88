"""Write pages below HOME/data/reports, and the one chart script that all of them load.

The script has plotly's version in its name, so a page written by an older plotly keeps the script it was made for.
"""

import logging
import os
import tempfile
from pathlib import Path

from tasks.pages.html_page import chart_script_name
from tasks.registry.run_artifacts import REPORT, log_artifacts
from tasks.settings import Settings, report_name
from tasks.workspace import Workspace

log = logging.getLogger(__name__)


def write_page(settings: Settings, series_name: str, file_name: str, text: str) -> Path:
    """Write a page about a series, and the chart script if it is not there yet; return the page's path."""
    path = settings.reports_folder / series_name / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_chart_script(settings.reports_folder)
    _write_whole(path, text)
    return path


def write_report(workspace: Workspace, run_id: str, text: str) -> Path:
    """Write the report of a retrain as a page, and into its MLflow run; return the page's path.

    In a home the two share their place on the disk where the disk can do that. Neither is written in place: a page is
    replaced, and MLflow writes a file once.
    """
    path = write_page(workspace.settings, workspace.name, report_name(run_id), text)
    log_artifacts(workspace.runs, run_id, {REPORT: text.encode()})
    folder, fresh = workspace.runs.local_folder(run_id), path.with_name(f"{path.name}.new")
    if folder is None:
        return path
    try:
        if (folder / REPORT).read_bytes() == path.read_bytes():
            fresh.unlink(missing_ok=True)  # of a process that was killed
            fresh.hardlink_to(folder / REPORT)
            fresh.replace(path)
    except OSError as error:  # two disks, or one without links
        log.debug("%s is stored twice: %s", path, error)
    return path


def _write_whole(path: Path, text: str) -> None:
    """Replace a file, so that nobody reads half of it and no other name of it changes."""
    handle, fresh = tempfile.mkstemp(dir=path.parent, suffix=".new")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(fresh).chmod(0o644)  # mkstemp's is private; another user's page server may read it
    Path(fresh).replace(path)


def write_chart_script(folder: Path) -> None:
    """Write plotly's script into a folder unless it is there."""
    path = folder / chart_script_name()
    if path.exists():
        return
    from plotly.offline import get_plotlyjs  # imported here: five megabytes, needed once

    folder.mkdir(parents=True, exist_ok=True)
    _write_whole(path, get_plotlyjs())
