"""The password of the servers that `up` starts: where it is kept, and the variables that demand and send it.

One password for each home, `user:password` as HTTP basic authentication takes it, in a file that only its owner can
read. It reaches the servers and the runs through their environment, which other users cannot read; a command line or a
log file they can. Caution: a client that has the address of a server of `up`, but not the password, gets 401.
"""

import base64
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

USER = "admin"
OTHERS = stat.S_IRWXG | stat.S_IRWXO
SECRET_BYTES = 32


def new_password() -> str:
    """Return a random `user:password`."""
    return f"{USER}:{secrets.token_urlsafe(SECRET_BYTES)}"


def ensure_password(path: Path) -> str:
    """Return the stored password; store a new one if there is none, or if other users could have read or written it.

    One process at a time may call it: whoever holds the lock of the home.
    """
    stored = read_password(path)
    if stored:
        return stored
    password = new_password()
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)  # of a start that was killed
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f"{password}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return password


def read_password(path: Path) -> str:
    """Return the stored password; an empty text if there is none, or if it is not this user's alone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return ""
    with os.fdopen(descriptor, encoding="utf-8") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & OTHERS:
            return ""
        password = file.read().strip()
    return password if ":" in password else ""


def prefect_server_variables(password: str) -> dict[str, str]:
    """Return the variables with which a Prefect server demands the password, and its own services send it."""
    return {"PREFECT_SERVER_API_AUTH_STRING": password, **prefect_client_variables(password)}


def prefect_client_variables(password: str) -> dict[str, str]:
    """Return the variable with which Prefect's clients send the password."""
    return {"PREFECT_API_AUTH_STRING": password}


def mlflow_client_variables(password: str) -> dict[str, str]:
    """Return the variables with which MLflow's clients send the password."""
    user, _, secret = password.partition(":")
    return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": secret}


def variables_of_up(state: Mapping[str, Any], mlflow_uri: str, password: str) -> dict[str, str]:
    """Return the variables that a client of a running `up` needs; the password goes to the servers of that `up` only.

    Args:
        state: that the supervisor wrote.
        mlflow_uri: address that the client uses.
        password: of the home.
    """
    parts = state["parts"]
    prefect = prefect_client_variables(password) if "Prefect" in parts else {}
    own_mlflow = "MLflow" in parts and parts["MLflow"]["address"] == mlflow_uri
    return prefect | (mlflow_client_variables(password) if own_mlflow else {})


def basic_authentication(password: str) -> dict[str, str]:
    """Return the header that sends the password; none for an empty one."""
    return {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"} if password else {}
