"""The order in which folds start."""

from contextlib import AbstractContextManager
from types import SimpleNamespace, TracebackType
from typing import Any

from tasks.services.fold_runner import run_folds


class OneByOne(AbstractContextManager["OneByOne"]):
    """A task runner that runs a task when it is submitted."""

    def __init__(self) -> None:
        self.started: list[int] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        pass

    def submit(self, task: Any, call: dict[str, Any]) -> SimpleNamespace:
        self.started.append(call["index"])
        found = task(**call)
        return SimpleNamespace(result=lambda: found)


def test_the_newest_fold_starts_first_and_results_keep_the_order_of_the_folds() -> None:
    """It has the most training windows: if it came last, one thread would train it while the others idle."""
    runner = OneByOne()
    task: Any = lambda index: f"fold {index}"  # noqa: E731
    found = run_folds(runner, task, [{"index": index} for index in range(3)])
    assert runner.started == [2, 1, 0]
    assert found == ["fold 0", "fold 1", "fold 2"]
