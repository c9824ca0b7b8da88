"""Runs the benchmarks: prints a table of each, and updates their entries in `benchmarks/results.json`.

Most lines compare two programs that alternate within this run. `make bench` first creates `.venv-bench` (PyTorch and
neuralforecast, the peers) if it can; without it their lines state that they were not measured. All benchmarks take
about half an hour on an idle machine. Run: python benchmarks/run.py [--rounds 5] [--only windowing training ...]
"""

import argparse
import importlib
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from timed_comparison import Line, table

from tasks.settings import Settings

MODULES = {
    "windowing": "windowing_speed",
    "training": "training_speed",
    "time_to_loss": "time_to_loss",
    "retrain": "retrain_speed",
    "replay": "replay_speed",
    "prediction": "prediction_speed",  # uses the home of `retrain`
    "panel": "panel_training_speed",
    "growth": "growth_with_bars",
    "workers": "parallel_folds",
}
RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    """Run the chosen benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison")
    parser.add_argument("--only", nargs="*", choices=MODULES, default=list(MODULES))
    parser.add_argument("--largest", type=int, default=5_000_000, help="bars of the largest size of growth")
    chosen = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # whole processes are timed with compiled bytecode, as installed
    Settings().announce()  # before TensorFlow is imported, as the command line does
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in MODULES:
            wanted = name in chosen.only or (name == "retrain" and "prediction" in chosen.only)
            if wanted:
                sys.stderr.write(f"{name} ...\n")
                found = _lines(name, chosen, Path(folder))
                print(f"\n{name}\n\n{table(found)}", flush=True)
                results[name] = _environment() | {"lines": [line.to_dict() for line in found]}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _environment() -> dict[str, object]:
    """Return time and machine; the load is that of the last minute, including this process."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def _lines(name: str, chosen: argparse.Namespace, home: Path) -> list[Line]:
    module = importlib.import_module(MODULES[name])
    lines: list[Line]
    if name in ("retrain", "prediction"):
        lines = module.lines(chosen.rounds, home)
    elif name == "growth":
        lines = module.lines(chosen.largest)
    else:
        lines = module.lines(chosen.rounds)
    return lines


def _processor() -> str:
    names = Path("/proc/cpuinfo")
    if not names.exists():
        return platform.processor()
    found = [line.partition(":")[2].strip() for line in names.read_text().splitlines() if line.startswith("model name")]
    return found[0] if found else platform.machine()


if __name__ == "__main__":
    main()
