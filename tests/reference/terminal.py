"""A pseudo-terminal of 80 columns: some libraries behave differently where output goes to one."""

import os
import pty
import subprocess


def on_a_terminal(command: list[str]) -> str:
    """Run a command on a pseudo-terminal and return everything that it showed."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as running:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux: the other end is closed
                break
            if not part:
                break
            shown += part
    os.close(ours)
    assert running.returncode == 0, shown.decode(errors="replace")
    return shown.decode(errors="replace")
