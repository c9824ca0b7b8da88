"""A lock is seen through a file that may only be read, and one that cannot be examined counts as held."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from flows.cli.terminal_session import quiet_streams
from model.errors import StoreUnavailable
from tasks.registry.file_lock import hold_file, is_held, open_to_lock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file"


def refuse(monkeypatch: pytest.MonkeyPatch, modes: str, number: int = errno.EACCES) -> None:
    """Let files be opened in modes without these letters only; the tests may run as a user who may open any."""
    true = Path.open

    def opened(path: Path, mode: str = "r", **named: Any) -> Any:
        if set(modes) & set(mode):
            raise OSError(number, os.strerror(number))
        return true(path, mode, **named)

    monkeypatch.setattr(Path, "open", opened)


@pytest.mark.parametrize("kind", [fcntl.LOCK_SH, fcntl.LOCK_EX], ids=["shared", "exclusive"])
@pytest.mark.parametrize(
    "number", [0, errno.EACCES, errno.EROFS], ids=["writable", "of another user", "read-only disk"]
)
def test_a_lock_is_seen(kind: int, number: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path.open("a+") as holder:
        if number:
            refuse(monkeypatch, "a+w", number)
        fcntl.flock(holder, kind)
        assert is_held(path)
        fcntl.flock(holder, fcntl.LOCK_UN)
        assert not is_held(path)


@pytest.mark.parametrize("kind", [fcntl.LOCK_SH, fcntl.LOCK_EX], ids=["shared", "exclusive"])
@pytest.mark.parametrize("create", [True, False])
def test_a_file_is_opened_for_both_kinds_of_lock(
    kind: int, create: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a disk on the network requires: a shared lock needs reading, an exclusive one writing."""
    with open_to_lock(path, create=create) as file:
        assert file.readable()
        assert file.writable()
        fcntl.flock(file, kind)
    refuse(monkeypatch, "a+w")
    with open_to_lock(path, create=create) as file:
        assert not file.writable()
        fcntl.flock(file, kind)


@pytest.mark.parametrize(
    ("number", "held"),
    [(errno.EACCES, True), (errno.EBADF, True), (errno.ENOLCK, False), (errno.ENOTSUP, False), (errno.ENOENT, False)],
    ids=errno.errorcode.get,
)
def test_a_file_that_cannot_be_examined_counts_as_held_and_a_disk_without_locks_as_free(
    number: int, held: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", fail)
    assert is_held(path) is held
    monkeypatch.undo()
    refuse(monkeypatch, "ra")
    assert is_held(path)


def test_a_lock_that_another_holds_is_waited_for_until_the_caller_gives_up(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tasks.registry.file_lock.NOTICE_SECONDS", 0.0)
    looks = iter([False, False, False, True])
    with path.open("a+") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with hold_file(path, lambda: next(looks)):
            assert next(looks, "all looked at") == "all looked at"
        assert caplog.text.count(f"waiting for another process, which holds {path}") == 1
        monkeypatch.setattr("tasks.registry.file_lock.WAIT_SECONDS", 0.0)
        with pytest.raises(StoreUnavailable, match="found it still held"), hold_file(path):
            pass
    with hold_file(path):
        assert is_held(path)


@pytest.mark.parametrize(("folder", "file"), [(0o755, 0o600), (0o700, 0o600), (0o775, 0o660), (0o2777, 0o666)])
@pytest.mark.parametrize("umask", [0, 0o022, 0o077], ids=oct)
def test_only_who_may_write_to_a_folder_can_lock_in_it(folder: int, file: int, umask: int, tmp_path: Path) -> None:
    """A lock needs no more than the right to read; a command holds the home by its log file."""
    tmp_path.chmod(folder)
    before = os.umask(umask)
    try:
        with hold_file(tmp_path / "lock"), quiet_streams(tmp_path, holds_home=True) as (_, log_file):
            modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == {tmp_path / "lock": file, log_file: file}


def test_a_command_runs_where_it_may_write_no_log() -> None:
    with quiet_streams(Path("/proc/self")) as (_, log_file):  # where nobody can create a file, root neither
        assert log_file == Path(os.devnull)


def test_a_lock_file_of_an_earlier_release_is_made_private(path: Path) -> None:
    path.parent.chmod(0o755)
    path.chmod(0o644)
    with hold_file(path):
        assert path.stat().st_mode & 0o777 == 0o600
