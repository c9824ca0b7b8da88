"""A benchmark that scores networks on test bars records each as a look."""

import importlib.util
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from synthetic_bars import random_walk

from model.bars import Series
from model.metrics import log_losses
from model.presets import preset_for
from model.windows import WindowSpec, cut_windows
from tasks.store.trial_log import TrialLog, count_looks

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def test_each_network_of_the_preset_study_is_a_look_and_no_baseline_is(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "preset_skill.py"
    spec = importlib.util.spec_from_file_location("preset_skill", script)
    assert spec is not None
    assert spec.loader is not None
    study = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(study)
    tested = cut_windows(random_walk(200, seed=1, interval="1h"), WindowSpec(lookback_bars=24)).resolved()
    rng = np.random.default_rng(1)
    names = ("base_rate", "persistence", "daily defaults, seed 7", "preset, seed 7", "preset, seed 8",
             "preset, 2 seeds averaged")  # fmt: skip
    forecasts = {name: rng.uniform(0.4, 0.6, len(tested)) for name in names}
    log = TrialLog(str(tmp_path))
    log.append(study.trials_of(Series("BTC-USD", "1h"), tested, forecasts, preset_for("1h"), 2, NOW))
    trials = log.trials("BTC-USD", "1h")
    found = count_looks(trials, trials[0].test_first, trials[0].test_last)
    assert (found.looks, found.recipes) == (4, 4)
    assert {trial.kind for trial in trials} == {"benchmark"}
    losses = {trial.trial_id.split("+00:00 ")[1]: trial.log_loss for trial in trials}
    for name in names[2:]:
        assert losses[name] == pytest.approx(log_losses(tested.labels, forecasts[name]).mean())
