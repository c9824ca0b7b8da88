"""The first Prefect server of a home creates its database alone; the servers of a home that has it do not wait."""

from pathlib import Path
from threading import Event, Thread

import pytest

from tasks.registry.file_lock import is_held
from tasks.services.prefect_server import first_start, local_server
from tasks.services.supervisor import Service, ServiceNotStarted, Supervisor
from tasks.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    return Settings(home=tmp_path, tracking_uri="")


def test_a_second_server_waits_for_the_database_of_the_first(settings: Settings) -> None:
    started, database = Event(), settings.prefect_home / "prefect.db"

    def second() -> None:
        with first_start(settings):
            started.set()

    with first_start(settings):
        thread = Thread(target=second)
        thread.start()
        database.touch()  # half of it
        assert not started.wait(0.3)
    assert started.wait(10)
    thread.join()
    with first_start(settings):
        assert not is_held(settings.prefect_home / "first_start.lock")


def test_the_server_of_a_run_creates_the_database_under_the_lock(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, seen = settings.prefect_home / "first_start.lock", []

    class Process:
        def terminate(self) -> None:
            """Do nothing."""

        def poll(self) -> int:
            seen.append(is_held(lock))
            return 1

    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.setattr("tasks.services.prefect_server.launch", lambda *_: Process())
    monkeypatch.setattr("tasks.services.prefect_server.use_server", lambda _: None)
    monkeypatch.setattr("tasks.services.prefect_server.ask_until_answer", lambda *_: None)
    from prefect.settings import PREFECT_API_URL, temporary_settings

    none = temporary_settings(restore_defaults={PREFECT_API_URL})
    with none, pytest.raises(ServiceNotStarted, match="expected an answer"), local_server():
        seen.append(is_held(lock))
    assert seen == [True, True]
    assert not is_held(lock)


def test_up_does_not_wait_once_it_is_stopped_and_starts_nothing_more(settings: Settings, tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, {}, tmp_path / "state.json", lambda _: None)
    supervisor.stopping.set()
    with first_start(settings), first_start(settings, supervisor.stopping.is_set):
        supervisor.start(Service("none", ("/does/not/exist",), "http://127.0.0.1:1/health", "http://127.0.0.1:1"))
    assert supervisor.processes == {}


def test_a_database_elsewhere_is_not_waited_for(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://127.0.0.1/prefect")
    with first_start(settings), first_start(settings):
        assert not settings.prefect_home.exists()


def test_the_home_of_prefect_may_begin_with_a_tilde(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", "~/prefect")
    assert settings.prefect_home == Path.home() / "prefect"
