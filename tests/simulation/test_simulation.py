"""Days of the whole stack among faults, each drawn from one seed: what must hold holds after every step.

A failure prints its seed and its steps. Repeat it with `python -m tests.simulation.run --seed N --days D`, or search
further with `SIMULATION_SEEDS=100:200 pytest -m e2e tests/simulation`.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulation import SimulationFailed, simulate

from model.bars import Bars
from tasks.champion import commit_decision
from tasks.serving import forecast
from tasks.store import bar_store

FIRST, LAST = map(int, os.environ.get("SIMULATION_SEEDS", "1000:1012").split(":"))


@pytest.mark.parametrize("seed", [4])
def test_few_days(seed: int, template: Path, tmp_path: Path) -> None:
    found = simulate(seed, 3, template, tmp_path / "home")
    assert found.ends["retrain done"] > 0


def test_a_seed_repeats_every_step(template: Path, tmp_path: Path) -> None:
    once, again = (simulate(3, 1, template, tmp_path / name) for name in ("once", "again"))
    assert once.steps == again.steps
    assert once.steps


@pytest.mark.e2e
@pytest.mark.parametrize("seed", range(FIRST, LAST))
def test_more_days(seed: int, template: Path, tmp_path: Path) -> None:
    simulate(seed, 12, template, tmp_path / "home")


def alias_first(workspace: Any, row: Any, **_: Any) -> None:
    """Commit a decision the wrong way round."""
    if row.champion_after is not None:
        workspace.registry.set_alias("champion", row.champion_after)
    workspace.decision_log.append_if_current(replace(row, files=commit_decision._new_digests(workspace, row)))


def forgets_a_bar(whole: Bars, fresh: Bars) -> Bars:
    """Overlay bars, but lose the oldest one that is new."""
    both = bar_store_overlaid(whole, fresh)
    return Bars(both.interval, both.opened_at[1:], both.ohlcv[1:])


bar_store_overlaid = bar_store.overlaid
PLANTED = {
    "alias before the decision": (
        "tasks.champion.challenger_decision.commit_decision", alias_first, "no decision promoted it|by the alias",
    ),
    "late predictions are evidence": (
        "tasks.serving.forecast.time_of_writing", lambda bars: forecast.to_datetime(bars.closed_at[0]), "as evidence",
    ),
    "a merge that drops a bar": ("tasks.store.bar_store.overlaid", forgets_a_bar, "bars are lost"),
}  # fmt: skip


def search(template: Path, folder: Path) -> None:
    for seed in range(20):
        simulate(seed, 8, template, folder / f"home-{seed}")


@pytest.mark.e2e
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, fault, problem = PLANTED[name]
    monkeypatch.setattr(place, fault)
    with pytest.raises(SimulationFailed, match=problem) as found:
        search(template, tmp_path)
    assert f"--seed {found.value.seed}" in str(found.value)
