"""What the users of the MLflow server of the containers may do, with a stand-in for MLflow's check of the password."""

import importlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from flask import Flask
from werkzeug.datastructures import Authorization

from tasks.services.mlflow_reader import authenticate


@pytest.mark.parametrize(
    ("user", "method", "path", "is_refused"),
    [
        ("reader", "GET", "/api/2.0/mlflow/registered-models/alias", False),
        ("reader", "POST", "/api/2.0/mlflow/runs/search", False),
        ("reader", "POST", "/api/2.0/mlflow/experiments/create", True),
        ("reader", "POST", "/api/2.0/mlflow/registered-models/create", True),
        ("reader", "PUT", "/api/2.0/mlflow-artifacts/artifacts/a", True),
        ("worker", "POST", "/api/2.0/mlflow/experiments/create", False),
        ("admin", "POST", "/api/2.0/mlflow/users/create", False),
    ],
)
def test_the_reader_creates_nothing(
    user: str, method: str, path: str, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Authorization("basic", {"username": user, "password": "right"})
    of_mlflow = SimpleNamespace(authenticate_request_basic_auth=lambda: known)
    monkeypatch.setitem(sys.modules, "mlflow.server.auth", of_mlflow)
    with Flask("mlflow").test_request_context(path, method=method):
        found = authenticate()
    assert (getattr(found, "status_code", 0) == 403) is is_refused
    assert (found is known) is not is_refused


def test_the_server_of_the_containers_names_the_function() -> None:
    script = (Path(__file__).parents[3] / "docker" / "mlflow_server.sh").read_text(encoding="utf-8")
    named = re.search(r"^authorization_function = (.*):(.*)$", script, re.MULTILINE)
    assert named is not None
    assert getattr(importlib.import_module(named[1]), named[2]) is authenticate
