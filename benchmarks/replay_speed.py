"""Speed of one replay day: 100 optimizer steps of 128 windows and one prediction, from fresh weights.

Compared with a loop that builds, compiles and fits a fresh Keras model each day, and with neuralforecast's
`cross_validation(refit=True)` of an LSTM with 32 units, for the same number of steps and windows. Every day is trained
on all windows resolved before it. Ours is the training engine only: folds, gate and registry of a replay are left out,
because the others do not do that work.
"""

from collections.abc import Iterator
from itertools import count

import keras
import numpy as np
from peer_process import Missing, Peer
from synthetic_series import walk_windows
from timed_comparison import Line, alternate, compared, missing

from model.networks import NetworkSpec, build_network
from model.training import Trainer, TrainingSpec

WINDOWS, BATCH, EPOCHS = 3_200, 128, 4  # 25 steps an epoch: 100 a day
DAYS = 3  # of the neuralforecast peer per round


def lines(rounds: int) -> list[Line]:
    """Compare."""
    windows = walk_windows(WINDOWS + 200)
    values, labels = windows.values(), windows.labels.astype(np.float32)[:, None]
    trainer = Trainer(NetworkSpec(), TrainingSpec(batch_size=BATCH), windows.lookback_bars, 4)
    lstm = Trainer(NetworkSpec(kind="lstm"), TrainingSpec(batch_size=BATCH), windows.lookback_bars, 4)
    days: Iterator[int] = count()

    def ours() -> None:
        day = next(days) % 100
        fitted = trainer.fit(windows, np.arange(day, day + WINDOWS), epochs=EPOCHS)
        trainer.predict(fitted, windows.take(np.arange(day + WINDOWS, day + WINDOWS + 1)))

    def alone() -> None:
        day = next(days) % 100
        lstm.fit(windows, np.arange(day, day + WINDOWS), epochs=EPOCHS)

    def fresh() -> None:
        day = next(days) % 100
        network = build_network(NetworkSpec(), windows.lookback_bars, 4)
        network.compile(keras.optimizers.Nadam(1e-3), "binary_crossentropy", metrics=["accuracy"])
        chosen = slice(day, day + WINDOWS)
        network.fit(values[chosen], labels[chosen], batch_size=BATCH, epochs=EPOCHS, verbose=0)
        network.predict(values[day + WINDOWS : day + WINDOWS + 1], verbose=0)

    seconds = alternate({"ours": ours, "fresh": fresh}, max(rounds, 5))
    found = [compared("a replay day: a fresh Keras model", seconds["ours"], seconds["fresh"], 5)]
    what = "a replay day: neuralforecast's refit"
    try:
        with Peer("neuralforecast", bars=WINDOWS, steps=100, batch=BATCH, days=DAYS) as peer:
            peer_seconds: list[float] = []
            ways = {"lstm": alone, "ours": ours, "peer": lambda: peer_seconds.append(peer()["seconds"] / DAYS)}
            own = alternate(ways, min(rounds, 3))
            found.append(compared(f"{what}, LSTM vs. LSTM", own["lstm"], peer_seconds[1:], 2))
            found.append(compared(f"{what}, CNN + LSTM vs. its LSTM", own["ours"], peer_seconds[1:]))
    except Missing as error:
        found.append(missing(what, str(error), "2x"))
    return found
