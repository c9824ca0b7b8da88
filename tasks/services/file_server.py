"""A static http server for what a browser may see below HOME/data: Data Docs, reports, the monitor's pictures.

Run as `python -m tasks.services.file_server FOLDER PORT`. It serves the folders of `SHOWN` and nothing else: beside them lie
databases, logs and tables. It listens on this machine only.
"""

import sys
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

SHOWN = ("docs", "reports", "monitor")
HOST = "127.0.0.1"
PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>riseorfall</title>"
    "<style>body{{font:16px/1.6 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}}</style>"
    "<h1>riseorfall</h1><p>What was written to be read:</p><ul>{items}</ul></html>"
)


class Shown(SimpleHTTPRequestHandler):
    """Files of the shown folders; a short page of links at the root."""

    def do_GET(self) -> None:
        """Answer with a file, a listing, or 404."""
        if self._is_root():
            self._send_root()
        elif self._is_shown():
            super().do_GET()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_HEAD(self) -> None:
        """Answer as GET does, without the body."""
        if self._is_shown():
            super().do_HEAD()
        else:
            self.send_error(HTTPStatus.OK if self._is_root() else HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        """Let a browser ask again each time: pages of one name are written anew each day."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep quiet."""

    def _is_root(self) -> bool:
        return urlsplit(self.path).path in {"", "/"}

    def _is_shown(self) -> bool:
        folder = Path(self.directory).resolve()
        place = Path(self.translate_path(self.path)).resolve()  # follows links: none leads out
        first = unquote(urlsplit(self.path).path).strip("/").split("/")[0]
        return first in SHOWN and place.is_relative_to(folder / first)

    def _send_root(self) -> None:
        present = [name for name in SHOWN if (Path(self.directory) / name).is_dir()]
        items = "".join(f'<li><a href="{name}/">{name}</a></li>' for name in present) or "<li>nothing yet</li>"
        body = PAGE.format(items=items).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def file_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server that is bound and ready to serve; port 0 takes a free one."""

    def handler(*args: Any) -> Shown:
        return Shown(*args, directory=str(folder))

    return ThreadingHTTPServer((HOST, port), handler)


if __name__ == "__main__":
    file_server(Path(sys.argv[1]), int(sys.argv[2])).serve_forever()
