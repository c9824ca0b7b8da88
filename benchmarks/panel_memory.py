"""Peak memory and windows a second of one fit of a panel: the daily recipe of `panel_study`, 42 coins, few epochs.

Trains on every window before the held-back span and scores nothing. The peak is that of the whole process so far, so
each line contains the ones above it. Run: python benchmarks/panel_memory.py [--epochs 4] [--sample-weights]
"""

import argparse
import os
import resource
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from panel_study import CANDIDATES, DATA, QUESTIONS, load_panel

from model.panel import PanelSpec, cut_panel
from model.sample_weights import SampleWeights
from model.training import Trainer
from model.windows import Windows

NAME = "daily: cross-section, calibrated"


def main() -> None:
    """Print the peak after each step, and the speed of the epochs after the first, which includes the tracing."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--epochs", type=int, default=4)
    given.add_argument("--sample-weights", action="store_true", help="weight by move and age")
    options = given.parse_args()
    candidate = CANDIDATES[NAME]
    windows = training_windows()
    peak(f"{len(windows):,} windows of {len(np.unique(windows.symbols))} coins, cut")
    weights = SampleWeights(move=True, half_life_bars=365) if options.sample_weights else SampleWeights()
    training = candidate.training.model_copy(update={"sample_weights": weights})
    shape = (windows.lookback_bars, windows.features.shape[1], windows.context_count)
    trainer = Trainer(candidate.network, training, *shape)
    peak("TensorFlow loaded, network built")
    started, cpu = time.perf_counter(), time.process_time()
    fitted = trainer.fit(windows, np.arange(len(windows)), epochs=options.epochs)
    peak(f"fitted, {options.epochs} epochs")
    print(f"{time.perf_counter() - started:.1f} s, {time.process_time() - cpu:.1f} s of CPU")
    rates = [len(windows) / epoch.seconds for epoch in fitted.history[1:]]
    print(f"windows/s by epoch: {', '.join(f'{rate:,.0f}' for rate in rates)}; load {os.getloadavg()[0]:.1f}")


def training_windows() -> Windows:
    """Return the resolved windows of the panel before the held-back span; the bars are dropped."""
    candidate = CANDIDATES[NAME]
    question = QUESTIONS[candidate.question]
    file, _, end = question.develop
    bars = load_panel(DATA / file, question.interval, end)
    peak("bars read")
    spec = PanelSpec.model_validate({**question.panel.model_dump(), "inputs": candidate.inputs})
    return cut_panel(bars, candidate.window, spec).resolved().windows


def peak(step: str) -> None:
    """Print the peak memory of the process so far."""
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:7.0f} MiB  {step}", flush=True)


if __name__ == "__main__":
    main()
