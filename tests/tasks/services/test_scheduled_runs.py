"""The next run of each deployment, with the series that it is for, and the forms that start one."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.champion.series_alarms import Pauses
from tasks.services.scheduled_runs import run_forms, scheduled_pauses, service_status
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


def test_the_longest_time_between_runs_is_that_of_the_active_schedules_of_a_series(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def schedule(cron: str, *, active: bool = True, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return {"schedule": {"cron": cron, "timezone": "UTC"}, "active": active, "parameters": parameters}

    many = {"sources": [{"symbol": "ADA-USD"}, {"symbol": "ETH-USD", "interval": "1h"}]}
    eth = {"source": {"kind": "exchange", "symbol": "ETH-USD", "interval": "1h"}}
    paused, off = {"source": {"symbol": "XMR-USD"}}, {"source": {"symbol": "LTC-USD"}}
    template = {"source": {"symbol": {"__prefect_kind": "jinja", "template": "{{ event.resource.name }}"}}}
    retrains = [
        {"paused": False, "parameters": {}, "schedules": [schedule("10 0 * * 0")]},
        {"paused": False, "parameters": eth, "schedules": [schedule("10 * * * *")]},
        {"paused": False, "parameters": many, "schedules": [schedule("0 */6 * * *")]},
        {"paused": False, "parameters": template, "schedules": [schedule("0 * * * *")]},
        {"paused": True, "parameters": paused, "schedules": [schedule("10 0 * * *")]},
        {"paused": False, "parameters": off, "schedules": [schedule("1 0 * * *", active=False)]},
    ]  # fmt: skip
    monitors = [{"paused": False, "parameters": {"symbol": "BTC-USD", "interval": "1d"}, "schedules": [
        schedule("30 0 * * 1-5"), schedule("40 0 * * *", parameters={"symbol": "ADA-USD"})]}]  # fmt: skip

    def answer(_: Settings, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        assert (path, body["deployments"]) == ("deployments/filter", {"tags": {"all_": ["riseorfall"]}})
        return monitors if body["flows"]["name"]["any_"] == ["monitor"] else retrains

    monkeypatch.setattr("tasks.services.scheduled_runs.query_prefect", answer)
    day, hour = timedelta(days=1), timedelta(hours=1)
    assert scheduled_pauses(settings) == {
        "BTC-USD-1d": Pauses(7 * day, 3 * day),
        "ETH-USD-1h": Pauses(hour, day),
        "ADA-USD-1d": Pauses(6 * hour, day),
    }


def test_a_form_is_found_by_the_name_of_our_deployment(settings: Settings) -> None:
    assert run_forms(settings)["retrain"] == "http://p.example/v2/deployments/deployment/b/run"


def test_without_a_server_there_are_neither(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("refused")

    monkeypatch.setattr("tasks.services.scheduled_runs.query_prefect", refuse)
    assert service_status(settings)["next_runs"] == []
    assert run_forms(settings) == {}
    assert scheduled_pauses(settings) == {}
