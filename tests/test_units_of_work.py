"""How workers share the tests: which run on one worker, what comes first, and what follows the death of a worker."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from units_of_work import LONGEST, UnitScheduling, place_of, unit_of

ROOT = Path(__file__).parents[1]
HANGS, AFTER, OTHER, THIRD = "tests/a.py::hangs", "tests/a.py::after", "tests/b.py::other", "tests/c.py::third"


class Worker:
    """A worker that keeps the tests that it was sent."""

    def __init__(self, name: str, tests: list[str]) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.tests = tests
        self.sent: list[str] = []
        self.shutting_down = False

    def send_runtest_some(self, places: list[int]) -> None:
        self.sent += [self.tests[place] for place in places]

    def shutdown(self) -> None:
        self.shutting_down = True


def scheduled(tests: list[str], count: int) -> tuple[UnitScheduling, list[Worker]]:
    chosen = SimpleNamespace(loadscopereorder=False)
    scheduling = UnitScheduling(SimpleNamespace(getvalue=lambda _: ["popen"] * count, option=chosen))  # type: ignore[arg-type]
    workers = [Worker(f"gw{number}", tests) for number in range(count)]
    for worker in workers:
        scheduling.add_node(worker)  # type: ignore[arg-type]
        scheduling.add_node_collection(worker, tests)  # type: ignore[arg-type]
    scheduling.schedule()
    return scheduling, workers


@pytest.mark.parametrize("left", [[AFTER], []])
def test_a_test_of_which_a_worker_died_is_not_run_again_and_the_rest_of_its_file_is(left: list[str]) -> None:
    tests = [HANGS, *left, OTHER]
    scheduling, (died, other) = scheduled(tests, 2)
    assert (died.sent, other.sent) == ([HANGS, *left], [OTHER])
    assert scheduling.remove_node(died) == HANGS  # type: ignore[arg-type]
    instead = Worker("gw2", tests)
    scheduling.add_node(instead)  # type: ignore[arg-type]
    scheduling.add_node_collection(instead, tests)  # type: ignore[arg-type]
    scheduling.schedule()
    assert sorted(other.sent[1:] + instead.sent) == left
    assert scheduling.remove_node(other) == OTHER  # type: ignore[arg-type]


def test_a_worker_that_ends_with_nothing_left_died_of_no_test() -> None:
    scheduling, (worker,) = scheduled([OTHER], 1)
    scheduling.mark_test_complete(worker, 0)  # type: ignore[arg-type]
    assert scheduling.remove_node(worker) is None  # type: ignore[arg-type]
    assert scheduling.tests_finished


def test_a_file_runs_on_one_worker_and_the_flows_share_one() -> None:
    assert unit_of("tests/model/test_bars.py::test_x[a::b]") == "tests/model/test_bars.py"
    assert unit_of("tests/flows/test_cli.py::test_x") == unit_of("tests/flows/test_tune.py::test_y") == "tests/flows"


def test_the_longest_units_exist_and_come_first() -> None:
    assert all((ROOT / unit).exists() for unit in LONGEST)
    assert place_of(OTHER) > max(place_of(f"{unit}/x" if unit == "tests/flows" else unit) for unit in LONGEST)
