"""An MLflow server on loopback that knows one version and one run; it may list files and not deliver them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"

Fault = Literal["", "error 503", "cut off", "no answer"]


@dataclass
class LoopbackMlflow:
    """State of the server; the test changes it between requests.

    Attributes:
        name: of the registered model, whose version 1 is the champion.
        run_id: run of version 1.
        tags: tags of version 1.
        files: content by path, `run/...` for the run and `version/...` for the version.
        fault: what happens to every request for the content of a file in `failing`.
        failing: paths whose content fails; all if empty.
        knows_models: whether the registered model exists.
        is_down: nothing is answered, listings neither.
        requests: paths that were requested, oldest first.
        authorizations: header `Authorization` of each request.
    """

    name: str
    run_id: str
    tags: dict[str, str]
    files: dict[str, bytes]
    fault: Fault = ""
    failing: frozenset[str] = frozenset()
    knows_models: bool = True
    is_down: bool = False
    address: str = ""
    requests: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        """Return status and content, an object or bytes."""
        if path == ARTIFACTS:
            folder = query["path"][0] + "/"
            below = {each.removeprefix(folder).split("/")[0] for each in self.files if each.startswith(folder)}
            return 200, {"files": [{"path": each, "is_dir": folder + each not in self.files} for each in sorted(below)]}
        if path.startswith(ARTIFACTS):
            content = self.files.get(path.removeprefix(ARTIFACTS + "/"))
            return (404, {}) if content is None else (200, content)
        version = {"name": self.name, "version": "1", "run_id": self.run_id}
        tags = [{"key": key, "value": value} for key, value in self.tags.items()]
        run = {"run_id": self.run_id, "run_uuid": self.run_id, "experiment_id": "1", "status": "FINISHED"}
        known: dict[str, Any] = {
            "runs/get": {"run": {"info": {**run, "artifact_uri": "mlflow-artifacts:/run"}, "data": {}}},
            "logged-models/search": {"models": []},
            "model-versions/search": {"model_versions": [version | {"tags": tags}]},
            "model-versions/get": {"model_version": {**version, "tags": tags}},
            "model-versions/get-download-uri": {"artifact_uri": "mlflow-artifacts:/version"},
            "registered-models/get": {
                "registered_model": {"name": self.name, "aliases": [{"alias": "champion", "version": "1"}]}
            },
        }
        found = known.get(path.removeprefix(API))
        asks_for = {*query.get("run_id", []), *query.get("version", [])}
        if not self.knows_models and "model" in path.removeprefix(API).split("/")[0]:
            found = None
        if found is None or not asks_for <= {self.run_id, "1"}:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not here"}
        return 200, found


@contextmanager
def serve(mlflow: LoopbackMlflow) -> Iterator[LoopbackMlflow]:
    """Run the server; its address is in `address`."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            mlflow.requests.append(path)
            mlflow.authorizations.append(self.headers.get("Authorization", ""))
            if mlflow.is_down:
                self.close_connection = True
                return
            status, content = mlflow.answer(path, parse_qs(parts.query))
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            fault = mlflow.fault if isinstance(content, bytes) else ""
            if mlflow.failing and path.removeprefix(ARTIFACTS + "/") not in mlflow.failing:
                fault = ""
            if fault == "no answer":
                self.close_connection = True
                return
            self.send_response(503 if fault == "error 503" else status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body) + (10 if fault == "cut off" else 0)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    mlflow.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield mlflow
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
