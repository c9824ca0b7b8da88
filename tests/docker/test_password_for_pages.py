"""The page server of the containers needs the password for pages, and none for `/health`, the compose health check."""

import base64
import runpy
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

DOCKER = Path(__file__).parents[2] / "docker"
PAGE = "/reports/page.html"


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Serve a folder with one page to the user `admin:right`."""
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "page.html").write_text("the page", encoding="utf-8")
    monkeypatch.setenv("PAGES_USER", "admin:right")
    handler = runpy.run_path(str(DOCKER / "password_for_pages.py"))["PasswordHandler"]
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: handler(*given, directory=str(tmp_path)))
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def answer(port: int, path: str, user: str = "", method: str = "GET") -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    headers = {"Authorization": "Basic " + base64.b64encode(user.encode()).decode()} if user else {}
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


def test_pages_need_the_password_and_health_does_not(port: int) -> None:
    assert answer(port, PAGE, "admin:right") == (200, b"the page")
    assert answer(port, PAGE, "admin:right", "HEAD") == (200, b"")
    for user in ("", "admin:wrong"):
        for method in ("GET", "HEAD"):
            for path in (PAGE, "/", "/metrics", "/health/../reports/page.html"):
                assert answer(port, path, user, method) == (401, b""), path
    assert answer(port, "/health")[0] == 200


def test_the_health_check_uses_it() -> None:
    service = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]["pages"]
    assert "http://127.0.0.1:8900/health" in " ".join(service["healthcheck"]["test"])
