"""Runs a peer (PyTorch or neuralforecast) in a process and an environment of its own.

`Peer` starts the Python of `.venv-bench` (created by `make bench`) with `benchmarks/peer_programs.py` and runs one unit
of its work per call, so that ours and theirs alternate although they are two processes. Between calls it blocks on a
pipe and uses no processor time.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Self

REPOSITORY = Path(__file__).resolve().parents[1]
PYTHON = REPOSITORY / ".venv-bench" / "bin" / "python"


class Missing(Exception):
    """The packages of a peer are not installed."""


class Peer:
    """A process that does one unit of a peer's work per call."""

    def __init__(self, program: str, **settings: Any) -> None:
        """Start the process, and wait until it is ready.

        Raises:
            Missing: its environment or its packages are not installed.
        """
        if not PYTHON.exists():
            raise Missing("no .venv-bench; `make bench` creates it")
        self._process = subprocess.Popen(
            [str(PYTHON), str(Path(__file__).with_name("peer_programs.py")), program, json.dumps(settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            # Threads that wait by spinning would slow the peer down more than ours if the machine is shared.
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "0"},
        )  # fmt: skip
        self._read_result()

    def __enter__(self) -> Self:
        """Return the peer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def __call__(self) -> dict[str, Any]:
        """Do one unit of work, and return the result."""
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._read_result()

    def _read_result(self) -> dict[str, Any]:
        """Read the next line of JSON; libraries may print other lines."""
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith('{"peer"'):
                result: dict[str, Any] = json.loads(line)
                if "missing" in result:
                    raise Missing(result["missing"])
                return result
        raise Missing("the peer stopped without a result")
