"""Show the progress of a run on a terminal: a spinner for each step, a progress bar for each fit.

On a pipe the same progress is printed as plain lines. What libraries write to standard error meanwhile is diverted by
`flows/cli/terminal_session.py`.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Self

from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from model.training import Epoch
from tasks.console.escaping_console import Console
from tasks.console.progress import format_fit, format_losses

EPOCHS_PER_LINE = 10  # on a pipe


class _Bars(Progress):
    """Steps above fits, and folds by their number: the newest one starts first."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Return the table that is drawn."""
        yield self.make_tasks_table(sorted(self.tasks, key=_place))


def _place(bar: Task) -> tuple[int, str, int]:
    if bar.total is None:
        return 0, "", bar.id
    return (1, bar.description, bar.id) if bar.description.startswith("fold ") else (2, "", bar.id)


class TerminalProgress:
    """Draw a spinner for the current step and a bar for the epochs of each fit; print plain lines on a pipe."""

    def __init__(self, console: Console) -> None:
        """Draw on `console`."""
        self.console = console
        self.bars = _Bars(
            SpinnerColumn(),
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=16),  # so that losses and time fit into 80 columns
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,  # Rich would replace sys.stderr and so bring back what libraries write to it
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

    def step_started(self, step: str) -> None:
        """Draw the spinner of the step."""
        if self.console.is_terminal:
            self.steps[step] = self.bars.add_task(step, total=None, detail="")

    def step_finished(self, step: str, seconds: float) -> None:
        """Remove the spinner; on a pipe print the time of the step."""
        if self.console.is_terminal:
            self.bars.remove_task(self.steps.pop(step))
        else:
            self.report_line(f"{step}: {seconds:.1f} s")

    def epoch_finished(self, fit: str, epoch: Epoch, epochs: int) -> None:
        """Move the bar of the fit; on a pipe print every tenth epoch."""
        if self.console.is_terminal:
            if fit not in self.fits:
                self.fits[fit] = self.bars.add_task(fit, total=epochs, detail="")
            self.bars.update(self.fits[fit], completed=epoch.number, detail=format_losses(epoch))
        elif epoch.number == 1 or epoch.number % EPOCHS_PER_LINE == 0:
            self.report_line(f"{fit} epoch {epoch.number}/{epochs}: {format_losses(epoch)}")

    def fit_finished(self, fit: str, last: int, best: int, epochs: int) -> None:
        """Fill the bar of the fit, also if it stopped early; on a pipe print how many epochs it took."""
        if fit in self.fits:
            ended = f"{'early stop, ' if last < epochs else ''}best epoch {best}"
            self.bars.update(self.fits[fit], total=last, completed=last, detail=ended)
        else:
            self.report_line(f"{fit}: {format_fit(last, best, epochs)}")

    def page_read(self, reached: datetime, share: float) -> None:
        """Move the bar of the bars that are read; on a pipe print the time reached."""
        if self.console.is_terminal:
            if "bars" not in self.fits:
                self.fits["bars"] = self.bars.add_task("bars", total=100, detail="")
            self.bars.update(self.fits["bars"], completed=int(100 * share), detail=f"up to {reached:%Y-%m-%d %H:%M}")
        else:
            self.report_line(f"bars up to {reached:%Y-%m-%d %H:%M} ({share:.0%})")

    def report_line(self, line: str) -> None:
        """Print the line above the bars."""
        self.console.print(line, highlight=False, markup=False)

    def report_warning(self, line: str) -> None:
        """Print the warning above the bars."""
        self.report_line(f"warning: {line}")
