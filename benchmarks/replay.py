"""A day of a replay: 100 optimizer steps of 128 windows and one prediction, from fresh weights.

Against a loop that builds, compiles and fits a fresh Keras model each day, and against neuralforecast's
`cross_validation(refit=True)` of an LSTM with 32 units at as many steps of as many windows. Every day is trained on
all windows resolved before it. Ours is the engine alone: what a replay adds to it - folds, gate, registry - is not
work that the others do.
"""

from collections.abc import Iterator
from itertools import count

import keras
import numpy as np
from peers import Missing, Peer
from series import walk_windows
from timing import Line, alternate, compared, missing

from model.networks import NetworkSpec, build_network
from model.training import Trainer, TrainingSpec

WINDOWS, BATCH, EPOCHS = 3_200, 128, 4  # 25 steps an epoch: 100 a day
DAYS = 3  # of the neuralforecast peer in one round


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
            told: list[float] = []
            ways = {"lstm": alone, "ours": ours, "peer": lambda: told.append(peer()["seconds"] / DAYS)}
            own = alternate(ways, min(rounds, 3))
            found.append(compared(f"{what}, LSTM against LSTM", own["lstm"], told[1:], 2))
            found.append(compared(f"{what}, CNN + LSTM against its LSTM", own["ours"], told[1:]))
    except Missing as error:
        found.append(missing(what, str(error), "2x"))
    return found
