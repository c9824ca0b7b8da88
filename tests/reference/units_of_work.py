"""How the workers of pytest-xdist share the tests: by units, of which each runs on one worker as a whole."""

from collections.abc import Sequence

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

# Units of `make e2e` that take minutes, longest first: workers that begin with them end together.
LONGEST = (
    "tests/flows",
    "tests/docs/test_guides.py",
    "tests/e2e/test_up.py",
    "tests/e2e/test_forms.py",
)


def unit_of(nodeid: str) -> str:
    """Return the unit of a test: its file, or tests/flows, for which a worker starts a Prefect server."""
    return "tests/flows" if nodeid.startswith("tests/flows/") else nodeid.split("::", 1)[0]


def place_of(nodeid: str) -> int:
    """Return the place of a test's unit among the longest; that of all others is after them."""
    unit = unit_of(nodeid)
    return LONGEST.index(unit) if unit in LONGEST else len(LONGEST)


class UnitScheduling(LoadFileScheduling):
    """Give each unit to a worker that is free. A test of which a worker died is not run again, the rest of its unit is.

    As pytest-xdist has it, the worker in its place runs the test again: with `faulthandler_exit_on_timeout`, a test
    that hangs would hang nine times, and the tests after it would never run.
    """

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def remove_node(self, node: WorkerController) -> str | None:
        left = {unit: tests for unit, tests in self.assigned_work.pop(node).items() if _remaining(tests)}
        if not left:
            return None
        running = next(iter(left.values()))
        died_of = _remaining(running)[0]
        running[died_of] = True
        self.workqueue.update({unit: tests for unit, tests in left.items() if _remaining(tests)})
        for other in self.assigned_work:
            self._reschedule(other)
        return died_of


def _remaining(tests: dict[str, bool]) -> Sequence[str]:
    return [nodeid for nodeid, completed in tests.items() if not completed]
