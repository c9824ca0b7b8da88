"""What all tests share: array shapes checked as they run, reference formulas importable, synthetic bars."""

import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from jaxtyping import install_import_hook

# As `Settings.announce` sets them, but before TensorFlow is imported by whichever test: processes that a test starts
# inherit them, and would train with another number of threads than this one, so to other bits.
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "-1"}

gc.disable()  # until the files are imported: a fifth of that time went to looking for garbage among what stays

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


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Refuse a fixture of several tests that leaves a home in the environment: the tests would depend on their order.

    The one that is set up last would decide which home all of them open.
    """
    before = os.environ.get("RISEORFALL_HOME")
    result = yield
    if fixturedef.scope != "function" and os.environ.get("RISEORFALL_HOME") != before:
        pytest.fail(
            f"{request.fixturename}: expected a {fixturedef.scope} fixture to leave RISEORFALL_HOME as it was, "
            f"{before!r}, found {os.environ.get('RISEORFALL_HOME')!r}. Set it in a function fixture."
        )
    return result


@pytest.fixture
def walk_bars() -> Bars:
    """Daily bars of a random walk without a gap, shape (300,)."""
    return random_walk(300, seed=1)


@pytest.fixture
def gappy_bars() -> Bars:
    """The same walk with bars 40, 41, 120 and 250..261 absent."""
    return random_walk(300, seed=1, absent=(40, 41, 120, *range(250, 262)))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m e2e`, skip files without such a test: to rewrite and import them takes each worker 10 s of CPU time."""
    if config.option.markexpr != "e2e" or not collection_path.name.startswith("test_"):
        return None
    return "pytest.mark.e2e" not in collection_path.read_text(encoding="utf-8") or None


def pytest_collection_finish() -> None:
    """Look for garbage again, but not among what was imported."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    from units_of_work import place_of

    items.sort(key=lambda item: place_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the units of `--dist loadfile` out in the order of the tests."""
    from units_of_work import UnitScheduling

    config.option.loadscopereorder = False  # by the number of tests, which says little about their time
    return UnitScheduling(config, log) if config.getvalue("dist") == "loadfile" else None
