"""Take the paths of this machine out of a page: a report is sent to others, and kept in MLflow."""

import re
from html import escape
from pathlib import Path

from tasks.settings import Settings


def hide_local_paths(page: str, settings: Settings, user_home: Path | None = None) -> str:
    """Return the page of a report with links relative to it, `HOME` for the home, and `~` for the user's folder.

    Args:
        page: HTML of a page in `HOME/data/reports/NAME/`.
        settings: the home.
        user_home: the user's folder; that of this user if None.
    """
    page = page.replace(escape(f"{settings.data_folder.as_uri()}/"), "../../")
    for folder, name in ((settings.root, "HOME"), (user_home or Path.home(), "~")):
        if len(folder.parts) > 1:  # the root of the file system says nothing about anybody
            page = re.sub(rf"(?<![\w.~/-]){re.escape(escape(str(folder)))}(?![\w.-])", name, page)
    return page
