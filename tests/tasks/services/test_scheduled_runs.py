"""The next run of each deployment, with the series that it is for, and the forms that start one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.services.scheduled_runs import run_forms, service_status
from tasks.settings import Settings


def run(deployment: str, hour: int, parameters: Mapping[str, Any]) -> dict[str, Any]:
    at = f"2026-11-27T{hour:02}:00:00Z"
    return {"deployment_id": deployment, "name": "any", "expected_start_time": at, "parameters": parameters}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    answers = {
        "flow_runs/filter": [
            run("a", 1, {"symbol": "ETH-USD", "interval": "1h"}),
            run("b", 2, {"source": {"kind": "exchange", "symbol": "ETH-USD"}}),
            run("c", 3, {}),
            run("a", 4, {"symbol": "ETH-USD", "interval": "1h"}),
        ],
        "deployments/filter": [{"id": "a", "name": "predict"}, {"id": "b", "name": "retrain"},
                               {"id": "c", "name": "housekeeping"}],
    }  # fmt: skip
    foreign = {"deployments/filter": [{"id": "f", "name": "retrain"}]}

    def answer(_: Settings, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        ours = body.get("deployments") == {"tags": {"all_": ["riseorfall"]}}
        return answers[path] if ours else answers[path] + foreign.get(path, [])

    monkeypatch.setattr("tasks.services.scheduled_runs.query_prefect", answer)
    monkeypatch.setenv("PREFECT_API_URL", "http://p.example/api")
    return Settings(home=tmp_path, tracking_uri="", store="")


def test_the_first_run_of_each_deployment_names_its_series(settings: Settings) -> None:
    assert service_status(settings)["next_runs"] == [
        {"name": "predict", "at": "2026-11-27T01:00:00Z", "series": "ETH-USD 1h"},
        {"name": "retrain", "at": "2026-11-27T02:00:00Z", "series": "ETH-USD 1d"},
        {"name": "housekeeping", "at": "2026-11-27T03:00:00Z", "series": ""},
    ]


def test_a_form_is_found_by_the_name_of_our_deployment(settings: Settings) -> None:
    assert run_forms(settings)["retrain"] == "http://p.example/v2/deployments/deployment/b/run"


def test_without_a_server_there_are_neither(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("refused")

    monkeypatch.setattr("tasks.services.scheduled_runs.query_prefect", refuse)
    assert service_status(settings)["next_runs"] == []
    assert run_forms(settings) == {}
