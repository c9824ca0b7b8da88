"""Serves reports, Data Docs and the monitor's pictures to whoever knows user and password; `/health` to everyone."""

import base64
import hmac
import os
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import Any

from tasks.services.file_server import Shown
from tasks.settings import Settings

PORT = 8900
WANTED = "Basic " + base64.b64encode(os.environ["PAGES_USER"].encode()).decode()


class Guarded(Shown):
    """The shown folders, behind a password."""

    def do_GET(self) -> None:  # noqa: N802 - http.server calls it so
        """Answer once the password is right."""
        if self.path == "/health":
            self.send_response(HTTPStatus.NO_CONTENT)
            self.end_headers()
        elif self._may():
            super().do_GET()

    def do_HEAD(self) -> None:  # noqa: N802 - as above
        """Answer as GET does, without the body."""
        if self._may():
            super().do_HEAD()

    def _may(self) -> bool:
        given = self.headers.get("Authorization", "")
        if hmac.compare_digest(given.encode(), WANTED.encode()):
            return True
        self.send_response(HTTPStatus.UNAUTHORIZED)
        self.send_header("WWW-Authenticate", 'Basic realm="riseorfall"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False


def main() -> None:
    """Serve until the container stops."""
    folder = str(Settings().root / "data")

    def handler(*args: Any) -> Guarded:
        return Guarded(*args, directory=folder)

    ThreadingHTTPServer(("0.0.0.0", PORT), handler).serve_forever()  # noqa: S104 - a container's own network


if __name__ == "__main__":
    main()
