"""Run a module as `python -m` does, with no import from the current folder.

Run as `python -P -m tasks.services.module_runner MODULE ...`. Option -P keeps the current folder off `sys.path`, but
Prefect adds it again: while it imports a flow, and for good while its server creates the database. A `model.py` or
`numpy.py` which happens to lie there would run instead of the module of that name. Relative paths and `.env` are
still read from that folder, and one that PYTHONPATH names stays on `sys.path`.
"""

import os
import runpy
import sys
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from types import ModuleType

LOADERS = (ExtensionFileLoader, EXTENSION_SUFFIXES), (SourceFileLoader, SOURCE_SUFFIXES)


class SubmodulesOnly(FileFinder):
    """Find the modules of a package whose folder is the current one, and none without a package."""

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module by its full name."""
        return super().find_spec(fullname, target) if "." in fullname else None


def module_command(module: str, *words: str) -> tuple[str, ...]:
    """Return the command that runs a module in a process of its own."""
    return (sys.executable, "-P", "-m", "tasks.services.module_runner", module, *words)


def hide_current_folder() -> None:
    """Let imports of this process skip the current folder, unless it is on `sys.path` already."""
    folder = os.path.abspath(os.curdir)  # noqa: PTH100 - links stay, as in the paths that are compared
    if folder in sys.path:
        return

    def finder(path: str) -> FileFinder:
        if os.path.abspath(path) != folder:  # noqa: PTH100 - called for each folder of modules
            raise ImportError
        return SubmodulesOnly(path, *LOADERS)

    sys.path_hooks.insert(0, finder)
    sys.path_importer_cache.clear()


if __name__ == "__main__":
    hide_current_folder()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
