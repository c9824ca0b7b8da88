"""Which code runs: its git commit, for the tags of a retrain, and a hash of what can change its numbers."""

import hashlib
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

# The code that can change a network, a number or a decision. Sources and data checks are left out: their effect is in
# the hash of the bars.
CODE = ("model/**/*.py", "tasks/*.py", "tasks/champion/*.py", "tasks/registry/*.py", "tasks/store/*.py")
LIBRARIES = ("tensorflow", "keras", "numpy", "scipy", "scikit-learn", "onnxruntime")


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


@cache
def code_digest(root: Path) -> str:
    """Return the SHA-256 of the code and of the versions of the libraries that can change the numbers."""
    found = hashlib.sha256("\n".join(f"{name} {metadata.version(name)}" for name in LIBRARIES).encode())
    for path in sorted(path for pattern in CODE for path in root.glob(pattern)):
        found.update(f"\n{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return found.hexdigest()
