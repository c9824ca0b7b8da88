"""The README names what there is."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("package", ["flows", "tasks", "model", "data_checks"])
def test_the_tree_names_every_file_in_a_line_of_its_own(package: str) -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    named = {line.split()[0] for line in lines if line.startswith("      ") and len(line.split()) > 1}
    files = {path.name for path in (ROOT / package).rglob("*.py")} - {"__init__.py"}
    assert files
    assert not files - named


def test_the_pictures_are_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = [part.split(")")[0] for part in text.split("](")[1:] if part.startswith("docs/pictures/")]
    assert named
    assert not [name for name in named if not (ROOT / name).is_file()]
