"""Refuses a write to MLflow without the home's password, or from a page of another origin; reads pass.

MLflow's own basic authentication would ask for a password at every page (docs/decisions/0010). A request counts as a
read if its method is safe or its path is one of `READS_BY_POST`: a route that a later MLflow adds needs the password.
Caution: MLflow's assistant starts programs and sends requests on a GET, so of its routes two are reads.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from tasks.services.server_password import basic_authentication

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Routes of MLflow 3.17 that read although their method is POST: the query is too long for an address.
READS_BY_POST = frozenset(
    # Without an answer to the second one, no run of the table can be selected and compared.
    {"/graphql", "/ajax-api/2.0/mlflow/experiments/search-datasets"}
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
ASSISTANT = "/ajax-api/3.0/mlflow/assistant"
READS_OF_ASSISTANT = frozenset({f"{ASSISTANT}/config", f"{ASSISTANT}/providers"})  # read when MLflow opens
OTHER_SITES = frozenset({b"cross-site", b"same-site"})  # of Sec-Fetch-Site: a browser sends no Origin with an image
REASONS = {
    HTTPStatus.UNAUTHORIZED: b"Writing needs the password that `riseorfall up --show-password` prints.\n",
    HTTPStatus.FORBIDDEN: b"Expected a write from a page of this server, found another origin.\n",
}


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
        if is_read(scope["method"], scope["path"]):
            return None
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        is_foreign = origin and urlsplit(origin).netloc != headers.get(b"host", b"").decode("latin-1")
        if is_foreign or headers.get(b"sec-fetch-site", b"") in OTHER_SITES:
            return HTTPStatus.FORBIDDEN  # a browser that has the password sends it for every page
        given = headers.get(b"authorization", b"")
        return None if hmac.compare_digest(given, self.expected) else HTTPStatus.UNAUTHORIZED


def is_read(method: str, path: str) -> bool:
    """Return whether a request to MLflow changes and starts nothing."""
    if path.startswith(ASSISTANT) and path not in READS_OF_ASSISTANT:
        return False
    return method in SAFE_METHODS or (method == "POST" and path in READS_BY_POST)
