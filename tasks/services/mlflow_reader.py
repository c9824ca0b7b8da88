"""Who may use the MLflow server of the containers: MLflow's own users, of whom `reader` may only read.

MLflow lets every user create experiments, runs and registered models, whatever the permission; whoever creates one may
keep others from changing it. Named in docker/mlflow_server.sh as `authorization_function`.
"""

from http import HTTPStatus
from typing import Any

from tasks.services.mlflow_write_guard import is_read

READER = "reader"


def authenticate() -> Any:
    """Return who sent the current request of Flask, as MLflow does, or the response that refuses it."""
    from flask import make_response, request  # imported here, with the server
    from mlflow.server.auth import authenticate_request_basic_auth  # the same

    found = authenticate_request_basic_auth()
    if getattr(found, "username", None) == READER and not is_read(request.method, request.path):
        return make_response(f"The user {READER} may only read.\n", HTTPStatus.FORBIDDEN)
    return found
