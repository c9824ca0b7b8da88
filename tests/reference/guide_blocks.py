"""Fenced blocks of the guides in docs/, and what a test does with each.

A block is executed unless an HTML comment stands on the line before it: `<!-- checked: ... -->` (not executed here; the
comment says how it is checked instead) or `<!-- save as: PATH -->` (written to a file of the project).
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:^<!-- (?P<mark>checked|save as): (?P<note>.+?) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
INDENTED = re.compile(r"^    (?:\.venv/bin/)?(riseorfall .+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, and the comment before it."""

    kind: str
    text: str
    mark: str
    note: str


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(each["kind"], each["text"], each["mark"] or "", each["note"] or "") for each in found]


def commands(page: Path) -> list[list[str]]:
    """Return the arguments of every `riseorfall` command that a page shows, without redirections."""
    shell = "".join(block.text for block in blocks(page) if block.kind == "sh").replace("\\\n", " ")
    lines = [*shell.splitlines(), *INDENTED.findall(page.read_text(encoding="utf-8"))]
    split = [shlex.split(line, comments=True) for line in lines if line.startswith("riseorfall ")]
    return [words[1 : words.index(">") if ">" in words else None] for words in split]


def apply_diff(text: str, root: Path) -> None:
    """Apply a ```diff block to the files below `root`; each hunk must match exactly one place."""
    target = root / re.search(r"^\+\+\+ b/(.+)$", text, re.MULTILINE)[1]  # type: ignore[index]
    content = target.read_text(encoding="utf-8")
    for hunk in text.split("@@\n")[1:]:
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert content.count(before) == 1, f"{target}: expected one place that reads {before!r}"
        content = content.replace(before, after)
    target.write_text(content, encoding="utf-8")
