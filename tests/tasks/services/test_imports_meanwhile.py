"""What a run imports while its temporary Prefect server starts."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.services import prefect_server
from tasks.services.prefect_server import local_server

MODULES = ("imported_first", "imported_second", "imported_third")


def test_modules_are_imported_until_the_server_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MODULES:
        (tmp_path / f"{name}.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    unanswered = SimpleNamespace(api=SimpleNamespace(url=None))
    monkeypatch.setattr("prefect.settings.get_current_settings", lambda: unanswered)
    monkeypatch.setattr(prefect_server, "use_server", lambda _: None)
    monkeypatch.setattr(prefect_server, "set_environment", lambda *_, **__: None)
    process = SimpleNamespace(poll=lambda: None, terminate=lambda: None)
    monkeypatch.setattr(prefect_server, "launch", lambda *_: process)
    answers = iter([False, False, True])
    monkeypatch.setattr(prefect_server, "is_healthy", lambda _: next(answers))
    with local_server(MODULES):
        assert not set(MODULES) & sys.modules.keys()
    assert [name for name in MODULES if name in sys.modules] == ["imported_first", "imported_second"]
