"""Repeat or search: `python -m tests.simulation.run --seed 7 --days 30`, or `--seeds 0:100`.

Prints a line for each seed, and for a failure the list of steps.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "reference"), str(HERE.parents[1])]


def show(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)  # noqa: T201 - a command


def main() -> int:
    """Run the seeds; return the number of failures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", default="", help="FIRST:LAST, the last one excluded")
    parser.add_argument("--days", type=int, default=12)
    parser.add_argument("--steps", action="store_true", help="print every step")
    parser.add_argument("--stop", action="store_true", help="stop at the first failure")
    parser.add_argument("--rate", type=float, help="share of writes that a fault hits; drawn if absent")
    parser.add_argument("--folder", help="where homes are made; a disk in memory is quicker")
    parser.add_argument("--plant", default="", help="plant a fault of planted_faults.py")
    chosen = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    logging.disable(logging.CRITICAL)
    from planted_faults import planted
    from simulation import SimulationFailed, make_template, simulate

    first, _, last = chosen.seeds.partition(":")
    seeds = [chosen.seed] if chosen.seed is not None else range(int(first or 0), int(last or 10))
    failures, days, began = 0, 0, time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=chosen.folder) as folder:
        template = make_template(Path(folder) / "template")
        for seed in seeds:
            try:
                with planted(chosen.plant):
                    found = simulate(seed, chosen.days, template, Path(folder) / f"home-{seed}", chosen.rate)
            except SimulationFailed as failure:
                failures += 1
                show(f"seed {seed}: FAILED: {failure}")
                if chosen.stop:
                    break
                continue
            days += found.days
            if chosen.steps:
                show("\n".join(found.steps))
            ends = ", ".join(f"{name} {count}" for name, count in sorted(found.ends.items()))
            show(
                f"seed {seed}: {found.days} days, {found.promotions} promotions, {found.predictions} predictions, "
                f"{found.seconds:.1f} s; {ends}"
            )
    seconds = time.perf_counter() - began
    show(f"{failures} failures; {days} days in {seconds:.0f} s, {days / seconds:.1f} days a second")
    return failures


if __name__ == "__main__":
    sys.exit(min(main(), 1))
