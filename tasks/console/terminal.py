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

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from model.bootstrap import Interval
from model.metrics import METRICS
from model.training import Epoch
from tasks.console.progress import losses
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.champion.champion_monitor import Watched
    from tasks.retrain_run import Retrain


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

    def page(self, reached: datetime, share: float) -> None:
        """Move the bar of an exchange's bars; on a pipe say how far they were read."""
        if self.console.is_terminal:
            if "bars" not in self.fits:
                self.fits["bars"] = self.bars.add_task("bars", total=100, told="")
            self.bars.update(self.fits["bars"], completed=int(100 * share), told=f"up to {reached:%Y-%m-%d %H:%M}")
        else:
            self.say(f"bars up to {reached:%Y-%m-%d %H:%M} ({share:.0%})")

    def say(self, line: str) -> None:
        """Print the line above the bars."""
        self.console.print(line, highlight=False)


def show_retrain(result: "Retrain", seconds: Mapping[str, float], settings: Settings, log_file: Path) -> None:
    """Print what a retrain did: bars, numbers beside the best baseline, the decision, where to look, the time."""
    console = Console(highlight=False)
    evaluation = result.evaluation
    best = evaluation.best_baseline()
    title = f"{evaluation.windows} unseen bars, {evaluation.first[:16]} to {evaluation.last[:16]}"
    numbers = Table(title=title, caption="value [95 % block bootstrap interval]", min_width=len(title))
    numbers.add_column("metric")
    numbers.add_column("network", justify="right", no_wrap=True)
    numbers.add_column(f"best baseline: {best.replace('_', ' ')}", justify="right", no_wrap=True)
    for name in METRICS:
        numbers.add_row(
            name.replace("_", " "), *(_interval(evaluation.numbers[who][name]) for who in ("network", best))
        )
    console.print(numbers)
    for name, told in _facts(result, seconds, settings, log_file):
        console.print(f"[bold]{name:<10}[/bold]{escape(told)}", soft_wrap=True)


def _facts(
    result: "Retrain", seconds: Mapping[str, float], settings: Settings, log_file: Path
) -> Iterator[tuple[str, str]]:
    """Yield what a retrain did in a few words each; an empty name continues the line before."""
    merge, promotion, checked = result.stored.merge, result.promotion, result.checked
    yield "bars", f"{result.landing.rows} read, {merge.added} added, {merge.revised} revised, {checked.rows} accepted"
    by_rule = ", ".join(f"{rule} {count}" for rule, count in checked.refused_by.items())
    yield (
        "refused",
        f"{checked.refused}{f' ({by_rule})' if by_rule else ''}; not closed yet {result.landing.unfinished}",
    )
    windows = result.windows
    yield "windows", f"{windows.windows}, {windows.resolved} with an outcome, {windows.rises_share:.1%} rises"
    yield (
        "decision",
        f"{promotion.action} version {result.version.version}; champion: {promotion.champion_after or 'none'}",
    )
    for reason in promotion.reasons:
        yield "", f"- {reason}"
    local = settings.mlflow_uri.startswith("sqlite:")
    yield "MLflow", f"mlflow ui --backend-store-uri {settings.mlflow_uri}" if local else settings.mlflow_uri
    yield "", f"run {result.run_id}"
    yield "Data Docs", checked.docs
    if result.report:
        yield "report", settings.link(Path(result.report))
    yield "log", str(log_file)
    yield "seconds", ", ".join(f"{step} {spent:.1f}" for step, spent in seconds.items())


def show_status(found: Mapping[str, Any]) -> None:
    """Print the status of a series."""
    console = Console(highlight=False)
    grid = Table.grid(padding=(0, 2))
    for role in ("champion", "challenger"):
        version = found[role]
        grid.add_row(role, _version_line(version) if version else "none")
    bars = found["bars"]
    grid.add_row("bars", f"{bars['rows']} from {bars['first']} to {bars['last']}" if bars["rows"] else "none")
    console.print(f"[bold]{found['series']}[/bold]")
    console.print(grid)
    if found["decisions"]:
        console.print("last decisions:")
    for row in found["decisions"]:
        champion = row["champion_after"] or "none"
        console.print(f"  {row['decided_at'][:19]}  {row['action']} version {row['version']}; champion: {champion}")
        for reason in row["reasons"]:
            console.print(f"    - {escape(reason)}", soft_wrap=True)


def show_health(found: Mapping[str, Any]) -> None:
    """Print how a series fares: age, live score, alarms, what runs next."""
    console = Console(highlight=False)
    age, hours, live = found["champion_age_days"], found["bars_age_hours"], found["live"]
    if age is not None:
        console.print(f"champion trained until {age:g} days ago; newest bar closed {hours:g} hours ago")
    if live.get("live_predictions"):
        console.print(
            f"live: {live['live_predictions']:.0f} predictions, accuracy {live['live_accuracy']:.3f}, log loss "
            f"{live['live_log_loss']:.4f} (base rate {live['base_rate_log_loss']:.4f})"
        )
    else:
        console.print("live: no prediction has an outcome yet" if live else "live: `riseorfall monitor` never looked")
    for name, address in {name: place for name, place in (found["up"] or {}).items() if place}.items():
        console.print(f"up: {name} {address}", soft_wrap=True)
    for each in found["next_runs"]:
        console.print(f"next: {each['at'][:16].replace('T', ' ')} UTC  {each['name']}", soft_wrap=True)
    for alarm in found["alarms"]:
        console.print(f"[bold red]alarm[/bold red] {escape(alarm)}", soft_wrap=True)
    if not found["alarms"]:
        console.print("no alarm")


def show_watched(watched: "Watched") -> None:
    """Print what the monitor found."""
    console = Console(highlight=False)
    table = Table("what", "value", "range or limit", title=f"{watched.look.series_name} version {watched.look.version}")
    for row in watched.rows():
        table.add_row(*(escape(text) for text in row.values()))
    console.print(table)
    for alarm in watched.look.alarms:
        console.print(f"[bold red]{alarm.kind}[/bold red] {escape(alarm.message)}", soft_wrap=True)
    for line in watched.notes:
        console.print(f"not judged: {escape(line)}", soft_wrap=True)
    console.print(f"picture {watched.picture}", soft_wrap=True)


def show_bars(found: Sequence[Mapping[str, Any]]) -> None:
    """Print the stored series."""
    table = Table("series", "bars", "span", "gaps (bars)", "refused", "revised", "version", box=SIMPLE_HEAD)
    for each in found:
        table.add_row(
            f"{each['symbol']} {each['interval']}",
            str(each["rows"]),
            f"{_moment(each['first'])}\n{_moment(each['last'])}",
            f"{each['gaps']} ({each['missing_bars']})",
            *(str(each[name]) for name in ("quarantined", "revised", "version")),
        )
    Console().print(table if found else "no bars yet; `riseorfall ingest` fetches some")


def _moment(written: str) -> str:
    """Return a time of ISO 8601 (UTC) as `2019-10-17`, with hours and minutes where it has some."""
    return written[:16].replace("T", " ").removesuffix(" 00:00")


def show_quarantine(found: Sequence[Mapping[str, Any]]) -> None:
    """Print the refused bars."""
    table = Table("opened at", "rule", "value", "source", "released", box=SIMPLE_HEAD)
    for each in found:
        released = f"{_moment(each['released_at'])}: {each['release_reason']}" if each["released_at"] else ""
        texts = (each[name] for name in ("rule", "value", "source"))
        table.add_row(_moment(each["opened_at"]), *map(escape, texts), escape(released))
    Console().print(table if found else "no bar was refused")


def show_forecast(found: Mapping[str, Any]) -> None:
    """Print a prediction."""
    Console().print(
        f"{found['symbol']} {found['interval']}: P(rise) [bold]{found['probability']:.4f}[/bold], decided at "
        f"{found['decided_at']}, resolves at {found['resolves_at']} (version {found['version']})",
        highlight=False,
    )


def show_explanation(found: Mapping[str, Any], rows: int = 5) -> None:
    """Print what the champion says of a window, the bars that moved it most, and where the page is."""
    console = Console()
    outcome = f"a {found['outcome']} followed" if found["outcome"] else "not resolved yet"
    console.print(
        f"{found['symbol']} {found['interval']}: P(rise) [bold]{found['probability']:.4f}[/bold], decided at "
        f"{found['decided_at']} ({outcome}; version {found['version']}); the network explained says "
        f"{found['network_probability']:.4f}, and of a window in which nothing moves {found['flat_probability']:.4f}",
        highlight=False,
    )
    strongest = {at: place for place, at in enumerate(found["strongest"][:rows])}
    chosen = (bar for bar in found["bars"] if bar["opened_at"] in strongest)
    bars = sorted(chosen, key=lambda bar: strongest[bar["opened_at"]])
    table = Table("bar opened at", "added to P(rise)", *(f"by {name}" for name in bars[0]["added_by"]))
    for bar in bars:
        shares = (bar["added"], *bar["added_by"].values())
        table.add_row(bar["opened_at"][:16].replace("T", " "), *(f"{share:+.4f}" for share in shares))
    console.print(table)
    if found["learned"]:
        console.print("The network learned from this window: it shows what was memorised, not what was foreseen.")
    console.print(f"page: {found['page']}", soft_wrap=True, highlight=False)


def show_lines(lines: Sequence[str]) -> None:
    """Print plain lines."""
    for line in lines:
        Console().print(line, highlight=False)


def _version_line(version: Mapping[str, Any]) -> str:
    return (
        f"version {version['version']}, trained until {version['trained_until']}, log loss {version['log_loss']:.4f}, "
        f"balanced accuracy {version['balanced_accuracy']:.3f}"
    )


def _interval(interval: Interval) -> str:
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
