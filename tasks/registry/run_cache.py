"""What this process has written to MLflow during a retrain: its later steps take it from here instead of fetching it.

Empty outside of `run_cache`. A step in another process, such as a fold on a cluster, finds nothing here and asks
MLflow. Keys hold the address of MLflow, so that two homes in one process stay apart. Caution: files of a registered
version are read from the registry, whose verification must see what is stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

MAX_BYTES = 64 * 2**20  # own choice: of files; a daily series needs 4 MB, and what finds no place is fetched


@dataclass(slots=True)
class RunCache:
    """What is remembered until the last retrain of the process ends.

    Attributes:
        files: content by address of MLflow, run and path.
        curves: values of each epoch by metric, by address and run.
        experiments: experiment by address and name.
        users: retrains that run.
    """

    files: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    curves: dict[tuple[str, str], Mapping[str, Sequence[float]]] = field(default_factory=dict)
    experiments: dict[tuple[str, str], str] = field(default_factory=dict)
    users: int = 0
    _lock: Lock = field(default_factory=Lock)

    def keep_file(self, key: tuple[str, str, str], content: bytes) -> None:
        """Remember a file if a retrain runs and there is room; a former content of that path is forgotten."""
        with self._lock:
            self.files.pop(key, None)
            if self.users and sum(map(len, self.files.values())) + len(content) <= MAX_BYTES:
                self.files[key] = content

    def keep_curves(self, key: tuple[str, str], curves: Mapping[str, Sequence[float]]) -> None:
        """Remember the curves of a run if a retrain runs."""
        if self.users:
            self.curves[key] = curves

    def keep_experiment(self, key: tuple[str, str], experiment_id: str) -> None:
        """Remember the experiment of a name if a retrain runs."""
        if self.users:
            self.experiments[key] = experiment_id

    def enter(self) -> None:
        """Count a retrain that starts."""
        with self._lock:
            self.users += 1

    def leave(self) -> None:
        """Count a retrain that ended, and forget everything after the last one."""
        with self._lock:
            self.users -= 1
            if not self.users:
                for kept in (self.files, self.curves, self.experiments):
                    kept.clear()


CACHE = RunCache()  # one for the process: every step opens a workspace of its own


@contextmanager
def run_cache() -> Iterator[None]:
    """Remember inside the context what is written."""
    CACHE.enter()
    try:
        yield
    finally:
        CACHE.leave()
