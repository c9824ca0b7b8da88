"""Who may read and write in the MLflow server of `up`: the guard around a stand-in for MLflow's application."""

import asyncio
import fcntl
from pathlib import Path
from typing import Any

import pytest

from flows.up import _mlflow_command, _plan_servers
from model.errors import SpecError
from tasks.services.mlflow_server import create_app, main, serve_start_page, start_page
from tasks.services.mlflow_write_guard import ASSISTANT, READS_BY_POST, READS_OF_ASSISTANT, WriteGuard
from tasks.services.server_password import basic_authentication
from tasks.settings import Settings

PASSWORD = "admin:secret"
HOST = "127.0.0.1:5000"
HERE = f"http://{HOST}"
VERSIONS = "/api/2.0/mlflow/registered-models/create"
ALIAS = "/api/2.0/mlflow/registered-models/alias"


def status_of(
    method: str, path: str, password: str = "", origin: str = "", scheme: str = "Basic", site: str = ""
) -> int:
    """Send a request through the guard and return the status of the answer; the application answers 200."""
    sent: list[dict[str, Any]] = []

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", HOST.encode())]
    if password:
        value = basic_authentication(password)["Authorization"].replace("Basic", scheme)
        headers.append((b"authorization", value.encode()))
    if origin:
        headers.append((b"origin", origin.encode()))
    if site:
        headers.append((b"sec-fetch-site", site.encode()))
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(WriteGuard(application, PASSWORD)(scope, receive, send))
    start = sent[0]
    assert (start["status"] == 401) == any(name == b"www-authenticate" for name, _ in start["headers"])
    return int(start["status"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api/2.0/mlflow/registered-models/get"),
        ("POST", "/ajax-api/2.0/mlflow/runs/search"),
        ("POST", "/graphql"),
        ("GET", "/ajax-api/3.0/mlflow/assistant/config"),  # asked at the start of MLflow's page
        ("GET", "/ajax-api/3.0/mlflow/assistant/providers"),
    ],
)
def test_everybody_on_this_machine_may_read(method: str, path: str) -> None:
    assert status_of(method, path) == 200
    assert status_of(method, path, "admin:wrong") == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", VERSIONS),
        ("POST", ALIAS),
        ("DELETE", ALIAS),
        ("PATCH", "/ajax-api/2.0/mlflow/model-versions/update"),
        ("PUT", "/ajax-api/3.0/mlflow/assistant/config"),  # of MLflow's assistant, which runs programs
        ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
        ("GET", "/ajax-api/3.0/mlflow/assistant/providers/codex/health"),  # runs `codex exec`
        ("GET", "/ajax-api/3.0/mlflow/assistant/providers/ollama/models"),  # sends a request to any address
        ("GET", "/ajax-api/3.0/mlflow/assistant/sessions/1/stream"),  # runs a program with a stored message
        ("POST", "/api/9.9/mlflow/a-route-of-a-later-version"),
        ("DELETE", "/ajax-api/2.0/mlflow/runs/search"),
        ("POST", "/api/2.0/mlflow/runs/search/../delete"),
    ],
)
def test_a_write_needs_the_password(method: str, path: str) -> None:
    assert status_of(method, path) == 401
    assert status_of(method, path, "admin:wrong") == 401
    assert status_of(method, path, PASSWORD, scheme="Bearer") == 401
    assert status_of(method, path, PASSWORD) == 200


@pytest.mark.parametrize("origin", ["http://127.0.0.1:9999", "http://localhost:5000", "https://example.org", "null"])
def test_a_page_of_another_origin_may_not_write_with_the_password_that_the_browser_keeps(origin: str) -> None:
    assert status_of("POST", VERSIONS, PASSWORD, origin) == 403
    assert status_of("POST", VERSIONS, PASSWORD, HERE) == 200


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_an_image_on_a_page_of_another_origin_starts_nothing(site: str, status: int) -> None:
    """A browser sends the password that it keeps, and no Origin; pages of other local ports are of the same site."""
    health = "/ajax-api/3.0/mlflow/assistant/providers/codex/health"
    assert status_of("GET", health, PASSWORD, site=site) == status
    assert status_of("GET", "/", site=site) == 200


def test_no_other_route_of_the_assistant_is_a_read() -> None:
    from mlflow.server.assistant.api import assistant_router

    assert {route.path for route in assistant_router.routes} > READS_OF_ASSISTANT  # type: ignore[attr-defined]
    assert all(route.path.startswith(f"{ASSISTANT}/") for route in assistant_router.routes)  # type: ignore[attr-defined]


def test_every_read_by_post_is_a_route_of_mlflow() -> None:
    """A misspelt entry would send the browser's pages to the password dialog."""
    from mlflow.server import app

    routes = {str(rule) for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())}
    assert len(READS_BY_POST) == 24
    assert routes >= READS_BY_POST


def test_the_start_page_is_mlflows_with_our_script_in_front_of_its_own() -> None:
    from mlflow.server import app

    index = (Path(app.static_folder or "") / "index.html").read_text(encoding="utf-8")
    page = start_page(index)
    ours, theirs = page.index("mlflow.workflowType_v1"), page.index("static-files/static/js/main.")
    assert ours < theirs
    assert "#/experiments/EXPERIMENT_ID/runs?workflowType=machine_learning&viewStateShareKey=riseorfall" in page
    assert page.replace(page[page.index("<script>") : page.index("</script>") + len("</script>")], "", 1) == index
    bundle = (Path(app.static_folder or "") / "static" / "js" / page[theirs:].split("js/")[1].split('"')[0]).read_text(
        encoding="utf-8"
    )
    for key in ("mlflow.workflowType", "mlflow.assistant.fab.autoOpenedOnFirstLoad"):  # a later MLflow may rename them
        assert f'key:"{key}",version:1' in bundle


def test_the_start_page_is_served_in_place_of_mlflows(tmp_path: Path) -> None:
    from fastapi import FastAPI

    (tmp_path / "index.html").write_text("<script src=x></script>", encoding="utf-8")
    application, sent = FastAPI(), []
    serve_start_page(application, str(tmp_path))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    asyncio.run(application(scope, receive, send))
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"content-type"][:9]) == (200, b"text/html")
    page = sent[1]["body"].decode()
    assert page.endswith("<script src=x></script>")
    assert "machine_learning" in page


def test_a_home_without_a_password_is_an_error_that_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    with pytest.raises(SpecError, match=r"expected a password in .*up\.password.*`riseorfall up` creates it"):
        create_app()


def test_the_server_of_up_creates_the_database_under_the_lock_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it waits for a first `retrain` that creates the database at the same time."""
    database = tmp_path / "mlruns" / "mlflow.db"
    calls: list[tuple[Any, ...]] = []

    def locked() -> bool:
        with database.with_name("mlflow.db.lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    # The original would also set the addresses that MLflow uses everywhere in this process.
    monkeypatch.setattr(
        "mlflow.server.handlers.initialize_backend_stores", lambda *given: calls.append((*given, locked()))
    )
    monkeypatch.setattr("mlflow.cli.cli", lambda words: calls.append((*words[:3], locked())))
    command = _mlflow_command(Settings(home=tmp_path, tracking_uri=""), 5000)
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", f"sqlite:///{database}")
    assert command[3:5] == ("tasks.services.module_runner", "tasks.services.mlflow_server")
    main(command[5:])
    assert database.exists()
    assert calls == [
        (f"sqlite:///{database}", f"sqlite:///{database}", f"{tmp_path.as_uri()}/mlruns/artifacts", True),
        ("server", "--app-name", "riseorfall", False),
    ]


def test_up_keeps_the_address_at_which_a_browser_finds_prefect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a proxy, Prefect's page in a browser on another machine must not call 127.0.0.1."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_SERVER_UI_API_URL", "https://prefect.example.org/api")
    monkeypatch.setattr(Settings, "announce", lambda _: None)
    settings = Settings(home=tmp_path)
    settings.data_folder.mkdir()
    environment, _ = _plan_servers(settings, (0, 0, 0))
    assert environment["PREFECT_SERVER_UI_API_URL"] == "https://prefect.example.org/api"
    assert environment["PREFECT_API_URL"].startswith("http://127.0.0.1:")


def test_the_password_of_a_database_is_in_no_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other users can read a command line, and no environment."""
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "RISEORFALL_PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "of a person")
    settings = Settings(home=tmp_path, tracking_uri="postgresql://mlflow:secret@database/mlflow", public_url="")
    settings.data_folder.mkdir()
    monkeypatch.setattr(Settings, "announce", lambda _: None)
    environment, services = _plan_servers(settings, (0, 0, 0))
    assert {service.name for service in services} == {"Prefect", "MLflow", "pages"}
    assert not any("secret" in word for service in services for word in service.command)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == settings.tracking_uri
    elsewhere = settings.model_copy(update={"tracking_uri": "http://mlflow.example.org"})
    assert "MLFLOW_BACKEND_STORE_URI" not in _plan_servers(elsewhere, (0, 0, 0))[0]
