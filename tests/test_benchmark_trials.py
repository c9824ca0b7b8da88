"""A benchmark that scores networks on test bars records each as a look."""

import importlib.util
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from synthetic_bars import random_walk
from synthetic_panel import panel_bars

from model.bars import Series
from model.metrics import log_losses
from model.networks import NetworkSpec
from model.panel import PanelSpec
from model.presets import preset_for
from model.training import TrainingSpec
from model.windows import WindowSpec, cut_windows
from tasks.store.trial_log import TrialLog, count_looks

TINY = {"network": NetworkSpec(filters=(2,), units=2, dense_units=4), "training": TrainingSpec(epochs=1, batch_size=64)}
NOW = datetime(2026, 11, 26, tzinfo=UTC)


def benchmark(name: str) -> ModuleType:
    script = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, script)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, found)  # dataclasses look their module up
        spec.loader.exec_module(found)
    return found


def test_each_network_of_the_preset_study_is_a_look_and_no_baseline_is(tmp_path: Path) -> None:
    study = benchmark("preset_skill")
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


@pytest.mark.e2e  # trains four networks
def test_a_panel_study_counts_its_looks_and_trades_the_baselines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two questions about one file, and one of them again: the third look is with the second of two recipes."""
    study = benchmark("panel_study")
    bars = panel_bars(220, C=0)
    frames = [each.frame().assign(symbol="BTC/USDT" if symbol == "A" else symbol) for symbol, each in bars.items()]
    pd.concat(frames).to_parquet(tmp_path / "panel.parquet")
    span = ("panel.parquet", str(bars["A"].opened_at[-31])[:10], "")
    questions = {
        label: study.Question("1d", PanelSpec.model_validate({"label": label, "least_series": 2}), span, span)
        for label in ("rise", "rank")
    }
    candidates = {
        label: study.Candidate(label, WindowSpec(lookback_bars=5), TINY["network"], TINY["training"], "cross_section")
        for label in questions
    }
    for name, value in {"DATA": tmp_path, "QUESTIONS": questions, "CANDIDATES": candidates}.items():
        monkeypatch.setattr(study, name, value)
    caplog.set_level(logging.INFO)
    for label in ("rise", "rank", "rank"):
        monkeypatch.setattr("sys.argv", ["panel_study.py", "score", "--only", label, "--home", str(tmp_path / "home")])
        study.main()
    looks = [line for line in caplog.messages if line.startswith("look ")]
    assert looks == [
        "look 1 at panel.parquet: these test bars were scored once, with 1 recipe",
        "look 2 at panel.parquet: these test bars were scored 2 times, with 2 recipes",
        "look 3 at panel.parquet: these test bars were scored 3 times, with 2 recipes",
    ]
    assert caplog.messages.index(looks[0]) < next(
        place for place, line in enumerate(caplog.messages) if "log loss" in line
    )
    for forecaster in ("network", "gradient_boosting", "linear_factor_model", "reversal_1_bar"):
        for policy in ("sign", "threshold", "no_trade_band"):
            traded = [line for line in caplog.messages if "break-even" in line and policy in line]
            assert [line for line in traded if line.startswith(forecaster)]
    ranked = [line.split()[0] for line in caplog.messages if "AUC within a close" in line]
    assert {"linear_factor_model", "reversal_20_bars"} < set(ranked)
    trials = TrialLog(str(tmp_path / "home" / "data" / "tables")).trials("panel", "1d")
    assert [(trial.kind, trial.windows) for trial in trials] == [("benchmark", 30 * len(bars))] * 3
