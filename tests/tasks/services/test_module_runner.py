"""Processes that riseorfall starts import nothing from the current folder, which may hold any file."""

import os
import subprocess
from pathlib import Path

import pytest
from prefect.runner import runner

import model
from flows.deployment_runner import FLOW_RUN_COMMAND, start_runs_by
from tasks.services.module_runner import module_command
from tasks.settings import Settings

PROBE = """
import os, sys
sys.path.insert(0, ".")  # as Prefect's server does for its database
sys.path.insert(0, os.getcwd())  # as Prefect does while it imports a flow
import model, colorsys
print(sys.argv[1:], model.__file__, colorsys.__file__)
"""
SHADOW = "raise SystemExit('imported from the current folder')"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with modules that must not run, and one next to it with `probe.py`."""
    for name in ("model", "colorsys", "runpy", "tasks", "importlib"):
        (tmp_path / "current" / f"{name}.py").parent.mkdir(exist_ok=True)
        (tmp_path / "current" / f"{name}.py").write_text(SHADOW, encoding="utf-8")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "probe.py").write_text(PROBE, encoding="utf-8")
    return tmp_path / "current"


def printed(command: tuple[str, ...], folder: Path, environment: dict[str, str]) -> str:
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return ended.stdout + ended.stderr


def test_a_module_runs_without_those_of_the_current_folder(folder: Path) -> None:
    environment = dict(os.environ) | {"PYTHONPATH": str(folder.with_name("given"))}
    words = printed(module_command("probe", "--option", "of its own"), folder, environment).split("] ")
    assert words[0] == "['--option', 'of its own'"
    assert words[1].split()[0] == model.__file__
    assert Path(words[1].split()[1]).name == "colorsys.py"
    assert str(folder) not in words[1]


def test_a_folder_that_pythonpath_names_is_read_though_it_is_the_current_one(folder: Path) -> None:
    given = folder.with_name("given")
    (given / "colorsys.py").write_text("", encoding="utf-8")
    text = printed(module_command("probe"), given, dict(os.environ) | {"PYTHONPATH": str(given)})
    assert text.split()[-1] == str(given / "colorsys.py")


def test_a_package_whose_folder_is_the_current_one_is_imported_whole(folder: Path) -> None:
    package = folder.with_name("given") / "package"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "__main__.py").write_text("from package import part", encoding="utf-8")
    (package / "part.py").write_text("print('found')", encoding="utf-8")
    environment = dict(os.environ) | {"PYTHONPATH": str(package.parent)}
    assert printed(module_command("package"), package, environment) == "found\n"


def test_children_of_a_command_import_nothing_from_the_current_folder(folder: Path) -> None:
    environment = dict(os.environ)
    Settings(home=folder).announce(environment)
    python = module_command("")[0]
    assert printed((python, "-c", "import model; print(model.__file__)"), folder, environment).strip() == model.__file__
    program = "import sys; sys.argv[1:] = ['absent:app']; from uvicorn.main import main; main()"
    (folder / "absent.py").write_text(SHADOW, encoding="utf-8")
    assert "imported from the current folder" not in printed((python, "-c", program), folder, environment)


def test_prefect_starts_flow_runs_by_the_module_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "EngineCommandStarter", None)
    start_runs_by(FLOW_RUN_COMMAND)
    assert runner.EngineCommandStarter()._command.endswith(" -P -m tasks.services.module_runner prefect.engine")
