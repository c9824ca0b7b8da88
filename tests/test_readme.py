"""The README and the docs name folders, pictures, pages and headings that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "mlruns" / "README.md"])
LINK = re.compile(r"\]\(([^)\s]+)\)")


def tree() -> dict[str, str]:
    """Return the description of each folder in the README's tree."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = text.split("## The tree\n")[1].split("\n## ")[0].splitlines()
    entries = [line.strip().split("  ", 1) for line in lines if line.startswith("    ")]
    return {names.strip(): text.strip() for names, text in entries}


@pytest.mark.parametrize("package", ["flows", "tasks", "model", "data_checks"])
def test_the_tree_has_a_line_for_every_folder_of_a_package(package: str) -> None:
    folders = {path.parent.relative_to(ROOT).as_posix() + "/" for path in (ROOT / package).rglob("*.py")}
    assert f"{package}/" in folders
    assert not folders - set(tree())


def test_every_folder_of_the_tree_exists_and_is_described() -> None:
    created_by_runs = "data/, mlruns/"
    for name, description in tree().items():
        assert description
        assert name == created_by_runs or (ROOT / name).is_dir(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_pictures_resolve(page: Path) -> None:
    targets = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert not [link for link in targets if not (page.parent / link.split("#")[0]).exists()]


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a Markdown page, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_link_into_a_page_names_one_of_its_headings(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if anchor and "://" not in link:
            assert anchor in anchors(page.parent / target if target else page), link


def test_the_readme_shows_pictures() -> None:
    assert "](docs/pictures/" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_page_of_docs_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in LINK.findall(index.read_text(encoding="utf-8"))}
    assert not set((ROOT / "docs").rglob("*.md")) - linked - {index}
