"""All benchmarks: one table on standard output, and `benchmarks/results.json`.

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

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from timing import Line, table

ALL = ("windowing", "training", "time_to_loss", "retrain", "replay", "prediction", "growth", "workers")
RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each comparison")
    parser.add_argument("--only", nargs="*", choices=ALL, default=ALL)
    parser.add_argument("--largest", type=int, default=5_000_000, help="bars of the largest size of growth")
    chosen = parser.parse_args()
    found: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ALL:
            wanted = name in chosen.only or (name == "retrain" and "prediction" in chosen.only)
            if wanted:
                sys.stderr.write(f"{name} ...\n")
                found += _lines(name, chosen, Path(folder))
    told = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "processor": _processor(), "python": platform.python_version(),
                    "load": os.getloadavg()},
        "lines": [line.to_dict() for line in found],
    }  # fmt: skip
    RESULTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(f"{told['at']}, {_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(table(found))


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
