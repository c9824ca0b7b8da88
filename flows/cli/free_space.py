"""Refuse a command that writes where the home cannot be written to, or where the disk is almost full."""

import shutil
import tempfile
from pathlib import Path

from model.errors import StoreUnavailable

FREE_BYTES = 50_000_000  # own choice: a retrain, with the database of a temporary Prefect server, writes up to 20 MB


def require_space(home: Path) -> None:
    """Raise unless a run has room for what it writes; its servers would otherwise fail in ways of their own.

    Raises:
        StoreUnavailable: the folder cannot be written to, or fewer than `FREE_BYTES` are free.
    """
    advice = "Free some space, correct its permissions, or set RISEORFALL_HOME to another folder."
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
        free = shutil.disk_usage(home).free
    except OSError as error:
        raise StoreUnavailable(f"{home}: expected a folder to write to, found: {error.strerror}. {advice}") from error
    if free < FREE_BYTES:
        raise StoreUnavailable(
            f"{home}: expected at least {FREE_BYTES / 1e6:.0f} MB of free space, found {free / 1e6:.1f} MB. {advice}"
        )
