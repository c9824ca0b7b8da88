"""The picture of what `old_home_commands.py` measured: disk, and processor time of whole commands, by simulated year.

Run: python benchmarks/ten_years_picture.py FILE.jsonl docs/pictures/ten_years.svg
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

SHOWN = ("status", "predict")


def draw(lines: list[dict[str, Any]], path: str) -> None:
    """Draw disk and times by year, from lines of `old_home_commands.py`: those after housekeeping have no times."""
    every = sorted(lines, key=lambda line: float(line["day"]))
    lines = [line for line in every if "status_s" not in line]
    figure = Figure((9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    years = [line["day"] / 365 for line in lines]
    tables = [sum(size for name, size in line.items() if name.startswith("tables_")) for line in lines]
    parts = [[line["artifacts"] for line in lines], [line["database"] for line in lines], tables]
    shades = ("#9ecae1", "#0072b2", "#d55e00")
    stacked = np.array(parts) / 1000
    left.stackplot(years, stacked, labels=["files of runs and versions", "MLflow's database", "tables"], colors=shades)
    left.set(xlabel="simulated years", ylabel="disk (GB)", ylim=(0, None), title="Disk after housekeeping")
    left.legend(frameon=False, fontsize=8, loc="upper left")
    for name, shade in zip(SHOWN, ("#0072b2", "#d55e00"), strict=True):
        timed = [(line["day"] / 365, line[f"{name}_s"]) for line in every if f"{name}_s" in line]
        right.plot(*zip(*timed, strict=True), marker="o", color=shade, label=name)
    right.set(xlabel="simulated years", ylabel="seconds", ylim=(0, None), title="Processor time of a whole command")
    right.legend(frameon=False, fontsize=8)
    figure.savefig(path)


if __name__ == "__main__":
    draw([json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()], sys.argv[2])
