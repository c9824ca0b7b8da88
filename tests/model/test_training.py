"""Training equals Keras, repeats with its seed, and stops at the best epoch."""

import itertools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from shared_traces import share_trace
from synthetic_bars import random_walk, scrambled

from model.errors import BarsTooShort, DeviceUnavailable, SpecError, UnsoundModel
from model.networks import Kind, NetworkSpec, build_network
from model.training import EarlyStopping, Epoch, Fitted, Trainer, TrainingSpec
from model.training_device import choose_device
from model.windows import Windows, WindowSpec, cut_windows

LOOKBACK = 8
WINDOW = WindowSpec(lookback_bars=LOOKBACK, features=("open", "close"))
SMALL = {"filters": (5, 3), "units": 6, "dense_units": 7}

# Keras's variables offer NumPy 2 an `__array__` without `copy`, and NumPy warns each time (keras 3.15).
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def windows_of(count: int, seed: int = 0) -> Windows:
    """Exactly `count` resolved windows of a random walk."""
    windows = cut_windows(random_walk(count + LOOKBACK, seed=seed), WINDOW).resolved()
    assert len(windows) == count
    return windows


def with_labels(windows: Windows, labels: np.ndarray) -> Windows:
    fields = {name: getattr(windows, name) for name in Windows.__slots__}
    return Windows(**{**fields, "labels": labels.astype(np.int8)})


def own_trainer(kind: Kind = "cnn_lstm", dropout: float = 0.3, **training: float | str) -> Trainer:
    spec = TrainingSpec(**{"batch_size": 16, "learning_rate": 3e-3, **training})
    return Trainer(NetworkSpec(kind=kind, dropout=dropout, **SMALL), spec, LOOKBACK, 2)


def new_trainer(kind: Kind = "cnn_lstm", dropout: float = 0.3, **training: float | str) -> Trainer:
    return share_trace(own_trainer(kind, dropout, **training))


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return new_trainer(epochs=6, patience=3)


@pytest.fixture(scope="module")
def windows() -> Windows:
    return windows_of(200)


TRAIN, VALIDATION = np.arange(150), np.arange(150, 200)


def same(left: Fitted, right: Fitted) -> bool:
    pairs = zip(left.weights, right.weights, strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("kind", ["cnn_lstm", pytest.param("bilstm", marks=pytest.mark.e2e)])
def test_an_epoch_equals_that_of_keras_on_the_same_batches(kind: Kind, windows: Windows) -> None:
    import keras  # here: loads TensorFlow
    import tensorflow as tf

    trainer = new_trainer(kind, dropout=0.0)
    graph, rng = trainer._graph, np.random.default_rng(3)
    state = graph.initial_state(rng)
    plain = build_network(trainer.network, LOOKBACK, 2)
    plain.set_weights(graph.weights(state))
    plain.compile(keras.optimizers.Nadam(3e-3), "binary_crossentropy", run_eagerly=True)  # tracing takes seconds
    values, labels = windows.values(), windows.labels.astype(np.float32)
    inputs = tf.constant(windows.features), tf.constant(windows.ends), tf.constant(labels)
    for _ in range(2):
        order = rng.permutation(90)  # five batches of 16 and one of 10
        state, loss, _ = graph.epoch(*inputs, order, state, 3e-3)
        batches = [order[start : start + 16] for start in range(0, 90, 16)]
        losses = []
        for batch in batches:
            plain.reset_metrics()
            losses.append(float(plain.train_on_batch(values[batch], labels[batch][:, None])))
        assert float(loss) == pytest.approx(np.average(losses, weights=[*[16] * 5, 10]), abs=1e-5)
    found, start = graph.weights(state), graph.weights(graph.initial_state(np.random.default_rng(3)))
    for ours, keras_, before in zip(found, plain.get_weights(), start, strict=True):
        assert np.abs(ours - before).max() > 1e-3
        np.testing.assert_allclose(ours, keras_, atol=2e-5)


def test_same_seed_same_weights_in_a_refit_and_in_another_trainer(trainer: Trainer, windows: Windows) -> None:
    first = trainer.fit(windows, TRAIN, VALIDATION)
    other_seed = trainer.fit(windows, TRAIN, VALIDATION, seed=8)
    again = trainer.fit(windows, TRAIN, VALIDATION)
    elsewhere = own_trainer(epochs=6, patience=3).fit(windows, TRAIN, VALIDATION)
    assert same(first, again)
    assert same(first, elsewhere)
    assert not same(first, other_seed)
    assert [epoch.loss for epoch in first.history] == [epoch.loss for epoch in elsewhere.history]


def test_fits_in_threads_equal_fits_in_sequence(trainer: Trainer, windows: Windows) -> None:
    def fit(seed: int) -> Fitted:
        return trainer.fit(windows, TRAIN, VALIDATION, seed=seed)

    one_by_one = [fit(seed) for seed in range(4)]
    with ThreadPoolExecutor(2) as pool:
        at_once = list(pool.map(fit, range(4)))
    assert all(itertools.starmap(same, zip(one_by_one, at_once, strict=True)))


@pytest.mark.e2e
def test_dropout_is_active_in_training_only(windows: Windows) -> None:
    dropping, keeping = new_trainer(dropout=0.5), new_trainer(dropout=0.0)
    fitted = dropping.fit(windows, TRAIN, epochs=1)
    assert not same(fitted, keeping.fit(windows, TRAIN, epochs=1))
    np.testing.assert_array_equal(dropping.predict(fitted, windows), dropping.predict(fitted, windows))
    np.testing.assert_allclose(dropping.predict(fitted, windows), keeping.predict(fitted, windows), atol=1e-6)


def test_all_folds_use_one_trace(trainer: Trainer, windows: Windows) -> None:
    for count, other in [(150, windows), (97, windows), (17, windows_of(60, seed=4)), (2, windows_of(60, seed=5))]:
        fitted = trainer.fit(other, np.arange(count), np.arange(count, count + 20), epochs=1)
        assert np.isfinite(trainer.predict(fitted, other)).all()
    assert trainer.trace_count == 1


def test_the_weights_of_the_best_epoch_are_returned(windows: Windows) -> None:
    noise = with_labels(windows, np.random.default_rng(0).integers(0, 2, 200))
    trainer = new_trainer(epochs=30, patience=4, dropout=0.0, learning_rate=1e-2)
    fitted = trainer.fit(noise, TRAIN, VALIDATION)
    losses = [epoch.validation_loss for epoch in fitted.history]
    assert fitted.best_epoch == 1 + int(np.argmin(losses)) == len(losses) - 4 < 26
    assert losses[-1] > min(losses) + 0.01
    held = noise.take(VALIDATION)
    probabilities = trainer.predict(fitted, held)
    log_loss = -np.log(np.where(held.labels == 1, probabilities, 1 - probabilities)).mean()
    assert log_loss == pytest.approx(min(losses), abs=1e-6)


def test_fixed_epochs_without_validation(trainer: Trainer, windows: Windows) -> None:
    for epochs in (1, 3):
        fitted = trainer.fit(windows, TRAIN, epochs=epochs)
        assert fitted.best_epoch == len(fitted.history) == epochs
        assert all(np.isnan(epoch.validation_loss) for epoch in fitted.history)
        assert {epoch.learning_rate for epoch in fitted.history} == {3e-3}
    assert len(trainer.fit(windows, TRAIN).history) == 6  # the spec's


def stopping_over(losses: Iterable[float], **training: float) -> EarlyStopping:
    stopping = EarlyStopping(TrainingSpec(learning_rate=0.1, **training), has_validation=True)
    for number, loss in enumerate(losses, 1):
        if stopping.stopped:
            break
        stopping.add(Epoch(number, 0.5, 0.5, loss, 0.5, stopping.learning_rate, 0.0))
    return stopping


def test_a_plateau_reduces_the_learning_rate_by_hand() -> None:
    losses = [1.0, 0.9, 0.9, 0.9, 0.8, 0.81, 0.82, 0.83, 0.84, 0.7]
    stopping = stopping_over(losses, patience=9, plateau_patience=2, plateau_factor=0.5)
    rates = [epoch.learning_rate for epoch in stopping.history]
    assert rates == [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025, 0.0125]
    assert stopping.best == 10


def test_early_stopping_by_hand() -> None:
    stopping = stopping_over([1.0, 0.9, 0.95, 0.9, 0.91, 0.1], patience=3)
    assert (stopping.best, len(stopping.history), stopping.stopped) == (2, 5, True)


def test_shuffled_labels_give_no_skill_and_a_planted_signal_is_learned() -> None:
    windows = windows_of(700)
    train, validation, test = np.arange(450), np.arange(450, 550), np.arange(550, 700)
    trainer = new_trainer(epochs=25, patience=6, dropout=0.0, learning_rate=5e-3)
    noise = with_labels(windows, np.random.default_rng(1).integers(0, 2, 700))
    planted = with_labels(windows, windows.last_moves > 0)
    log_losses = []
    for labelled in (noise, planted):
        fitted = trainer.fit(labelled, train, validation)
        held_out = labelled.take(test)
        probabilities = trainer.predict(fitted, held_out)
        log_losses.append(-np.log(np.where(held_out.labels == 1, probabilities, 1 - probabilities)).mean())
    assert log_losses[0] == pytest.approx(np.log(2), abs=0.05)
    assert log_losses[1] < 0.4


def test_keras_model_predicts_the_same_and_loads_as_any(trainer: Trainer, windows: Windows, tmp_path: Path) -> None:
    import keras  # here: loads TensorFlow

    fitted = trainer.fit(windows, TRAIN, VALIDATION)
    network = trainer.keras_model(fitted)
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert type(loaded.get_layer("lstm")) is keras.layers.LSTM
    expected = trainer.predict(fitted, windows)
    assert expected.dtype == np.float64
    for model in (network, loaded):
        found = model.predict(windows.values(), verbose=0)[:, 0]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_later_bars_change_no_weight(trainer: Trainer) -> None:
    bars = random_walk(200)
    changed = scrambled(bars, 150)
    before, after = (cut_windows(b, WINDOW) for b in (bars, changed))
    train = np.flatnonzero(before.resolved_at <= bars.closed_at[149])
    assert len(train) == 150 - LOOKBACK
    assert not np.array_equal(before.features, after.features)
    assert same(trainer.fit(before, train, epochs=2), trainer.fit(after, train, epochs=2))


def test_every_epoch_is_reported_and_nothing_is_printed(
    trainer: Trainer, windows: Windows, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR", "tensorflow")  # it warns of retracing once a process has held several networks
    epochs: list[Epoch] = []
    fitted = trainer.fit(windows, TRAIN, VALIDATION, on_epoch=epochs.append)
    assert tuple(epochs) == fitted.history
    assert [epoch.number for epoch in epochs] == list(range(1, len(epochs) + 1))
    assert all(0 <= epoch.accuracy <= 1 and 0 <= epoch.validation_accuracy <= 1 for epoch in epochs)
    assert capfd.readouterr() == ("", "")


def test_predicting_more_windows_than_one_chunk_and_none(trainer: Trainer) -> None:
    many = windows_of(6000, seed=6)  # chunks of 32,768 bars are 4,096 windows
    fitted = trainer.fit(many, TRAIN, epochs=1)
    whole = trainer.predict(fitted, many)
    parts = [trainer.predict(fitted, many.take(np.arange(start, start + 2000))) for start in (0, 2000, 4000)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)
    assert trainer.predict(fitted, many.take(np.arange(0))).shape == (0,)


def test_what_cannot_be_trained_is_refused(trainer: Trainer, windows: Windows) -> None:
    with pytest.raises(SpecError, match="8 bars and 2 features, found 9 and 2"):
        trainer.fit(cut_windows(random_walk(50), WINDOW.model_copy(update={"lookback_bars": 9})), TRAIN)
    with pytest.raises(SpecError, match="at least 1 epoch"):
        trainer.fit(windows, TRAIN, epochs=0)
    with pytest.raises(BarsTooShort, match="found 1"):
        trainer.fit(windows, np.arange(1))
    unresolved = cut_windows(random_walk(50), WINDOW)
    with pytest.raises(SpecError, match="found 1 unresolved"):
        trainer.fit(unresolved, np.arange(len(unresolved)))


def test_a_loss_that_is_not_finite_ends_the_fit(trainer: Trainer) -> None:
    windows = windows_of(60, seed=7)
    windows.features[20] = np.nan
    with pytest.raises(UnsoundModel, match="found nan in epoch 1"):
        trainer.fit(windows, np.arange(60))


@pytest.mark.e2e
@pytest.mark.parametrize("kind", ["cnn_lstm", "gru", "tcn"])
def test_bfloat16_learns_nearly_the_same_and_predicts_in_float32(kind: Kind, windows: Windows) -> None:
    exact, mixed = (new_trainer(kind, dropout=0.0, precision=each) for each in ("float32", "bfloat16"))
    full, short = exact.fit(windows, TRAIN, epochs=1), mixed.fit(windows, TRAIN, epochs=1)
    assert {weight.dtype for weight in short.weights} == {np.dtype(np.float32)}
    # bfloat16 keeps 8 bits: losses agree to some per cent, and no weight is the same to the last bit.
    assert short.history[0].loss == pytest.approx(full.history[0].loss, rel=0.03)
    assert not same(full, short)
    # Whoever learned in few bits answers in many: as the float32 network with these weights does.
    np.testing.assert_array_equal(mixed.predict(short, windows), exact.predict(short, windows))


def test_a_required_gpu_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf  # here: takes ten seconds

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    assert choose_device() == "CPU"
    with pytest.raises(DeviceUnavailable, match="expected a GPU"):
        choose_device(require_gpu=True)
    grown = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["gpu0", "gpu1"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda *gpu: grown.append(gpu))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"device_name": f"name of {gpu}"})
    assert choose_device(require_gpu=True) == "name of gpu0"
    assert grown == [("gpu0", True), ("gpu1", True)]


def test_initial_weights_are_distributed_as_those_of_keras() -> None:
    import keras  # here: loads TensorFlow

    from model.initial_weights import initial_weight

    keras.utils.set_random_seed(0)  # the output kernel has 64 weights only: unseeded draws may differ by over 15 %
    network = build_network(NetworkSpec(), 30, 4)
    again = build_network(NetworkSpec(), 30, 4)
    for ours_of, keras_ in itertools.zip_longest(network.trainable_variables, again.trainable_variables):
        ours, theirs = initial_weight(ours_of, np.random.default_rng(0)), np.asarray(keras_.value)
        assert ours.shape == theirs.shape
        assert ours.std() == pytest.approx(theirs.std(), rel=0.15)
        assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=0.25)
    recurrent = initial_weight(network.get_layer("lstm").trainable_variables[1], np.random.default_rng(0))
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(32), atol=1e-5)
