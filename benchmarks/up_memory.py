"""Memory of a running `up`: resident MiB of each part before the first retrain and after every few of twenty.

Every retrain is a process of its own, so what grows can only be the servers and the one that starts the runs. They are
measured while nothing runs, each with its descendants (Linux: /proc). The first retrains fill caches; what matters is
whether it goes on. Run: python benchmarks/up_memory.py [RETRAINS]
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "reference"))

from running_up import Up, launch

RETRAINS, EVERY = 20, 5
SETTLE_SECONDS = 15  # until a finished run's process is gone
PATIENCE_SECONDS = 900
PARTS = ("Prefect", "MLflow", "pages", "deployments")


def main(retrains: int) -> None:
    """Start an `up` in a folder of its own, retrain, and print a line every few retrains."""
    with tempfile.TemporaryDirectory() as folder:
        up = launch(Path(folder) / "home", "--schedule.ingest-cron", "0 0 1 1 *")
        try:
            print(f"{'retrains':>8}  " + "  ".join(f"{part:>11}" for part in PARTS), flush=True)
            tell(up, 0)
            for count in range(1, retrains + 1):
                run = up.finished(up.start("retrain")["id"], PATIENCE_SECONDS)
                assert run["state_type"] == "COMPLETED", run["state"]
                if count % EVERY == 0 or count == 1:
                    tell(up, count)
        finally:
            up.process.terminate()
            up.process.wait(90)


def tell(up: Up, count: int) -> None:
    """Print the memory of each part once nothing runs."""
    time.sleep(SETTLE_SECONDS)
    resident = [resident_mib(up.state["parts"][part]["pid"]) for part in PARTS]
    print(f"{count:>8}  " + "  ".join(f"{each:>7.0f} MiB" for each in resident), flush=True)


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process and its descendants."""
    folder = Path("/proc") / str(pid)
    lines = (folder / "status").read_text(encoding="utf-8").splitlines()
    own = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
    lists = [threads.read_text(encoding="utf-8") for threads in folder.glob("task/*/children")]
    return own + sum(resident_mib(int(child)) for child in " ".join(lists).split())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RETRAINS)
