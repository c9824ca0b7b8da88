"""A lock is seen through a file that may only be read, and one that cannot be examined counts as held."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

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
