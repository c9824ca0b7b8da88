"""The command `riseorfall`: a module for each group of commands; `app` registers them and sets the exit code."""

from flows.cli.app import main, run

__all__ = ["main", "run"]
