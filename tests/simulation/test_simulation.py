"""Days of the whole stack among faults, each drawn from one seed: what must hold holds after every step.

A failure prints its seed and its steps. Repeat it with `python -m tests.simulation.run --seed N --days D`, or search
further with `SIMULATION_SEEDS=100:200 pytest -m e2e tests/simulation`.
"""

import os
from pathlib import Path

import pytest
from planted_faults import FOUND_BY, PLANTED, planted
from simulation import SimulationFailed, simulate

FIRST, LAST = map(int, os.environ.get("SIMULATION_SEEDS", "1000:1003").split(":"))


def test_few_days_hold_and_a_seed_repeats_every_step(template: Path, tmp_path: Path) -> None:
    once, again = (simulate(4, 2, template, tmp_path / name) for name in ("once", "again"))
    assert once.steps == again.steps
    assert once.ends["retrain done"] > 0


@pytest.mark.e2e
@pytest.mark.parametrize("seed", range(FIRST, LAST))
def test_more_days(seed: int, template: Path, tmp_path: Path) -> None:
    simulate(seed, 8, template, tmp_path / "home")


def search(template: Path, folder: Path) -> None:
    for seed in range(60):  # until one fails
        simulate(seed, 6, template, folder / f"home-{seed}", rate=0.15)


@pytest.mark.e2e
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str, template: Path, tmp_path: Path) -> None:
    with planted(name), pytest.raises(SimulationFailed, match=FOUND_BY[name]) as found:
        search(template, tmp_path)
    assert f"--seed {found.value.seed}" in str(found.value)
