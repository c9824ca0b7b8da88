"""Properties of the compose files; docker/verify.sh tests them on a running stack."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.services.fold_runner import WORKERS_TIMEOUT

ROOT = Path(__file__).parents[2]
FILES = ("compose.yaml", "compose.worker.yaml")


def services() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for file in FILES:
        content = yaml.safe_load((ROOT / "docker" / file).read_text(encoding="utf-8"))
        found += [(f"{file}:{name}", service) for name, service in content["services"].items()]
    return found


SERVICES = services()


def test_the_files_have_services() -> None:
    assert len(SERVICES) >= 10


@pytest.mark.parametrize(("name", "service"), SERVICES, ids=[name for name, _ in SERVICES])
def test_every_service_runs_with_limits_and_without_privileges(name: str, service: dict[str, Any]) -> None:
    assert service["read_only"] is True, name
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert not service.get("privileged")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"]
    assert service["mem_limit"]
    assert service["logging"]["options"]["max-size"]
    assert service["restart"] in {"unless-stopped", "no"}
    assert service["restart"] == "no" or "healthcheck" in service or name.endswith(":predict")  # its image has one


@pytest.mark.parametrize(("name", "service"), SERVICES, ids=[name for name, _ in SERVICES])
def test_ports_listen_on_this_machine_by_default(name: str, service: dict[str, Any]) -> None:
    assert all(port.startswith("${BIND:-127.0.0.1}:") for port in service.get("ports", [])), name


@pytest.mark.parametrize("file", FILES)
def test_every_password_comes_from_outside_and_must_be_there(file: str) -> None:
    text = (ROOT / "docker" / file).read_text(encoding="utf-8")
    named = set(re.findall(r"\$\{(\w+(?:PASSWORD|SECRET_KEY|ACCESS_KEY))", text))
    demanded = set(re.findall(r"\$\{(\w+):\?", text))
    assert named
    assert named <= demanded


def test_passwords_sh_writes_every_required_password() -> None:
    demanded = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8")))
    script = (ROOT / "docker" / "generate_passwords.sh").read_text(encoding="utf-8")
    assert not {name for name in demanded if name not in script}


def test_the_folder_is_not_a_package() -> None:
    assert not [*(ROOT / "docker").rglob("__init__.py")]  # it would hide the package `docker`


def test_dockerignore_lists_every_copied_file() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "*"
    copied = re.findall(r"docker/\w+\.(?:py|sh)", (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8"))
    assert copied
    assert all(f"!{name}" in lines for name in copied)


def test_a_dask_cluster_runs_what_it_is_sent_and_only_workers_reach_it() -> None:
    content = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    assert content["networks"]["folds"] == {"internal": True}
    assert content["services"]["folds"]["networks"] == ["folds"]
    there = {name for name, service in content["services"].items() if "folds" in service["networks"]}
    assert there == {"folds", "folds-worker", "worker", "worker-gpu"}
    assert not any("ports" in content["services"][name] for name in there)


def test_a_dask_scheduler_starts_with_the_time_that_it_waits_for_workers() -> None:
    """Both starts failed on `5min`: Dask's unit is m."""
    timedelta = pytest.importorskip("dask.utils").parse_timedelta
    content = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    given = content["services"]["folds"]["environment"]["DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT"]
    assert timedelta(given) == timedelta(WORKERS_TIMEOUT) == 300


@pytest.mark.parametrize("name", ["predict", "metrics"])
def test_a_container_that_only_reads_has_no_credentials_to_write(name: str) -> None:
    environment = dict(SERVICES)[f"compose.yaml:{name}"]["environment"]
    assert environment["MLFLOW_TRACKING_USERNAME"] == "reader"
    keys = set(re.findall(r"\$\{(\w+_(?:ACCESS|SECRET)_KEY)", " ".join(map(str, environment.values()))))
    assert keys == {"S3_READER_ACCESS_KEY", "S3_READER_SECRET_KEY"}
    passwords = set(re.findall(r"\$\{(MLFLOW_\w+_PASSWORD)", " ".join(map(str, environment.values()))))
    assert passwords == {"MLFLOW_READER_PASSWORD"}


@pytest.mark.parametrize(("script", "name"), [("mlflow_server.sh", "mlflow"), ("object_store.sh", "objects")])
def test_a_start_script_gets_every_variable_that_it_reads(script: str, name: str) -> None:
    read = set(re.findall(r"\$\{?([A-Z]\w+)", (ROOT / "docker" / script).read_text(encoding="utf-8")))
    assert len(read) >= 5
    assert read <= set(dict(SERVICES)[f"compose.yaml:{name}"]["environment"])


def test_prefect_deletes_old_flow_runs_as_that_of_up_does() -> None:
    """By default it deletes events only: its database would grow by a megabyte a retrain, for ever."""
    environment = dict(SERVICES)["compose.yaml:prefect"]["environment"]
    assert environment["PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED"] == "events,flow_runs"
