"""Memory of a running `up`: resident MiB of each service, before the first retrain and after every fifth of twenty.

Every retrain is a process of its own, so only the servers and the process that starts the runs can grow. They are
measured between runs, each with its descendants (Linux: /proc). The first retrains fill caches; the question is whether
memory keeps growing. Run: python benchmarks/up_memory.py [RETRAINS]
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "reference"))

from running_up import Up, launch

RETRAINS, EVERY = 20, 5
SETTLE_SECONDS = 15  # until the process of a finished run has exited
RUN_TIMEOUT_SECONDS = 900
PARTS = ("Prefect", "MLflow", "pages", "deployments")


def main(retrains: int) -> None:
    """Start `up` in a folder of its own, retrain repeatedly, and print a line every few retrains."""
    with tempfile.TemporaryDirectory() as folder:
        up = launch(Path(folder) / "home", "--schedule.ingest-cron", "0 0 1 1 *")
        try:
            print(f"{'retrains':>8}  " + "  ".join(f"{part:>11}" for part in PARTS), flush=True)
            print_memory(up, 0)
            for count in range(1, retrains + 1):
                run = up.finished(up.start("retrain", {"force": True})["id"], RUN_TIMEOUT_SECONDS)
                assert run["state_type"] == "COMPLETED", run["state"]
                if count % EVERY == 0 or count == 1:
                    print_memory(up, count)
        finally:
            up.process.terminate()
            up.process.wait(90)


def print_memory(up: Up, count: int) -> None:
    """Print the memory of each service once no run is active."""
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
