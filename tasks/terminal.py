"""What a person at a terminal sees: steps and epochs while a run works, a table at its end.

Libraries write to the process's standard error whatever they are told; while a run works that stream goes to a log
file, and only this module keeps the terminal. On a pipe the same things come as plain lines.
"""

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from model.metrics import METRICS
from model.significance import Interval
from model.training import Epoch
from tasks.reporting import losses
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.runs import Retrain


@contextmanager
def quiet_streams(log_folder: Path) -> Iterator[tuple[Console, Path]]:
    """Send standard error to a new log file inside the context; yield a console on the real one, and the file.

    Works on the file descriptor, so that native libraries and child processes are caught too.
    """
    log_folder.mkdir(parents=True, exist_ok=True)
    path = log_folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.log"
    sys.stderr.flush()
    kept = os.dup(2)
    with path.open("a", encoding="utf-8") as file, os.fdopen(kept, "w", encoding="utf-8", closefd=False) as terminal:
        os.dup2(file.fileno(), 2)
        logging.captureWarnings(True)
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(handler)
        try:
            yield Console(file=terminal), path
        finally:
            logging.getLogger().removeHandler(handler)
            sys.stderr.flush()
            os.dup2(kept, 2)
    os.close(kept)


class TerminalProgress:
    """Progress on a terminal: a spinner for the step, a bar for the epochs of each fit; plain lines on a pipe."""

    def __init__(self, console: Console) -> None:
        """Draw on `console`."""
        self.console = console
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self.fits: dict[str, TaskID] = {}
        self.steps: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        """Start drawing."""
        if self.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        if self.console.is_terminal:
            self.bars.stop()

    def started(self, step: str) -> None:
        """Show the step."""
        if self.console.is_terminal:
            self.steps[step] = self.bars.add_task(step, total=None, told="")

    def ended(self, step: str, seconds: float) -> None:
        """Take the step away."""
        if self.console.is_terminal:
            self.bars.remove_task(self.steps.pop(step))
        else:
            self.console.print(f"{step}: {seconds:.1f} s", highlight=False)

    def epoch(self, fit: str, epoch: Epoch, epochs: int) -> None:
        """Move the fit's bar; on a pipe say every tenth epoch."""
        if self.console.is_terminal:
            if fit not in self.fits:
                self.fits[fit] = self.bars.add_task(fit, total=epochs, told="")
            self.bars.update(self.fits[fit], completed=epoch.number, told=losses(epoch))
        elif epoch.number == 1 or epoch.number % 10 == 0:
            self.console.print(f"{fit} epoch {epoch.number}/{epochs}: {losses(epoch)}", highlight=False)

    def say(self, line: str) -> None:
        """Print the line above the bars."""
        self.console.print(line, highlight=False)


def show_retrain(result: "Retrain", seconds: Mapping[str, float], settings: Settings, log_file: Path) -> None:
    """Print what a retrain did: bars, numbers beside the best baseline, the decision, where to look, where time went."""
    console = Console()
    merge, promotion = result.stored.merge, result.promotion
    best = result.evaluation.best_baseline()
    numbers = Table(
        title=f"{result.evaluation.windows} unseen bars, {result.evaluation.first} to {result.evaluation.last}"
    )
    for heading in ("metric", "network", "95 % interval", f"best baseline: {best.replace('_', ' ')}", "95 % interval"):
        numbers.add_column(heading, justify="left" if heading == "metric" else "right")
    for name in METRICS:
        ours, theirs = result.evaluation.numbers["network"][name], result.evaluation.numbers[best][name]
        numbers.add_row(name.replace("_", " "), _number(ours.value), _span(ours), _number(theirs.value), _span(theirs))
    console.print(numbers)
    facts = Table.grid(padding=(0, 2))
    facts.add_row("bars", f"{result.landing.rows} read, {merge.added} added, {merge.revised} revised")
    refused = ", ".join(f"{rule} {count}" for rule, count in result.checked.refused_by.items())
    facts.add_row(
        "refused",
        f"{result.checked.refused}{f' ({refused})' if refused else ''}; unfinished {result.landing.unfinished}",
    )
    facts.add_row(
        "windows",
        f"{result.windows.windows}, {result.windows.resolved} with an outcome, {result.windows.rises_share:.1%} rises",
    )
    facts.add_row(
        "decision",
        f"[bold]{promotion.action}[/bold] version {result.version.version}; champion: {promotion.champion_after or 'none'}",
    )
    for reason in promotion.reasons:
        facts.add_row("", reason)
    facts.add_row("MLflow", f"mlflow ui --backend-store-uri {settings.mlflow_uri}  (run {result.run_id})")
    facts.add_row("Data Docs", result.checked.docs)
    facts.add_row("log", str(log_file))
    facts.add_row("seconds", ", ".join(f"{step} {spent:.1f}" for step, spent in seconds.items()))
    console.print(facts, soft_wrap=True)


def show_status(found: Mapping[str, Any]) -> None:
    """Print the status of a series."""
    console = Console()
    grid = Table.grid(padding=(0, 2))
    for role in ("champion", "challenger"):
        version = found[role]
        grid.add_row(role, _version_line(version) if version else "none")
    bars = found["bars"]
    grid.add_row("bars", f"{bars['rows']} from {bars['first']} to {bars['last']}" if bars["rows"] else "none")
    console.print(f"[bold]{found['series']}[/bold]")
    console.print(grid)
    decisions = Table("decided at", "action", "version", "champion", "reasons", title="last decisions")
    for row in found["decisions"]:
        decisions.add_row(
            row["decided_at"][:19],
            row["action"],
            row["version"],
            row["champion_after"] or "none",
            "; ".join(row["reasons"]),
        )
    if found["decisions"]:
        console.print(decisions)


def show_bars(found: Sequence[Mapping[str, Any]]) -> None:
    """Print the stored series."""
    table = Table("symbol", "interval", "bars", "first", "last", "gaps", "missing", "quarantined", "revised", "version")
    names = ("symbol", "interval", "rows", "first", "last", "gaps", "missing_bars", "quarantined", "revised", "version")
    for each in found:
        table.add_row(*(str(each[name]) for name in names))
    Console().print(table if found else "no bars yet; `riseorfall retrain` ingests some")


def show_forecast(found: Mapping[str, Any]) -> None:
    """Print a prediction."""
    Console().print(
        f"{found['symbol']} {found['interval']}: P(rise) [bold]{found['probability']:.4f}[/bold], decided at "
        f"{found['decided_at']}, resolves at {found['resolves_at']} (version {found['version']})",
        highlight=False,
    )


def show_lines(lines: Sequence[str]) -> None:
    """Print plain lines."""
    for line in lines:
        Console().print(line, highlight=False)


def _version_line(version: Mapping[str, Any]) -> str:
    return (
        f"version {version['version']}, trained until {version['trained_until']}, log loss {version['log_loss']:.4f}, "
        f"balanced accuracy {version['balanced_accuracy']:.3f}"
    )


def _number(value: float) -> str:
    return f"{value:.4f}"


def _span(interval: Interval) -> str:
    return f"{interval.low:.4f} .. {interval.high:.4f}"
