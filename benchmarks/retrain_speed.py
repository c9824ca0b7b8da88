"""One retrain of the sample from the shell in an empty home: seconds by step, and the share outside training."""

import os
import re
import subprocess
import time
from pathlib import Path

from prediction_speed import COMMAND
from timed_comparison import Line


def lines(home: Path) -> list[Line]:
    """Run it once; `benchmarks/prediction_speed.py` uses its champion."""
    started = time.perf_counter()
    done = subprocess.run(
        [str(COMMAND), "retrain"], env=os.environ | {"RISEORFALL_HOME": str(home)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    whole = time.perf_counter() - started
    summary = re.search(r"^seconds +(.*)$", done.stdout, re.MULTILINE)
    assert summary, done.stdout
    steps = {name: float(spent) for name, spent in re.findall(r"([a-z ]+?) ([\d.]+)(?:, |$)", summary[1])}
    rest = whole - steps["train"]
    shown = ", ".join(f"{name} {spent:.1f}" for name, spent in steps.items())
    return [
        Line("retrain of the sample: seconds outside training, and all", rest, whole, "s", None, "25 s", shown,
             rest < 25),
        Line("retrain of the sample: share outside training", rest / whole, None, "", rest / whole, "0.40", "",
             rest / whole < 0.4),
    ]  # fmt: skip
