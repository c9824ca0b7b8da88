"""The guides work as written: their blocks are executed in order in a copy of one home, edits of code in a copy."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from copied_home import copy_home
from guide_blocks import GUIDES, ROOT, apply_diff, blocks

pytestmark = pytest.mark.e2e
Shell = Callable[[str, Mapping[str, str]], str]
PACKAGES = ("flows", "tasks", "model", "data_checks")


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_guide_works_as_written(guide: Path, home: Path, shell: Shell, tmp_path: Path) -> None:
    project = ROOT
    if any(block.kind == "diff" for block in blocks(guide)):
        project = tmp_path / "project"
        for package in PACKAGES:
            shutil.copytree(ROOT / package, project / package, ignore=shutil.ignore_patterns("__pycache__"))
    where = {"RISEORFALL_HOME": str(copy_home(home, tmp_path / "home")), "PYTHONPATH": str(project)}
    if "riseorfall promote" in guide.read_text() or "riseorfall rollback" in guide.read_text():
        shell("riseorfall promote --version 2 --force --reason 'where the guide starts' || true", where)
    executed = 0
    for block in blocks(guide):
        if block.kind == "diff":
            apply_diff(block.text, project)
        elif block.mark == "save as":
            (project / block.note).write_text(block.text, encoding="utf-8")
        elif block.mark or block.kind not in {"sh", "python"}:
            continue
        else:
            script = block.text if block.kind == "sh" else f"python - <<'END'\n{block.text}END\n"
            output = shell(script.replace("source .venv/bin/activate\n", ""), where)
            assert output or "riseorfall" not in script, script
        executed += 1
    assert executed or guide.stem == "team"  # every block of that page needs containers
