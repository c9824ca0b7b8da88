"""The git commit of the code that runs, for the tags of a retrain."""

import subprocess
from functools import cache
from pathlib import Path


@cache
def code_version() -> dict[str, str]:
    """Return the git commit of the code and whether it was changed since; empty without a repository.

    Asked once by a process, which loads its code once.
    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607 - fixed arguments
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
    except FileNotFoundError:  # git is not installed
        return {}
    return {"mlflow.source.git.commit": commit, "git_dirty": str(bool(git("status", "--porcelain")))} if commit else {}
