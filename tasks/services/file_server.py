"""Serve the pages below HOME/data over HTTP: Data Docs, reports, pictures of the monitor, and a page at the root.

It serves the folders in `SERVED_FOLDERS` only: the others hold databases, logs and tables. It listens on this machine
only, and answers only requests for an address of this machine: a web page whose own name is pointed at 127.0.0.1 must
not read what is served. `/health` answers without reading anything; `/metrics` is for Prometheus.
"""

import logging
from collections.abc import Callable
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tasks.settings import LOCAL_NAMES

log = logging.getLogger(__name__)

SERVED_FOLDERS = ("docs", "reports", "monitor")
HOST = LOCAL_NAMES[0]
LISTING = (
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=color-scheme content='light dark'>"
    "<meta name=viewport content='width=device-width, initial-scale=1'><title>riseorfall</title>"
    "<style>body{{font:16px/1.6 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}}</style>"
    "<h1>riseorfall</h1><p>Pages on this machine:</p><ul>{items}</ul></html>"
)


class PageHandler(SimpleHTTPRequestHandler):
    """Serve files of the served folders, and a page at the root."""

    def __init__(
        self,
        *args: Any,
        root_page: Callable[[str], str] | None = None,
        metrics_page: Callable[[], tuple[bytes, str]] | None = None,
        **options: Any,
    ) -> None:
        """Handle one request.

        Args:
            args: of the base class.
            root_page: returns the page at the root as HTML, given the name after `?series=` or an empty text; the
                folders are listed if None, or where it fails.
            metrics_page: returns what is at `/metrics`, and its content type; 404 if None.
            options: of the base class.
        """
        self.root_page = root_page
        self.metrics_page = metrics_page
        super().__init__(*args, **options)

    def parse_request(self) -> bool:
        """Read the request line and the headers; respond with 400 and return False for a path that no file can have."""
        if not super().parse_request():
            return False
        try:  # NUL, half a character, or an address of brackets
            urlsplit(self.path)
            Path(self.translate_path(self.path)).resolve()
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return False
        return True

    def do_GET(self) -> None:
        """Respond with a file, a listing, or 404."""
        if self.path == "/health":
            self._send(b"ok", "text/plain")
        elif self._is_root():
            self._send_root()
        elif self.path == "/metrics" and self.metrics_page:
            self._send(*self.metrics_page())
        elif self._is_served():
            super().do_GET()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_HEAD(self) -> None:
        """Respond as GET does, without the body."""
        if self._is_served():
            super().do_HEAD()
        else:
            self.send_error(HTTPStatus.OK if self._is_root() else HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        """Disable caching: pages keep their name and change every day."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""

    def _is_root(self) -> bool:
        return urlsplit(self.path).path in {"", "/"}

    def _is_served(self) -> bool:
        folder = Path(self.directory).resolve()
        place = Path(
            self.translate_path(self.path)
        ).resolve()  # resolves symbolic links, so none leads out of the folder
        first = unquote(urlsplit(self.path).path).strip("/").split("/")[0]
        return first in SERVED_FOLDERS and place.is_relative_to(folder / first)

    def _send_root(self) -> None:
        self._send((self._root_text() or self._listing()).encode(), "text/html; charset=utf-8")

    def _root_text(self) -> str:
        try:
            (series, *_) = parse_qs(urlsplit(self.path).query).get("series", [""])
            return self.root_page(series) if self.root_page else ""
        except Exception:  # the page reads every store; the folders are of use without it
            log.exception("the page at the root could not be written; the folders are listed instead")
            return ""

    def _listing(self) -> str:
        present = [name for name in SERVED_FOLDERS if (Path(self.directory) / name).is_dir()]
        items = "".join(f'<li><a href="{name}/">{name}</a></li>' for name in present) or "<li>nothing yet</li>"
        return LISTING.format(items=items)

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class LocalPageHandler(PageHandler):
    """Refuse requests whose Host header names another machine; any port is accepted, for a tunnel has its own."""

    def parse_request(self) -> bool:
        """Read the request line and the headers; respond with 403 and return False for a foreign host."""
        if not super().parse_request():
            return False
        if self.headers.get("Host", "").partition(":")[0].lower() in LOCAL_NAMES:
            return True
        self.send_error(HTTPStatus.FORBIDDEN, explain=f"Expected a Host header of {' or '.join(LOCAL_NAMES)}.")
        return False


def file_server(
    folder: Path,
    port: int,
    root_page: Callable[[str], str] | None = None,
    metrics_page: Callable[[], tuple[bytes, str]] | None = None,
) -> ThreadingHTTPServer:
    """Return a server that is bound to the port; 0 takes a free one. `PageHandler` describes the pages."""

    def handler(*args: Any) -> LocalPageHandler:
        return LocalPageHandler(*args, directory=str(folder), root_page=root_page, metrics_page=metrics_page)

    return ThreadingHTTPServer((HOST, port), handler)
