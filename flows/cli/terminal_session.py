"""What every command does around its work: read the settings, keep library output off the terminal, print JSON."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.console.progress import RunProgress


def load_settings() -> Settings:
    """Read the settings and export them to MLflow, Prefect and TensorFlow before these are imported."""
    settings = Settings()
    settings.announce()
    return settings


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Send what libraries write to standard error to a log file."""
    from tasks.console.terminal_progress import quiet_streams

    with quiet_streams(load_settings().log_folder):
        yield


@contextmanager
def flow_progress(settings: Settings) -> Iterator[tuple["RunProgress", Path]]:
    """Show the progress of a flow on the terminal; yield it, and the log file that receives standard error."""
    from tasks.console.progress import report_progress_to
    from tasks.console.terminal_progress import TerminalProgress, quiet_streams

    with (
        quiet_streams(settings.log_folder) as (console, log_file),
        TerminalProgress(console) as progress,
        report_progress_to(progress) as run,
    ):
        yield run, log_file


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    sys.stdout.write(dumps(value, indent=2) + "\n")
