"""The networks equal plain NumPy, and depend on their own window but not on the scale of its prices."""

from collections.abc import Callable
from typing import get_args

import forward_passes as reference
import numpy as np
import pytest
from random_weights import randomise

from model.errors import SpecError
from model.network_files import network_from_bytes, network_to_bytes, network_to_onnx
from model.networks import Kind, NetworkSpec, Scaling, build_network
from model.windows import MAX_MOVES, anchor, standardise

KINDS = get_args(Kind)
SMALL = {"filters": (5, 3), "units": 6, "dense_units": 7}
LOOKBACK, FEATURES = 12, 4

# Keras's variables offer NumPy 2 an `__array__` without `copy`, and NumPy warns each time (keras 3.15).
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def prices(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 20_000 * np.exp(np.cumsum(rng.normal(0, 0.02, (count, LOOKBACK, FEATURES)), axis=1))


def head(weights: dict[str, list[np.ndarray]], x: np.ndarray) -> np.ndarray:
    x = reference.batch_norm(reference.dense(x, *weights["dense"]), *weights["dense_norm"])
    return reference.sigmoid(reference.dense(reference.leaky_relu(x, 0.3), *weights["probability"]))


def convolved(weights: dict[str, list[np.ndarray]], x: np.ndarray) -> np.ndarray:
    for number in (1, 2):
        x = reference.conv1d_same(x, *weights[f"conv_{number}"])
        x = reference.leaky_relu(reference.batch_norm(x, *weights[f"norm_{number}"]), 0.3)
    return x


def expected_cnn_lstm(weights: dict[str, list[np.ndarray]], x: np.ndarray) -> np.ndarray:
    return reference.lstm(convolved(weights, x), *weights["lstm"])


def expected_cnn(weights: dict[str, list[np.ndarray]], x: np.ndarray) -> np.ndarray:
    return convolved(weights, x).reshape(len(x), -1)


def expected_lstm(weights: dict[str, list[np.ndarray]], x: np.ndarray) -> np.ndarray:
    return reference.lstm(x, *weights["lstm"])


def expected_gru(weights: dict[str, list[np.ndarray]], x: np.ndarray) -> np.ndarray:
    return reference.gru(x, *weights["gru"])


def expected_bilstm(weights: dict[str, list[np.ndarray]], x: np.ndarray) -> np.ndarray:
    forward, backward = weights["bilstm"][:3], weights["bilstm"][3:]
    return np.concatenate([reference.lstm(x, *forward), reference.lstm(x[:, ::-1], *backward)], axis=1)


def expected_tcn(weights: dict[str, list[np.ndarray]], x: np.ndarray) -> np.ndarray:
    shortcut = x @ weights["shortcut_1"][0][0] + weights["shortcut_1"][1]
    for number in (1, 2, 3):  # width 4: the third block sees 1 + 3 * (1 + 2 + 4) = 22 bars, all twelve
        y = reference.conv1d_causal(x, *weights[f"conv_{number}"], dilation=2 ** (number - 1))
        y = reference.leaky_relu(reference.batch_norm(y, *weights[f"norm_{number}"]), 0.3)
        x = shortcut = y + shortcut
    return x[:, -1]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_network_equals_numpy(kind: Kind, fused: bool) -> None:
    network = build_network(NetworkSpec(kind=kind, **SMALL), LOOKBACK, FEATURES, fused=fused)
    weights, windows = randomise(network), prices(20)
    expected = head(weights, globals()[f"expected_{kind}"](weights, reference.standardise(windows)))
    found = np.asarray(network(windows, training=False))
    assert found.dtype == np.float32
    assert expected.std() > 0.003
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_layers_of_the_default_are_the_articles_in_its_order() -> None:
    network = build_network(NetworkSpec(), 30, 4)
    assert [layer.name for layer in network.layers] == [
        *("windows", "standardise"),
        *("conv_1", "norm_1", "leaky_1", "dropout_1"),
        *("conv_2", "norm_2", "leaky_2", "dropout_2"),
        *("lstm", "dense", "dense_norm", "dense_leaky", "probability"),
    ]


def test_pooling_rnn_relu_dropout_are_kerass() -> None:
    import keras  # here: loads TensorFlow

    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 11, 4)).astype(np.float32)
    np.testing.assert_allclose(keras.layers.MaxPooling1D(3)(x), reference.max_pool(x, 3))
    np.testing.assert_allclose(keras.layers.ReLU()(x), reference.relu(x))
    convolution = keras.layers.Conv1D(2, 4, padding="same", bias_initializer="normal")
    convolved_ = convolution(x)
    kernel, bias = (np.asarray(v.value) for v in convolution.weights)
    np.testing.assert_allclose(convolved_, reference.conv1d_same(x, kernel, bias), atol=1e-6)
    cell = keras.layers.SimpleRNN(5)
    found = cell(x)
    np.testing.assert_allclose(found, reference.rnn(x, *(np.asarray(v.value) for v in cell.weights)), atol=1e-6)
    dropped = np.asarray(keras.layers.Dropout(0.25, seed=3)(x, training=True))
    kept = dropped != 0
    assert 0.5 < kept.mean() < 0.95
    np.testing.assert_allclose(dropped, reference.dropout(x, kept, 0.25), rtol=1e-6)


def test_softmax_of_two_logits_is_the_sigmoid_of_their_difference() -> None:
    import keras  # here: loads TensorFlow

    logits = np.random.default_rng(3).normal(0, 3, (50, 2))
    np.testing.assert_allclose(reference.softmax(logits)[:, 1], reference.sigmoid(logits[:, 1] - logits[:, 0]))
    np.testing.assert_allclose(keras.ops.softmax(logits), reference.softmax(logits), atol=1e-6)


def test_fused_lstm_has_the_numbers_and_gradients_of_kerass() -> None:
    import keras  # here: loads TensorFlow
    import tensorflow as tf

    from model.layers import FusedLSTM

    rng = np.random.default_rng(4)
    x = tf.constant(rng.normal(size=(9, LOOKBACK, 3)), tf.float32)
    pull = tf.constant(rng.normal(size=(9, 6)), tf.float32)
    weights = [rng.normal(0, 0.5, shape) for shape in [(3, 24), (6, 24), (24,)]]
    answers = []
    for layer in (keras.layers.LSTM(6), FusedLSTM(6)):
        layer.build(x.shape)
        layer.set_weights(weights)
        with tf.GradientTape() as tape:
            tape.watch(x)
            state = layer(x)
            loss = tf.reduce_sum(pull * state)
        answers.append([state, *tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])])
    for plain, fused in zip(*answers, strict=True):
        assert np.abs(plain).max() > 0.1
        np.testing.assert_allclose(fused, plain, atol=1e-5)


def test_standardising_keeps_cents_and_gives_zeros_for_a_constant() -> None:
    from model.layers import StandardiseWindows

    near = 60_000.0 + 0.01 * np.random.default_rng(5).integers(0, 3, (4, LOOKBACK, FEATURES))
    near[:, :, 2] = 0.1 + 0.2
    near[1, :, 0] = 1e-3
    found = np.asarray(StandardiseWindows()(near))
    np.testing.assert_allclose(found, standardise(near), atol=1e-6)
    assert not found[:, :, 2].any()
    assert not found[1, :, 0].any()
    assert np.allclose(found[0, :, 0].std(), 1.0, atol=1e-6)


def test_anchoring_equals_numpy_and_gives_zeros_where_nothing_moves() -> None:
    from model.layers import AnchorWindows

    windows = prices(5)
    windows[1] = 0.1 + 0.2
    windows[2, 4, 1] *= 100  # a bad tick
    found = np.asarray(AnchorWindows()(windows))
    np.testing.assert_allclose(found, anchor(windows), atol=1e-6)
    assert not found[1].any()
    assert found[2].max() == MAX_MOVES
    network = build_network(NetworkSpec(scaling="last_close", **SMALL), LOOKBACK, FEATURES)
    weights = randomise(network)
    expected = head(weights, expected_cnn_lstm(weights, anchor(windows)))
    np.testing.assert_allclose(np.asarray(network(windows, training=False)), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_probability_depends_on_its_own_window_and_not_on_the_scale_of_prices(kind: Kind) -> None:
    network = build_network(NetworkSpec(kind=kind, **SMALL), LOOKBACK, FEATURES)
    randomise(network)
    windows = prices(6)
    before = np.asarray(network(windows, training=False))
    changed = windows.copy()
    changed[3] = prices(1, seed=9)[0]
    changed[:3] *= 7.0
    after = np.asarray(network(changed, training=False))
    assert abs(after[3] - before[3]) > 1e-4
    np.testing.assert_allclose(np.delete(after, 3, 0), np.delete(before, 3, 0), atol=1e-6)


def test_impossible_windows_and_specs_are_refused() -> None:
    with pytest.raises(SpecError, match="at least 1 bar"):
        build_network(NetworkSpec(), 0, 4)
    with pytest.raises(ValueError, match="kernal_bars"):
        NetworkSpec(kernal_bars=3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="dropout"):
        NetworkSpec(dropout=1.0)


@pytest.mark.parametrize("kernel_bars", [2, 3, 4])
def test_the_last_step_of_a_tcn_sees_every_bar_of_the_window(kernel_bars: int) -> None:
    import keras

    network = build_network(NetworkSpec(kind="tcn", kernel_bars=kernel_bars, **SMALL), LOOKBACK, FEATURES)
    randomise(network)
    after_scaling = keras.Model(network.get_layer("standardise").output, network.output)
    base = np.random.default_rng(1).normal(size=(LOOKBACK, FEATURES)).astype(np.float32)
    changed = base + np.eye(LOOKBACK, dtype=np.float32)[:, :, None]  # one bar each
    before = np.asarray(after_scaling(base[None], training=False))
    assert (np.abs(np.asarray(after_scaling(changed, training=False)) - before) > 1e-5).all()


def test_a_tcn_whose_convolutions_see_one_bar_each_is_refused() -> None:
    with pytest.raises(SpecError, match="kernel-bars of at least 2 with kind tcn, found 1"):
        build_network(NetworkSpec(kind="tcn", kernel_bars=1), LOOKBACK, FEATURES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lookback_of_two_bars_is_enough(kind: Kind) -> None:
    network = build_network(NetworkSpec(kind=kind, **SMALL), 2, 1)
    assert network(np.ones((3, 2, 1)), training=False).shape == (3, 1)


@pytest.mark.parametrize(("scaling", "scale"), [("window", standardise), ("last_close", anchor)])
def test_context_passes_unscaled_through_keras_and_onnx(scaling: Scaling, scale: Callable[..., np.ndarray]) -> None:
    import onnxruntime

    from model.layers import AnchorWindows, StandardiseWindows

    layer = {"window": StandardiseWindows, "last_close": AnchorWindows}[scaling](context_count=2)
    context = np.random.default_rng(6).uniform(-1, 1, (5, LOOKBACK, 2))
    windows = np.concatenate([prices(5), context], axis=2)
    found = np.asarray(layer(windows))
    np.testing.assert_allclose(found[:, :, :FEATURES], scale(prices(5)), atol=1e-6)
    np.testing.assert_array_equal(found[:, :, FEATURES:], context.astype(np.float32))

    network = build_network(NetworkSpec(scaling=scaling, **SMALL), LOOKBACK, FEATURES + 2, context_count=2)
    randomise(network)
    expected = np.asarray(network(windows, training=False))
    again = network_from_bytes(network_to_bytes(network))
    np.testing.assert_array_equal(np.asarray(again(windows, training=False)), expected)
    session = onnxruntime.InferenceSession(network_to_onnx(network))
    np.testing.assert_allclose(session.run(None, {session.get_inputs()[0].name: windows})[0], expected, atol=1e-5)
    assert np.ptp(expected) > 0.003


def test_a_network_of_context_alone_is_refused() -> None:
    with pytest.raises(SpecError, match="at least 1 bar and 1 feature, found 12 and 0"):
        build_network(NetworkSpec(**SMALL), LOOKBACK, 2, context_count=2)
