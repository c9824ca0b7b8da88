"""How close training comes to a core: an epoch vs. its matrix products alone, and what a whole retrain must multiply.

The products of the default network are run by NumPy's BLAS on one thread, in the shapes that training needs: forward,
gradient of the inputs, gradient of the weights; of the LSTM one product a bar, because a bar needs the state of the one
before it. Activations, batch norm, dropout, the loss and the optimizer are left out, so no program that trains this
network in float32 can be faster. TensorFlow's kernels of the convolutions, the LSTM and dropout's random numbers are
timed alone as well, forward and backward, so no training by TensorFlow can be faster than they are.
Run: python benchmarks/training_roof.py [--rounds 5]
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from synthetic_series import walk_windows
from threadpoolctl import threadpool_limits

from model.bars import bars_from_frame
from model.final_fit import fit_final_network
from model.folds import split_folds
from model.networks import NetworkSpec
from model.presets import DAILY
from model.recipe import Recipe
from model.training import Trainer, TrainingSpec
from model.walk_forward import fit_fold, trainer_for
from model.windows import cut_windows
from tasks.settings import Settings

COUNT, BARS, FEATURES = 4_000, 30, 4
BATCHES = (50, 128, 256, 1024)
REPEATS = 20  # of the kernels in one graph, so that calling it costs little
Product = Callable[[], object]


def main() -> None:
    """Print microseconds of processor time a window, and what a retrain multiplies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    Settings().announce()  # before TensorFlow is imported
    windows, spec = walk_windows(COUNT), NetworkSpec()
    with threadpool_limits(1):
        square = _least(_product(1_024, 1_024, 1_024), rounds)
        print(f"one core, products of 1,024 x 1,024: {2 * 1024**3 / square / 1e9:.0f} GFLOP/s\n")
        columns = "batch size", "products", "GFLOP/s", "kernels", "an epoch", "products / epoch", "kernels / epoch"
        print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
        per_window: dict[int, float] = {}
        kernels_per_window: dict[int, float] = {}
        for batch in BATCHES:
            products, flop = step_products(spec, batch)
            trainer = Trainer(spec, TrainingSpec(batch_size=batch), BARS, FEATURES)
            epoch = lambda each=trainer: each.fit(windows, np.arange(COUNT), epochs=1)  # noqa: E731
            epoch()  # traces
            ours = _least(epoch, rounds) / COUNT
            alone = per_window[batch] = _least(lambda every=products: [each() for each in every], rounds) / batch
            kernels = kernels_per_window[batch] = _least(network_kernels(spec, batch), rounds) / batch / REPEATS
            times = " | ".join(f"{each * 1e6:.1f} us" for each in (kernels, ours))
            shares = " | ".join(f"{each / ours:.0%}" for each in (alone, kernels))
            speed = flop / batch / alone / 1e9
            print(f"| {batch} | {alone * 1e6:.1f} us a window | {speed:.0f} | {times} | {shares} |", flush=True)
    _retrain(per_window, kernels_per_window)


def step_products(spec: NetworkSpec, batch: int) -> tuple[list[Product], int]:
    """Return the matrix products of one training step, and their floating-point operations.

    Args:
        spec: of a `cnn_lstm`.
        batch: windows of the step.
    """
    products: list[Product] = []
    flop, width = 0, FEATURES

    def add(rows: int, inner: int, columns: int, times: int = 1, *, input_gradient: bool = True) -> None:
        """Add a layer's product, and those of its gradients."""
        nonlocal flop
        sizes = [(rows, inner, columns)] + [(rows, columns, inner)] * input_gradient
        for each in sizes:
            made = _product(*each)
            products.extend([made] * times)
        products.append(_product(inner, rows * times, columns))  # of the weights: all bars in one product
        flop += 2 * rows * inner * columns * times * (len(sizes) + 1)

    for number, filters in enumerate(spec.filters):
        add(batch * BARS, spec.kernel_bars * width, filters, input_gradient=number > 0)
        width = filters
    add(batch * BARS, width, 4 * spec.units)  # what enters the LSTM: all bars in one product
    add(batch, spec.units, 4 * spec.units, times=BARS)
    add(batch, spec.units, spec.dense_units)
    add(batch, spec.dense_units, 1)
    return products, flop


def network_kernels(spec: NetworkSpec, batch: int) -> Product:
    """Return a function that runs the kernels of convolutions, LSTM and dropout's random numbers, `REPEATS` times.

    Args:
        spec: of a `cnn_lstm`.
        batch: windows of the step.
    """
    import keras  # imported here: loads TensorFlow, see main
    import tensorflow as tf

    from model.layers import FusedLSTM

    widths = (FEATURES, *spec.filters)
    layers = [keras.layers.Conv1D(each, spec.kernel_bars, padding="same", use_bias=False) for each in spec.filters]
    layers.append(FusedLSTM(spec.units))
    inputs = [tf.random.stateless_normal((batch, BARS, width), (1, 2)) for width in widths]
    for layer, each in zip(layers, inputs, strict=True):
        layer(each)  # makes the weights
    weights = [[variable.value for variable in layer.trainable_variables] for layer in layers]

    def run() -> Any:
        def once(number: Any, total: Any) -> Any:
            for place, (layer, each, own) in enumerate(zip(layers, inputs, weights, strict=True)):
                with tf.GradientTape() as tape:
                    tape.watch(each)
                    output = layer(each)
                wanted = [each, *own] if place else own  # nothing before the first layer is trained
                total += sum(tf.reduce_sum(gradient[:1]) for gradient in tape.gradient(output, wanted))
            for place, width in enumerate(spec.filters):
                total += tf.random.stateless_uniform((batch, BARS, width), tf.stack([number, place]))[0, 0, 0]
            return number + 1, total

        start = tf.constant(0), tf.constant(0.0)
        return tf.while_loop(lambda number, _: number < REPEATS, once, start, parallel_iterations=1)

    return cast("Product", tf.function(run, autograph=False))


def _product(rows: int, inner: int, columns: int) -> Product:
    rng = np.random.default_rng(0)
    left, right = (rng.random(shape, dtype=np.float32) for shape in ((rows, inner), (inner, columns)))
    out = np.empty((rows, columns), dtype=np.float32)
    return lambda: np.matmul(left, right, out=out)


def _least(action: Product, rounds: int) -> float:
    """Return the least processor seconds of an action over rounds of 0.2 s."""
    taken = []
    action()
    for _ in range(rounds):
        started, repeats = time.process_time(), 0
        while time.process_time() - started < 0.2:
            action()
            repeats += 1
        taken.append((time.process_time() - started) / repeats)
    return min(taken)


def _retrain(per_window: dict[int, float], kernels_per_window: dict[int, float]) -> None:
    """Count the windows that a retrain of the bundled sample trains, and the processor time of all its fits."""
    from tasks.sources.bundled_sample import SAMPLE_AS_OF, SampleSource
    from tasks.sources.source_spec import SourceSpec

    frame = SampleSource(SourceSpec()).fetch().frame
    bars = bars_from_frame(frame[frame["timestamp"] < SAMPLE_AS_OF].drop_duplicates("timestamp"), "1d")
    windows = cut_windows(bars, DAILY.window)
    resolved = windows.resolved()
    trainer = trainer_for(Recipe())
    trainer.fit(
        resolved, np.arange(DAILY.training.batch_size), np.arange(DAILY.training.batch_size), epochs=1
    )  # traces
    started = time.process_time()
    folds = split_folds(resolved, DAILY.folds)
    fits = [fit_fold(trainer, resolved, fold, DAILY.training.seed) for fold in folds]
    final = fit_final_network(trainer, windows, [each.best_epoch for each in fits])
    seconds = time.process_time() - started
    count = sum(len(each.history) * len(fold.train) for each, fold in zip(fits, folds, strict=True))
    count += final.epochs * len(resolved)
    alone, kernels = (each[DAILY.training.batch_size] for each in (per_window, kernels_per_window))
    print(
        f"\nretrain of the bundled sample: {count:,} windows in {len(fits) + 1} fits, {seconds:.1f} CPU-seconds "
        f"with prediction; their matrix products alone take {count * alone:.1f} s, "
        f"TensorFlow's kernels {count * kernels:.1f} s"
    )


if __name__ == "__main__":
    main()
