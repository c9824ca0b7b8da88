"""Faults at the boundary of each write: a killed process, a refused or half-done write, a lost answer, a turn.

A killed process is an exception that no code catches; whatever its cleaning-up code then writes is refused in the same
way, because a process that was killed writes nothing. Two workers are two threads of which one runs at a time; who
goes on is drawn at each boundary, so that a seed repeats every interleaving.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

FAULTS = ("kill before", "kill after", "refuse", "lose answer", "half", "stall")
NEVER_STALL = ("commit predictions", "commit shadow_predictions")  # their time of writing is taken just before

DECISIVE = ("commit", "create", "mlflow set_registered_model_alias", "mlflow create_model_version")
DECISIVE_WEIGHT = 4  # a write that others depend on fails as much more often than a metric or a picture
READS_PER_WRITE = 20  # a read fails as much more rarely, because there are more of them


class Killed(BaseException):
    """The process was killed."""


@dataclass
class Worker:
    """One command in a process of its own.

    Attributes:
        name: of the process.
        command: what it runs, for the list of steps.
        outcome: how it ended.
        dead: it was killed; it writes nothing any more.
        faulty: a fault other than a kill hit it.
    """

    name: str
    command: str
    outcome: str = ""
    result: Any = None
    error: BaseException | None = None
    dead: bool = False
    faulty: bool = False
    depth: int = 0
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    paused: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    ended: bool = False


class Faults:
    """Draws faults and turns, and keeps the list of steps."""

    def __init__(
        self, rng: np.random.Generator, say: Callable[[str], None], stall: Callable[[np.random.Generator], None]
    ) -> None:
        """Set the generator.

        Args:
            rng: the only source of randomness.
            say: writes a line to the list of steps.
            stall: lets hours pass.
        """
        self.rng, self.say, self.stall = rng, say, stall
        self.rate = 0.0  # share of writes that a fault hits
        self.live_processes: set[str] = set()
        self.commits: dict[str, datetime] = {}  # true time of the first commit of a step, by table
        self.own = threading.local()
        self.live: list[Worker] = []
        self.ticks = 0

    def worker(self) -> Worker | None:
        """Return the worker of this thread; None outside of one."""
        return getattr(self.own, "worker", None)

    def run(self, jobs: list[tuple[Worker, Callable[[], Any]]]) -> None:
        """Run commands in turns until all have ended."""
        self.live = [worker for worker, _ in jobs]
        threads = [threading.Thread(target=self._body, args=job, daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        while self.live:
            worker = self.live[int(self.rng.integers(len(self.live)))] if len(self.live) > 1 else self.live[0]
            worker.go.release()
            worker.paused.acquire()
            if worker.ended:
                self.live.remove(worker)
        for thread in threads:
            thread.join()

    def _body(self, worker: Worker, job: Callable[[], Any]) -> None:
        self.own.worker = worker
        worker.go.acquire()
        try:
            worker.result = job()
            worker.outcome = "done"
        except Killed:
            worker.outcome = "killed"
        except BaseException as error:  # noqa: BLE001 - the simulation decides whether the error is allowed
            worker.error, worker.outcome = error, f"{type(error).__name__}"
        if worker.dead:  # also where the exception was swallowed on its way
            worker.outcome = "killed"
        worker.ended = True
        worker.paused.release()

    def reading(self, point: str, act: Callable[[], Any], refusal: Callable[[str], Exception]) -> Any:
        """Read, or raise what a store raises that does not answer; a killed process does not read."""
        worker = self.worker()
        if worker is None or worker.depth:
            return act()
        if worker.dead:
            raise Killed
        if self.rate and self.rng.random() < self.rate / READS_PER_WRITE:
            self.say(f"  {worker.name} {worker.command}: {point} -> no answer")
            worker.faulty = True
            raise refusal("simulated: no answer")
        worker.depth += 1
        try:
            return act()
        finally:
            worker.depth -= 1

    def boundary(
        self, point: str, act: Callable[[], Any], refusal: Callable[[str], Exception], half: Callable[[], None]
    ) -> Any:
        """Do one write, or what a fault makes of it.

        Args:
            point: what is written, for the list of steps.
            act: writes it.
            refusal: the error of a store that refuses or does not answer.
            half: writes a part of it; the process is killed then.
        """
        worker = self.worker()
        if worker is None or worker.depth:
            return act()
        if worker.dead:
            raise Killed
        self.ticks += 1
        if len(self.live) > 1 and self.rng.random() < 0.5:
            worker.paused.release()
            worker.go.acquire()
        rate = self.rate * (DECISIVE_WEIGHT if point.startswith(DECISIVE) else 1)
        fault = str(self.rng.choice(FAULTS)) if rate and self.rng.random() < rate else ""
        self.say(f"  {worker.name} {worker.command}: {point}{f' -> {fault}' if fault else ''}")
        if fault in ("kill before", "half"):
            worker.dead = True
            if fault == "half":
                half()
            raise Killed
        if fault == "refuse":
            worker.faulty = True
            raise refusal("simulated: refused")
        if fault == "stall" and point not in NEVER_STALL:
            self.stall(self.rng)
        worker.depth += 1
        try:
            found = act()
        finally:
            worker.depth -= 1
        if fault == "kill after":
            worker.dead = True
            raise Killed
        if fault == "lose answer":
            worker.faulty = True
            raise refusal("simulated: no answer in time")
        return found
