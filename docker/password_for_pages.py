"""Serve reports, Data Docs and the pictures of the monitor behind HTTP basic authentication; `/health` without it."""

import base64
import hmac
import os
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import Any

from tasks.services.file_server import PageHandler
from tasks.settings import Settings

PORT = 8900
EXPECTED = "Basic " + base64.b64encode(os.environ["PAGES_USER"].encode()).decode()


class PasswordHandler(PageHandler):
    """Serve the pages to requests with the right user and password."""

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        """Respond if the password is right, else with 401; `/health` needs none."""
        if self.path == "/health" or self._is_authorised():
            super().do_GET()

    def do_HEAD(self) -> None:  # noqa: N802 - the name that http.server calls
        """Respond as GET does, without the body."""
        if self._is_authorised():
            super().do_HEAD()

    def _is_authorised(self) -> bool:
        given = self.headers.get("Authorization", "")
        if hmac.compare_digest(given.encode(), EXPECTED.encode()):
            return True
        self.send_response(HTTPStatus.UNAUTHORIZED)
        self.send_header("WWW-Authenticate", 'Basic realm="riseorfall"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False


def main() -> None:
    """Serve until the container stops."""
    folder = str(Settings().data_folder)

    def handler(*args: Any) -> PasswordHandler:
        return PasswordHandler(*args, directory=folder)

    ThreadingHTTPServer(("0.0.0.0", PORT), handler).serve_forever()  # noqa: S104 - inside the container's network


if __name__ == "__main__":
    main()
