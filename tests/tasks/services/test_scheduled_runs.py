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


def deployed(name: str, *schedules: Mapping[str, Any], active: bool = True, **named: str) -> dict[str, Any]:
    """Describe a deployment; each schedule by its own parameters."""
    found = [{"active": active, "parameters": each} for each in schedules]
    return {"id": name, "name": name, "paused": False, "parameters": {}, "schedules": found} | named


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    answers = {
        "flow_runs/filter": [
            run("a", 1, {"symbol": "ETH-USD", "interval": "1h"}),
            run("b", 2, {"source": {"kind": "exchange", "symbol": "ETH-USD"}}),
            run("c", 3, {}),
            run("a", 4, {"symbol": "ETH-USD", "interval": "1h"}),
        ],
        "deployments/filter": [deployed("predict", id="a"), deployed("retrain", id="b"),
                               deployed("housekeeping", id="c")],
    }  # fmt: skip
    foreign = {"deployments/filter": [deployed("retrain", id="f")]}

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


def test_a_run_without_parameters_is_for_the_series_in_the_defaults_of_its_flow(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms = {"ingest": "source", "predict": "symbol", "retrain_panel": "panel", "retrain_all": "sources"}
    deployments = [deployed(name, {}) | {"parameter_openapi_schema": {"properties": {field: {}, "interval": {}}}}
                   for name, field in forms.items()]  # fmt: skip
    runs = [run("ingest", 1, {}), run("predict", 2, {}), run("retrain_all", 3, {}), run("ingest", 4, {}),
            run("retrain_panel", 5, {"interval": "1h"}), run("ingest", 6, {"source": {"interval": "1h"}})]  # fmt: skip
    serve(monkeypatch, deployments, runs)
    assert [(each["name"], each["series"], each["at"][11:13]) for each in service_status(settings)["next_runs"]] == [
        ("ingest", "BTC-USD 1d", "01"),
        ("predict", "BTC-USD 1d", "02"),
        ("retrain_all", "", "03"),
        ("retrain_panel", "PANEL 1h", "05"),
        ("ingest", "BTC-USD 1h", "06"),
    ]


def serve(
    monkeypatch: pytest.MonkeyPatch, deployments: list[dict[str, Any]], runs: list[dict[str, Any]]
) -> list[Mapping[str, Any]]:
    """Answer as Prefect does, a page at a time; return the list of questions."""
    asked: list[Mapping[str, Any]] = []

    def answer(_: Settings, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        asked.append(body)
        assert body["limit"] <= 200
        hidden = body["deployments"].get("id", {}).get("not_any_", ())
        found = runs if path == "flow_runs/filter" else deployments
        shown = [each for each in found if each.get("deployment_id") not in hidden]
        shown = sorted(shown, key=lambda each: each.get("expected_start_time", ""))
        return shown[body["offset"] : body["offset"] + body["limit"]]

    monkeypatch.setattr("tasks.services.scheduled_runs.query_prefect", answer)
    return asked


def test_every_schedule_has_its_next_run_however_many_runs_come_before(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """210 deployments of an hour, one of a day, and one with a schedule of five minutes and one of a day."""
    hourly = [{"symbol": f"C{number}-USD", "interval": "1h"} for number in range(210)]
    often, daily = {"symbol": "OFTEN-USD"}, {"symbol": "DAILY-USD"}
    deployments = [deployed(f"h{number}", each) for number, each in enumerate(hourly)]
    deployments += [deployed("retrain", {"symbol": "LATE-USD"}), deployed("predict", often, daily)]
    deployments += [deployed("off", {"symbol": "OFF-USD"}, active=False), deployed("form")]
    at = {"expected_start_time": "2026-11-28T23:00:00Z"}
    runs = [run(f"h{number}", hour, each) for number, each in enumerate(hourly) for hour in (1, 2, 3)]
    runs += [run("retrain", 0, {"symbol": "LATE-USD"}) | at, run("predict", 0, daily) | at]
    runs += [run("predict", 1, often) | {"expected_start_time": f"2026-11-27T{n // 12:02}:{n % 12 * 5:02}:00Z"}
             for n in range(288)]  # fmt: skip
    asked = serve(monkeypatch, deployments, runs)
    found = service_status(settings)["next_runs"]
    assert len(found) == len({(each["name"], each["series"]) for each in found}) == 210 + 3
    by_series = {each["series"]: (each["name"], each["at"]) for each in found}
    assert by_series["LATE-USD 1d"] == ("retrain", "2026-11-28T23:00:00Z")
    assert by_series["DAILY-USD 1d"] == ("predict", "2026-11-28T23:00:00Z")
    assert by_series["OFTEN-USD 1d"] == ("predict", "2026-11-27T00:00:00Z")
    assert by_series["C209-USD 1h"] == ("h209", "2026-11-27T01:00:00Z")
    assert [each["at"] for each in found] == sorted(each["at"] for each in found)
    assert len(asked) < 20


def test_one_question_is_enough_for_a_small_service(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, [deployed("retrain", {"symbol": "A"})], [run("retrain", 1, {"symbol": "A"})] * 3)
    assert [each["series"] for each in service_status(settings)["next_runs"]] == ["A 1d"]
    assert len(asked) == 2  # one for the deployments


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
