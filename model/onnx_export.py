"""Write a network as ONNX, straight from its layers and weights.

Keras's own export traces the network a second time, which costs about a second of CPU. This module knows the layers of
`model.networks` and `model.ensemble`, with the options used there; any other raises `UnknownLayer`, and
`model.network_files` then uses Keras's export. Caution: what a layer computes is written here a second time, so a
change to `model.layers` must be made here too; `tests/model/test_onnx_export.py` compares them. Keras has (window, bar,
channel), ONNX's convolutions have (window, channel, bar) and its recurrent layers (bar, window, channel). Importing
this module loads TensorFlow.
"""

from typing import Any

import keras
import numpy as np
from keras.src.models import Functional  # has no public name
from onnx import TensorProto, helper, numpy_helper

from model.expected_moves import LEAST_MOVE
from model.layers import AnchorWindows, StandardiseWindows, TrailingMove
from model.windows import MAX_MOVES

OPSET = 18  # pinned: what the pinned tf2onnx writes and the oldest supported onnxruntime reads
IR_VERSION = 8  # as tf2onnx
OUTPUT = "Identity:0"  # as tf2onnx
LSTM_GATES = (0, 3, 1, 2)  # ONNX: input, output, forget, cell; Keras: input, forget, cell, output; a GRU: no change


class UnknownLayer(Exception):
    """The network has a layer, or an option of one, that this module does not write."""


def write_onnx(network: Any) -> bytes:
    """Return a `keras.Model` as ONNX: windows (window, lookback, feature) float64 -> its output, float32.

    The same weights give the same bytes.

    Raises:
        UnknownLayer: the network has a layer or an option that is not written here.
    """
    graph = _Graph()
    windows = network.inputs[0]
    probability = _layer(graph, network, [windows.name])
    graph.nodes.append(helper.make_node("Identity", [probability], [OUTPUT]))
    ends = _described(windows.name, windows), _described(OUTPUT, network.outputs[0])
    content = helper.make_graph(graph.nodes, network.name, ends[:1], ends[1:], graph.constants)
    model = helper.make_model(content, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model.SerializeToString())


def _described(name: str, tensor: Any) -> Any:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return helper.make_tensor_value_info(name, kind, ["window", *tensor.shape[1:]])


class _Graph:
    """The nodes and constants written so far, in the order of computation."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str | np.ndarray, outputs: tuple[str, ...] = (), **attributes: Any) -> str:
        """Add a node, whose inputs are names or constants; return the name of its (last) output."""
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        outputs = (*outputs, f"{operator}_{len(self.nodes)}")
        self.nodes.append(helper.make_node(operator, names, outputs, **attributes))
        return outputs[-1]

    def slice(self, x: str, axis: int, first: int, end: int) -> str:
        """Add x[..., first:end, ...] along an axis."""
        return self.add("Slice", x, *(np.array([each]) for each in (first, end, axis)))

    def _constant(self, values: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def _layer(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    """Add a layer; return the name of its output."""
    write, options = WRITERS.get(type(layer), (None, {}))
    if write is None:
        raise UnknownLayer(f"{layer.name} is a {type(layer).__name__}")
    _require(layer, options)
    if len(inputs) != 1 and write is not _merge:
        raise UnknownLayer(f"{layer.name} has {len(inputs)} inputs")
    return str(write(graph, layer, *inputs))


def _require(layer: Any, options: dict[str, Any]) -> None:
    """Raise `UnknownLayer` unless the layer has these options and the usual precision."""
    found = layer.get_config() if options else {}
    for option, expected in options.items():
        if found.get(option) != expected:
            raise UnknownLayer(f"{layer.name} has {option}={found.get(option)}")
    if layer.compute_dtype != ("float64" if isinstance(layer, StandardiseWindows) else "float32"):
        raise UnknownLayer(f"{layer.name} computes in {layer.compute_dtype}")


def _network(graph: _Graph, network: Any, windows: str) -> str:
    """Add the layers of a network, each after those whose outputs it takes."""
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise UnknownLayer(f"{network.name} has {len(network.inputs)} inputs and {len(network.outputs)} outputs")
    names = {id(network.inputs[0]): windows}

    def name_of(tensor: Any) -> str:
        if id(tensor) not in names:
            layer = tensor._keras_history.operation  # noqa: SLF001 - Keras has no public way from an output to its call
            calls = layer._inbound_nodes  # noqa: SLF001
            if len(calls) != 1:
                raise UnknownLayer(f"{layer.name} is called {len(calls)} times")
            call = calls[0].arguments
            if not all(value is None or value is False for value in call.kwargs.values()):
                raise UnknownLayer(f"{layer.name} is called with {sorted(call.kwargs)}")
            names[id(tensor)] = _layer(graph, layer, [name_of(each) for each in call.keras_tensors])
        return names[id(tensor)]

    return name_of(network.outputs[0])


def _scale(graph: _Graph, layer: Any, windows: str) -> str:
    """Add `StandardiseWindows` or `AnchorWindows`; context passes unscaled."""
    lookback_bars, features = layer.input.shape[1:]
    own_count = features - layer.context_count
    own = graph.slice(windows, 2, 0, own_count) if layer.context_count else windows
    if isinstance(layer, AnchorWindows):
        scaled = _anchored(graph, own, graph.slice(own, 2, own_count - 1, own_count), lookback_bars)
    else:
        scaled = _standardised(graph, own)
    if layer.context_count:
        scaled = graph.add("Concat", scaled, graph.slice(windows, 2, own_count, features), axis=2)
    return graph.add("Cast", scaled, to=TensorProto.FLOAT)


def _trailing_move(graph: _Graph, layer: Any, windows: str) -> str:
    lookback_bars, features = layer.input.shape[1:]
    last = features - layer.context_count
    logs = graph.add("Log", graph.slice(windows, 2, last - 1, last))
    earlier, later = graph.slice(logs, 1, 0, lookback_bars - 1), graph.slice(logs, 1, 1, lookback_bars)
    moves = graph.add("Abs", graph.add("Sub", later, earlier))
    mean = graph.add("ReduceMean", moves, np.array([1]), keepdims=0)
    moves = graph.add("Max", mean, np.array(LEAST_MOVE))
    if layer.unit:
        moves = graph.add("Log", graph.add("Div", moves, np.array(layer.unit)))
    return graph.add("Cast", moves, to=TensorProto.FLOAT)


def _standardised(graph: _Graph, windows: str) -> str:
    shifted = graph.add("Sub", windows, graph.slice(windows, 1, 0, 1))
    centred = graph.add("Sub", shifted, graph.add("ReduceMean", shifted, np.array([1])))
    deviation = _root_mean_square(graph, centred)
    return graph.add("Div", centred, graph.add("Add", deviation, _is_zero(graph, deviation)))


def _anchored(graph: _Graph, windows: str, closes: str, lookback_bars: int) -> str:
    distances = graph.add("Sub", windows, graph.slice(closes, 1, lookback_bars - 1, lookback_bars))
    earlier, later = graph.slice(closes, 1, 0, lookback_bars - 1), graph.slice(closes, 1, 1, lookback_bars)
    step = _root_mean_square(graph, graph.add("Sub", later, earlier))
    stands_still = _is_zero(graph, step)
    reach = np.sqrt(np.arange(lookback_bars, 0, -1.0))[None, :, None]
    scaled = graph.add("Div", distances, graph.add("Mul", graph.add("Add", step, stands_still), reach))
    scaled = graph.add("Clip", scaled, np.array(-MAX_MOVES), np.array(MAX_MOVES))
    return graph.add("Mul", scaled, graph.add("Sub", np.array(1.0), stands_still))


def _root_mean_square(graph: _Graph, x: str) -> str:
    return graph.add("Sqrt", graph.add("ReduceMean", graph.add("Mul", x, x), np.array([1])))


def _is_zero(graph: _Graph, x: str) -> str:
    """Add 1.0 where x is zero, else 0.0."""
    return graph.add("Cast", graph.add("Equal", x, np.array(0.0)), to=TensorProto.DOUBLE)


def _convolution(graph: _Graph, layer: Any, x: str) -> str:
    kernel, *bias = layer.get_weights()  # (width, in, out)
    (dilation,) = layer.dilation_rate
    zeros = 0 if layer.padding == "valid" else (len(kernel) - 1) * dilation
    front = zeros if layer.padding == "causal" else zeros // 2
    x = graph.add("Transpose", x, perm=(0, 2, 1))
    x = graph.add("Conv", x, kernel.transpose(2, 1, 0), *bias, dilations=(dilation,), pads=(front, zeros - front))
    return graph.add("Transpose", x, perm=(0, 2, 1))


def _batch_norm(graph: _Graph, layer: Any, x: str) -> str:
    scale, shift, mean, variance = (each.astype(np.float64) for each in layer.get_weights())
    factor = scale / np.sqrt(variance + layer.epsilon)
    x = graph.add("Mul", x, factor.astype(np.float32))
    return graph.add("Add", x, (shift - mean * factor).astype(np.float32))


def _dense(graph: _Graph, layer: Any, x: str) -> str:
    activation = layer.get_config()["activation"]
    if activation not in ACTIVATIONS:
        raise UnknownLayer(f"{layer.name} has activation={activation}")
    kernel, *bias = layer.get_weights()
    x = graph.add("MatMul", x, kernel)
    x = graph.add("Add", x, *bias) if bias else x
    return graph.add(ACTIVATIONS[activation], x) if ACTIVATIONS[activation] else x


def _crop(graph: _Graph, layer: Any, x: str) -> str:
    front, back = layer.cropping
    return graph.slice(x, 1, front, layer.input.shape[1] - back)


def _merge(graph: _Graph, layer: Any, *inputs: str) -> str:
    if isinstance(layer, keras.layers.Concatenate):
        return graph.add("Concat", *inputs, axis=-1)
    return graph.add(MERGERS[type(layer)], *inputs)


def _bidirectional(graph: _Graph, layer: Any, x: str) -> str:
    forward, backward = layer.forward_layer, layer.backward_layer
    for each, options in ((forward, {}), (backward, {"go_backwards": True, "units": forward.units})):
        if type(each) is not keras.layers.LSTM:
            raise UnknownLayer(f"{layer.name} has a {type(each).__name__}")
        _require(each, RECURRENT | options)
    return _recurrent(graph, forward, x, backward)


def _recurrent(graph: _Graph, layer: Any, x: str, *backward: Any) -> str:
    """Return the last state of an LSTM or GRU; with `backward`, the last states of both side by side."""
    weights = [_gate_weights(each) for each in (layer, *backward)]
    gru = isinstance(layer, keras.layers.GRU)
    steps = graph.add("Transpose", x, perm=(1, 0, 2))
    options = {"hidden_size": layer.units, "direction": "bidirectional" if backward else "forward"}
    options |= {"linear_before_reset": 1} if gru else {}
    stacked = map(np.stack, zip(*weights, strict=True))
    state = graph.add("GRU" if gru else "LSTM", steps, *stacked, outputs=("",), **options)  # "": states of all bars
    return graph.add("Flatten", graph.add("Transpose", state, perm=(1, 0, 2)))


def _gate_weights(layer: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights of the input (gate * unit, in), of the state (gate * unit, unit) and both biases, for ONNX."""
    weights = layer.get_weights()
    if isinstance(layer, keras.layers.LSTM):
        gates = [np.split(each, len(LSTM_GATES), axis=-1) for each in weights]
        kernel, recurrent, bias = (np.concatenate([each[gate] for gate in LSTM_GATES], axis=-1) for each in gates)
        weights = [kernel, recurrent, np.stack([bias, np.zeros_like(bias)])]  # ONNX adds two biases, as a GRU of Keras
    return weights[0].T, weights[1].T, weights[2].ravel()


RECURRENT = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
RECURRENT |= dict.fromkeys(("return_sequences", "return_state", "go_backwards", "stateful"), False)
ACTIVATIONS = {"linear": "", "sigmoid": "Sigmoid", "exponential": "Exp", "softmax": "Softmax"}
MERGERS = {keras.layers.Add: "Sum", keras.layers.Average: "Mean", keras.layers.Multiply: "Mul"}
CHANNELS_LAST = {"data_format": "channels_last"}
CONVOLUTION = CHANNELS_LAST | {"activation": "linear", "strides": (1,), "groups": 1}
# Each layer with its function, and the options that the function takes for granted.
WRITERS: dict[type, tuple[Any, dict[str, Any]]] = {
    Functional: (_network, {}),
    StandardiseWindows: (_scale, {}),
    AnchorWindows: (_scale, {}),
    TrailingMove: (_trailing_move, {}),
    keras.layers.Conv1D: (_convolution, CONVOLUTION),
    keras.layers.BatchNormalization: (_batch_norm, {"axis": -1, "center": True, "scale": True, "renorm": False}),
    keras.layers.LeakyReLU: (lambda graph, layer, x: graph.add("LeakyRelu", x, alpha=float(layer.negative_slope)), {}),
    keras.layers.Dropout: (lambda _graph, _layer, x: x, {}),
    keras.layers.LSTM: (_recurrent, RECURRENT),
    keras.layers.GRU: (_recurrent, RECURRENT | {"reset_after": True}),
    keras.layers.Bidirectional: (_bidirectional, {"merge_mode": "concat"}),
    keras.layers.Cropping1D: (_crop, {}),
    keras.layers.Flatten: (lambda graph, _layer, x: graph.add("Flatten", x), CHANNELS_LAST),
    keras.layers.Dense: (_dense, {}),
    keras.layers.Add: (_merge, {}),
    keras.layers.Average: (_merge, {}),
    keras.layers.Multiply: (_merge, {}),
    keras.layers.Concatenate: (_merge, {"axis": -1}),
}
