"""What a run imports while its temporary Prefect server starts."""

import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest

from tasks.services import prefect_server
from tasks.services.prefect_server import local_server, temporary_server

MODULES = ("imported_first", "imported_second", "imported_third")
ANSWERING = "answering"  # a module that stands for the server


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that seems to start, as nothing is configured."""
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    unanswered = SimpleNamespace(api=SimpleNamespace(url=None))
    monkeypatch.setattr("prefect.settings.get_current_settings", lambda: unanswered)
    monkeypatch.setattr(prefect_server, "use_server", lambda _: None)
    monkeypatch.setattr(prefect_server, "set_environment", lambda *_, **__: None)
    process = SimpleNamespace(poll=lambda: None, terminate=lambda: None)
    monkeypatch.setattr(prefect_server, "launch", lambda *_: process)


@pytest.mark.usefixtures("started")
def test_modules_are_imported_until_the_server_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text("", encoding="utf-8")
    (tmp_path / "imported_second.py").write_text(f"import {ANSWERING}\n{ANSWERING}.event.set()\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))

    asking = Event()

    def ask(_service: object, _process: object, answers: Event) -> None:
        monkeypatch.setitem(sys.modules, ANSWERING, SimpleNamespace(event=answers))  # type: ignore[arg-type]
        asking.set()

    monkeypatch.setattr(prefect_server, "ask_until_answer", ask)
    with local_server(MODULES):
        assert asking.wait(10)
        assert not set(MODULES) & sys.modules.keys()
    assert [name for name in MODULES if name in sys.modules] == ["imported_first", "imported_second"]


@pytest.mark.usefixtures("started")
def test_a_server_is_asked_while_the_body_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Event()
    answers: Callable[[str], bool] = lambda _: asked.set() or True  # noqa: E731
    monkeypatch.setattr(prefect_server, "is_healthy", answers)
    with local_server():
        assert asked.wait(10)


def test_a_server_is_asked_until_it_answers_or_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_server, "POLL_SECONDS", 0)
    replies = iter([False, False, True])
    monkeypatch.setattr(prefect_server, "is_healthy", lambda _: next(replies))
    answers = Event()
    prefect_server.ask_until_answer(temporary_server(), SimpleNamespace(poll=lambda: None), answers)  # type: ignore[arg-type]
    assert answers.is_set()
    assert not list(replies)
    monkeypatch.setattr(prefect_server, "is_healthy", lambda _: False)
    codes, refused = iter([None, None, 1]), Event()
    prefect_server.ask_until_answer(temporary_server(), SimpleNamespace(poll=lambda: next(codes)), refused)  # type: ignore[arg-type]
    assert not refused.is_set()
