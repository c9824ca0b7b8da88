"""Write pages below HOME/data/reports, and the one chart script that all of them load.

The script has plotly's version in its name, so a page written by an older plotly keeps the script it was made for.
"""

import os
import tempfile
from pathlib import Path

from tasks.pages.html_page import chart_script_name
from tasks.settings import Settings

REPORTS = "reports"  # below HOME/data; each series has a folder in it


def write_page(settings: Settings, series_name: str, file_name: str, text: str) -> Path:
    """Write a page about a series, and the chart script if it is not there yet; return the page's path."""
    path = settings.report_path(series_name, file_name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_chart_script(path.parents[1])
    path.write_text(text, encoding="utf-8")
    return path


def write_chart_script(folder: Path) -> None:
    """Write plotly's script into a folder unless it is there."""
    path = folder / chart_script_name()
    if path.exists():
        return
    from plotly.offline import get_plotlyjs  # imported here: five megabytes, needed once

    folder.mkdir(parents=True, exist_ok=True)
    handle, fresh = tempfile.mkstemp(dir=folder, suffix=".new")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(get_plotlyjs())
    Path(fresh).chmod(0o644)  # mkstemp's is private; another user's page server may read it
    Path(fresh).replace(path)
