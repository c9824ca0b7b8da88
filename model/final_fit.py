"""Fit the network that will serve on every resolved window, for the number of epochs that the folds found.

It has no validation windows and therefore no early stopping of its own. Which weights it starts from is decided by
`tasks/champion/warm_start.py`, as for the folds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from model.ensemble import AnyTrainer
from model.training import Epoch, median_epochs
from model.windows import Windows

PROBE_WINDOWS = 64  # newest windows on which the registered files must repeat the trained probabilities


@dataclass(frozen=True, slots=True)
class FinalNetwork:
    """The network that will serve, fitted on every resolved window.

    Attributes:
        fitted: what the trainer returned.
        epochs: epochs run.
        probe_decided_at: shape (window,), datetime64[us], UTC: the newest windows, unresolved ones included.
        probe: shape (window,), float64: its uncalibrated P(rise) of them.
        probe_further: shape (window, output), float64: its outputs after P(rise) of them.
    """

    fitted: Any
    epochs: int
    probe_decided_at: np.ndarray
    probe: Float64[np.ndarray, " window"]
    probe_further: Float64[np.ndarray, "window output"]


def fit_final_network(
    trainer: AnyTrainer,
    windows: Windows,
    best_epochs: Sequence[int],
    *,
    start: tuple[np.ndarray, ...] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> FinalNetwork:
    """Fit the network on every resolved window for `median_epochs`, and predict the newest windows with it.

    Args:
        trainer: fits networks.
        windows: all windows; the unresolved ones are predicted only.
        best_epochs: the best epoch of each fold.
        start: weights to start from; None for fresh ones.
        on_epoch: called after each epoch.

    Time: the weights depend on every resolved window.
    """
    resolved, epochs = windows.resolved(), median_epochs(best_epochs)
    everything = np.arange(len(resolved), dtype=np.int64)
    fitted = trainer.fit(resolved, everything, None, epochs, on_epoch, start=start)
    newest = windows.take(np.arange(max(0, len(windows) - PROBE_WINDOWS), len(windows), dtype=np.int64))
    probe, further = trainer.predict(fitted, newest), trainer.predict_further(fitted, newest)
    return FinalNetwork(fitted, epochs, newest.decided_at, probe, further)
