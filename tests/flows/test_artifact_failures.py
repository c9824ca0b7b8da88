"""A server that rejects every artifact costs a run its pictures, not its result."""

import re
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow
from synthetic_bars import random_walk
from tiny_home import tiny_home

from flows.monitor import monitor
from model.recipe import Recipe
from tasks import reporting
from tasks.champion.replay_summary import ReplaySummary
from tasks.replay import summarise

ROOT = Path(__file__).parents[2]
LINK = "https://pages.example/reports/BTC-USD-1d/r.html"


@pytest.fixture
def rejected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make the server reject artifacts; return the keys that it was sent."""
    keys: list[str] = []

    def reject(artifact: Any, *_: Any, **__: Any) -> None:
        keys.append(artifact.key)
        raise RuntimeError("422 Unprocessable Entity")

    monkeypatch.setattr("prefect.artifacts.Artifact.create", reject)
    return keys


def test_monitor_logs_its_entry(rejected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tiny_home(tmp_path, random_walk(130, seed=4), 100)
    assert monitor(as_of=datetime(2030, 1, 1, tzinfo=UTC)).version == "1"
    assert rejected == ["monitor-btc-usd-1d", "monitor-btc-usd-1d-page"]


def test_a_replay_returns_its_summary(rejected: list[str]) -> None:
    made = ReplaySummary("a replay", date(2020, 1, 1), date(2020, 1, 2), (), {}, 0, None)
    workspace = SimpleNamespace(runs=SimpleNamespace(run_link=lambda _: "https://mlflow.example/run"))
    replay = SimpleNamespace(summary=lambda: made, show=lambda _: "run", workspace=workspace)
    found = flow(name="summarise")(lambda: summarise.fn(replay))()
    assert (found.name, found.run_id) == ("a replay", "run")
    assert rejected == ["replay"]


def test_a_retrain_returns_the_path_of_its_report(rejected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, str] = {}
    runs = SimpleNamespace(log_values=lambda _, tags: logged.update(tags))
    settings = SimpleNamespace(link=lambda _: LINK)
    workspace = SimpleNamespace(settings=settings, name="BTC-USD-1d", runs=runs)
    for name, value in {
        "open_workspace": workspace, "gather_report": SimpleNamespace(live=()), "report_page": "text",
        "hide_local_paths": "text", "write_report": Path("r.html"), "log_artifacts": None,
    }.items():  # fmt: skip
        monkeypatch.setattr(reporting, name, lambda *_, value=value: value)
    result: Any = SimpleNamespace(run_id="r")
    assert flow(name="report")(lambda: reporting.report.fn(result, Recipe(), []))() == "r.html"
    assert logged == {"report": LINK}
    assert rejected == ["report"]


def test_artifacts_are_created_in_the_module_that_catches_their_errors() -> None:
    creating = [
        path.relative_to(ROOT).as_posix()
        for package in ("flows", "tasks")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"prefect\.artifacts|create_\w+_artifact", path.read_text(encoding="utf-8"))
    ]
    assert creating == ["tasks/pages/prefect_artifacts.py"]
