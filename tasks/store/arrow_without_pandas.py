"""Keep pyarrow from importing pandas, which takes longer than the rest of a short command.

Any conversion between Python and Arrow values looks for pandas once, to recognise its missing values; without pandas
pyarrow does the same work. Caution: `to_pandas` fails in such a process from then on, so a command that uses it must
not call this.
"""

import sys
from collections.abc import Sequence


class _HiddenPandas:
    """An import finder that finds no pandas."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        """Say that pandas is not installed, and nothing about other modules."""
        del path, target
        if name == "pandas":
            raise ModuleNotFoundError("hidden from pyarrow", name=name)


def use_arrow_without_pandas() -> None:
    """Let pyarrow look for pandas now and find none; pandas itself can be imported afterwards."""
    if "pandas" in sys.modules:
        return
    import pyarrow as pa  # imported here: it is what looks for pandas

    hidden = _HiddenPandas()
    sys.meta_path.insert(0, hidden)
    try:
        pa.scalar("")
    finally:
        sys.meta_path.remove(hidden)
