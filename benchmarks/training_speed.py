"""Training speed: this Trainer vs. `keras.Model.fit` and PyTorch; same network, windows and batch size.

All train the default network (with dropout) on 4,000 windows of 30 bars, and alternate after a first epoch each to
trace and warm up. PyTorch runs in an environment and a process of its own (`benchmarks/peer_process.py`); it keeps its
windows in memory and runs eagerly, as is usual.
"""

from collections.abc import Callable
from contextlib import ExitStack

import keras
import numpy as np
from peer_process import Missing, Peer
from synthetic_series import walk_windows
from timed_comparison import Line, alternate, compared, missing

from model.networks import NetworkSpec, build_network
from model.training import Trainer, TrainingSpec
from model.windows import Windows

COUNT = 4_000
TARGETS = {50: (2.5, 1.5), 256: (2.0, 1.2), 1024: (None, None)}  # ratio vs. Keras, vs. PyTorch


def lines(rounds: int) -> list[Line]:
    """Compare at each batch size."""
    windows = walk_windows(COUNT)
    found = []
    for batch, (against_keras, against_torch) in TARGETS.items():
        ways = {"ours": trainer_epoch(windows, batch), "keras": keras_epoch(windows, batch)}
        with ExitStack() as stack:
            try:
                ways["torch"] = stack.enter_context(Peer("torch", windows=COUNT, batch=batch))
                why = ""
            except Missing as error:
                why = str(error)
            seconds = alternate(ways, rounds)
        what = f"an epoch of {COUNT:,} windows, batch {batch}"
        found.append(compared(f"{what}: keras fit", seconds["ours"], seconds["keras"], against_keras))
        found.append(
            missing(f"{what}: PyTorch", why)
            if why
            else compared(f"{what}: PyTorch", seconds["ours"], seconds["torch"], against_torch)
        )
    return found


def trainer_epoch(windows: Windows, batch: int) -> Callable[[], object]:
    """Return an epoch of this project's Trainer."""
    trainer = Trainer(NetworkSpec(), TrainingSpec(batch_size=batch), windows.lookback_bars, 4)
    return lambda: trainer.fit(windows, np.arange(len(windows)), epochs=1)


def keras_epoch(windows: Windows, batch: int) -> Callable[[], object]:
    """Return an epoch of `keras.Model.fit`."""
    network = build_network(NetworkSpec(), windows.lookback_bars, 4)
    network.compile(keras.optimizers.Nadam(1e-3), "binary_crossentropy", metrics=["accuracy"])
    values, labels = windows.values(), windows.labels.astype(np.float32)[:, None]
    return lambda: network.fit(values, labels, batch_size=batch, epochs=1, verbose=0)
