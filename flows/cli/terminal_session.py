"""What every command does around its work: read the settings, keep library output off the terminal, print JSON."""

import gc
import logging
import math
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import BufferedWriter, FileIO, TextIOWrapper
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from flows.cli.free_space import require_space
from model.errors import RiseOrFallError
from tasks.registry.file_lock import restrict_to_writers
from tasks.repair.live_writers import hold_home
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.console.escaping_console import Console
    from tasks.console.progress import RunProgress


def load_settings() -> Settings:
    """Read the settings and export them to MLflow, Prefect and TensorFlow before these are imported."""
    settings = Settings()
    settings.announce()
    return settings


class _Output(FileIO):
    """A stream whose reader may go (`riseorfall status | head -1`): the command goes on, the rest is not printed.

    Attributes:
        problem: why a file or device did not take the output, such as a full disk; empty otherwise.
    """

    problem = ""

    def write(self, content: Any) -> int:
        """Write what the reader takes."""
        try:
            return super().write(content)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.problem = error.strerror or str(error)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(content)


def open_output(descriptor: int, encoding: str, *, by_lines: bool = True) -> TextIOWrapper:
    """Open a descriptor for text; it stays open. What the encoding lacks is escaped, as on standard error.

    What a command has done must not end with an error because of what it prints, nor stop halfway.

    Args:
        descriptor: of a terminal, file or pipe.
        encoding: of the text.
        by_lines: every line is written at once.
    """
    stream = BufferedWriter(_Output(descriptor, "w", closefd=False))
    return TextIOWrapper(stream, encoding, "backslashreplace", line_buffering=by_lines)


def open_standard_streams() -> None:
    """Open standard output and error as commands use them; a standard stream that is closed is the null device.

    Otherwise the next file that is opened would take the number of the closed one (cron, `riseorfall status 2>&-`).
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor, for the process
    if sys.stdout is None or isinstance(sys.stdout, TextIOWrapper):
        encoding = sys.stdout.encoding if sys.stdout else "utf-8"
        sys.stdout = open_output(1, encoding, by_lines=os.isatty(1))
    if sys.stderr is None or isinstance(sys.stderr, TextIOWrapper):
        sys.stderr = open_output(2, sys.stderr.encoding if sys.stderr else "utf-8")


def output_problem() -> str:
    """Write what is left of standard output; return why some of it could not be written, empty if all was."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.problem if isinstance(raw, _Output) else ""


@contextmanager
def quiet_streams(log_folder: Path, *, holds_home: bool = False) -> Iterator[tuple["Console", Path]]:
    """Redirect standard error to a new log file; yield a console on the real one, and the path of the file.

    Redirects the file descriptor, so that the output of native libraries and child processes is caught too.

    Args:
        log_folder: where the log file is created.
        holds_home: `doctor --repair` and `restore` refuse to run meanwhile.
    """
    from tasks.console.escaping_console import Console  # imported here: rich takes a moment, which --help must not pay

    path = _open_log(log_folder)
    sys.stderr.flush()
    kept = os.dup(2)
    with _kept_open(path) as file, open_output(kept, "utf-8") as terminal:
        if holds_home:
            hold_home(file)
        os.dup2(file.fileno(), 2)
        logging.captureWarnings(True)
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(handler)
        try:
            yield Console(file=terminal), path
        finally:
            logging.getLogger().removeHandler(handler)
            with suppress(OSError):  # the disk is full; the error of the command must still reach the terminal
                sys.stderr.flush()
            os.dup2(kept, 2)
    os.close(kept)


@contextmanager
def _kept_open(path: Path) -> Iterator[TextIO]:
    """Open a log file; what a full disk does not take is lost at the end without an error."""
    file = path.open("a+", encoding="utf-8")
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


def _open_log(log_folder: Path) -> Path:
    """Return the path of a new log file; the null device where none can be written, so that reading still works."""
    path = log_folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.log"
    try:
        log_folder.mkdir(parents=True, exist_ok=True)
        restrict_to_writers(path)  # whoever can read it could lock it, and so stop a repair
        path.open("a+", encoding="utf-8").close()
    except OSError:
        return Path(os.devnull)
    return path


@contextmanager
def quiet_libraries(*, writes: bool = False, occupies: bool = False) -> Iterator[Path]:
    """Send what libraries write to standard error to a log file; yield its path.

    Args:
        writes: the command stores something in the home, which needs space.
        occupies: it stores nothing there, and the home must not be repaired meanwhile.
    """
    settings = load_settings()
    if writes:
        require_space(settings.root)
    with quiet_streams(settings.log_folder, holds_home=writes or occupies) as (_, log_file):
        yield log_file


def in_prefect(act: Callable[[], object]) -> str:
    """Do something on the Prefect server that is configured or that of a running `up`; nothing without one.

    Returns:
        What went wrong; empty if nothing did. What is only shown must not make a finished command look failed.
    """
    from tasks.services.prefect_server import use_server

    try:
        use_server(load_settings())
        from prefect.settings import get_current_settings  # imported here: it reads the environment once

        if get_current_settings().api.url:
            act()
    except Exception as error:  # noqa: BLE001 - of Prefect and its server
        return str(error)
    return ""


@contextmanager
def flow_progress(settings: Settings) -> Iterator[tuple["RunProgress", Path]]:
    """Show the progress of a flow on the terminal; yield it, and the log file that receives standard error."""
    from tasks.console.progress import report_progress_to
    from tasks.console.terminal_progress import TerminalProgress

    require_space(settings.root)
    with (
        quiet_streams(settings.log_folder, holds_home=True) as (console, log_file),
        TerminalProgress(console) as progress,
        report_progress_to(progress) as run,
    ):
        try:
            yield run, log_file
        except KeyboardInterrupt as interrupt:
            raise Interrupted(describe_interruption(run.newest, run.done)) from interrupt


# Modules that a flow imports when it needs them, in that order.
OF_MLFLOW = ("mlflow", "mlflow.store.tracking.sqlalchemy_store")
OF_CHECKS = ("great_expectations", "great_expectations.checkpoint.actions")


@contextmanager
def tensorflow_imported(later: Sequence[str] = OF_MLFLOW) -> Iterator[None]:
    """Import TensorFlow, and then what the body imports, while a temporary Prefect server starts.

    At the end of the context the server answers. Caution: a flow must not be imported before.

    Args:
        later: modules to import if the server needs more time; otherwise the flow imports them.
    """
    from tasks.services.prefect_server import local_server

    gc.disable()  # nothing that is imported is garbage
    try:
        with local_server(meanwhile=later):
            import tensorflow  # noqa: F401, ICN001 - imported here: ten seconds, which other commands must not pay

            yield
    finally:
        gc.freeze()
        gc.enable()


class Interrupted(RiseOrFallError):
    """A person pressed Ctrl-C while a flow ran."""


RESUMABLE = {"replay": "days", "search": "trials"}  # steps whose finished parts a second run does not repeat


def describe_interruption(step: str, done: Collection[str]) -> str:
    """Return what an interruption has left, by when it came.

    Args:
        step: the step that was started last; empty before the first one.
        done: steps that had ended.
    """
    where = f"interrupted in the step '{step}'" if step and step not in done else "interrupted"
    if step in RESUMABLE:
        return f"{where}: finished {RESUMABLE[step]} are kept, and the same command resumes"
    if "promote" in done:
        return f"{where} after the decision, which is committed: `riseorfall decisions` shows it"
    if step == "promote":
        return f"{where}: `riseorfall decisions` shows whether the decision was committed"
    return f"{where}, before any decision: the champion is as it was"


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output; a number that is undefined or infinite is null, as JSON has neither."""
    print_text(dumps(_without_nan(value), indent=2, allow_nan=False) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_text(text: str) -> None:
    """Print a text on standard output."""
    sys.stdout.write(text)
    sys.stdout.flush()
