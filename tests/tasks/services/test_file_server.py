"""The server of the pages answers every address, and gives none away that it does not serve."""

import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from tasks.services.file_server import file_server


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    for place in ("docs/page.html", "reports/größer.html", "tables/secret", "docs/%00"):
        path = tmp_path / "data" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("served")
    server = file_server(tmp_path / "data", 0, lambda series: f"root {series!a}", lambda: (b"metrics", "text/plain"))
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def answer(port: int, method: str, target: str) -> str:
    """Return the answer to a target as it is written, which a client's library would change."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
        link.sendall(f"{method} {target} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode("latin-1"))
        received = b""
        while part := link.recv(65536):
            received += part
    return received.decode()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("target", "status"),
    [
        *(("/docs/%00", 400), ("/%00", 400), ("/docs/page.html%00.png", 400), ("/docs/%ed%a0%80", 400)),
        *(("http://[/docs/", 400), ("/docs/%ff", 404), ("/docs/%", 404), ("/docs/%zz", 404), ("/health%00", 400)),
        *(("/metrics%00", 400), ("/%2e%2e/%2e%2e/etc/passwd", 404), ("/docs/%2e%2e/tables/secret", 404)),
        *(("/docs/..%2ftables%2fsecret", 404), ("/docs/..%5c..%5ctables", 404), ("/tables/secret", 404)),
        *(("/docs/" + "a" * 5_000, 404), ("/docs/" + "a/" * 5_000, 404), ("/" + "a" * 70_000, 414)),
        *(("/docs/page.html", 200), ("/reports/gr%C3%B6%C3%9Fer.html", 200), ("/docs/%2500", 200), ("/docs/", 200)),
        *(("/?series=%00", 200), ("/?series=%ff%ed%a0%80", 200), ("/?series[=%", 200), ("//[::1", 404)),
    ],
)
def test_every_address_is_answered(
    port: int, method: str, target: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(port, method, target).startswith(f"HTTP/1.0 {status} ")
    assert answer(port, "GET", "/health").endswith("ok")
    assert "Traceback" not in capsys.readouterr().err
