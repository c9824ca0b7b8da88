"""The modules of `model/` that MLflow needs to load a version: each version has an archive of them.

They are those that `pyfunc_model.py` imports, directly or not, within functions too. riseorfall's own commands do not
run them.
"""

import ast
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
START = Path(__file__).with_name("pyfunc_model.py")
PACKAGE = "model"
ARCHIVE = f"{PACKAGE}.zip"


def write_serving_code(folder: Path) -> Path:
    """Write the modules into an archive that Python imports from; return its path. Equal modules give equal bytes."""
    path = folder / ARCHIVE
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for module in serving_modules():
            member = zipfile.ZipInfo(f"{PACKAGE}/{module.name}")  # its date is a constant
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, module.read_bytes())
    return path


@lru_cache(maxsize=1)
def serving_modules() -> tuple[Path, ...]:
    """Return the files of the modules, by name."""
    found: set[Path] = {ROOT / PACKAGE / "__init__.py"}
    waiting = [START]
    while waiting:
        fresh = {*_imported(waiting.pop())} - found
        found |= fresh
        waiting += fresh
    return tuple(sorted(found))


def _imported(path: Path) -> Iterator[Path]:
    """Yield the files of the package that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [each.name for each in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        module = node.module if isinstance(node, ast.ImportFrom) else ""
        for name in [str(module), *names, *(f"{module}.{name}" for name in names)]:
            file = (ROOT / name.replace(".", "/")).with_suffix(".py")
            if name.startswith(f"{PACKAGE}.") and file.is_file():
                yield file
