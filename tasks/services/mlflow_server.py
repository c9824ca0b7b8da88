"""MLflow's server as `up` runs it: everybody on this machine may read, only who has the home's password may write.

Its start page leads to the runs of the series instead of MLflow's introduction for language models.

`mlflow server --app-name riseorfall` finds `create_app` by its entry point in pyproject.toml. Run as
`python -m tasks.services.mlflow_server OPTIONS`, with those of `mlflow server`; the database is in
MLFLOW_BACKEND_STORE_URI.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import SpecError
from tasks.registry.database_creation import one_at_a_time
from tasks.registry.experiment_page import experiment_path
from tasks.services.mlflow_write_guard import WriteGuard
from tasks.services.server_password import read_password
from tasks.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

START_PAGE = Path(__file__).with_name("mlflow_start_page.js")


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


def main(options: Sequence[str]) -> None:
    """Create or migrate the database, after a command that does so meanwhile, and run MLflow's server.

    Args:
        options: of `mlflow server`, with `--default-artifact-root`.
    """
    from mlflow.cli import cli
    from mlflow.server.handlers import initialize_backend_stores

    store, artifacts = Settings().served_store, options[options.index("--default-artifact-root") + 1]
    with one_at_a_time(store):
        initialize_backend_stores(store, store, artifacts)  # what `mlflow server` does without a lock
    cli(["server", *options])


if __name__ == "__main__":
    main(sys.argv[1:])
