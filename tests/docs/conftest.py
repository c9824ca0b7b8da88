"""One home for all guides: the bundled sample retrained twice, cheaply, and a file of bars."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest
from guide_blocks import ROOT

SAMPLE = ROOT / "tasks" / "sources" / "Coinbase_BTCUSD_d.csv"
Shell = Callable[[str, Mapping[str, str]], str]
# The commands run as shown; these flags are added where a command trains and does not set them.
CHEAP = {
    "retrain": {"--training.epochs": "2", "--folds.count": "2", "--folds.test-bars": "240"},
    "retrain-panel": {"--training.epochs": "1", "--folds.count": "2", "--folds.test-bars": "120"},
    "tune": {"--training.epochs": "1", "--folds.test-bars": "240", "--folds.count": "2"},
}
WRAPPER = f"""#!{sys.executable}
import os, sys
words = sys.argv[1:]
for name, value in {CHEAP!r}.get(words[0] if words else "", {{}}).items():
    if "--help" not in words and name not in words:
        words += [name, value]
os.execv({sys.executable!r}, [{sys.executable!r}, "-c", "from flows.cli import main; main()", *words])
"""


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Run a shell script as a reader of a guide would, and return its output."""
    tools = tmp_path_factory.mktemp("tools")
    for name, text in {"riseorfall": WRAPPER, "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n'}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def run(script: str, variables: Mapping[str, str]) -> str:
        passed = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RISEORFALL", "MLFLOW", "PREFECT"))
        }
        environment = passed | {"PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"} | dict(variables)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], env=environment, cwd=variables["RISEORFALL_HOME"],
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, shell: Shell) -> Path:
    """A home with two versions of BTC-USD, `bars.csv` to be read as another symbol, `coins.csv` of three symbols."""
    place = tmp_path_factory.mktemp("guides")
    frame = pd.read_csv(SAMPLE, skiprows=1).iloc[::-1]
    columns = {"volume_btc": "volume"}
    frame = frame.drop(columns="volume").rename(columns=columns)[["date", "open", "high", "low", "close", "volume"]]
    frame.to_csv(place / "bars.csv", index=False)
    days, prices = frame[["date"]][-1000:].reset_index(drop=True), frame.drop(columns="date")
    coins = {
        symbol: days.join(prices[-1000 - later : len(prices) - later].reset_index(drop=True))
        for symbol, later in (("BTC-USD", 0), ("ETH-USD", 300), ("ADA-USD", 600))  # prices of earlier days
    }
    pd.concat(coins, names=["symbol"]).reset_index(level=0).to_csv(place / "coins.csv", index=False)
    for version in ("1", "2"):
        output = shell(f"riseorfall retrain --training.seed {version}", {"RISEORFALL_HOME": str(place)})
        assert f"version {version}" in output
    return place
