"""The image that serves has only the packages that its Dockerfile lists: serving may import no others."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
IMPORTS = "import tasks.serving.rest_server, model.predictor, pyarrow.parquet, flows.cli.service_commands"


def listed() -> list[str]:
    """Return the packages of the stage `serving`."""
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    (stage,) = re.findall(r"AS serving\nRUN .*?requirements\.lock \\\n(.*?)\n\n", text, re.DOTALL)
    return stage.split()


def installed_with(packages: list[str]) -> set[str]:
    """Return packages and all that they require here."""
    found: set[str] = set()
    waiting = [canonicalize_name(each) for each in packages]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        wanted = [Requirement(each) for each in requires(name) or ()]
        waiting += [canonicalize_name(each.name) for each in wanted if not each.marker or each.marker.evaluate()]
    return found


def test_serving_imports_only_packages_of_its_image() -> None:
    code = f"import sys; before = set(sys.modules); {IMPORTS}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    there, owners = installed_with(listed()), packages_distributions()
    modules = {name.partition(".")[0] for name in done.stdout.split()}
    needed = {name: {canonicalize_name(each) for each in owners[name]} for name in modules if name in owners}
    assert "cyclopts" in needed
    assert {name for name, packages in needed.items() if not packages & there} == set()
