"""A network so small that it is written by hand: P(rise) = sigmoid(gain * (last close / first close - 1)), as ONNX."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def tiny_onnx(lookback_bars: int, feature_count: int = 4, gain: float = 1.0, close: int | None = None) -> bytes:
    """Return the network: windows (window, lookback, feature) float64 -> P(rise) (window, 1) float32.

    `close` is the index of the feature that it looks at: None is the last.
    """
    constants = {
        "first": np.array([0], np.int64),
        "last": np.array([lookback_bars - 1], np.int64),
        "close": np.array([feature_count - 1 if close is None else close], np.int64),
        "one": np.array(1.0, np.float64),
        "gain": np.array(gain, np.float64),
        "flat": np.array([-1, 1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["windows", "close"], ["closes"], axis=2),
        helper.make_node("Gather", ["closes", "first"], ["from"], axis=1),
        helper.make_node("Gather", ["closes", "last"], ["to"], axis=1),
        helper.make_node("Div", ["to", "from"], ["ratio"]),
        helper.make_node("Sub", ["ratio", "one"], ["change"]),
        helper.make_node("Mul", ["change", "gain"], ["logit"]),
        helper.make_node("Reshape", ["logit", "flat"], ["column"]),
        helper.make_node("Sigmoid", ["column"], ["chance"]),
        helper.make_node("Cast", ["chance"], ["probability"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("windows", TensorProto.DOUBLE, [None, lookback_bars, feature_count])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
