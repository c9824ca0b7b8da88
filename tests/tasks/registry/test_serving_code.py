"""A version carries the modules that MLflow imports to load it, and no others."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.registry.serving_code import START, serving_modules, write_serving_code

RUN = """
import sys
sys.path[:] = [*(each for each in sys.path if "site-packages" in each or "lib/python" in each)]
import runpy, types
fake = types.ModuleType("mlflow")  # MLflow itself takes seconds; test_pyfunc_model.py loads a version through it
fake.pyfunc = types.SimpleNamespace(PythonModel=object)
fake.models = types.SimpleNamespace(set_model=lambda _: None)
sys.modules["mlflow"] = fake
runpy.run_path(sys.argv[1] + "/pyfunc_model.py")
import importlib
for name in sys.argv[2:]:
    importlib.import_module(name)
ours = [each for each in sys.modules.values() if getattr(each, "__name__", "").split(".")[0] in ("model", "tasks")]
assert all(each.__file__.startswith(sys.argv[1]) for each in ours), ours
print(len(ours))
"""


@pytest.mark.e2e  # another process loads MLflow
def test_the_archive_is_enough_to_load_a_version_without_the_project(tmp_path: Path) -> None:
    shutil.copy(START, tmp_path)
    (tmp_path / "code").mkdir()
    write_serving_code(tmp_path / "code")
    names = [f"model.{path.stem}" for path in serving_modules() if path.stem != "__init__"]
    light = [name for name in names if name not in ("model.layers", "model.networks")]  # they import TensorFlow
    command = [sys.executable, "-I", "-c", RUN, str(tmp_path), *light]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= len(light)


def test_the_archive_leaves_out_what_serving_does_not_import(tmp_path: Path) -> None:
    names = {path.name for path in serving_modules()}
    assert names >= {"__init__.py", "predictor.py", "windows.py", "recipe.py", "calibration.py"}
    assert names.isdisjoint({"report_charts.py", "mlflow_pictures.py", "e_process.py", "promotion_rule.py"})
    (tmp_path / "again").mkdir()
    once, again = write_serving_code(tmp_path), write_serving_code(tmp_path / "again")
    assert once.read_bytes() == again.read_bytes()
    assert once.stat().st_size < 75_000
