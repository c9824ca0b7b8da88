"""Services: restarts, process guards, the lock of a home, ports, and the folders that the page server serves."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from typing import Any
from unittest.mock import patch

import httpx
import psutil
import pytest
import requests

from tasks.registry.owning_process import own_process
from tasks.services import supervisor as supervisor_module
from tasks.services.file_server import HOST, file_server
from tasks.services.ports import choose_port, keep_ipv6_free
from tasks.services.process_guard import end_marked, find_marked
from tasks.services.supervisor import Service, ServiceNotStarted, Supervisor, is_healthy, stop_on_signals
from tasks.services.up_lock import AlreadyRunning, LockHeld, hold_home_lock, read_state
from tasks.settings import Settings

SLEEP = "import time; time.sleep(600)"


def wait_until(what: object, seconds: float = 20) -> None:
    limit = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < limit
        time.sleep(0.05)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    lines: list[str] = []
    supervisor = Supervisor(tmp_path, dict(os.environ), tmp_path / "up.json", lines.append)
    yield supervisor
    supervisor.stopping.set()
    supervisor.stop()


def test_a_service_that_dies_is_restarted(supervisor: Supervisor) -> None:
    supervisor.start(Service("sleeper", (sys.executable, "-c", SLEEP)))
    thread = Thread(target=supervisor.run_until_stopped)
    thread.start()
    first = supervisor.processes["sleeper"].process.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: supervisor.processes["sleeper"].restarts == 1)
    assert supervisor.processes["sleeper"].process.pid != first
    supervisor.stopping.set()
    thread.join()


def test_a_full_disk_or_no_memory_does_not_end_the_other_services(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.start(Service("short", (sys.executable, "-c", "pass")))
    supervisor.processes["short"].delay_seconds = 0.01
    launched, failures = supervisor_module.launch, [OSError(12, "Cannot allocate memory")]

    def launch(*given: Any) -> Any:
        if failures:
            raise failures.pop()
        return launched(*given)

    def full(_: Supervisor) -> None:
        supervisor.stopping.set()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(supervisor_module, "launch", launch)
    monkeypatch.setattr(Supervisor, "write_state", full)
    supervisor.run_until_stopped()
    assert not failures
    assert supervisor.processes["short"].restarts == 1


def test_a_service_that_cannot_start_raises_with_the_end_of_its_log(supervisor: Supervisor) -> None:
    service = Service("broken", (sys.executable, "-c", "import sys; sys.exit('no bars today')"), "http://127.0.0.1:9/")
    with pytest.raises(ServiceNotStarted, match="no bars today"):
        supervisor.start(service)


def test_a_service_is_started_when_its_health_check_succeeds(supervisor: Supervisor, tmp_path: Path) -> None:
    port = choose_port(0, 1, "pages")
    address = f"http://127.0.0.1:{port}/"
    command = (sys.executable, "-m", "http.server", str(port), "--bind", HOST, "--directory", str(tmp_path))
    lines: list[str] = []
    supervisor.report = lines.append
    supervisor.start(Service("pages", command, address, address))
    assert is_healthy(address)
    assert lines == ["starting pages ..."]


def test_sigkill_of_the_parent_ends_program_and_descendants(tmp_path: Path) -> None:
    # The grandchild leaves its session, as a flow run's process does.
    grandchild = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)"
    child = f"{grandchild}; {SLEEP}"
    script = (
        "import subprocess, sys, time\n"
        "guard = [sys.executable, '-m', 'tasks.services.process_guard', 'mark-of-test']\n"
        f"subprocess.Popen([*guard, sys.executable, '-c', {child!r}])\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    try:
        wait_until(lambda: len(find_marked("RISEORFALL_TETHER", "mark-of-test")) == 2)
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not find_marked("RISEORFALL_TETHER", "mark-of-test"))


@pytest.mark.e2e
def test_a_killed_guard_leaves_nothing_and_its_service_is_restarted_on_the_same_port(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    """At its first start the program ignores SIGTERM; its child is in a session of its own."""
    port = choose_port(0, 1, "pages")
    address = f"http://127.0.0.1:{port}/"
    program = (
        "import signal, subprocess, sys\nfrom pathlib import Path\n"
        f"first = Path({str(tmp_path / 'started')!r})\n"
        "if not first.exists(): signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "first.touch()\n"
        f"subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)\n"
        "from tasks.services.file_server import file_server\n"
        f"file_server(Path({str(tmp_path)!r}), {port}).serve_forever()\n"
    )
    supervisor.start(Service("pages", (sys.executable, "-c", program), address, address))
    managed = supervisor.processes["pages"]
    before = {process.pid for process in find_marked("RISEORFALL_TETHER", managed.mark)}
    assert len(before) == 2
    with patch("tasks.services.supervisor.LEFTOVER_GRACE_SECONDS", 0.5):
        thread = Thread(target=supervisor.run_until_stopped)
        thread.start()
        os.kill(managed.process.pid, signal.SIGKILL)
        wait_until(lambda: managed.restarts == 1 and is_healthy(address), seconds=40)
        after = {process.pid for process in find_marked("RISEORFALL_TETHER", managed.mark)}
        assert not before & after
        assert managed.process.poll() is None
        supervisor.stopping.set()
        thread.join()


@pytest.mark.skipif(sys.platform != "linux", reason="the signal at the parent's death is Linux's")
def test_without_a_supervisor_the_program_of_a_killed_guard_ends_too() -> None:
    """As for the temporary Prefect server of a run from a shell, which nobody restarts."""
    guard = subprocess.Popen(
        [sys.executable, "-m", "tasks.services.process_guard", "killed-guard", sys.executable, "-c", SLEEP]
    )
    wait_until(lambda: find_marked("RISEORFALL_TETHER", "killed-guard"))
    guard.kill()
    guard.wait()
    wait_until(lambda: not find_marked("RISEORFALL_TETHER", "killed-guard"), seconds=5)


def test_only_processes_with_the_mark_are_ended() -> None:
    ours = subprocess.Popen([sys.executable, "-c", SLEEP], env=os.environ | {"RISEORFALL_UP": "/a/home"})
    others = subprocess.Popen([sys.executable, "-c", SLEEP], env=os.environ | {"RISEORFALL_UP": "/a/home2"})
    try:
        wait_until(lambda: find_marked("RISEORFALL_UP", "/a/home"))
        assert end_marked("RISEORFALL_UP", "/a/home", grace_seconds=0.5) == 1
        assert ours.wait(5) != 0
        assert others.poll() is None
    finally:
        for each in (ours, others):
            each.kill()
            each.wait()


def test_processes_that_must_be_killed_are_gone_afterwards() -> None:
    """A stopped one takes SIGTERM only once it continues; `up` starts next and needs its port."""
    stopped = [
        subprocess.Popen([sys.executable, "-c", SLEEP], env=os.environ | {"RISEORFALL_UP": "/b"}) for _ in range(8)
    ]
    try:
        wait_until(lambda: len(find_marked("RISEORFALL_UP", "/b")) == 8)
        for each in stopped:
            each.send_signal(signal.SIGSTOP)
        assert end_marked("RISEORFALL_UP", "/b", grace_seconds=0.5) == 8
        assert not any(psutil.pid_exists(each.pid) for each in stopped)
    finally:
        for each in stopped:
            each.kill()
            each.wait()


def test_a_home_has_one_supervisor_and_a_dead_one_does_not_block_it(tmp_path: Path) -> None:
    lock, state = tmp_path / "up.lock", tmp_path / "up.json"
    script = (
        "import pathlib, time\nfrom tasks.services.up_lock import hold_home_lock\n"
        f"with hold_home_lock(pathlib.Path({str(lock)!r}), pathlib.Path({str(state)!r})):\n"
        f'    pathlib.Path({str(state)!r}).write_text(\'{{"pid": 1, "parts": {{}}, "environment": {{}}}}\')\n'
        "    time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait_until(state.exists)
        with pytest.raises(AlreadyRunning, match="already running"), hold_home_lock(lock, state):
            pass
        assert read_state(lock, state)
    finally:
        holder.kill()
        holder.wait()
    assert read_state(lock, state) is None  # the file exists, its writer is gone
    with hold_home_lock(lock, state):
        # Another `up` starts: whoever listens at the addresses of the killed one must not be sent the password.
        assert read_state(lock, state) is None


def test_a_lock_that_another_program_holds_is_an_error_and_other_users_cannot_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.services.up_lock.LOCK_TIMEOUT_SECONDS", 0.5)
    lock, state = tmp_path / "up.lock", tmp_path / "up.json"
    lock.touch(mode=0o644)  # as version 0.1 created it; whoever can read it can lock it
    with hold_home_lock(lock, state):
        assert lock.stat().st_mode & 0o777 == 0o600
        assert lock.read_text() == own_process()
        with pytest.raises(AlreadyRunning, match="already starting"), hold_home_lock(lock, state):
            pass  # no state yet
    lock.write_text(f"{own_process().split()[0]} 1 1")  # of an `up` that is gone
    with lock.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LockHeld, match="no `riseorfall up` holds it") as held, hold_home_lock(lock, state):
            pass
        assert held.value.exit_code == 1


def test_the_lock_of_another_users_home_is_looked_at_and_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, state = tmp_path / "up.lock", tmp_path / "up.json"
    modes = {"a": True, "r": False}  # whether this user may not: the file is there and readable
    true = Path.open

    def opened(path: Path, mode: str = "r", **named: Any) -> Any:
        if path == lock and modes[mode]:
            raise PermissionError(13, "Permission denied")
        return true(path, mode, **named)

    with hold_home_lock(lock, state):
        state.write_text(json.dumps({"pid": os.getpid(), "parts": {}}))
        monkeypatch.setattr(Path, "open", opened)
        assert read_state(lock, state) == {"pid": os.getpid(), "parts": {}}
        with pytest.raises(LockHeld, match="may write to, found: Permission denied"), hold_home_lock(lock, state):
            pass
    assert read_state(lock, state) is None
    modes["r"] = True  # mode 0600, as `up` sets it: whether the process runs decides
    assert read_state(lock, state) == {"pid": os.getpid(), "parts": {}}
    state.write_text(json.dumps({"pid": 2**22 + 1, "parts": {}}))  # more than a process can have
    assert read_state(lock, state) is None


def test_a_requested_port_in_use_is_refused_and_a_usual_one_avoided(tmp_path: Path) -> None:
    server = file_server(tmp_path, 0)
    port = server.server_address[1]
    try:
        with pytest.raises(ServiceNotStarted, match=f"MLflow: expected port {port} to be free"):
            choose_port(port, 1, "MLflow")
        assert choose_port(0, port, "MLflow") != port
        free = choose_port(0, 1, "MLflow")
        assert choose_port(0, free, "MLflow", taken=[free]) != free
    finally:
        server.server_close()


def ipv6_socket() -> socket.socket:
    """A socket as a server makes it."""
    try:
        made = socket.socket(socket.AF_INET6)
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def test_nobody_else_listens_at_the_other_address_of_localhost(tmp_path: Path) -> None:
    """A page there would be http://localhost:PORT too, and could read the password that the browser keeps for ours."""
    server = file_server(tmp_path, 0)
    port = server.server_address[1]
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        with keep_ipv6_free([port]):
            for host in ("::1", "::"):
                with ipv6_socket() as other, pytest.raises(OSError, match="in use"):
                    other.bind((host, port))
            with ipv6_socket() as browser, pytest.raises(ConnectionRefusedError):
                browser.connect(("::1", port))  # it goes on to 127.0.0.1
            assert is_healthy(f"http://127.0.0.1:{port}/health")
        with ipv6_socket() as other:
            other.bind(("::1", port))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    with ipv6_socket() as other:
        other.bind(("::1", port))
        other.listen()
        assert choose_port(0, port, "Prefect") != port
        with pytest.raises(ServiceNotStarted, match=f"expected port {port} to be free"):
            choose_port(port, 1, "Prefect")


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[int]:
    for name in ("docs/index.html", "tables/secret.parquet", "up.json", "prefect/prefect.db"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "outside.txt").write_text("outside")
    (tmp_path / "data" / "docs" / "way-out").symlink_to(tmp_path)
    server = file_server(tmp_path / "data", 0)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_the_end_of_the_terminal_stops_up_unless_it_was_started_with_nohup(before: signal.Handlers) -> None:
    former, stopping = signal.signal(signal.SIGHUP, before), Event()
    try:
        with stop_on_signals(stopping):
            signal.raise_signal(signal.SIGHUP)
        assert stopping.is_set() is (before == signal.SIG_DFL)
        assert signal.getsignal(signal.SIGHUP) == before
    finally:
        signal.signal(signal.SIGHUP, former)


def test_a_port_whose_answers_are_no_http_is_not_healthy() -> None:
    with socket.create_server((HOST, 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"no HTTP\r\n\r\n")

        Thread(target=answer, daemon=True).start()
        assert not is_healthy(f"http://{HOST}:{server.getsockname()[1]}/")


def test_a_proxy_is_not_asked_for_servers_of_this_machine(pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `up` and the server of a run do not start where `http_proxy` is set, and the proxy reads the password."""
    url, nobody = f"http://127.0.0.1:{pages}/health", "http://127.0.0.1:9"
    environment = {"http_proxy": nobody, "HTTP_PROXY": nobody, "no_proxy": "example.org"}
    Settings().announce(environment)
    assert environment["no_proxy"] == environment["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    Settings().announce(environment)
    assert environment["no_proxy"].count("localhost") == 1
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, environment[name])
    assert is_healthy(url, "admin:secret")
    assert httpx.get(url).status_code == 200  # Prefect's client
    assert requests.get(url, timeout=5).status_code == 200  # MLflow's


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200), ("/docs/index.html", 200), ("/docs/", 200),
        ("/docs/../up.json", 404), ("/docs/%2e%2e/up.json", 404),
        ("/tables/secret.parquet", 404), ("/up.json", 404), ("/prefect/prefect.db", 404), ("//up.json", 404),
        ("/docs/way-out/outside.txt", 404), ("/docs/../../outside.txt", 404), ("/..%2foutside.txt", 404),
    ],
)  # fmt: skip
def test_only_served_folders_are_served(pages: int, path: str, status: int) -> None:
    connection = HTTPConnection("127.0.0.1", pages, timeout=5)
    connection.request("GET", path)
    reply = connection.getresponse()
    body = reply.read().decode()
    connection.close()
    assert reply.status == status
    assert "outside" not in body
    assert "secret" not in body


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("127.0.0.1:1", 200), ("localhost:8901", 200), ("LOCALHOST", 200),
        ("evil.example", 403), ("evil.example:8900", 403), ("127.0.0.1.evil.example", 403), ("", 403), (None, 403),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_foreign_host_is_refused(pages: int, host: str | None, status: int, method: str) -> None:
    """A web page whose own name points at 127.0.0.1 (DNS rebinding) sends that name as its host."""
    connection = HTTPConnection("127.0.0.1", pages, timeout=5)
    connection.putrequest(method, "/docs/index.html", skip_host=True)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()
