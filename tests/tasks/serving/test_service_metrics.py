"""The metrics repeat what the stores hold and what a server answered, in a format that Prometheus reads."""

import asyncio
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from synthetic_bars import random_walk
from tiny_home import SERIES, WINDOW, tiny_home
from tiny_network import tiny_onnx

from model.bars import Series
from model.monitor_alarms import Alarm
from model.predictor import Predictor
from model.recipe import Recipe
from tasks.champion.series_alarms import Pauses, series_health
from tasks.registry.experiment_runs import ExperimentRuns
from tasks.serving.rest_server import Champion, Ready, application
from tasks.serving.service_metrics import RequestMetrics, StateCollector, _Served, state_page
from tasks.settings import Settings
from tasks.store.decision_log import Action, LoggedDecision
from tasks.store.monitor_log import MonitorEntry
from tasks.workspace import Workspace

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the test client speaks of its successor
    from fastapi.testclient import TestClient

BARS = random_walk(60, seed=2)
DECIDED_AT = datetime(2018, 3, 1, 12, tzinfo=UTC)
Samples = dict[tuple[str, tuple[str, ...]], float]


def samples(page: str) -> Samples:
    """Return each value by its name and its label values, in the order of the label names."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def decision(number: int, action: Action, version: str, before: str | None, after: str | None) -> LoggedDecision:
    at = DECIDED_AT + timedelta(days=number)
    return LoggedDecision(
        f"d{number}", at, SERIES.name, *(SERIES.symbol, SERIES.interval), action, version, before, after
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home with 60 bars, champion 1, two decisions and one run of the monitor."""
    settings = tiny_home(tmp_path / "home", BARS, trained_bars=50)
    workspace = Workspace(settings, SERIES)
    for row in (decision(0, "promote", "1", None, "1"), decision(1, "hold", "2", "1", "1")):
        workspace.decision_log.append(row)
    numbers = {
        "live_predictions": 40.0,
        "live_log_loss": 0.71,
        "base_rate_log_loss": 0.69,
        "live_accuracy": 0.45,
        "evidence": 3.5,
        "evidence_threshold": 40.0,
        "service_evidence": 2.0,
        "service_threshold": 20.0,
        "missing": 2.0,
        "late": 1.0,
    }
    alarms = (Alarm("drifted", "returns differ"),)
    workspace.monitor_log.write(MonitorEntry(SERIES.name, DECIDED_AT, "1", numbers, alarms, ("drifted",)))
    return settings


def test_the_state_of_a_series_is_what_its_stores_hold(settings: Settings) -> None:
    before = time.time()
    found, name = samples(state_page(StateCollector(settings))[0].decode()), SERIES.name
    after = time.time()
    assert found["riseorfall_state_readable", (name,)] == 1
    closed = BARS.closed_at.astype("datetime64[s]").astype(int)
    for metric, bar in (("bars", -1), ("champion", 49)):
        assert before <= found[f"riseorfall_{metric}_age_seconds", (name,)] + closed[bar] <= after
    assert found["riseorfall_champion_version_info", (name, "1")] == 1
    assert found["riseorfall_decisions_total", ("promote", name)] == 1
    assert found["riseorfall_decisions_total", ("hold", name)] == 1
    assert found["riseorfall_decisions_total", ("reject", name)] == 0  # so that increase() counts the first one
    assert found["riseorfall_last_decision_timestamp_seconds", (name,)] == (DECIDED_AT + timedelta(days=1)).timestamp()
    assert found["riseorfall_alarms", (name,)] == 1
    assert found["riseorfall_live_log_loss", (name, "1")] == 0.71
    assert found["riseorfall_live_base_rate_log_loss", (name, "1")] == 0.69
    assert found["riseorfall_missing_predictions", (name, "1")] == 2
    assert found["riseorfall_e_value", ("version", name)] == 3.5
    assert found["riseorfall_e_value_threshold", ("service", name)] == 20


def test_a_monitor_is_missing_after_its_own_schedule(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExperimentRuns, "run_params", lambda *_: {"source.kind": "exchange"})

    def alarms(pauses: Pauses) -> float:
        collector = StateCollector(settings, lambda _: {SERIES.name: pauses})
        return samples(state_page(collector)[0].decode())["riseorfall_alarms", (SERIES.name,)]

    assert alarms(Pauses()) - alarms(Pauses(monitor=timedelta(days=36_500))) == 2  # it, and what it would report


def test_a_home_without_a_champion_has_bars_and_no_champion(tmp_path: Path) -> None:
    settings = tiny_home(tmp_path / "home", BARS, trained_bars=50)
    Workspace(settings, SERIES).registry.drop_alias("champion")
    names = {name for name, _ in samples(state_page(StateCollector(settings))[0].decode())}
    assert "riseorfall_bars_age_seconds" in names
    assert not names & {"riseorfall_champion_age_seconds", "riseorfall_champion_version_info", "riseorfall_e_value"}


def test_a_store_that_does_not_answer_is_a_metric_and_hides_no_other_series(settings: Settings) -> None:
    other = Series("ETH-USD", "1d")
    Workspace(settings).bar_store.merge(other, BARS.frame(), {"source": "test"}, merged_at=DECIDED_AT)
    (settings.home / "mlruns" / "mlflow.db").write_bytes(b"no database" * 100)
    found = samples(state_page(StateCollector(settings))[0].decode())
    assert found["riseorfall_state_readable", (SERIES.name,)] == 0
    assert ("riseorfall_bars_age_seconds", (SERIES.name,)) not in found


@pytest.mark.parametrize("damage", ["overwritten", "gone"])
def test_a_damaged_table_of_one_series_hides_no_other_series(settings: Settings, damage: str) -> None:
    other = Series("ETH-USD", "1d")
    Workspace(settings).bar_store.merge(other, BARS.frame(), {"source": "test"}, merged_at=DECIDED_AT)
    for path in (settings.home / "data" / "tables" / "bars").glob(f"symbol={SERIES.symbol}/**/*.parquet"):
        path.write_bytes(b"x" * path.stat().st_size) if damage == "overwritten" else path.unlink()
    found = samples(state_page(StateCollector(settings))[0].decode())
    assert found["riseorfall_state_readable", (SERIES.name,)] == 0
    assert found["riseorfall_state_readable", (other.name,)] == 1
    assert ("riseorfall_bars_age_seconds", (other.name,)) in found


def test_a_damaged_log_of_the_bars_loses_the_series_and_no_other_metrics(settings: Settings) -> None:
    for path in (settings.home / "data" / "tables" / "bars" / "_delta_log").glob("*.json"):
        path.write_bytes(b"x")
    found = samples(state_page(StateCollector(settings), _Served(lambda: ("7", DECIDED_AT)))[0].decode())
    assert found["riseorfall_state_readable", ("",)] == 0
    assert found["riseorfall_served_version_info", ("7",)] == 1


def test_a_disk_that_fails_is_a_metric_and_hides_no_other_series(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Series("ETH-USD", "1d")
    Workspace(settings).bar_store.merge(other, BARS.frame(), {"source": "test"}, merged_at=DECIDED_AT)

    def fail(series: Series, *others: Any) -> Any:
        if series.name == SERIES.name:
            raise PermissionError(13, "Permission denied")
        return series_health(series, *others)

    monkeypatch.setattr("tasks.serving.service_metrics.series_health", fail)
    found = samples(state_page(StateCollector(settings))[0].decode())
    assert found["riseorfall_state_readable", (SERIES.name,)] == 0
    assert found["riseorfall_state_readable", (other.name,)] == 1


def test_a_request_that_ends_in_an_exception_counts_as_status_500() -> None:
    class Broken(Champion):
        def __init__(self) -> None:
            pass

        series = SERIES

        def ready(self) -> Ready:
            raise RuntimeError("broken")

    client = TestClient(application(Broken()), raise_server_exceptions=False)
    assert client.get("/health").status_code == 500
    with pytest.raises(RuntimeError, match="broken"):  # raised again
        TestClient(application(Broken())).get("/health")
    metrics = RequestMetrics(lambda: None)

    async def fail(_: Request) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(metrics.measure(Request({"type": "http"}), fail))
    found = samples(metrics.page()[0].decode())
    assert found["riseorfall_requests_total", ("other", "500")] == 1
    assert found["riseorfall_request_seconds_count", ("other",)] == 1


def test_the_stores_are_read_again_only_after_a_while(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    collector, key = StateCollector(settings), ("riseorfall_decisions_total", ("reject", SERIES.name))
    state_page(collector)
    Workspace(settings, SERIES).decision_log.append(decision(2, "reject", "3", "1", "1"))
    assert samples(state_page(collector)[0].decode())[key] == 0
    monkeypatch.setattr("tasks.serving.service_metrics.REFRESH_SECONDS", 0.0)
    assert samples(state_page(collector)[0].decode())[key] == 1


def test_the_rest_server_counts_its_requests() -> None:
    trained_until = datetime(2018, 1, 5, tzinfo=UTC)

    class Warm(Champion):
        _ready = Ready("7", trained_until, Recipe(window=WINDOW), Predictor(tiny_onnx(5), WINDOW))

        def __init__(self) -> None:
            pass

        series = SERIES

        def ready(self) -> Ready:
            return self._ready

    client = TestClient(application(Warm()))
    found = samples(client.get("/metrics").text)  # before the first request: rate() counts from here
    for status in ("200", "422", "500", "503"):
        assert found["riseorfall_requests_total", ("/predict", status)] == 0
    assert found["riseorfall_request_seconds_count", ("/predict",)] == 0
    frame = BARS.frame().tail(8)
    frame["timestamp"] = [f"{each:%Y-%m-%dT%H:%M:%SZ}" for each in frame["timestamp"]]
    answers = [client.post("/predict", json={"bars": frame.to_dict("records")}) for _ in range(3)]
    answers += [client.post("/predict", json={"bars": []}), client.get("/no/such/place"), client.get("/another")]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 422, 404, 404]
    reply = client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    found = samples(reply.text)
    assert found["riseorfall_requests_total", ("/predict", "200")] == 3
    assert found["riseorfall_requests_total", ("/predict", "422")] == 1
    assert found["riseorfall_requests_total", ("other", "404")] == 2  # an unknown path makes no new metric
    assert found["riseorfall_request_seconds_count", ("/predict",)] == 4
    assert found["riseorfall_request_seconds_bucket", ("+Inf", "/predict")] == 4
    assert found["riseorfall_served_version_info", ("7",)] == 1
    assert found["riseorfall_served_age_seconds", ()] == pytest.approx(time.time() - trained_until.timestamp(), abs=60)
