"""What a run says while it works, and the small values that its end is told with.

`Progress` is a plain protocol: a terminal, a Prefect artifact or a log may stand behind it. The one in use travels in
a context variable, so tasks need no parameter for it. It decides nothing and computes nothing.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Protocol

from model.training import Epoch

log = logging.getLogger(__name__)


class Progress(Protocol):
    """Something that is told what happens."""

    def started(self, step: str) -> None:
        """Hear that a step begins."""

    def ended(self, step: str, seconds: float) -> None:
        """Hear that a step ended."""

    def epoch(self, fit: str, epoch: Epoch, epochs: int) -> None:
        """Hear how an epoch of a fit went; `epochs` is the most there may be."""

    def page(self, reached: datetime, share: float) -> None:
        """Hear up to which moment an exchange was read, and what share of the whole that is (0 to 1)."""

    def say(self, line: str) -> None:
        """Hear one line worth reading."""


class LogProgress:
    """Progress as log lines: for workers and for pipes."""

    def started(self, step: str) -> None:
        """Log the step."""
        log.info("%s ...", step)

    def ended(self, step: str, seconds: float) -> None:
        """Log the step's time."""
        log.info("%s: %.1f s", step, seconds)

    def epoch(self, fit: str, epoch: Epoch, epochs: int) -> None:
        """Log the epoch's losses."""
        log.info("%s epoch %d/%d: %s", fit, epoch.number, epochs, losses(epoch))

    def page(self, reached: datetime, share: float) -> None:
        """Log how far the bars were read."""
        log.info("read up to %s (%.0f %%)", reached, 100 * share)

    def say(self, line: str) -> None:
        """Log the line."""
        log.info("%s", line)


def losses(epoch: Epoch) -> str:
    """Word an epoch's losses."""
    validation = "" if epoch.validation_loss != epoch.validation_loss else f", validation {epoch.validation_loss:.4f}"
    return f"loss {epoch.loss:.4f}{validation}"


@dataclass(slots=True)
class Run:
    """The progress of one run and the seconds each step took."""

    progress: Progress = field(default_factory=LogProgress)
    seconds: dict[str, float] = field(default_factory=dict)
    _open: dict[str, tuple[int, float]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step; steps of one name add up, and where they overlap, in threads, their time counts once."""
        with self._lock:
            count, start = self._open.get(name, (0, time.perf_counter()))
            self._open[name] = (count + 1, start)
            if not count:
                self.progress.started(name)
        try:
            yield
        finally:
            with self._lock:
                count, start = self._open.pop(name)
                if count > 1:
                    self._open[name] = (count - 1, start)
                else:
                    spent = time.perf_counter() - start
                    self.seconds[name] = self.seconds.get(name, 0.0) + spent
                    self.progress.ended(name, spent)

    def epoch(self, fit: str, epoch: Epoch, epochs: int) -> None:
        """Pass an epoch on."""
        self.progress.epoch(fit, epoch, epochs)

    def page(self, start: datetime, reached: datetime, end: datetime) -> None:
        """Pass on that an exchange was read from `start` up to `reached`, of what is wanted up to `end`."""
        self.progress.page(reached, (reached - start) / (end - start) if end > start else 1.0)

    def say(self, line: str) -> None:
        """Pass a line on."""
        self.progress.say(line)


_current: ContextVar[Run | None] = ContextVar("run", default=None)


def current_progress() -> Run:
    """Return the run that the current context reports to; a logging one where nobody began any."""
    run = _current.get()
    if run is None:
        run = Run()
        _current.set(run)
    return run


@contextmanager
def reporting(progress: Progress | None = None) -> Iterator[Run]:
    """Report to `progress` (to the log without one) inside the context."""
    run = Run(progress or LogProgress())
    token = _current.set(run)
    try:
        yield run
    finally:
        _current.reset(token)
