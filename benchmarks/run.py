"""All benchmarks: a table on standard output, and `benchmarks/results.json`, which keeps what was not run anew.

Each line but the last few compares two things that took turns within this run. `make bench` makes `.venv-bench` first
where it can (PyTorch and neuralforecast, the peers); without it their lines say so. On a machine of its own all takes
about half an hour. Run: python benchmarks/run.py [--rounds 5] [--only windowing training ...] [--largest 5000000]
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

from timing import Line, table

from tasks.settings import Settings

ALL = ("windowing", "training", "time_to_loss", "retrain", "replay", "prediction", "growth", "workers")
RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each comparison")
    parser.add_argument("--only", nargs="*", choices=ALL, default=ALL)
    parser.add_argument("--largest", type=int, default=5_000_000, help="bars of the largest size of growth")
    chosen = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # whole processes are timed as users have them: compiled before
    Settings().announce()  # as the command line does, before TensorFlow is imported
    told = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ALL:
            wanted = name in chosen.only or (name == "retrain" and "prediction" in chosen.only)
            if wanted:
                sys.stderr.write(f"{name} ...\n")
                found = _lines(name, chosen, Path(folder))
                print(f"\n{name}\n\n{table(found)}", flush=True)
                told[name] = _circumstances() | {"lines": [line.to_dict() for line in found]}
    RESULTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _circumstances() -> dict[str, object]:
    """Say when and where: the load is that of the last minute, our own included."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def _lines(name: str, chosen: argparse.Namespace, home: Path) -> list[Line]:
    module = importlib.import_module(name)
    lines: list[Line]
    if name == "retrain":
        lines = module.lines(home)
    elif name == "prediction":
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
