"""On a real terminal, progress is all that a person sees: what libraries write to standard error goes to the log."""

import sys
from pathlib import Path

import pytest
from terminal import on_a_terminal

from flows.cli.terminal_session import quiet_streams
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
