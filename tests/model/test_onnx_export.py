"""The ONNX form that is written from the weights computes what Keras computes, in the form of Keras's own export."""

import logging
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
from random_weights import randomise

from model.ensemble import EnsembleTrainer, FittedEnsemble
from model.network_files import export_by_keras, network_from_bytes, network_to_bytes, network_to_onnx
from model.networks import Kind, NetworkSpec, Scaling, build_network
from model.training import Fitted, TrainingSpec

SMALL = {"filters": (5, 3), "units": 6, "dense_units": 7}
LOOKBACK, FEATURES = 12, 4

# Keras's variables offer NumPy 2 an `__array__` without `copy`, and NumPy warns each time (keras 3.15).
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def random_network(kind: Kind = "cnn_lstm", lookback_bars: int = LOOKBACK, context_count: int = 0, **spec: Any) -> Any:
    spec = SMALL | {"kind": kind} | spec
    network = build_network(NetworkSpec(**spec), lookback_bars, FEATURES + context_count, context_count=context_count)
    randomise(network)
    return network


def random_ensemble(scaling: Scaling = "window", context_count: int = 0, **options: Any) -> Any:
    spec = NetworkSpec(scaling=scaling, **SMALL, **options)
    trainer = EnsembleTrainer(spec, TrainingSpec(members=3), LOOKBACK, FEATURES + context_count, context_count)
    members = []
    for seed in (1, 2, 3):
        network = build_network(spec, LOOKBACK, FEATURES + context_count, context_count=context_count)
        randomise(network, seed)
        members.append(Fitted(tuple(network.get_weights()), (), 1, "CPU", 0.0))
    return trainer.keras_model(FittedEnsemble(tuple(members)))


def raw_windows(lookback_bars: int = LOOKBACK, context_count: int = 0) -> np.ndarray:
    """Seven windows: usual ones, cents of a high price, a constant channel, closes that do not move, a bad tick."""
    rng = np.random.default_rng(3)
    windows = 20_000 * np.exp(np.cumsum(rng.normal(0, 0.02, (7, lookback_bars, FEATURES)), axis=1))
    windows[1] = 60_000 + 0.01 * rng.integers(0, 3, windows[1].shape)
    windows[2, :, 1] = 0.1 + 0.2
    windows[3, :, -1] = 100.1
    windows[4, lookback_bars // 2, 0] *= 100
    return np.concatenate([windows, rng.uniform(-1, 1, (7, lookback_bars, context_count))], axis=2)


def run(content: bytes, windows: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"windows": windows})[0])


def assert_onnx_computes_what_keras_does(network: Any, windows: np.ndarray) -> None:
    content = network_to_onnx(network)
    onnx.checker.check_model(content, full_check=True)
    for count in (1, 7):
        expected = np.asarray(network(windows[:count], training=False))
        found = run(content, windows[:count])
        assert (found.shape, found.dtype) == ((count, network.output_shape[1]), np.float32)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert np.ptp(expected[:, 0]) > 0.003


@pytest.mark.parametrize("context_count", [0, 2])
@pytest.mark.parametrize("scaling", get_args(Scaling))
@pytest.mark.parametrize("kind", get_args(Kind))
def test_each_architecture_gives_the_same_in_onnx(kind: Kind, scaling: Scaling, context_count: int) -> None:
    network = random_network(kind, context_count=context_count, scaling=scaling)
    assert_onnx_computes_what_keras_does(network, raw_windows(context_count=context_count))


@pytest.mark.e2e
@pytest.mark.parametrize("kind", get_args(Kind))
def test_other_sizes_give_the_same_in_onnx(kind: Kind) -> None:
    for lookback_bars, spec in [
        (2, {}),
        (40, {"kernel_bars": 7, "filters": (4, 3, 2)}),
        (9, {"kernel_bars": 1 + (kind == "tcn"), "units": 3, "dense_units": 1, "filters": (2,)}),
    ]:
        network = random_network(kind, lookback_bars, **spec)
        assert_onnx_computes_what_keras_does(network, raw_windows(lookback_bars))


@pytest.mark.parametrize(("scaling", "context_count"), [("window", 0), ("last_close", 2)])
def test_an_ensemble_gives_the_same_in_onnx(scaling: Scaling, context_count: int) -> None:
    ensemble = random_ensemble(scaling, context_count)
    assert_onnx_computes_what_keras_does(ensemble, raw_windows(context_count=context_count))


@pytest.mark.e2e
@pytest.mark.parametrize(("scaling", "context_count"), [("window", 2), ("last_close", 0)])
def test_further_outputs_give_the_same_in_onnx_alone_and_in_an_ensemble(scaling: Scaling, context_count: int) -> None:
    """The size is the factor of its layer times the window's mean move; classes know the log of that move in costs."""
    windows = raw_windows(context_count=context_count)
    closes = np.log(windows[:, :, FEATURES - 1])
    trailing = np.maximum(np.abs(np.diff(closes, axis=1)).mean(axis=1), 1e-4)
    options = {"scaling": scaling, "magnitude": True, "beyond_cost_bps": 20.0}
    network = random_network(context_count=context_count, **options)
    assert_onnx_computes_what_keras_does(network, windows)
    assert_onnx_computes_what_keras_does(network_from_bytes(network_to_bytes(network)), windows)
    import keras  # imported here: loads TensorFlow

    factor = keras.Model(network.inputs[0], network.get_layer("move_factor").output)(windows, training=False)
    found = run(network_to_onnx(network), windows)
    np.testing.assert_allclose(found[:, 1], np.asarray(factor)[:, 0] * trailing, rtol=1e-4)
    inputs = keras.Model(network.inputs[0], network.get_layer("cost_inputs").output)(windows, training=False)
    np.testing.assert_allclose(np.asarray(inputs)[:, -1], np.log(trailing / 0.002), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[:, 2:].sum(axis=1), 1, atol=1e-6)
    assert np.ptp(found[:, 2:], axis=0).min() > 0.003
    plain = random_network(context_count=context_count, scaling=scaling)
    for ours in plain.layers:  # the same weights but for the head: the same probability
        ours.set_weights(network.get_layer(ours.name).get_weights())
    np.testing.assert_allclose(found[:, 0], run(network_to_onnx(plain), windows)[:, 0], rtol=0, atol=1e-7)
    assert_onnx_computes_what_keras_does(random_ensemble(scaling, context_count, beyond_cost_bps=20.0), windows)


@pytest.mark.e2e
@pytest.mark.parametrize("build", ["cnn_lstm", "cnn", "lstm", "gru", "bilstm", "tcn", random_ensemble])
def test_own_networks_need_no_export_by_keras_and_their_files_give_the_same_bytes(
    build: Kind | Callable[[], Any],
) -> None:
    from model.onnx_export import write_onnx  # imported here: loads TensorFlow

    network = build() if callable(build) else random_network(build)
    content = write_onnx(network)
    assert write_onnx(network) == content
    assert write_onnx(network_from_bytes(network_to_bytes(network))) == content


def described(content: bytes) -> list[tuple[str, int, list[int]]]:
    """Names, types and shapes of input and output; the number of windows has another name in each file."""
    graph = onnx.load_from_string(content).graph
    ends = [(end.name, end.type.tensor_type) for end in (*graph.input, *graph.output)]
    return [(name, kind.elem_type, [size.dim_value for size in kind.shape.dim]) for name, kind in ends]


@pytest.mark.e2e
@pytest.mark.parametrize("build", ["cnn_lstm", "gru", "tcn", random_ensemble])
def test_the_file_has_the_form_of_kerass_export(build: Kind | Callable[[], Any]) -> None:
    network = build() if callable(build) else random_network(build)
    ours, theirs = network_to_onnx(network), export_by_keras(network)
    assert len(ours) <= len(theirs)
    assert described(ours) == described(theirs)
    assert described(ours) == [("windows", onnx.TensorProto.DOUBLE, [0, 12, 4]), ("Identity:0", 1, [0, 1])]
    found, expected = onnx.load_from_string(ours), onnx.load_from_string(theirs)
    assert found.ir_version == expected.ir_version
    assert {each.domain: each.version for each in found.opset_import} == {"": 18}
    assert {each.domain: each.version for each in expected.opset_import}[""] == 18
    np.testing.assert_allclose(run(ours, raw_windows()), run(theirs, raw_windows()), rtol=0, atol=1e-6)


def other_layers() -> dict[str, Callable[[Any], Any]]:
    import keras  # imported here: loads TensorFlow

    from model.layers import FusedLSTM

    layers, shared = keras.layers, keras.layers.Dense(4)
    return {
        "a LayerNormalization": layers.LayerNormalization(),
        "a FusedLSTM": FusedLSTM(3),
        "activation=relu": layers.Conv1D(3, 2, activation="relu"),
        "activation=elu": layers.Dense(3, activation="elu"),
        r"strides=\(2,\)": layers.Conv1D(3, 2, strides=2),
        "groups=2": layers.Conv1D(4, 2, groups=2),
        "data_format=channels_first": layers.Conv1D(3, 2, data_format="channels_first"),
        "axis=1": layers.BatchNormalization(axis=1),
        "center=False": layers.BatchNormalization(center=False),
        "scale=False": layers.BatchNormalization(scale=False),
        "activation=sigmoid": layers.LSTM(3, activation="sigmoid"),
        "recurrent_activation=tanh": layers.GRU(3, recurrent_activation="tanh"),
        "use_bias=False": layers.LSTM(3, use_bias=False),
        "return_sequences=True": layers.LSTM(3, return_sequences=True),
        "go_backwards=True": layers.GRU(3, go_backwards=True),
        "reset_after=False": layers.GRU(3, reset_after=False),
        "merge_mode=sum": layers.Bidirectional(layers.LSTM(3), merge_mode="sum"),
        "has a SimpleRNN": layers.Bidirectional(layers.SimpleRNN(3)),
        "lstm has activation=relu": layers.Bidirectional(layers.LSTM(3, activation="relu", name="lstm")),
        "has a GRU": layers.Bidirectional(layers.GRU(3)),
        "units=4": layers.Bidirectional(layers.LSTM(3), backward_layer=layers.LSTM(4, go_backwards=True)),
        "computes in float16": layers.Dense(3, dtype="float16"),
        r"is called with \['training'\]": lambda x: layers.Dropout(0.5)(x, training=True),
        "is called 2 times": lambda x: shared(shared(x)),
        "lstm has 3 inputs": lambda x: layers.LSTM(3, name="lstm")(x, [layers.GRU(3)(x), layers.GRU(3)(x)]),
    }


def test_other_layers_options_and_calls_are_left_to_keras() -> None:
    import keras  # imported here: loads TensorFlow

    from model.onnx_export import UnknownLayer, write_onnx

    for message, layer in other_layers().items():
        windows = keras.Input((LOOKBACK, FEATURES), name="windows")
        with pytest.raises(UnknownLayer, match=message):
            write_onnx(keras.Model(windows, keras.layers.Dense(1)(layer(windows))))


def test_a_network_with_another_layer_is_exported_by_keras(caplog: pytest.LogCaptureFixture) -> None:
    import keras  # imported here: loads TensorFlow

    plain = random_network("cnn")
    pooled = keras.layers.MaxPooling1D(3, name="pool")(plain.get_layer("dropout_2").output)
    network = keras.Model(plain.inputs[0], keras.layers.Dense(1)(keras.layers.Flatten()(pooled)), name="pooled")
    with caplog.at_level(logging.INFO, "model.network_files"):
        content = network_to_onnx(network)
    assert caplog.messages == ["network pooled is exported to ONNX by Keras, which is slower: pool is a MaxPooling1D"]
    expected = np.asarray(network(raw_windows(), training=False))
    np.testing.assert_allclose(run(content, raw_windows()), expected, rtol=0, atol=1e-5)
