"""Replay a year, killed by SIGKILL ten times and resumed: everything stored equals that of an uninterrupted replay.

Two homes hold the bundled sample. In one the replay runs in one go; in the other its whole process group is killed at
times drawn from a seed, and started again. Decision log, predictions, trials, version numbers and the champion must
agree bit for bit, apart from run ids, which are random. A year takes about half an hour on two cores.
Run: python benchmarks/replay_kills.py [--first 2018-10-01] [--last 2019-09-30] [--kills 10] [--seed 1]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from model.bars import Series
from tasks.settings import Settings
from tasks.workspace import Workspace

NAME = "BTC-USD-1d-replay"
CHEAP = [
    "--window.lookback-bars",
    "5",
    "--folds.test-bars",
    "110",
    "--folds.count",
    "2",
    "--network.kind",
    "cnn",
    "--network.filters",
    "2",
    "--network.dense-units",
    "4",
    "--training.epochs",
    "1",
    "--training.batch-size",
    "512",
]
COMMAND = Path(sys.executable).with_name("riseorfall")
PATIENCE_SECONDS = 3600  # without a new decision, far above the time of one day
FOLLOW_SECONDS = 2.0  # of a day, within which a kill falls


def main() -> None:
    """Replay twice and compare; exit 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=date.fromisoformat, default=date(2018, 10, 1))
    parser.add_argument("--last", type=date.fromisoformat, default=date(2019, 9, 30))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    span = ["--from", chosen.first.isoformat(), "--to", chosen.last.isoformat()]
    days = (chosen.last - chosen.first) // timedelta(days=1) + 1
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = prepared_home(Path(folder) / "whole"), prepared_home(Path(folder) / "killed")
        finish(whole, span)
        kill_times = replay_killed(killed, span, days, chosen.kills, chosen.seed)
        finish(killed, span)
        differing = [name for name, content in stored(whole).items() if content != stored(killed)[name]]
        count = len(stored(whole)["decisions"])
    print(f"{count} decisions of {days} days; killed {len(kill_times)} times, after {kill_times} decisions")
    print(f"differing: {', '.join(differing) or 'nothing'}")
    sys.exit(bool(differing) or count != days)


def prepared_home(home: Path) -> Path:
    """Store the bundled sample in a new home."""
    home.mkdir()
    subprocess.run([COMMAND, "ingest"], env=environment(home), check=True, capture_output=True)
    return home


def finish(home: Path, span: list[str]) -> None:
    """Run a replay to its end."""
    done = subprocess.run([COMMAND, "replay", *span, *CHEAP], env=environment(home), check=False, capture_output=True)
    if done.returncode:
        raise SystemExit(done.stderr.decode() + done.stdout.decode())


def replay_killed(home: Path, span: list[str], days: int, kills: int, seed: int) -> list[int]:
    """Start a replay and kill it, again and again; return how many decisions were stored at each kill."""
    rng = np.random.default_rng(seed)
    thresholds = sorted(rng.choice(np.arange(1, days), size=kills, replace=False).tolist())
    found = []
    for threshold in thresholds:
        running = subprocess.Popen(
            [COMMAND, "replay", *span, *CHEAP],
            env=environment(home),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        limit = time.monotonic() + PATIENCE_SECONDS
        while decisions(home) < threshold and running.poll() is None and time.monotonic() < limit:
            time.sleep(0.05)
        time.sleep(float(rng.uniform(0, FOLLOW_SECONDS)))
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            found.append(decisions(home))
    return found


def decisions(home: Path) -> int:
    """Count the stored decisions."""
    return len(Workspace(settings(home)).decision_log.rows(NAME))


def stored(home: Path) -> dict[str, Any]:
    """Return what a replay stored, without run ids and digests, which differ from process to process."""
    workspace = Workspace(settings(home), Series("BTC-USD", "1d"), NAME)
    logs = {"served": workspace.prediction_log, "shadows": workspace.shadow_log}
    predictions = {name: log.read(NAME).drop(columns="network") for name, log in logs.items()}
    rows = workspace.decision_log.rows(NAME)
    trials = [replace(each, run_id="") for each in workspace.trial_log.trials("BTC-USD", "1d")]
    versions = [workspace.registry.version(row.version) for row in rows]
    return {
        "decisions": [replace(row, run_id="", files={}) for row in rows],
        "predictions": {
            name: json.loads(frame.to_json(double_precision=15, date_format="iso", orient="records"))
            for name, frame in predictions.items()
        },
        "trials": sorted(map(str, trials)),
        "versions": [(each.version, each.tags) for each in versions],
        "records": [workspace.registry.read_version(row.version).record().frame().to_csv() for row in rows[::10]],
        "champion": workspace.registry.alias_number("champion"),
    }


def settings(home: Path) -> Settings:
    """Return the settings of a home."""
    return Settings(home=home, tracking_uri="", store="")


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a command that works in a home."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    return outer | {"RISEORFALL_HOME": str(home)}


if __name__ == "__main__":
    main()
