"""A password in an address: servers get it from variables of their own, and it is never shown."""

import base64
import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from urllib.request import Request

import pytest
from loopback_mlflow import LoopbackMlflow, serve

from flows.cli import run
from flows.up import _plan_servers, _report_addresses
from model.bars import Series
from model.errors import NoChampion, StoreUnavailable
from tasks.repair.home_examination import examine_home
from tasks.services.scheduled_runs import run_forms
from tasks.services.supervisor import Supervisor
from tasks.settings import MLFLOW_ADDRESS, PREFECT_ADDRESS, Settings, masked, process_environment
from tasks.workspace import Workspace

SERIES = Series("BTC-USD", "1d")
SECRET = "se@cret"
USER, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"

PREFECT_PASSWORD = "PREFECT_API_AUTH_STRING"


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for name in (MLFLOW_ADDRESS, "RISEORFALL_TRACKING_URI", USER, PASSWORD, PREFECT_ADDRESS, PREFECT_PASSWORD):
        monkeypatch.setenv(name, "")  # restored after the test
        monkeypatch.delenv(name)


def with_password(address: str) -> str:
    return address.replace("://", "://me:se%40cret@")


@pytest.mark.parametrize("variable", [MLFLOW_ADDRESS, "RISEORFALL_TRACKING_URI"])
def test_the_server_gets_the_password_and_no_error_shows_it(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(LoopbackMlflow(SERIES.name, "run", {}, {})) as mlflow:
        monkeypatch.setenv(variable, with_password(mlflow.address))
        settings = Settings(home=tmp_path, store="")
        assert settings.mlflow_uri == mlflow.address
        registry = Workspace(settings, SERIES).registry
        assert registry.alias_number("champion") == "1"
        basic = base64.b64encode(f"me:{SECRET}".encode()).decode()
        assert mlflow.authorizations[-1] == f"Basic {basic}"
        with pytest.raises(NoChampion) as absent:
            registry.version("7")
        mlflow.is_down = True
        with pytest.raises(StoreUnavailable) as down:
            registry.version("1")
    for text in (str(absent.value), str(down.value), *(f"{each.path}" for each in examine_home(settings))):
        assert "me:" not in text
        assert "cret" not in text


def test_up_writes_addresses_without_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MLFLOW_ADDRESS, with_password("http://mlflow.example:5000"))
    monkeypatch.setenv("RISEORFALL_TRACKING_URI", with_password("https://other.example/mlflow"))
    Settings(home=tmp_path).announce()
    Supervisor(tmp_path, process_environment(), tmp_path / "up.json", print).write_state()
    written = (tmp_path / "up.json").read_text(encoding="utf-8")
    assert "cret" not in written
    assert json.loads(written)["environment"][MLFLOW_ADDRESS] == "http://mlflow.example:5000"
    names = ("RISEORFALL_TRACKING_URI", USER, PASSWORD)
    shown = f"import os; print([os.environ[each] for each in {names}])"
    child = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == str(["https://other.example/mlflow", "me", SECRET])  # a flow run can still log in


def test_a_password_is_sent_to_no_other_server_than_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MLFLOW_ADDRESS, with_password("http://mlflow.example:5000"))
    settings = Settings(home=tmp_path, tracking_uri="http://other.example")
    settings.announce()
    assert settings.mlflow_uri == "http://other.example"
    assert PASSWORD not in os.environ


def test_the_address_for_a_browser_has_no_password(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, mlflow_url=with_password("http://seen.example"))
    assert settings.mlflow_url == "http://seen.example"
    assert PASSWORD not in os.environ


def test_the_address_of_a_database_is_shown_without_its_password(tmp_path: Path) -> None:
    address = "postgresql://me:se%40cret@db.example:5432/mlflow"
    settings = Settings(home=tmp_path, tracking_uri=address, store="")
    assert settings.mlflow_uri == address  # its client needs the password
    assert masked(address) == "postgresql://me:***@db.example:5432/mlflow"
    assert [masked(each) for each in ("sqlite:////a/b@c.db", "/a:b@c", "http://me@h/", "")] == [
        "sqlite:////a/b@c.db", "/a:b@c", "http://me@h/", ""]  # fmt: skip
    (registry,) = [each for each in examine_home(settings) if each.part == "registry"]
    assert "se%40cret" not in str(registry.path)


def test_up_and_its_pages_show_the_address_of_prefect_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFECT_ADDRESS, with_password("http://prefect.example:4200/api"))
    settings = Settings(home=tmp_path, tracking_uri="", store="")
    settings.data_folder.mkdir()
    environment, servers = _plan_servers(settings, (0, 0, 0))
    lines: list[str] = []
    _report_addresses(lines.append, environment, settings)
    Supervisor(tmp_path, environment, tmp_path / "up.json", print).write_state()
    assert lines[0] == "Prefect      http://prefect.example:4200"
    assert lines[1].startswith("retrain now  http://prefect.example:4200/v2/deployments?")
    assert environment[PREFECT_PASSWORD] == f"me:{SECRET}"  # the flows can still log in
    assert "cret" not in "\n".join([*lines, str(servers), (tmp_path / "up.json").read_text(encoding="utf-8")])


def test_prefect_gets_the_password_of_its_address_before_that_of_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As httpx, which Prefect asks with; without `announce` too, as in a flow run of a worker."""
    monkeypatch.setenv(PREFECT_PASSWORD, "other:one")
    asked: list[Request] = []

    def answer(request: Request, **_: float) -> BytesIO:
        asked.append(request)
        return BytesIO(b'[{"id": "7", "name": "retrain"}]')

    monkeypatch.setattr("tasks.services.scheduled_runs.urlopen", answer)
    monkeypatch.setenv(PREFECT_ADDRESS, with_password("http://prefect.example:4200/api"))
    forms = run_forms(Settings(home=tmp_path))
    assert forms == {"retrain": "http://prefect.example:4200/v2/deployments/deployment/7/run"}
    assert asked[0].full_url == "http://prefect.example:4200/api/deployments/filter"
    assert asked[0].get_header("Authorization") == f"Basic {base64.b64encode(f'me:{SECRET}'.encode()).decode()}"


@pytest.mark.parametrize("root", ["s3://", "s3:///bars", "ftp://bucket/bars"])
def test_a_store_without_a_bucket_is_refused(
    root: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RISEORFALL_STORE", root)
    assert run(["bars"]) == 2
    expected = "Settings store: Value error, RISEORFALL_STORE: expected a folder or s3://bucket/prefix; found"
    assert f"riseorfall: {expected} {root!r}" in capsys.readouterr().err


@pytest.mark.parametrize("home", [None, "home"])
def test_a_current_folder_that_was_deleted_is_one_clear_error(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RISEORFALL_HOME", raising=False)
    if home:
        monkeypatch.setenv("RISEORFALL_HOME", home)
    folder = tmp_path / "deleted"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert run(["bars"]) == 2
    shown = capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert shown.startswith(
        "riseorfall: expected a current folder, found that it was deleted. Change to another folder"
    )
    assert len(shown.splitlines()) == 1
