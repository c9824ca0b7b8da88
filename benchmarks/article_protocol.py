"""The article's protocol vs. ours on the same days: where its accuracy of 64 % comes from.

The article (CNN + LSTM on CoinMarketCap days up to September 2017) splits its windows in time, trains 400 epochs and
keeps the checkpoint that does best on the TEST windows. This program repeats that in plain Keras: windows of 30 days
standardised by their own mean and deviation, FORECAST = 1 (a horizon of 2 bars), two softmax units, Nadam 0.002,
batches of 50, learning rate reduced on a plateau of the test. That run gives (a) the checkpoint chosen on the test and
(b) the last epoch; (c) is our walk-forward over the same test windows, all out-of-sample. Volume is left out: the file
has none for the oldest 243 days. Writes docs/pictures/article_protocol.png.

Run: python benchmarks/article_protocol.py [FILE] [--share 0.1] [--epochs 400] [--seed 7]
"""

import argparse
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from jaxtyping import Float64, Int8, Int64

from model.bars import bars_from_frame
from model.bootstrap import Interval, bootstrap_intervals
from model.folds import FoldSpec, resolved_before, split_folds
from model.metrics import CLASSES, confusion_matrix, normalise_rows
from model.networks import NetworkSpec, build_network
from model.training import Trainer, TrainingSpec
from model.windows import Windows, WindowSpec, cut_windows, standardise
from tasks.sources.file_source import FileSource
from tasks.sources.source_spec import SourceSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

REPOSITORY = Path(__file__).resolve().parents[1]
FILE = REPOSITORY.parent / "shared" / "data" / "btc_usd_daily_coinmarketcap.csv.gz"
PICTURE = REPOSITORY / "docs" / "pictures" / "article_protocol.png"
WINDOW = WindowSpec(lookback_bars=30, horizon_bars=2)  # the article's WINDOW 30, STEP 1, FORECAST 1
BATCH_SIZE, LEARNING_RATE = 50, 0.002
PLATEAU = {"monitor": "val_accuracy", "factor": 0.9, "patience": 30, "min_lr": 1e-6}
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way of choosing and testing a network: its name and its P(rise) of each test window."""

    name: str
    note: str
    probabilities: Float64[np.ndarray, " window"]


def main() -> None:
    """Run all protocols, print their tables and draw the picture."""
    given = argparse.ArgumentParser(description="The article's protocol vs. ours on the same days.")
    given.add_argument("file", nargs="?", type=Path, default=FILE)
    given.add_argument("--share", type=float, default=0.1, help="newest share of the windows, used as the test")
    given.add_argument("--epochs", type=int, default=400)
    given.add_argument("--seed", type=int, default=7)
    given.add_argument("--picture", type=Path, default=PICTURE)
    options = given.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not options.file.exists():
        log.info("no file %s: pass CoinMarketCap's daily Bitcoin bars (layout of Kaggle)", options.file)
        return
    source = FileSource(SourceSpec(kind="csv", path=str(options.file)))
    windows = cut_windows(bars_from_frame(source.fetch().frame, "1d"), WINDOW).resolved()
    count = len(windows) - int(len(windows) * (1 - options.share))
    labels = windows.labels[-count:]
    log.info("%d windows, the newest %d are the test, %.1f %% of them rises", len(windows), count, 100 * labels.mean())
    protocols = [
        *train_as_article(windows, count, options.epochs, options.seed),
        walk_forward(windows, count, options.seed),
    ]
    for protocol in protocols:
        _print_table(protocol, labels, options.seed)
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    shown = [each for each in protocols if each.note]
    _picture(shown, labels, options.seed).savefig(options.picture, dpi=130)
    log.info("drawn: %s", options.picture)


def train_as_article(windows: Windows, count: int, epochs: int, seed: int) -> list[Protocol]:
    """Train as the article does; return the two checkpoints chosen on the test, and the last epoch."""
    import keras

    keras.utils.set_random_seed(seed)
    values, outcomes = standardise(windows.values()).astype(np.float32), np.eye(2)[windows.labels]
    network = _article_network(values.shape[1:])
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = {
            monitor: keras.callbacks.ModelCheckpoint(
                f"{folder}/{monitor}.weights.h5", monitor=monitor, save_best_only=True, save_weights_only=True
            )
            for monitor in ("val_accuracy", "val_loss")
        }
        history = network.fit(
            values[:-count],
            outcomes[:-count],
            batch_size=BATCH_SIZE,
            epochs=epochs,
            validation_data=(values[-count:], outcomes[-count:]),
            callbacks=[keras.callbacks.ReduceLROnPlateau(**PLATEAU), *checkpoints.values()],
            verbose=0,
        ).history

        def predict() -> Float64[np.ndarray, " window"]:
            return np.asarray(network.predict(values[-count:], verbose=0)[:, 1], dtype=np.float64)

        last = predict()
        chosen = {}
        for monitor, checkpoint in checkpoints.items():
            network.load_weights(checkpoint.filepath)
            chosen[monitor] = predict()
    best, least = int(np.argmax(history["val_accuracy"])) + 1, int(np.argmin(history["val_loss"])) + 1
    return [
        Protocol(
            f"Checkpoint chosen on the test\n(epoch {best} of {epochs})",
            "the article's protocol",
            chosen["val_accuracy"],
        ),
        Protocol(f"the same by test loss instead of accuracy (epoch {least})", "", chosen["val_loss"]),
        Protocol(f"Last epoch\n(number {epochs})", "same run, nothing chosen", last),
    ]


def _article_network(shape: tuple[int, ...]) -> Any:
    """Return the article's network: ours, with its two softmax units for our sigmoid, on standardised windows."""
    import keras

    ours = build_network(NetworkSpec(), *shape)
    first, last = ours.get_layer("standardise").output, ours.get_layer("dense_leaky").output
    classes = keras.layers.Dense(2, activation="softmax", name="classes")(last)
    network = keras.Model(first, classes)
    network.compile(keras.optimizers.Nadam(LEARNING_RATE), "categorical_crossentropy", metrics=["accuracy"])
    return network


def walk_forward(windows: Windows, count: int, seed: int) -> Protocol:
    """Walk forward over the same test windows: train on resolved windows, stop early on their tail, predict."""
    folds = split_folds(windows, FoldSpec(test_bars=count, count=FOLDS))
    trainer = Trainer(NetworkSpec(), TrainingSpec(seed=seed), windows.lookback_bars, windows.features.shape[1])
    predicted = []
    for fold in folds:
        learned = np.concatenate([fold.train, fold.validation])
        assert resolved_before(windows.take(learned), windows.decided_at[fold.test[0]]).all()
        predicted.append(trainer.predict(trainer.fit(windows, fold.train, fold.validation), windows.take(fold.test)))
    return Protocol("Walk-forward\n(nothing of the test is used)", "this project's protocol", np.concatenate(predicted))


def _print_table(protocol: Protocol, labels: Int8[np.ndarray, " window"], seed: int) -> None:
    """Print one confusion matrix, counts and shares of each row, and accuracy and log loss with their intervals."""
    matrix = confusion_matrix(labels, protocol.probabilities)
    numbers = bootstrap_intervals(labels, protocol.probabilities, seed, overlap_bars=WINDOW.horizon_bars)
    log.info("\n%s", protocol.name.replace("\n", " "))
    for row, counts, shares in zip(CLASSES, matrix, normalise_rows(matrix), strict=True):
        log.info(
            "  %-4s predicted fall %4d (%5.1f %%)  predicted rise %4d (%5.1f %%)",
            row,
            *_interleaved(counts, 100 * shares),
        )
    for name in ("accuracy", "balanced_accuracy", "log_loss"):
        each = numbers[name]
        log.info("  %-18s %.4f  (95 %%: %.4f to %.4f)", name, each.value, each.low, each.high)


def _interleaved(counts: Int64[np.ndarray, "2"], shares: Float64[np.ndarray, "2"]) -> list[float]:
    return [number for pair in zip(counts, shares, strict=True) for number in pair]


def _picture(protocols: list[Protocol], labels: Int8[np.ndarray, " window"], seed: int) -> "Figure":
    """Draw the confusion matrices (row shares large, counts small) above the intervals of the accuracies."""
    from matplotlib.figure import Figure

    from model.chart_style import INK, QUIET, RISE

    figure = Figure(figsize=(11, 5.4), layout="constrained")
    axes = figure.subplots(2, len(protocols), height_ratios=(4, 1))
    rises, majority = float(labels.mean()), float(max(labels.mean(), 1 - labels.mean()))
    for column, protocol in enumerate(protocols):
        matrix, (square, line) = confusion_matrix(labels, protocol.probabilities), axes[:, column]
        shares = normalise_rows(matrix)
        square.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row in range(2):
            for predicted in range(2):
                ink = "white" if shares[row, predicted] > 0.55 else INK
                square.text(
                    predicted, row - 0.06, f"{shares[row, predicted]:.0%}", ha="center", va="center", color=ink, size=18
                )
                square.text(
                    predicted, row + 0.2, f"{matrix[row, predicted]} days", ha="center", va="center", color=ink, size=9
                )
        square.set_xticks([0, 1], [f"predicted {name}" for name in CLASSES])
        square.set_yticks([0, 1], [f"{name}" for name in CLASSES] if not column else ["", ""])
        square.tick_params(length=0)
        square.spines[:].set_visible(False)
        square.set_title(f"{protocol.name}\n{protocol.note}", fontsize=10)
        numbers = bootstrap_intervals(labels, protocol.probabilities, seed, overlap_bars=WINDOW.horizon_bars)
        _draw_accuracy(line, numbers["accuracy"], majority, (INK, QUIET, RISE))
    figure.suptitle(
        f"One network, the same {len(labels)} test days of 2017: {rises:.1%} of them were rises, the "
        f"accuracy of always predicting a rise",
        fontsize=12,
    )
    return figure


def _draw_accuracy(ax: Any, accuracy: Interval, majority: float, inks: tuple[str, str, str]) -> None:
    """Draw one accuracy with its interval, 40 to 90 %, vs. always predicting the majority class."""
    ink, quiet, blue = inks
    ax.hlines(0, accuracy.low, accuracy.high, color=blue, linewidth=5, alpha=0.35)
    ax.plot(accuracy.value, 0, "o", color=blue, markersize=9)
    ax.vlines(majority, -0.35, 0.5, color=quiet, linewidth=1.4, linestyle="--")
    ax.text(majority, 0.65, f"majority class: {majority:.1%}", color=quiet, ha="center", size=8)
    text = f"accuracy {accuracy.value:.1%} (95%: {accuracy.low:.1%} to {accuracy.high:.1%})"
    ax.text(0.65, -0.8, text, color=ink, ha="center", size=10)
    ax.set(xlim=(0.4, 0.9), ylim=(-1, 1), yticks=[])
    ax.set_xticks([0.4, 0.5, 0.6, 0.7, 0.8, 0.9], ["40%", "50%", "60%", "70%", "80%", "90%"], fontsize=8)
    ax.spines[["left", "right", "top"]].set_visible(False)


if __name__ == "__main__":
    main()
