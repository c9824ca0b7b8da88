"""One integer, the whole stack: days of ingest, retrain, predict and monitor among faults, all drawn from a seed."""

import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simulated_commands as commands
from simulated_faults import Faults, Worker
from simulated_invariants import Broken, Watch
from simulated_world import DAY, Clock, Exchange, numbered

from model.errors import RiseOrFallError, SourceUnavailable
from tasks.settings import Settings

SHARES = {
    "ingest": 0.28, "retrain": 0.17, "predict": 0.28, "monitor": 0.1, "rollback": 0.03, "lift": 0.04, "force": 0.03,
    "remove": 0.02, "release": 0.02, "housekeeping": 0.03,
}  # fmt: skip
ALONE = {"housekeeping"}  # it takes runs for days old that have just ended
CORRECTS_ALIAS = ("retrain", "predict", "monitor", "impatient_monitor", "rollback", "lift", "force")
RATES = (0.0, 0.01, 0.03, 0.08)  # share of writes that a fault hits
STEPS_KEPT = 400


class SimulationFailed(AssertionError):
    """An invariant broke, or a command failed in a way that nobody foresaw."""

    def __init__(self, seed: int, text: str) -> None:
        super().__init__(text)
        self.seed = seed


@dataclass
class Outcome:
    """What happened in a simulation.

    Attributes:
        steps: what happened, in order.
        ends: number of commands by name and end.
        seconds: time that it took.
        days: days that passed.
    """

    seed: int
    days: int = 0
    steps: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    promotions: int = 0
    predictions: int = 0


class Simulation:
    """One simulation in a home of its own."""

    def __init__(self, seed: int, home: Path) -> None:
        """Draw what kind of days these are.

        Args:
            seed: of everything.
            home: a folder with MLflow's database, which nobody else uses.
        """
        self.outcome = Outcome(seed)
        world, faults, self.rng, training = (
            np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(4)
        )
        self.clock = Clock()
        self.exchange = Exchange(self.clock, world)
        self.faults = Faults(faults, self.outcome.steps.append, self._stall)
        self.training = training
        self.home = home
        self.rate = float(self.rng.choice(RATES))
        self.trouble = float(self.rng.choice([0.0, 0.2, 0.5]))
        self.pairs = float(self.rng.choice([0.0, 0.3, 0.6]))
        self.jumps = float(self.rng.choice([0.0, 0.2]))
        self.names = numbered("P")
        self.watch = Watch(Settings(home=home, tracking_uri="", store="", public_url=""), self.exchange, self.faults)

    def run(self, days: int) -> Outcome:
        """Let days pass, then repair everything with commands alone.

        Raises:
            SimulationFailed: with the seed and the steps.
        """
        began = time.perf_counter()
        try:
            with commands.simulated(self.home, self.clock, self.exchange, self.faults, self.training):
                if self.rng.random() < 0.7:
                    self._begin_quietly()
                for _ in range(days):
                    self._day()
                self._recover()
        except Broken as broken:
            raise SimulationFailed(self.outcome.seed, self._report(str(broken), days)) from broken
        finally:
            self.outcome.seconds = time.perf_counter() - began
            self.outcome.promotions = self.watch.promoted
            self.outcome.predictions = len(self.watch.predictions)
        return self.outcome

    def _report(self, problem: str, days: int) -> str:
        shown = self.outcome.steps[-STEPS_KEPT:]
        again = f"python -m tests.simulation.run --seed {self.outcome.seed} --days {days}"
        return "\n".join([f"{problem}", *shown, f"{problem}", f"Again: {again}"])

    def _say(self, text: str) -> None:
        self.outcome.steps.append(f"{self.clock.true:%Y-%m-%d %H:%M} {text}")

    def _begin_quietly(self) -> None:
        """Retrain without faults until there is a champion, because most days of a home have one."""
        while not self.watch.promoted:
            self.step(["retrain"])
            self.exchange.pass_day(0.0)
            self.clock.true = self.exchange.open_time(len(self.exchange.values))

    def _day(self) -> None:
        self.outcome.days += 1
        self.exchange.failing = 0.2 if self.trouble else 0.0
        event = self.exchange.pass_day(self.trouble)
        self.clock.true = self.exchange.open_time(len(self.exchange.values))  # the bar has just closed
        self._say(f"day {self.outcome.days}{f': {event}' if event else ''}")
        self.faults.rate = self.rate
        count = int(self.rng.integers(1, 5))
        for moment in np.sort(self.rng.uniform(0.01, 0.95, count)):
            at = self.exchange.open_time(len(self.exchange.values)) + float(moment) * DAY
            self.clock.true = max(at, self.clock.true)
            if self.rng.random() < self.jumps:
                self._say(self.clock.jump(self.rng))
            paired = self.rng.random() < self.pairs
            names = [str(each) for each in self.rng.choice(list(SHARES), 2 if paired else 1, p=list(SHARES.values()))]
            self.step(names if not ALONE & set(names) else names[:1])

    def _stall(self, rng: np.random.Generator) -> None:
        """Let hours pass in the middle of a command: the machine slept."""
        self.clock.true += float(rng.uniform(0.05, 1.5)) * DAY
        while self.clock.true >= self.exchange.open_time(len(self.exchange.values) + 1):
            self.exchange.pass_day(0.0)

    def step(self, names: list[str]) -> list[Worker]:
        """Run commands in turns, each in a process of its own, and check everything."""
        workers = [Worker(next(self.names), name) for name in names]
        self._say(" and ".join(f"{each.name} {each.command}" for each in workers))
        commands.forget_caches()
        self.faults.live_processes = {each.name for each in workers}
        self.faults.commits.clear()
        began = self.clock.true
        jobs: list[tuple[Worker, Callable[[], Any]]] = [
            (each, partial(getattr(commands, each.command), self.training)) for each in workers
        ]
        self.faults.run(jobs)
        self.faults.live_processes = set()
        for each in workers:
            self._judge(each)
        alone = workers[0] if len(workers) == 1 else None
        clean = alone is not None and alone.outcome == "done" and not alone.faulty
        settled = clean and alone is not None and alone.command in CORRECTS_ALIAS
        if any(each.outcome == "killed" for each in workers):
            self.watch.examine()
        same_day = self.clock.true == began  # else bars closed after the ingest
        self.watch.check(alone.command if clean and alone else "", settled=settled, same_day=same_day)
        return workers

    def _judge(self, worker: Worker) -> None:
        """Record how a command ended; an error that nobody foresaw is a failure."""
        error = worker.error
        found = getattr(worker.result, "promotion", None)
        ending = f": {error}" if error else f": {found.action}, {found.reasons[0]}" if found else ""
        self._say(f"{worker.name} {worker.command}: {worker.outcome}{ending}"[:300])
        self.outcome.ends[f"{worker.command} {worker.outcome}"] += 1
        injected = worker.faulty or isinstance(error, SourceUnavailable)
        if error is not None and not isinstance(error, RiseOrFallError) and not injected:
            raise Broken(f"{worker.command} failed with {type(error).__name__}: {error}") from error

    def _recover(self) -> None:
        """Without faults, and with the right time, every command succeeds, and the bars are the true ones."""
        self.faults.rate, self.exchange.failing = 0.0, 0.0
        self.clock.error = timedelta()
        for _ in range(10):  # troubles of the exchange pass
            self.exchange.pass_day(0.0)
        self.clock.true = self.exchange.open_time(len(self.exchange.values)) + timedelta(hours=3)
        self._say("recovery")
        for name in ("retrain", "predict", "impatient_monitor", "ingest"):
            (worker,) = self.step([name])
            if worker.outcome != "done":
                raise Broken(
                    f"after the faults {name} does not work: {worker.outcome}: {worker.error}"
                ) from worker.error
            if name == "impatient_monitor" and "stale" not in worker.result.raised:
                raise Broken("an alarm is silent, although the last one was raised more than its cool-down ago")
        self.watch.examine()


def make_template(home: Path) -> Path:
    """Create a home with MLflow's tables, whose migrations take seconds."""
    import mlflow

    settings = Settings(home=home, tracking_uri="", store="", public_url="")
    (home / "mlruns").mkdir(parents=True)
    mlflow.MlflowClient(tracking_uri=settings.mlflow_uri).search_experiments()
    return home


def simulate(seed: int, days: int, template: Path, home: Path, rate: float | None = None) -> Outcome:
    """Run one simulation in a copy of the template, which is deleted if it succeeds.

    Args:
        seed: of everything.
        days: number of days before the recovery.
        template: see `make_template`.
        home: where the copy is made.
        rate: share of writes that a fault hits; drawn if None.
    """
    shutil.copytree(template, home)
    simulation = Simulation(seed, home)
    simulation.rate = simulation.rate if rate is None else rate
    outcome = simulation.run(days)
    shutil.rmtree(home)
    return outcome
