"""On a real terminal, progress is all that a person sees: what libraries write to standard error goes to the log."""

import io
import re
import sys
from pathlib import Path

import pytest
from terminal import on_a_terminal

from flows.cli.terminal_session import quiet_streams
from model.training import Epoch
from tasks.console.escaping_console import Console
from tasks.console.terminal_progress import TerminalProgress

SCRIPT = f"""
import sys
from pathlib import Path
from {quiet_streams.__module__} import quiet_streams
from {TerminalProgress.__module__} import TerminalProgress
from model.training import Epoch

with quiet_streams(Path(sys.argv[1])) as (console, _), TerminalProgress(console) as progress:
    progress.step_started("register")
    print("Downloading artifacts: 100%", file=sys.stderr, flush=True)
    progress.report_line("fold 1 of 5 stopped early")
    progress.step_finished("register", 1.0)
    for number in range(1, 23):
        progress.epoch_finished("fold 1 of 5", Epoch(number, 0.7, 0.5, 0.69, 0.5, 0.001, 0.1), 60)
    progress.fit_finished("fold 1 of 5", 22, 14, 60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_shows_progress_and_no_line_of_a_library(tmp_path: Path) -> None:
    shown = on_a_terminal([sys.executable, "-c", SCRIPT, str(tmp_path)])
    assert "register" in shown
    assert "fold 1 of 5 stopped early" in shown
    assert "Downloading" not in shown
    assert "22/22" in shown  # and not 22/60, as if the rest were missing
    assert "early stop, best epoch 14" in shown
    assert "Downloading artifacts: 100%" in next(tmp_path.glob("*.log")).read_text(encoding="utf-8")


def test_folds_stand_in_the_order_of_their_numbers_whichever_starts_first() -> None:
    with TerminalProgress(Console(file=io.StringIO(), force_terminal=True, width=80)) as progress:
        progress.step_started("train")
        for fit in ("fold 3 of 3", "fold 2 of 3", "final fit", "fold 1 of 3"):
            progress.epoch_finished(fit, Epoch(1, 0.7, 0.5, 0.7, 0.5, 0.001, 0.1), 60)
        progress.step_started("evaluate")
        drawn = Console(file=io.StringIO(), width=80)
        drawn.print(progress.bars)
    lines = drawn.file.getvalue().splitlines()
    names = [re.match(r". ([a-z0-9 ]+?)  ", line) for line in lines]
    assert [name and name[1] for name in names] == [
        "train", "evaluate", "fold 1 of 3", "fold 2 of 3", "fold 3 of 3", "final fit"
    ]  # fmt: skip
