"""MLflow's server as `up` runs it: everybody on this machine may read, only who has the home's password may write.

Its start page leads to the runs of the series instead of MLflow's introduction for language models.

`mlflow server --app-name riseorfall` finds `create_app` by its entry point in pyproject.toml. MLflow's own basic
authentication would ask for a password at every page (docs/decisions/0010). A request counts as a read if its method
is safe or its path is one of `READS_BY_POST`: a route that a later MLflow adds needs the password.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from model.errors import SpecError
from tasks.registry.experiment_page import experiment_path
from tasks.services.server_password import basic_authentication, read_password
from tasks.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Routes of MLflow 3.17 that read although their method is POST: the query is too long for an address.
READS_BY_POST = frozenset(
    {"/graphql"}
    | {
        f"/{prefix}/{path}"
        for prefix in ("api", "ajax-api")
        for path in (
            "2.0/mlflow/experiments/search",
            "2.0mlflow/experiments/search-datasets",  # MLflow's own spelling
            "2.0/mlflow/logged-models/search",
            "2.0/mlflow/registered-models/get-latest-versions",
            "2.0/mlflow/runs/search",
            "3.0/mlflow/datasets/search",
            "3.0/mlflow/issues/search",
            "3.0/mlflow/traces/batchGetInfos",
            "3.0/mlflow/traces/calculate-filter-correlation",
            "3.0/mlflow/traces/metrics",
            "3.0/mlflow/traces/search",
        )
    }
)


class WriteGuard:
    """Pass reads on to the application; answer a write without the password with 401, from another origin with 403."""

    def __init__(self, application: Application, password: str) -> None:
        """Guard an ASGI application with a `user:password`."""
        self.application = application
        self.expected = basic_authentication(password)["Authorization"].encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self.application(scope, receive, send)
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        if refusal is HTTPStatus.UNAUTHORIZED:
            headers.append((b"www-authenticate", b'Basic realm="riseorfall"'))
        await send({"type": "http.response.start", "status": refusal.value, "headers": headers})
        await send({"type": "http.response.body", "body": REASONS[refusal]})

    def _refusal(self, scope: Message) -> HTTPStatus | None:
        if scope["method"] in SAFE_METHODS or (scope["method"] == "POST" and scope["path"] in READS_BY_POST):
            return None
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and urlsplit(origin).netloc != headers.get(b"host", b"").decode("latin-1"):
            return HTTPStatus.FORBIDDEN  # a browser that has the password sends it for every page
        given = headers.get(b"authorization", b"")
        return None if hmac.compare_digest(given, self.expected) else HTTPStatus.UNAUTHORIZED


START_PAGE = Path(__file__).with_name("mlflow_start_page.js")
REASONS = {
    HTTPStatus.UNAUTHORIZED: b"Writing needs the password that `riseorfall up --show-password` prints.\n",
    HTTPStatus.FORBIDDEN: b"Expected a write from a page of this server, found another origin.\n",
}


def serve_start_page(app: "FastAPI", static_folder: str) -> None:
    """Answer `/` with MLflow's page and our script in front of its own."""
    from starlette.responses import HTMLResponse  # imported here: see create_app
    from starlette.routing import Route

    page = start_page((Path(static_folder) / "index.html").read_text(encoding="utf-8"))
    app.router.routes.insert(0, Route("/", lambda _: HTMLResponse(page, headers={"Cache-Control": "no-cache"})))


def start_page(index: str) -> str:
    """Return MLflow's `index.html` with our script in front of the first one."""
    script = START_PAGE.read_text(encoding="utf-8").replace("RUNS_PATH", experiment_path("EXPERIMENT_ID"))
    return index.replace("<script", f"<script>{script}</script><script", 1)


def create_app() -> "FastAPI":
    """Return MLflow's application behind the guard.

    Raises:
        SpecError: the home has no password, so nothing could be written.
    """
    settings = Settings()
    password = read_password(settings.up_password)
    if not password:
        raise SpecError(
            f"MLflow server: expected a password in {settings.up_password}, readable by its owner only, found none. "
            "`riseorfall up` creates it and starts this server."
        )
    from mlflow.server import fastapi_app  # takes seconds; the process that starts the server needs the name only

    app: FastAPI = fastapi_app.app
    serve_start_page(app, fastapi_app.flask_app.static_folder)
    app.add_middleware(WriteGuard, password=password)  # the outermost one
    return app
