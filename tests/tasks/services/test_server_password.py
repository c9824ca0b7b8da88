"""The password of a home: who can read it, when it is replaced, and to which servers it is sent."""

import os
import stat
from base64 import b64encode
from pathlib import Path

import pytest

from tasks.services.server_password import (
    basic_authentication,
    ensure_password,
    new_password,
    read_password,
    variables_of_up,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "up.password"


def test_a_password_is_random_and_kept_for_its_owner_alone(path: Path) -> None:
    before = os.umask(0)  # the file must be private whatever the umask is
    try:
        password = ensure_password(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    user, _, secret = password.partition(":")
    assert user == "admin"
    assert len(secret) >= 43  # 256 bits in base64
    assert password != new_password()
    assert list(path.parent.iterdir()) == [path]


def test_a_stored_password_is_used_again(path: Path) -> None:
    path.write_text("me:mine\n")
    path.chmod(0o600)
    assert ensure_password(path) == read_password(path) == "me:mine"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o620])
def test_a_password_that_others_could_read_or_write_is_replaced(path: Path, mode: int) -> None:
    path.write_text("admin:known\n")
    path.chmod(mode)
    assert read_password(path) == ""
    assert ensure_password(path) != "admin:known"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_password_of_another_user_is_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("admin:planted\n")
    path.chmod(0o600)
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert read_password(path) == ""
    assert ensure_password(path) != "admin:planted"


def test_a_link_is_not_followed(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    elsewhere.write_text("admin:planted\n")
    elsewhere.chmod(0o600)
    path.symlink_to(elsewhere)
    assert read_password(path) == ""
    assert ensure_password(path) != "admin:planted"
    assert elsewhere.read_text() == "admin:planted\n"
    assert not path.is_symlink()


def test_a_start_that_was_killed_while_it_wrote_blocks_nothing(path: Path) -> None:
    path.with_suffix(".new").write_text("admin:ha")
    path.with_suffix(".new").chmod(0o644)
    assert read_password(path) == ""
    assert ensure_password(path) == read_password(path) != "admin:ha"


UP = "http://127.0.0.1:5000"
PREFECT = {"PREFECT_API_AUTH_STRING": "admin:a:b"}
MLFLOW = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "a:b"}


@pytest.mark.parametrize(
    ("parts", "mlflow_uri", "expected"),
    [
        (["Prefect", "MLflow"], UP, PREFECT | MLFLOW),
        (["Prefect", "MLflow"], "https://mlflow.example", PREFECT),
        (["Prefect"], UP, PREFECT),
        (["MLflow"], UP, MLFLOW),
        (["pages"], UP, {}),
    ],
)
def test_the_password_is_sent_to_servers_of_this_up_only(
    parts: list[str], mlflow_uri: str, expected: dict[str, str]
) -> None:
    state = {"parts": {name: {"address": UP} for name in parts}}
    assert variables_of_up(state, mlflow_uri, "admin:a:b") == expected


def test_the_header_is_that_of_basic_authentication() -> None:
    assert basic_authentication("Aladdin:open sesame") == {  # the example of RFC 7617, section 2
        "Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    }
    assert basic_authentication("me:é")["Authorization"] == f"Basic {b64encode('me:é'.encode()).decode()}"
    assert basic_authentication("") == {}
