"""One retrain of the sample from a shell in an empty home: seconds by step, and the share that is not training."""

import os
import re
import subprocess
import time
from pathlib import Path

from prediction import COMMAND
from timing import Line


def lines(home: Path) -> list[Line]:
    """Run it once; its champion is what `benchmarks/prediction.py` asks."""
    started = time.perf_counter()
    done = subprocess.run(
        [str(COMMAND), "retrain"], env=os.environ | {"RISEORFALL_HOME": str(home)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    whole = time.perf_counter() - started
    told = re.search(r"^seconds +(.*)$", done.stdout, re.MULTILINE)
    assert told, done.stdout
    steps = {name: float(spent) for name, spent in re.findall(r"([a-z ]+?) ([\d.]+)(?:, |$)", told[1])}
    rest = whole - steps["train"]
    shown = ", ".join(f"{name} {spent:.1f}" for name, spent in steps.items())
    return [
        Line("retrain of the sample: not training, and the whole beside it", rest, whole, "s", None, "25 s", shown,
             rest < 25),
        Line("retrain of the sample: share that is not training", rest / whole, None, "", rest / whole, "0.40", "",
             rest / whole < 0.4),
    ]  # fmt: skip
