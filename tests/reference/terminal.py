"""A pseudo-terminal: some libraries behave differently where output goes to one."""

import os
import pty
import re
import subprocess
import termios
from collections.abc import Mapping

CONTROL = re.compile(r"\x1b\[([\d;?]*)([A-Za-z])|([\r\n])")


def on_a_terminal(command: list[str], columns: int = 80, environment: Mapping[str, str] | None = None) -> str:
    """Run a command on a pseudo-terminal and return everything that it showed.

    Args:
        command: the command.
        columns: width of the terminal.
        environment: variables to add.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, columns))
    inherited = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    given = inherited | {"TERM": "xterm-256color"} | dict(environment or {})
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=given) as running:
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


def lines_left(shown: str) -> list[str]:
    """Return the lines that stay on the terminal at the end, after all that was erased or overwritten.

    Follows carriage return, line feed, cursor up and erase line, with which Rich draws; colours are dropped, and a line
    longer than the terminal stays one line.
    """
    lines, row, column, place = [""], 0, 0, 0
    for control in [*CONTROL.finditer(shown), None]:
        text = shown[place : control.start() if control else None]
        lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
        column += len(text)
        if control is None:
            break
        place = control.end()
        count, code, key = control.groups()
        if key == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif key == "\r":
            column = 0
        elif code == "A":
            row = max(0, row - int(count or 1))
        elif code == "K":
            lines[row] = "" if count == "2" else lines[row][:column]
    return [line.rstrip() for line in lines]
