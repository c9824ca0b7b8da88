"""Every command of the docs exists with the flags shown, and every Python block compiles. Nothing is executed."""

import ast
import re
import warnings
from pathlib import Path

import pytest
from guide_blocks import GUIDES, PAGES, ROOT, Block, blocks, commands

from flows.cli.app import app

SHOWN = [(page, words) for page in PAGES for words in commands(page)]
PYTHON = [(page, block) for page in PAGES for block in blocks(page) if block.kind == "python"]
ADDED_BY_GUIDES = {"sqlite": "sample", "cnn_gru": "gru"}  # replaced by known kinds; test_guides.py runs the edits


def test_the_docs_show_commands() -> None:
    assert len(SHOWN) > 20
    assert len(GUIDES) >= 10


@pytest.mark.parametrize(("page", "words"), SHOWN, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_command_parses(page: Path, words: list[str]) -> None:
    known = [ADDED_BY_GUIDES.get(word, word) for word in words]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        app.parse_args(known, exit_on_error=False, print_error=False)
    assert page.is_file()


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=lambda value: value.name if isinstance(value, Path) else "")
def test_a_python_block_compiles(page: Path, block: Block) -> None:
    assert ast.parse(block.text, filename=str(page)).body


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_a_shell_block_is_executed_or_says_how_it_is_checked(page: Path) -> None:
    shell = [block for block in blocks(page) if block.kind == "sh"]
    assert shell
    for block in shell:
        assert block.mark in {"", "checked"}
        named = re.findall(r"(?:tests|docker)/[\w./]+", block.note)
        assert all((ROOT / name).exists() for name in named), block.note


def test_every_command_is_in_the_table_of_commands() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    names = {name for name in app if not name.startswith("-")}
    assert names
    assert not {name for name in names if f"`riseorfall {name}`" not in text and f"`{name}`" not in text}
