"""Peers in an environment of their own: PyTorch and neuralforecast, which this project does not install.

`Peer` starts a Python of `.venv-bench` (made by `make bench`) on `benchmarks/peer_programs.py` and asks it to do one
piece of work at a time, so that ours and theirs take turns though they live in two processes. Waiting costs it
nothing: it sleeps on a pipe.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Self

REPOSITORY = Path(__file__).resolve().parents[1]
PYTHON = REPOSITORY / ".venv-bench" / "bin" / "python"


class Missing(Exception):
    """A peer's packages are not there."""


class Peer:
    """A process that does one program's work as often as asked."""

    def __init__(self, program: str, **settings: Any) -> None:
        """Start it, and wait until it is ready.

        Raises:
            Missing: its environment or its packages are not there.
        """
        if not PYTHON.exists():
            raise Missing("no .venv-bench; `make bench` makes it")
        self._process = subprocess.Popen(
            [str(PYTHON), str(Path(__file__).with_name("peer_programs.py")), program, json.dumps(settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            # Threads that wait by spinning would suffer more than ours do where others use the machine too.
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "0"},
        )  # fmt: skip
        self._answer()

    def __enter__(self) -> Self:
        """Hand out the peer."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def __call__(self) -> dict[str, Any]:
        """Let it work once, and return what it says."""
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        """Read the next line of JSON; libraries may print others."""
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith('{"peer"'):
                told: dict[str, Any] = json.loads(line)
                if "missing" in told:
                    raise Missing(told["missing"])
                return told
        raise Missing("the peer ended before it answered")
