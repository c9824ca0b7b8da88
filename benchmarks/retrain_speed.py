"""One retrain of the sample from the shell, compared with a process that only imports the libraries it uses.

Seconds are those of whole processes, from start to end; CPU seconds include the temporary Prefect server. The first
retrain fills an empty home, and its champion is used by `benchmarks/prediction_speed.py`; the timed ones follow it and
train again (`--force`).
"""

import os
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from prediction_speed import COMMAND
from timed_comparison import Line

IMPORTS = "import tensorflow, keras, mlflow, prefect, great_expectations, sklearn"
AT_MOST = 2.0


def lines(rounds: int, home: Path) -> list[Line]:
    """Compare."""
    environment = os.environ | {"RISEORFALL_HOME": str(home), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PREFECT_HOME", None)  # of the benchmark's own home
    commands = {
        "retrain": [str(COMMAND), "retrain", "--force"],
        "imports": [sys.executable, "-c", IMPORTS],
    }
    _measure([str(COMMAND), "retrain"], environment)
    _measure(commands["imports"], environment)
    spent: dict[str, list[tuple[float, float, str]]] = {name: [] for name in commands}
    for number in range(rounds):
        for name, command in reversed(commands.items()) if number % 2 else commands.items():
            spent[name].append(_measure(command, environment))
    steps = re.search(r"^seconds +((?:.+\n?)+)", spent["retrain"][-1][2], re.MULTILINE)
    assert steps, spent["retrain"][-1][2]
    return [
        _line("wall seconds", [each[0] for each in spent["retrain"]], [each[0] for each in spent["imports"]]),
        _line("CPU seconds", [each[1] for each in spent["retrain"]], [each[1] for each in spent["imports"]]),
        Line("retrain of the sample: seconds by step", None, None, "", None, "", " ".join(steps[1].split())),
    ]


def _measure(command: list[str], environment: dict[str, str]) -> tuple[float, float, str]:
    """Run a command; return its wall seconds, its CPU seconds with those of its children, and its output."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def _line(what: str, retrain: list[float], imports: list[float]) -> Line:
    ratios = [own / other for own, other in zip(retrain, imports, strict=True)]
    ratio = statistics.median(ratios)
    return Line(
        f"retrain of the sample / its imports alone, {what}", statistics.median(retrain), statistics.median(imports),
        "s", ratio, f"at most {AT_MOST:g}", f"{min(ratios):.2f}-{max(ratios):.2f} in {len(ratios)} rounds",
        ratio <= AT_MOST,
    )  # fmt: skip
