"""A fit starts only from a champion that knew nothing the fit is judged by."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from synthetic_bars import random_walk

from model import network_files
from model.errors import NoChampion, StoreUnavailable, UnsoundModel, UntrustedModel
from model.folds import FoldSpec, split_folds
from model.networks import NetworkSpec
from model.recipe import Recipe
from model.training import TrainingSpec
from model.windows import WindowSpec, cut_windows
from tasks.champion.warm_start import start_of_final, start_of_fold, start_weights

RECIPE = Recipe(window=WindowSpec(lookback_bars=5), training=TrainingSpec(warm_start=True))
WINDOWS = cut_windows(random_walk(200), RECIPE.window).resolved()
START = datetime(2018, 1, 1, tzinfo=UTC)
LONG_AFTER = np.datetime64("2030-01-01", "us")


@dataclass
class Registry:
    """Versions by number: training end in days from the start, recipe, and whether their files are whole."""

    versions: dict[str, tuple[int, Recipe]]
    broken: tuple[str, ...] = ()
    untrusted: tuple[str, ...] = ()
    name: str = "walk"
    asked: list[str] = field(default_factory=list)

    def version(self, number: str) -> Any:
        if number not in self.versions:
            raise NoChampion(number)
        return SimpleNamespace(trained_until=START + timedelta(days=self.versions[number][0]))

    def read_version(self, number: str) -> Any:
        if number in self.broken:
            raise UnsoundModel(number)
        if number in self.untrusted:
            raise UntrustedModel(number)
        self.asked.append(number)
        return SimpleNamespace(recipe=lambda: self.versions[number][1], keras=number.encode)


@dataclass
class Champions:
    """A ledger of nothing but champions, oldest first; `<1` is a rollback to version 1."""

    numbers: tuple[str | None, ...]

    def rows(self, _name: str) -> tuple[Any, ...]:
        found, before = [], None
        for number in self.numbers:
            action, after = ("rollback", number[1:]) if number and number[0] == "<" else ("promote", number)
            found.append(SimpleNamespace(action=action, champion_before=before, champion_after=after))
            before = after
        return tuple(found)


@pytest.fixture(autouse=True)
def networks_are_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(content: bytes) -> Any:
        return SimpleNamespace(get_weights=lambda: [np.array(int(content))])

    monkeypatch.setattr(network_files, "network_from_bytes", read)


def chosen(weights: Any) -> int | None:
    return None if weights is None else int(weights[0])


def test_the_newest_champion_that_knew_nothing_later_is_taken() -> None:
    registry = Registry({"1": (50, RECIPE), "2": (90, RECIPE), "3": (120, RECIPE)})
    ledger: Any = Champions((None, "1", "2", "2", "3"))
    for before, expected in ((LONG_AFTER, 3), (day(120), 2), (day(91), 2), (day(90), 1), (day(50), None)):
        assert chosen(start_weights(registry, ledger, RECIPE, before)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ledger", "expected"),
    [
        (("1", "2", "3"), (3, 2, 1)),
        (("1", "2", "3", "<2"), (2, 2, 1)),  # what was rolled back is no start
        (("1", "2", "3", "<1"), (1, 1, 1)),  # and what lay between was withdrawn with it
        (("1", "2", "3", "<2", "4"), (4, 2, 1)),
        (("1", "2", "3", "<2", "3"), (3, 2, 1)),  # promoted again by a person
        (("1", "2", "<1", "3", "<2"), (2, 2, 1)),  # restored although it was withdrawn; 3 goes
        (("2", "3", "1"), (3, 2, 1)),  # an old version promoted last is not the newest of that time
    ],
)
def test_after_a_rollback_the_start_is_the_newest_champion_that_stands(
    ledger: tuple[str, ...], expected: tuple[int, ...]
) -> None:
    registry: Any = Registry({"1": (50, RECIPE), "2": (90, RECIPE), "3": (120, RECIPE), "4": (150, RECIPE)})
    champions: Any = Champions(ledger)
    found = [chosen(start_weights(registry, champions, RECIPE, each)) for each in (LONG_AFTER, day(120), day(90))]
    assert tuple(found) == expected


def day(number: int) -> np.datetime64:
    return np.datetime64(START.replace(tzinfo=None) + timedelta(days=number), "us")


def test_a_fold_starts_from_nobody_who_saw_its_validation_or_test() -> None:
    folds = split_folds(WINDOWS, FoldSpec(test_bars=60, count=2))
    begins = [int((WINDOWS.decided_at[fold.validation[0]] - day(0)) / np.timedelta64(1, "D")) for fold in folds]
    registry: Any = Registry({"1": (begins[0] - 1, RECIPE), "2": (begins[1] - 1, RECIPE), "3": (199, RECIPE)})
    ledger: Any = Champions(("1", "2", "3"))
    assert [chosen(start_of_fold(registry, ledger, RECIPE, WINDOWS, fold)) for fold in folds] == [1, 2]


def test_the_final_fit_starts_as_the_folds_did() -> None:
    folds = split_folds(WINDOWS, FoldSpec(test_bars=60, count=2))
    begins = [int((WINDOWS.decided_at[fold.validation[0]] - day(0)) / np.timedelta64(1, "D")) for fold in folds]
    newest = int((WINDOWS.decided_at[-len(folds[-1].validation)] - day(0)) / np.timedelta64(1, "D"))
    champions: Any = Champions(("1", "2", "3"))
    registry: Any = Registry({"1": (begins[0] - 1, RECIPE), "2": (newest - 1, RECIPE), "3": (newest, RECIPE)})
    assert chosen(start_of_final(registry, champions, RECIPE, WINDOWS, folds)) == 2  # not yesterday's champion
    registry.versions["1"] = (begins[0], RECIPE)  # now the first fold starts fresh
    assert start_of_final(registry, champions, RECIPE, WINDOWS, folds) is None


def test_what_was_rolled_back_is_no_start_where_the_restored_champion_does_not_fit() -> None:
    restored = RECIPE.model_copy(update={"network": NetworkSpec(units=7)})
    registry: Any = Registry({"1": (50, RECIPE), "2": (90, restored), "3": (120, RECIPE)})
    champions: Any = Champions(("1", "2", "3", "<2"))
    assert chosen(start_weights(registry, champions, RECIPE, LONG_AFTER)) == 1


def test_an_unreachable_store_is_no_reason_for_fresh_weights() -> None:
    class Away:
        name = "BTC-USD-1d"

        def version(self, _: str) -> Any:
            raise StoreUnavailable("away")

    away: Any = Away()
    champions: Any = Champions(("1",))
    with pytest.raises(StoreUnavailable):
        start_weights(away, champions, RECIPE, LONG_AFTER)


@pytest.mark.parametrize(
    "other",
    [
        RECIPE.model_copy(update={"network": NetworkSpec(units=7)}),
        RECIPE.model_copy(update={"window": WindowSpec(lookback_bars=6)}),
        RECIPE.model_copy(update={"training": TrainingSpec(members=2)}),
    ],
)
def test_another_network_does_not_fit(other: Recipe) -> None:
    registry: Any = Registry({"1": (50, RECIPE), "2": (90, other)})
    ledger: Any = Champions(("1", "2"))
    assert chosen(start_weights(registry, ledger, RECIPE, LONG_AFTER)) == 1


def test_what_is_broken_or_lost_is_passed_over_and_without_the_spec_nobody_is_asked() -> None:
    registry: Any = Registry({"1": (50, RECIPE), "2": (90, RECIPE)}, broken=("2",))
    ledger: Any = Champions(("1", "2", "9"))
    assert chosen(start_weights(registry, ledger, RECIPE, LONG_AFTER)) == 1
    registry.asked.clear()
    cold = RECIPE.model_copy(update={"training": TrainingSpec()})
    assert start_weights(registry, ledger, cold, LONG_AFTER) is None
    assert registry.asked == []


def test_of_files_that_are_not_the_recorded_ones_only_those_of_the_champion_end_the_retrain() -> None:
    registry: Any = Registry({"1": (50, RECIPE), "2": (90, RECIPE), "3": (120, RECIPE)}, untrusted=("2",))
    former, present = (Champions(numbers) for numbers in (("1", "2", "3"), ("1", "2")))
    before: Any = day(100)  # version 3 was trained later
    assert chosen(start_weights(registry, former, RECIPE, before)) == 1  # type: ignore[arg-type]
    with pytest.raises(UntrustedModel):
        start_weights(registry, present, RECIPE, before)  # type: ignore[arg-type]
