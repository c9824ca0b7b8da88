"""Entry point of the command `riseorfall`: registers the commands, formats errors and sets the exit code.

Flags are derived from the specs, so a flag, a form field in the Prefect UI and an MLflow parameter have one name.
Results go to standard output, everything else to standard error. Exit codes: 0 success, 1 unexpected error, 2 wrong
usage or unreadable input, 3 failed data checks, 4 alarms (`status --check`) or damage (`doctor`). `--help` imports
nothing heavy: each command imports what it needs when it runs.
"""

import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from inspect import signature
from typing import cast

from cyclopts import App, CycloptsError, Parameter, UnknownOptionError
from pydantic import ValidationError

from flows.cli.old_spellings import replace_old_spellings
from flows.cli.terminal_session import open_standard_streams, output_problem
from model.errors import RiseOrFallError, StoreUnavailable
from tasks.services.leftover_files import use_own_temporary_folder
from tasks.settings import Settings, drop_unusable_width, masked
from tasks.sources.printable_text import printable
from tasks.store.arrow_without_pandas import use_arrow_without_pandas

WRONG_USAGE, UNEXPECTED = 2, 1
FIRST_YEAR, LAST_YEAR = 1900, 2099  # of bars
COMMANDS = {  # by module, in the order of `--help`; a module is imported when one of its commands runs
    "bar_commands": ("ingest", "bars", "quarantine", "release", "remove"),
    "training_commands": ("retrain", "retrain_panel", "replay", "tune"),
    "prediction_commands": ("status", "predict", "predictions", "monitor", "explain", "audit"),
    "champion_commands": ("decisions", "promote", "rollback"),
    "service_commands": ("up", "serve", "deployments", "automations"),
    "repair_commands": ("doctor", "backup", "restore", "housekeeping"),
}


def _require_known_years(_: type, value: object) -> None:
    """Raise ValueError where an option is a time of another year than bars may have; sums with it may overflow."""
    for time in value if isinstance(value, list) else [value]:
        if isinstance(time, datetime) and not FIRST_YEAR <= time.year <= LAST_YEAR:
            raise ValueError(f"expected a time of the years {FIRST_YEAR} to {LAST_YEAR}, found {time.isoformat()}")


app = App(
    name="riseorfall",
    help="Retrain a CNN + LSTM on price bars every day; promote a version that is not worse out of sample by a margin.",
    version_flags=["--version"],
    default_parameter=Parameter(validator=_require_known_years),
)
for module, commands in COMMANDS.items():
    for command in commands:
        app.command(f"flows.cli.{module}:{command}")


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its exit code."""
    open_standard_streams()
    signal.signal(signal.SIGTERM, _exit_on_signal)
    use_own_temporary_folder()
    drop_unusable_width()
    if words is None:
        words = sys.argv[1:]
        if words[:1] in (["predict"], ["decisions"]) and not {"--panel", "--help", "-h"}.intersection(words):
            use_arrow_without_pandas()  # neither needs it; lasts until the process ends
    code = run(words)
    if problem := output_problem():
        code = _fail(f"the output could not be written: {problem}", code or UNEXPECTED)
    sys.exit(code)


def _exit_on_signal(number: int, _: object) -> None:
    """Exit normally, so that exit handlers stop a temporary server."""
    sys.exit(128 + number)


def run(words: Sequence[str]) -> int:
    """Run one command and return its exit code; errors are printed on standard error, not raised."""
    words, warnings = replace_old_spellings(words)
    for warning in warnings:
        _print_error(warning)
    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _fail(_format_usage_error(error) + _hint_at_series(words, error), WRONG_USAGE)
    except ValidationError as error:
        return _fail(_format_validation_error(error), WRONG_USAGE)
    except RiseOrFallError as error:
        damage = _describe_damage() if isinstance(error, StoreUnavailable) else ""
        return _fail(damage or str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; `riseorfall decisions` shows whether a decision was made", UNEXPECTED)
    except Exception as error:  # noqa: BLE001 - the last resort: one line here, the traceback in a file
        unexpected = f"unexpected {type(error).__name__}: {error} ({_log_traceback()})"
        return _fail(_describe_damage() or _describe_mlflow(error) or unexpected, UNEXPECTED)
    return 0


def _describe_damage() -> str:
    """Return a sentence about a damaged file of the home, which explains the error; empty if none is found."""
    from tasks.repair.home_examination import first_damage

    try:
        found = first_damage(Settings())
    except Exception:  # noqa: BLE001 - the error to explain matters more
        return ""
    return f"{found.path}: {found.problem}. Run `riseorfall doctor`." if found else ""


def _describe_mlflow(error: Exception) -> str:
    """Return a sentence about an MLflow that did not answer or is locked, which explains the error; empty otherwise."""
    from tasks.registry.unreachable_store import is_store_failure

    if not type(error).__module__.startswith("mlflow.") or not is_store_failure(error):
        return ""
    return (
        f"MLflow at {masked(Settings().mlflow_uri)}: expected an answer, found: {str(error).partition(chr(10))[0]}. "
        "Look whether it runs and whether another process locks its database, then run again; `riseorfall decisions` "
        "shows whether a decision was made"
    )


def _log_traceback() -> str:
    """Append the traceback of the current exception to a file, and return where it is."""
    path = Settings().log_folder / "unexpected.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n{traceback.format_exc()}\n")
    except OSError as error:
        return f"its traceback could not be written to {path}: {error.strerror}"
    return f"traceback in {path}"


def _fail(text: str, code: int) -> int:
    """Print an error and return the exit code."""
    _print_error(text)
    return code


def _print_error(text: str) -> None:
    sys.stderr.write(f"riseorfall: {printable(text)}\n")


def _format_usage_error(error: CycloptsError) -> str:
    """Format an error of the command line; if a spec caused it, format the spec's validation error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ValidationError):
            return _format_validation_error(cause)
        cause = cause.__cause__
    return str(error)


def _hint_at_series(words: Sequence[str], error: CycloptsError) -> str:
    """Return a hint where a flag of the source was given to a command on a stored series; else nothing."""
    if (
        isinstance(error, UnknownOptionError)
        and "--source." in str(error)
        and words[0] in app
        and "options" in signature(cast("Callable[..., None]", app[words[0]].default_command)).parameters
    ):
        return f" `{words[0]}` works on stored bars: choose the series with --symbol and --interval."
    return ""


def _format_validation_error(error: ValidationError) -> str:
    """Format a validation error: the field, what was expected, what was found."""
    lines = []
    for found in error.errors(include_url=False):
        name = ".".join(str(part) for part in found["loc"])
        lines.append(f"{error.title} {name}: {found['msg']}; found {found['input']!r}")
    return "; ".join(lines)
