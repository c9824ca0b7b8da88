"""A home without space, or that cannot be written to: one clear sentence at once, never a traceback."""

import errno
import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, TEMPORARILY_UNAVAILABLE

from flows.cli import app as command_line
from flows.cli import run
from flows.cli.free_space import FREE_BYTES, require_space
from flows.cli.terminal_session import (
    describe_interruption,
    flow_progress,
    open_output,
    print_json,
    quiet_streams,
    tensorflow_imported,
)
from model.errors import StoreUnavailable
from tasks.settings import Settings, drop_unusable_width


def fail(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_a_run_needs_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_space(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=FREE_BYTES - 1))
    with pytest.raises(StoreUnavailable, match=r"expected at least 50 MB of free space, found 50\.0 MB\. Free some"):
        require_space(tmp_path)


def test_a_run_needs_a_folder_to_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", fail)
    with pytest.raises(StoreUnavailable, match=r"expected a folder to write to, found: Read-only file system\."):
        require_space(tmp_path)


@pytest.mark.parametrize("command", ["remove", "release"])
def test_bars_are_moved_only_where_there_is_space(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert run([command, "--at", "2019-01-01", "--reason", "wrong"]) == StoreUnavailable.exit_code
    assert "expected at least 50 MB of free space, found 0.0 MB" in capsys.readouterr().err


def test_a_command_that_reads_works_without_a_log(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be", encoding="utf-8")
    with quiet_streams(tmp_path / "logs") as (console, path):
        assert path == Path(os.devnull)
        assert console.file.writable()


def test_the_error_of_a_command_is_shown_although_the_disk_takes_no_log() -> None:
    program = """
import logging
import sys
from pathlib import Path
from flows.cli import terminal_session
terminal_session._open_log = lambda _: Path("/dev/full")
sys.stderr = terminal_session.open_output(2, "utf-8")  # as the command line does
try:
    with terminal_session.quiet_streams(Path()):
        logging.getLogger().error("of a library")
        sys.stderr.write("of another")
        raise ValueError("the store is full")
except ValueError as error:
    print(f"riseorfall: {error}", file=sys.stderr)
    sys.exit(3)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "riseorfall: the store is full" in ended.stderr
    assert ended.returncode == 3


def test_undefined_numbers_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    """The balanced accuracy of a version is undefined where every test bar rose; `NaN` is no JSON."""
    print_json({"champion": {"balanced_accuracy": float("nan"), "log_loss": 0.5}, "numbers": [(float("inf"), 1)]})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "champion": {"balanced_accuracy": None, "log_loss": 0.5},
        "numbers": [[None, 1]],
    }


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("words", "errors_too"), [("status --check", False), ("decisions --json", True), ("retrain --help", False)]
)
def test_a_reader_that_has_gone_is_no_error_and_the_command_goes_on(
    words: str, errors_too: bool, tmp_path: Path
) -> None:
    """As in `riseorfall status | head -1`: what is left to do is done, and the exit code is that of the command."""
    environment = os.environ | {"RISEORFALL_HOME": str(tmp_path)}

    def done(output: int, errors: int) -> subprocess.CompletedProcess[bytes]:
        call = [sys.executable, "-c", "from flows.cli import main; main()", *words.split()]
        return subprocess.run(call, stdout=output, stderr=errors, env=environment, check=False)

    whole = done(subprocess.PIPE, subprocess.PIPE)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        cut = done(writer, subprocess.STDOUT if errors_too else subprocess.PIPE)
    finally:
        os.close(writer)
    assert whole.stdout
    assert (cut.returncode, cut.stderr or b"") == (whole.returncode, b"" if errors_too else whole.stderr)


def test_lines_for_a_reader_that_has_gone_are_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open_output(writer, "ascii") as output:
        output.write("gone")
        output.flush()
        output.write("gone too\n" * 10_000)
    os.close(writer)
    with open_output(1, "ascii", by_lines=False) as output:
        output.write("\u00e9\n")
    assert capfd.readouterr().out == "\\xe9\n"


def test_an_unexpected_error_in_a_home_without_logs_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.setattr(command_line, "app", fail)
    assert run(["status"]) == 1
    assert run(["status"]) == 1
    log = tmp_path / "data" / "logs" / "unexpected.log"
    assert log.read_text(encoding="utf-8").count("Traceback") == 2  # the earlier one is kept
    log.unlink()
    log.mkdir()  # now it cannot be written
    capsys.readouterr()
    assert run(["status"]) == 1
    assert capsys.readouterr().err == (
        "riseorfall: unexpected OSError: [Errno 30] Read-only file system (its traceback could not be written to "
        f"{log}: Is a directory)\n"
    )


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (
            TEMPORARILY_UNAVAILABLE,  # as for a database that another process locks, or a server that is overloaded
            (
                "riseorfall: MLflow at sqlite:///{home}/mlruns/mlflow.db: expected an answer, found: "
                "(sqlite3.OperationalError) database is locked. Look whether it runs and whether another process locks "
                "its database, then run again; `riseorfall decisions` shows whether a decision was made\n"
            ),
        ),
        (BAD_REQUEST, "riseorfall: unexpected MlflowException: (sqlite3"),
    ],
)
def test_an_mlflow_that_does_not_answer_is_named(
    code: int, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def locked(*_: object, **__: object) -> None:
        raise MlflowException("(sqlite3.OperationalError) database is locked\n(Background on this error)", code)

    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(command_line, "app", locked)
    assert run(["status"]) == 1
    assert capsys.readouterr().err.startswith(shown.format(home=tmp_path))


@pytest.mark.parametrize(
    ("step", "done", "shown"),
    [
        (
            "train",
            {"ingest", "check"},
            "interrupted in the step 'train', before any decision: the champion is as it was",
        ),
        (
            "promote",
            {"train"},
            "interrupted in the step 'promote': `riseorfall decisions` shows whether the decision was",
        ),
        ("report", {"train", "promote"}, "interrupted in the step 'report' after the decision, which is committed: "),
        ("promote", {"train", "promote"}, "interrupted after the decision, which is committed: `riseorfall decisions`"),
        ("replay", set(), "interrupted in the step 'replay': finished days are kept, and the same command resumes"),
        ("", set(), "interrupted, before any decision"),
    ],
)
def test_an_interruption_tells_what_it_left(step: str, done: set[str], shown: str) -> None:
    assert describe_interruption(step, done).startswith(shown)


def test_ctrl_c_names_the_step_that_it_came_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))

    def interrupted(*_: object, **__: object) -> None:
        with flow_progress(Settings()) as (run, _):
            with run.step("promote"):
                pass
            with run.step("report"):
                raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "app", interrupted)
    assert run(["retrain"]) == 1
    assert "interrupted in the step 'report' after the decision" in capsys.readouterr().err


def ended(command: str, home: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a shell."""
    environment = dict(os.environ) | {"RISEORFALL_HOME": str(home)} | variables
    return subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)


BARS = f"{Path(sys.executable).with_name('riseorfall')} bars"


@pytest.mark.parametrize("closed", ["2>&-", "<&-"])
def test_a_command_works_with_closed_standard_streams(closed: str, tmp_path: Path) -> None:
    found = ended(f"{BARS} {closed}", tmp_path)
    assert (found.returncode, found.stdout) == (0, "no bars yet; `riseorfall ingest` fetches some\n")


def test_a_command_works_with_closed_standard_output(tmp_path: Path) -> None:
    found = ended(f"{BARS} --json <&- >&-", tmp_path)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize("option", ["", "--json", "--help"])
def test_output_that_a_full_disk_does_not_take_is_an_error_of_one_line(option: str, tmp_path: Path) -> None:
    found = ended(f"{BARS} {option} >/dev/full", tmp_path)
    assert found.returncode == 1
    assert found.stderr == "riseorfall: the output could not be written: No space left on device\n"


def test_a_reader_that_goes_is_no_error(tmp_path: Path) -> None:
    found = ended(f"{BARS} | true; echo ${{PIPESTATUS[0]}}", tmp_path)
    assert (found.stdout, found.stderr) == ("0\n", "")


def test_a_width_at_which_nothing_can_be_read_is_ignored(tmp_path: Path) -> None:
    assert ended(BARS, tmp_path, COLUMNS="0").stdout == "no bars yet; `riseorfall ingest` fetches some\n"


@pytest.mark.parametrize(
    ("columns", "kept"),
    [("1", None), ("-5", None), ("abc", None), ("²", None), ("19", None), ("20", "20"), ("9" * 30, "9" * 30)],
)
def test_a_width_that_can_be_read_is_kept(columns: str, kept: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    drop_unusable_width()
    assert os.environ.get("COLUMNS") == kept


@pytest.mark.parametrize("error", [None, StoreUnavailable("the server did not start")])
def test_garbage_is_collected_again_after_the_imports(
    error: StoreUnavailable | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def server(meanwhile: object) -> Iterator[None]:
        assert meanwhile
        yield
        if error:
            raise error

    monkeypatch.setattr("tasks.services.prefect_server.local_server", server)
    monkeypatch.setitem(sys.modules, "tensorflow", ModuleType("tensorflow"))
    try:
        with nullcontext() if error is None else pytest.raises(StoreUnavailable), tensorflow_imported():
            assert not gc.isenabled()
        assert gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
