"""Report the progress of a run: steps, epochs, pages read, lines of text.

`Progress` is a protocol; a terminal, Prefect artifacts or a log implement it. The one in use travels in a context
variable, so tasks need no parameter for it. This module decides and computes nothing.
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

from model.plurals import counted
from model.training import Epoch

log = logging.getLogger(__name__)


class Progress(Protocol):
    """Receive the progress of a run."""

    def step_started(self, step: str) -> None:
        """Show that a step starts."""

    def step_finished(self, step: str, seconds: float) -> None:
        """Show that a step finished, and its time."""

    def epoch_finished(self, fit: str, epoch: Epoch, epochs: int) -> None:
        """Show the losses of an epoch; `epochs` is the maximum number of epochs of the fit."""

    def fit_finished(self, fit: str, last: int, best: int, epochs: int) -> None:
        """Show the number of epochs that a fit took and its best one; fewer than `epochs`: it stopped early."""

    def page_read(self, reached: datetime, share: float) -> None:
        """Show up to which time an exchange was read, and which share of the whole that is (0 to 1)."""

    def report_line(self, line: str) -> None:
        """Show one line of text."""

    def report_warning(self, line: str) -> None:
        """Show one line of text as a warning."""


class LogProgress:
    """Write progress to the log: for workers and pipes."""

    def step_started(self, step: str) -> None:
        """Log the step."""
        log.info("%s ...", step)

    def step_finished(self, step: str, seconds: float) -> None:
        """Log the time of the step."""
        log.info("%s: %.1f s", step, seconds)

    def epoch_finished(self, fit: str, epoch: Epoch, epochs: int) -> None:
        """Log the losses of the epoch."""
        log.info("%s epoch %d/%d: %s", fit, epoch.number, epochs, format_losses(epoch))

    def fit_finished(self, fit: str, last: int, best: int, epochs: int) -> None:
        """Log how many epochs the fit took."""
        log.info("%s: %s", fit, format_fit(last, best, epochs))

    def page_read(self, reached: datetime, share: float) -> None:
        """Log up to which time the bars were read."""
        log.info("read up to %s (%.0f %%)", reached, 100 * share)

    def report_line(self, line: str) -> None:
        """Log the line."""
        log.info("%s", line)

    def report_warning(self, line: str) -> None:
        """Log the warning."""
        log.warning("%s", line)


def format_losses(epoch: Epoch) -> str:
    """Format the training loss and, where there is one, the validation loss of an epoch."""
    validation = "" if epoch.validation_loss != epoch.validation_loss else f", validation {epoch.validation_loss:.4f}"
    return f"loss {epoch.loss:.4f}{validation}"


def format_fit(last: int, best: int, epochs: int) -> str:
    """Return how many epochs a fit took.

    >>> format_fit(22, 14, 60)
    'stopped early after 22 of 60 epochs, best epoch 14'
    >>> format_fit(1, 1, 1)
    '1 epoch, best epoch 1'
    """
    ended = f"stopped early after {last} of {epochs} epochs" if last < epochs else counted(last, "epoch")
    return f"{ended}, best epoch {best}"


@dataclass(slots=True)
class RunProgress:
    """Forward the progress of one run and record the seconds of each step.

    Attributes:
        progress: receives it.
        seconds: of each step.
        done: steps that ended without an exception.
        newest: the step that was started last.
    """

    progress: Progress = field(default_factory=LogProgress)
    seconds: dict[str, float] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    newest: str = ""
    _open: dict[str, tuple[int, float]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step; steps of one name add up, and steps that overlap (threads) count once."""
        with self._lock:
            count, start = self._open.get(name, (0, time.perf_counter()))
            self._open[name], self.newest = (count + 1, start), name
            if not count:
                self.progress.step_started(name)
        try:
            yield
            self.done.add(name)
        finally:
            with self._lock:
                count, start = self._open.pop(name)
                if count > 1:
                    self._open[name] = (count - 1, start)
                else:
                    spent = time.perf_counter() - start
                    self.seconds[name] = self.seconds.get(name, 0.0) + spent
                    self.progress.step_finished(name, spent)

    def epoch_finished(self, fit: str, epoch: Epoch, epochs: int) -> None:
        """Forward the losses of an epoch."""
        self.progress.epoch_finished(fit, epoch, epochs)

    def fit_finished(self, fit: str, last: int, best: int, epochs: int) -> None:
        """Forward the number of epochs that a fit took."""
        self.progress.fit_finished(fit, last, best, epochs)

    def page_read(self, start: datetime, reached: datetime, end: datetime) -> None:
        """Forward that the bars of an exchange were read from `start` to `reached`; the last one needed is at `end`."""
        self.progress.page_read(reached, (reached - start) / (end - start) if end > start else 1.0)

    def report_line(self, line: str) -> None:
        """Forward a line of text."""
        self.progress.report_line(line)

    def report_warning(self, line: str) -> None:
        """Forward a warning."""
        self.progress.report_warning(line)


_current: ContextVar[RunProgress | None] = ContextVar("run_progress", default=None)


def current_progress() -> RunProgress:
    """Return the progress of the current context; one that logs if none was set."""
    run = _current.get()
    if run is None:
        run = RunProgress()
        _current.set(run)
    return run


@contextmanager
def report_progress_to(progress: Progress | None = None) -> Iterator[RunProgress]:
    """Report to `progress` inside the context; to the log if it is None."""
    run = RunProgress(progress or LogProgress())
    token = _current.set(run)
    try:
        yield run
    finally:
        _current.reset(token)
