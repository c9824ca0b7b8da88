"""Prefect artifacts of a run: progress bars, tables and links in the Prefect UI.

Knows Prefect's artifacts, not what they show. Keys are lowercase with dashes, as Prefect requires. Artifacts are
optional: if the server rejects one, the run logs a warning and continues. Caution: each update of an artifact is a
request, an event and a dozen rows of the server's database, so only work that takes longer than `UPDATE_SECONDS` has a
bar, which is updated that often.
"""

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect import runtime
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.logging import get_run_logger

from model.bars import Series
from model.training import Epoch
from tasks.champion.promotion_summary import what_to_do
from tasks.champion.version_audit import VersionAudit
from tasks.console.progress import RunProgress, current_progress, format_fit, format_losses, report_progress_to
from tasks.store.decision_log import LoggedDecision

log = logging.getLogger(__name__)

OUTCOMES = {  # action of a decision -> what people read, also as the name of a run's state
    "promote": "Promoted", "hold": "Held", "reject": "Rejected", "unchanged": "Unchanged",
    "rollback": "Restored", "lift": "HoldLifted",
}  # fmt: skip
UPDATE_SECONDS = 5.0  # own choice: a shorter fit, or run, has no bar
LONG_RUN_SECONDS = 60.0  # own choice: a run that takes longer shows each step as it starts
FIRST_PERCENT = 1.0  # a bar at zero looks as if the run had not started
FULL_PERCENT = 100.0
FOLD = re.compile(r"fold (\d+) of (\d+)")  # begins the name of a fit that `tasks/training.py` gives


@dataclass(slots=True)
class Bar:
    """A progress bar: what it shows, and the artifact, which work that ends soon does not get.

    Attributes:
        started_at: start of the work, as all times by the monotonic clock.
        updated_at: last update of the artifact.
        artifact_id: None until there is one.
        percent: of the work that is done.
        text: below the bar.
        is_new: the artifact does not show percent and text yet.
    """

    started_at: float
    updated_at: float
    artifact_id: UUID | None = None
    percent: float = FIRST_PERCENT
    text: str = ""
    is_new: bool = False


@dataclass(slots=True)
class PrefectProgress:
    """Progress as artifacts of the flow run: a bar for the steps, one for all folds; lines go to the run's log.

    A long final fit, and a long fetch of bars, have one each.

    Attributes:
        steps: names of the steps of the flow, in order.
        bars: bars by key.
        done: steps that finished at least once.
        folds: share of each fold that is trained, by its number.
    """

    steps: tuple[str, ...]
    bars: dict[str, Bar] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    folds: dict[int, float] = field(default_factory=dict)

    def step_started(self, step: str) -> None:
        """Show which step is running."""
        self._update_steps(f"{step} ...")

    def step_finished(self, step: str, seconds: float) -> None:
        """Update the bar of the steps."""
        if step not in self.done:
            self.done.append(step)
        self._update_steps(f"{step}: {seconds:.1f} s")

    def epoch_finished(self, fit: str, epoch: Epoch, epochs: int) -> None:
        """Update the bar of the fit."""
        text = f"{fit}: epoch {epoch.number} of at most {epochs}, {format_losses(epoch)}"
        self._update_fit(fit, epoch.number / epochs, text, before=epoch.seconds)
        self._show("progress")

    def fit_finished(self, fit: str, last: int, best: int, epochs: int) -> None:
        """Fill the part of the fit: one that stopped early is finished too."""
        self._update_fit(fit, 1.0, f"{fit}: {format_fit(last, best, epochs)}", at_once=True)

    def page_read(self, reached: datetime, share: float) -> None:
        """Update the bar of the fetch from an exchange."""
        self._update("bars", FULL_PERCENT * share, f"bars up to {reached:%Y-%m-%d %H:%M}", at_once=share >= 1)

    def report_line(self, line: str) -> None:
        """Write the line to the run's log."""
        get_run_logger().info("%s", line)

    def report_warning(self, line: str) -> None:
        """Write the warning to the run's log."""
        get_run_logger().warning("%s", line)

    def finish(self, text: str) -> None:
        """Fill every bar that is not full."""
        for key, bar in self.bars.items():
            if key == "progress":
                self._update(key, FULL_PERCENT, text, at_once=True)
            elif bar.percent < FULL_PERCENT:
                self._update(key, FULL_PERCENT, "", at_once=True)

    def _update_steps(self, text: str) -> None:
        share = FULL_PERCENT * len([step for step in self.steps if step in self.done]) / len(self.steps)
        bar = self.bars.get("progress")
        is_long = bar is not None and time.monotonic() - bar.started_at >= LONG_RUN_SECONDS
        self._update("progress", share, text, at_once=is_long)

    def _update_fit(self, fit: str, share: float, text: str, *, at_once: bool = False, before: float = 0.0) -> None:
        """Set the bar of a fit; all folds share one, of which each fold fills its part."""
        fold = FOLD.match(fit)
        if fold is None:
            self._update(artifact_key(fit), FULL_PERCENT * share, text, at_once=at_once, before=before)
            return
        number, count = int(fold[1]), int(fold[2])
        self.folds[number] = max(share, self.folds.get(number, 0.0))  # a further seed of a fold begins at epoch 1
        done = sum(self.folds.values()) / count
        self._update("folds", FULL_PERCENT * done, text, at_once=at_once and done >= 1, before=before)

    def _update(self, key: str, percent: float, text: str, *, at_once: bool = False, before: float = 0.0) -> None:
        """Set a bar, and show it if it is due or `at_once`; work that is new began `before` seconds ago."""
        now = time.monotonic()
        bar = self.bars.setdefault(key, Bar(now - before, now - before))
        bar.percent, bar.text, bar.is_new = min(FULL_PERCENT, max(FIRST_PERCENT, percent)), text, True
        self._show(key, at_once=at_once)

    def _show(self, key: str, *, at_once: bool = False) -> None:
        """Create or update the artifact of a bar that has changed, if it is due; work that has ended gets none."""
        now, bar = time.monotonic(), self.bars.get(key)
        if bar is None or not bar.is_new:
            return
        is_due, is_full = now - bar.updated_at >= UPDATE_SECONDS, bar.percent >= FULL_PERCENT
        if not (is_due or at_once) or (bar.artifact_id is None and is_full):
            return
        bar.updated_at, bar.is_new = now, False
        try:
            if bar.artifact_id is None:
                created = create_progress_artifact(bar.percent, key, bar.text)
                assert isinstance(created, UUID)  # a coroutine only inside an event loop
                bar.artifact_id = created
            else:
                update_progress_artifact(bar.artifact_id, bar.percent, bar.text or None)
        except Exception as error:  # noqa: BLE001 - a picture of the run must not end the run
            log.warning("progress artifact %s: %s", key, error)


def report_warning(line: str) -> None:
    """Report a warning where the progress is shown, and write it to the run's log too, which Prefect keeps."""
    run = current_progress()
    run.report_warning(line)
    if not isinstance(run.progress, PrefectProgress):
        get_run_logger().warning("%s", line)


@contextmanager
def shown(*steps: str) -> Iterator[RunProgress]:
    """Report progress to the Prefect UI inside the context if the run belongs to a deployment, else as configured.

    Args:
        steps: names of the steps of the flow.
    """
    if not runtime.deployment.id:
        yield current_progress()
        return
    progress = PrefectProgress(steps)
    with report_progress_to(progress) as run:
        yield run
        progress.finish(f"done in {sum(run.seconds.values()):.0f} s")


def show_table(key: str, rows: Sequence[dict[str, Any]], description: str) -> None:
    """Add a table to the flow run."""
    _try(create_table_artifact, key, table=list(rows), description=description)


def show_table_of_run(flow_run_id: UUID, key: str, rows: Sequence[dict[str, Any]], description: str) -> None:
    """Add a table to a flow run that need not be the current one."""
    try:
        with get_client(sync_client=True) as client:
            client.create_artifact(
                ArtifactCreate(
                    key=key, type="table", data=json.dumps(rows), description=description, flow_run_id=flow_run_id
                )
            )
    except Exception as error:  # noqa: BLE001 - an artifact must not fail the run
        log.warning("artifact %s: %s", key, error)


def show_links(links: dict[str, str]) -> None:
    """Add links to the flow run as one artifact: the first one is its link, the description has all.

    File addresses are skipped, because a browser does not open them from a page.
    """
    opened = {text: link for text, link in links.items() if link.startswith("http")}
    if opened:
        text, link = next(iter(opened.items()))
        listed = ", ".join(f"[{each}]({address})" for each, address in opened.items())
        _try(create_link_artifact, artifact_key(text), link=link, link_text=text, description=listed)


def show_page(key: str, page: str, description: str) -> None:
    """Add a page in Markdown to the flow run."""
    _try(create_markdown_artifact, key, markdown=page, description=description)


def show_manual_decision(row: LoggedDecision) -> None:
    """Add what a person decided to the flow run, as a result."""
    show_page("decision", decision_page(row), f"{row.action} by hand")


def decision_page(row: LoggedDecision) -> str:
    """Return a decision as Markdown: what, the deciding reason, who is champion, what to do, the other reasons."""
    (_, why), *others = row.marked_reasons() or (("", "no reason was given"),)
    champion = f"Version {row.champion_after} is champion" if row.champion_after else "There is no champion"
    if row.champion_after == row.champion_before:
        champion += ", as before."
    else:
        champion += f", in place of version {row.champion_before}." if row.champion_before else ": the first one."
    title = f"# {OUTCOMES[row.action]}: version {row.version} of {row.series_name}"
    listed = "\n".join(f"- {f'**{mark}**: ' if mark else ''}{reason}" for mark, reason in others)
    to_do = what_to_do(row.action, row.marks, row.version, Series(row.symbol, row.interval))
    parts = [title, f"**Why:** {why}", champion, f"**What to do:** {to_do}" if to_do else ""]
    return "\n\n".join([*filter(None, parts), *(["Other findings:", listed] if others else [])]) + "\n"


def show_explanation(found: Mapping[str, Any], page: str) -> None:
    """Add what explains a prediction to the flow run: each bar with what it adds to P(rise), and the page.

    Args:
        found: as `WrittenExplanation.to_dict` returns it.
        page: address of the page.
    """
    rows = [{"opened at": bar["opened_at"], "adds to P(rise)": f"{bar['added']:+.4f}"} for bar in found["bars"][::-1]]
    outcome = f"; outcome: {found['outcome']}" if found["outcome"] else ""
    show_table(
        "explanation",
        rows,
        f"P(rise) {found['probability']:.4f} by version {found['version']}, decided at {found['decided_at']}{outcome}. "
        f"The contributions sum to the network's P(rise) {found['network_probability']:.4f} minus its P(rise) for "
        f"constant prices, {found['flat_probability']:.4f}",
    )
    show_links({"Explanation page": page})


def show_audit(found: VersionAudit) -> None:
    """Add the findings of a leak audit to the flow run."""
    rows = [
        {"check": each.name, "result": "passed" if each.passed else "LOOK-AHEAD", "found": each.detail}
        for each in found.audit.findings
    ]
    bars = "its training bars" if found.same_bars else "not exactly its training bars"
    show_table("audit", rows, f"{found.series_name} version {found.version} on {found.bars.rows} bars ({bars})")


def artifact_key(text: str) -> str:
    """Return a text as a key: `final fit` is `final-fit`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _try(create: Any, key: str, **content: Any) -> None:
    try:
        create(key=key, **content)
    except Exception as error:  # noqa: BLE001 - an artifact must not fail the run
        log.warning("artifact %s: %s", key, error)
