"""A group of series under a real `up` whose process is killed: it costs the series that was running, no other."""

import os
import signal
from pathlib import Path

import psutil
import pytest
from running_up import RETRAIN_SECONDS, Up, wait_for
from series_files import write_series

pytestmark = pytest.mark.e2e

RECIPE = {
    "window": {"lookback_bars": 5},
    "folds": {"test_bars": 110, "count": 2},
    "network": {"filters": [2, 2], "units": 2, "dense_units": 4},
    "training": {"epochs": 2, "batch_size": 128},
}


def children(up: Up, group: str) -> list[dict]:
    return list(up.ask("/flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [group]}}}))


def running(up: Up, group: str, name: str) -> list[dict]:
    return [run for run in children(up, group) if (run["name"], run["state_type"]) == (name, "RUNNING")]


def processes(flow_run: str) -> list[psutil.Process]:
    alive = psutil.process_iter(["environ"])
    return [each for each in alive if (each.info["environ"] or {}).get("PREFECT__FLOW_RUN_ID") == flow_run]


def groups(up: Up) -> list[dict]:
    return up.runs("retrain_group")


def test_a_killed_process_costs_the_series_that_was_running(up: Up, tmp_path: Path) -> None:
    sources = [each.model_dump(mode="json") for each in write_series(tmp_path)]
    started = up.finished(up.start("retrain_all", {"sources": sources, **RECIPE})["id"])
    assert started["state_type"] == "COMPLETED", started["state"]
    (first,) = groups(up)
    wait_for(lambda: running(up, first["id"], "retrain BBB-USD 1d"), RETRAIN_SECONDS)
    killed = processes(first["id"])
    for process in killed:
        os.kill(process.pid, signal.SIGKILL)
    assert killed

    crashed = up.finished(first["id"])
    assert crashed["state_type"] == "CRASHED"
    rest = wait_for(lambda: [run for run in groups(up) if run["id"] != first["id"]])
    ended = up.finished(rest[0]["id"], RETRAIN_SECONDS)
    assert (ended["name"], ended["state_type"]) == ("retrain group: CCC-USD 1d", "FAILED")
    assert ended["state"]["message"] == "2 of 3 series completed; not completed: BBB-USD 1d"
    names = {run["name"]: run["state_name"] for each in (first, ended) for run in children(up, each["id"])}
    assert names == {
        "retrain AAA-USD 1d: v1 promoted": "Promoted", "retrain BBB-USD 1d": "Crashed",
        "retrain CCC-USD 1d: v1 promoted": "Promoted",
    }  # fmt: skip
    assert len(groups(up)) == 2
