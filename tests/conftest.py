"""What all tests share: array shapes checked as they run, reference formulas importable, synthetic bars."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).parent / "reference"))  # tests are no package: `import article_windows`
install_import_hook(("model", "data_checks"), "type_checker.checked")  # before anything imports these packages

import quick_databases  # noqa: E402

quick_databases.install()

import pytest  # noqa: E402  the hooks come first
from hypothesis import settings  # noqa: E402
from synthetic_bars import random_walk  # noqa: E402

from model.bars import Bars  # noqa: E402

# No deadlines: shared machines stall. The same examples in each run, and none kept on disk.
settings.register_profile("riseorfall", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("riseorfall")


@pytest.fixture(autouse=True)
def same_import_path() -> Iterator[None]:
    """Undo what MLflow adds to the import path when it loads a model: processes that start later would use its code."""
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.fixture
def walk_bars() -> Bars:
    """Daily bars of a random walk without a gap, shape (300,)."""
    return random_walk(300, seed=1)


@pytest.fixture
def gappy_bars() -> Bars:
    """The same walk with bars 40, 41, 120 and 250..261 absent."""
    return random_walk(300, seed=1, absent=(40, 41, 120, *range(250, 262)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep tests/flows on one worker, which starts the Prefect server; other files go to whoever is free."""
    from xdist.scheduler import LoadFileScheduling

    class FlowsTogether(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/flows" if nodeid.startswith("tests/flows/") else super()._split_scope(nodeid)

    return FlowsTogether(config, log) if config.getvalue("dist") == "loadfile" else None
