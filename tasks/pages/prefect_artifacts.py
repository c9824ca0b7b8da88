"""What a run shows in the Prefect UI: a bar that moves, tables, links.

Knows Prefect's artifacts and nothing of what is shown. Keys are lowercase with dashes, as Prefect wants them. An
artifact is a courtesy: when the server does not take one, the run goes on and says so in its log. The trap: each
update is a request, so a fast fit moves its bar once a second, not once an epoch.
"""

import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect import runtime
from prefect.artifacts import (
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.logging import get_run_logger

from model.training import Epoch
from tasks.console.progress import RunProgress, current_progress, format_losses, report_progress_to

log = logging.getLogger(__name__)

UPDATE_SECONDS = 1.0
FIRST_PERCENT = 1.0  # a bar at zero looks as if nothing began


@dataclass(slots=True)
class Bar:
    """A progress artifact and when it was last moved."""

    artifact_id: UUID
    moved_at: float


@dataclass(slots=True)
class PrefectProgress:
    """Progress as artifacts of the flow run: one bar for the steps, one for each fit; lines go to the run's log.

    Attributes:
        steps: names of the steps that the flow goes through, in order.
        bars: bars by key.
        done: steps that ended at least once.
    """

    steps: tuple[str, ...]
    bars: dict[str, Bar] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def step_started(self, step: str) -> None:
        """Say which step works now."""
        self._move("progress", self._share(), f"{step} ...", at_once=True)

    def step_finished(self, step: str, seconds: float) -> None:
        """Move the bar of the steps."""
        if step not in self.done:
            self.done.append(step)
        self._move("progress", self._share(), f"{step}: {seconds:.1f} s", at_once=True)

    def epoch_finished(self, fit: str, epoch: Epoch, epochs: int) -> None:
        """Move the bar of the fit."""
        told = f"{fit}: epoch {epoch.number} of at most {epochs}, {format_losses(epoch)}"
        self._move(artifact_key(fit), 100 * epoch.number / epochs, told, at_once=epoch.number == epochs)

    def page_read(self, reached: datetime, share: float) -> None:
        """Move the bar of an exchange's bars."""
        self._move("bars", 100 * share, f"bars up to {reached:%Y-%m-%d %H:%M}", at_once=share >= 1)

    def report_line(self, line: str) -> None:
        """Write the line to the run's log."""
        get_run_logger().info("%s", line)

    def finish(self, told: str) -> None:
        """Fill every bar: a fit that stopped early is done as well."""
        for key in self.bars:
            self._move(key, 100.0, told if key == "progress" else "", at_once=True)

    def _share(self) -> float:
        return 100 * len([step for step in self.steps if step in self.done]) / len(self.steps)

    def _move(self, key: str, percent: float, told: str, *, at_once: bool) -> None:
        now, bar = time.monotonic(), self.bars.get(key)
        percent = min(100.0, max(FIRST_PERCENT, percent))
        try:
            if bar is None:
                made = create_progress_artifact(percent, key, told)
                assert isinstance(made, UUID)  # a coroutine only inside an event loop
                self.bars[key] = Bar(made, now)
            elif at_once or now - bar.moved_at >= UPDATE_SECONDS:
                update_progress_artifact(bar.artifact_id, percent, told or None)
                bar.moved_at = now
        except Exception as error:  # noqa: BLE001 - a picture of the run must not end the run
            log.warning("progress artifact %s: %s", key, error)


@contextmanager
def shown(*steps: str) -> Iterator[RunProgress]:
    """Report to the Prefect UI inside the context when this run belongs to a deployment, else as it was set up.

    Args:
        steps: names of the steps that the flow goes through.
    """
    if not runtime.deployment.id:
        yield current_progress()
        return
    progress = PrefectProgress(steps)
    with report_progress_to(progress) as run:
        yield run
        progress.finish(f"done in {sum(run.seconds.values()):.0f} s")


def show_table(key: str, rows: Sequence[dict[str, Any]], description: str) -> None:
    """Show rows as a table of the flow run."""
    _try(create_table_artifact, key, table=list(rows), description=description)


def show_links(links: dict[str, str]) -> None:
    """Show links that a browser can open; addresses of files are left out, a browser refuses them from a page."""
    for text, link in links.items():
        if link.startswith("http"):
            _try(create_link_artifact, artifact_key(text), link=link, link_text=text, description=f"[{text}]({link})")


def artifact_key(text: str) -> str:
    """Return a text as a key: `fold 1 of 5` is `fold-1-of-5`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _try(create: Any, key: str, **content: Any) -> None:
    try:
        create(key=key, **content)
    except Exception as error:  # noqa: BLE001 - see the module's words
        log.warning("artifact %s: %s", key, error)
