"""Explain one prediction of a network: filters, activation maps, gates, and attributions by integrated gradients.

Knows a stored `keras.Model` of `model/networks.py` and one raw window; every value is read from that network or
computed from its weights. Only the integral of the attributions is approximated, and its error is returned. Caution:
the network standardises a window itself, so shrinking prices towards a flat line does not change its input until the
line is reached. The path of the integrated gradients therefore runs over z-scores, from a flat window (all zeros, the
z-scores of constant prices) to this one. The second trap: an attribution shows what this network used, not what moves
the market.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from model.ensemble import typical_member
from model.errors import SpecError, UnsoundModel
from model.training_device import choose_device

FIRST_STEPS, MAX_STEPS = 128, 8192  # points on the path of the integral
STEPS_AT_ONCE = 512  # points of one prediction
COMPLETENESS = 1e-4  # maximum gap between the sum of the attributions and the change of P(rise)
STATE_TOLERANCE = 1e-4  # maximum gap between the recomputed states and the layer's output
RECURRENT = ("lstm", "bilstm", "gru")


@dataclass(frozen=True, slots=True)
class ActivationMap:
    """The output of one convolution's filters, after batch norm and leaky ReLU.

    Attributes:
        layer: name of the convolution, such as `conv_1`.
        values: shape (lookback, filter), float64, oldest bar first.
        reach_before: bars before bar t that entry t depends on.
        reach_after: bars after bar t that entry t depends on; all within the window.
    """

    layer: str
    values: Float64[np.ndarray, "lookback filter"]
    reach_before: int
    reach_after: int


@dataclass(frozen=True, slots=True)
class GateMap:
    """The gates and states of one recurrent layer along the window.

    Attributes:
        layer: `lstm`, `gru`, or a direction of `bilstm`.
        maps: by name, shape (lookback, unit), float64, oldest bar first: the gates (0 closed, 1 open) and the states.
    """

    layer: str
    maps: dict[str, Float64[np.ndarray, "lookback unit"]]


@dataclass(frozen=True, slots=True)
class Attribution:
    """The attribution of P(rise) to each bar and channel, by integrated gradients.

    Attributes:
        values: shape (lookback, feature), float64: in units of probability; the sum is probability - flat_probability.
        probability: P(rise) of this window.
        flat_probability: P(rise) of a window of constant prices.
        gap: error of that sum.
        steps: points on the path.
    """

    values: Float64[np.ndarray, "lookback feature"]
    probability: float
    flat_probability: float
    gap: float
    steps: int

    def by_bar(self) -> Float64[np.ndarray, " lookback"]:
        """Return the attribution of each bar, summed over channels."""
        total: Float64[np.ndarray, " lookback"] = self.values.sum(axis=1)
        return total


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of one prediction.

    Attributes:
        kind: of the network.
        features: names of the channels.
        window: shape (lookback, feature), float64, raw, oldest bar first.
        scaled: shape (lookback, feature), float64: the z-scores that the network works on.
        filters: shape (kernel, feature, filter), float64: the kernels of the first convolution; None without one.
        activations: one per convolution, first to last.
        gates: one per recurrent layer and direction.
        attribution: of the probability.
        lacks: a sentence for each part that this kind of network does not have, and one for an ensemble.
    """

    kind: str
    features: tuple[str, ...]
    window: Float64[np.ndarray, "lookback feature"]
    scaled: Float64[np.ndarray, "lookback feature"]
    filters: Float64[np.ndarray, "kernel feature filter"] | None
    activations: tuple[ActivationMap, ...]
    gates: tuple[GateMap, ...]
    attribution: Attribution
    lacks: tuple[str, ...]


def explain_window(
    network: Any, window: Float64[np.ndarray, "lookback feature"], features: Sequence[str]
) -> Explanation:
    """Explain the prediction of a network for one window.

    Args:
        network: a `keras.Model` of `model.networks.build_network`, as stored; of an ensemble, the member nearest
            to the mean is explained.
        window: shape (lookback, feature), float64, raw prices, oldest bar first.
        features: names of the channels, in the window's order.

    Raises:
        SpecError: the window has another shape than the network takes, or the number of names differs.
        UnsoundModel: the network lacks the layers of its kind, or its probability is not finite.

    Time: depends on the bars of the window alone.
    """
    expected = tuple(network.inputs[0].shape[1:])
    if window.shape != expected or len(features) != expected[1]:
        raise SpecError(
            f"explain: the network takes windows of {expected[0]} bars and {expected[1]} features, found "
            f"{window.shape} and the names {', '.join(features)}. Use the spec that it was trained with."
        )
    network, kind = typical_member(network, window)
    network = _with_fused_lstm(network)
    scaled = _scale(network, window)
    activations = activation_maps(network, scaled)
    gates = gate_maps(network, scaled)
    return Explanation(
        kind=kind,
        features=tuple(features),
        window=window,
        scaled=scaled,
        filters=first_filters(network),
        activations=activations,
        gates=gates,
        attribution=integrated_gradients(network, scaled),
        lacks=_lacks(network, kind, has_filters=bool(activations), gates=gates),
    )


def first_filters(network: Any) -> Float64[np.ndarray, "kernel feature filter"] | None:
    """Return the kernels of the first convolution, oldest bar of the kernel first; None where there is none."""
    if "conv_1" not in _names(network):
        return None
    return np.asarray(network.get_layer("conv_1").kernel.numpy(), dtype=np.float64)


def activation_maps(network: Any, scaled: Float64[np.ndarray, "lookback feature"]) -> tuple[ActivationMap, ...]:
    """Return the output of each filter of each convolution along the window.

    Args:
        network: the network.
        scaled: shape (lookback, feature), float64: z-scores.
    """
    convolutions = [name for name in _names(network) if name.startswith("conv_")]
    if not convolutions:
        return ()
    maps = []
    before = after = 0
    for name in convolutions:
        layer = network.get_layer(name)
        values = _through(_until(network, f"leaky_{name.removeprefix('conv_')}"), scaled)
        width = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
        ahead = 0 if layer.padding == "causal" else width - width // 2
        before, after = before + width - ahead, after + ahead
        maps.append(ActivationMap(name, values, before, after))
    return tuple(maps)


def gate_maps(network: Any, scaled: Float64[np.ndarray, "lookback feature"]) -> tuple[GateMap, ...]:
    """Return gates and states of each recurrent layer along the window, in the order of the bars.

    Args:
        network: the network.
        scaled: shape (lookback, feature), float64: z-scores.

    Raises:
        UnsoundModel: the recomputed states differ from the layer's output.
    """
    found = [name for name in RECURRENT if name in _names(network)]
    if not found:
        return ()
    name = found[0]
    layer = network.get_layer(name)
    sequence, answer = _around(network, name, scaled)
    if name == "bilstm":
        forward = _follow_lstm(layer.forward_layer, sequence)
        backward = {key: values[::-1] for key, values in _follow_lstm(layer.backward_layer, sequence[::-1]).items()}
        maps: tuple[GateMap, ...] = (GateMap("lstm, forwards", forward), GateMap("lstm, backwards", backward))
        last = np.concatenate([forward["hidden state"][-1], backward["hidden state"][0]])
    else:
        followed = (_follow_gru if name == "gru" else _follow_lstm)(layer, sequence)
        maps = (GateMap(name, followed),)
        last = followed["hidden state"][-1]
    gap = float(np.abs(last - answer).max())
    if not gap <= STATE_TOLERANCE:
        raise UnsoundModel(
            f"explain: expected the recomputed states of {name} to equal the layer's output, found a gap of {gap:.2g}. "
            "The stored network is from an incompatible version; retrain."
        )
    return maps


def integrated_gradients(network: Any, scaled: Float64[np.ndarray, "lookback feature"]) -> Attribution:
    """Attribute the change of P(rise), from a window of constant prices to this one, to bars and channels.

    The integral is a midpoint sum; its points are doubled until the attributions sum to the change within
    `COMPLETENESS`, up to `MAX_STEPS`.

    Args:
        network: the network.
        scaled: shape (lookback, feature), float64: z-scores.

    Raises:
        UnsoundModel: the network's probability is not finite.

    Source: Sundararajan, Taly and Yan 2017, section 3.
    """
    import tensorflow as tf  # imported here: TensorFlow takes ten seconds to load

    head = _until(network, "probability")
    ends = np.asarray(
        head(np.stack([np.zeros_like(scaled), scaled]).astype(np.float32), training=False), dtype=np.float64
    )
    flat, probability = float(ends[0, 0]), float(ends[1, 0])
    if not (np.isfinite(flat) and np.isfinite(probability)):
        raise UnsoundModel(f"explain: expected finite probabilities, found {flat} and {probability}. Retrain.")

    def shares(steps: int) -> Float64[np.ndarray, "lookback feature"]:
        total = np.zeros_like(scaled)
        for start in range(0, steps, STEPS_AT_ONCE):
            places = (np.arange(start, min(start + STEPS_AT_ONCE, steps)) + 0.5) / steps
            path = tf.constant(places[:, None, None] * scaled, tf.float32)
            with tf.GradientTape() as tape:
                tape.watch(path)
                summed = tf.reduce_sum(head(path, training=False))
            total += np.asarray(tape.gradient(summed, path), dtype=np.float64).sum(axis=0)
        shared: Float64[np.ndarray, "lookback feature"] = total / steps * scaled
        return shared

    steps = FIRST_STEPS
    while True:
        values = shares(steps)
        gap = abs(float(values.sum()) - (probability - flat))
        if gap <= COMPLETENESS or steps >= MAX_STEPS:
            return Attribution(values, probability, flat, gap, steps)
        steps *= 2


def _names(network: Any) -> list[str]:
    return [layer.name for layer in network.layers]


def _first_layer(network: Any) -> Any:
    """Return the layer that standardises the windows.

    Raises:
        UnsoundModel: there is none.
    """
    from model.layers import StandardiseWindows  # imported here: loads TensorFlow

    for layer in network.layers:
        if isinstance(layer, StandardiseWindows):
            return layer
    raise UnsoundModel(
        f"explain: expected a network that standardises its windows itself, found {', '.join(_names(network))}."
    )


def _with_fused_lstm(network: Any) -> Any:
    """Return the network with its LSTM in one CPU kernel; the same network where it has none, or on a GPU.

    Step by step, outside of a graph, an LSTM took two thirds of an explanation. The numbers differ by rounding alone.
    """
    import keras  # imported here: loads TensorFlow

    from model.layers import FusedLSTM

    if not {"lstm", "bilstm"} & set(_names(network)) or choose_device() != "CPU":
        return network

    def fuse(layer: Any) -> Any:
        if isinstance(layer, keras.layers.LSTM):
            return FusedLSTM.from_config(layer.get_config())
        if isinstance(layer, keras.layers.Bidirectional):
            forward = {**layer.forward_layer.get_config(), "name": "lstm"}
            return keras.layers.Bidirectional(FusedLSTM.from_config(forward), name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    fused = keras.models.clone_model(network, clone_function=fuse)
    fused.set_weights(network.get_weights())
    return fused


def _scale(network: Any, window: Float64[np.ndarray, "lookback feature"]) -> Float64[np.ndarray, "lookback feature"]:
    """Return the output of the first layer for a raw window."""
    return np.asarray(_first_layer(network)(window[None])[0], dtype=np.float64)


def _until(network: Any, layer: str) -> Any:
    """Return the part of the network from its z-scores to the output of a layer; layers are shared."""
    import keras  # imported here: loads TensorFlow

    return keras.Model(_first_layer(network).output, network.get_layer(layer).output)


def _around(
    network: Any, name: str, scaled: Float64[np.ndarray, "lookback feature"]
) -> tuple[Float64[np.ndarray, "lookback channel"], Float64[np.ndarray, " unit"]]:
    """Return input and output of a layer for one window."""
    import keras  # imported here: loads TensorFlow

    source, layer = _first_layer(network).output, network.get_layer(name)
    entering = scaled if layer.input is source else _through(keras.Model(source, layer.input), scaled)
    return entering, _through(_until(network, name), scaled)


def _through(part: Any, scaled: Float64[np.ndarray, "lookback feature"]) -> Float64[np.ndarray, "..."]:
    """Return the output of a part of the network for one window's z-scores."""
    return np.asarray(part(scaled[None].astype(np.float32), training=False)[0], dtype=np.float64)


def _follow_lstm(
    layer: Any, sequence: Float64[np.ndarray, "lookback channel"]
) -> dict[str, Float64[np.ndarray, "lookback unit"]]:
    """Run an LSTM's weights step by step; Keras keeps its gates in the order input, forget, candidate, output.

    Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers, Schmidhuber and Cummins 2000.
    """
    kernel, recurrent, bias = (np.asarray(each, dtype=np.float64) for each in layer.get_weights())
    units = len(recurrent)
    hidden, cell = np.zeros(units), np.zeros(units)
    steps: dict[str, list[np.ndarray]] = {
        name: [] for name in ("input gate", "forget gate", "output gate", "cell state", "hidden state")
    }
    for inputs in sequence:
        total = inputs @ kernel + hidden @ recurrent + bias
        enter, keep, candidate, leave = np.split(total, 4)
        enter, keep, leave = _sigmoid(enter), _sigmoid(keep), _sigmoid(leave)
        cell = keep * cell + enter * np.tanh(candidate)
        hidden = leave * np.tanh(cell)
        for name, values in zip(steps, (enter, keep, leave, cell, hidden), strict=True):
            steps[name].append(values)
    return {name: np.stack(values) for name, values in steps.items()}


def _follow_gru(
    layer: Any, sequence: Float64[np.ndarray, "lookback channel"]
) -> dict[str, Float64[np.ndarray, "lookback unit"]]:
    """Run a GRU's weights step by step; Keras keeps its gates in the order update, reset, candidate.

    Source: Cho et al. 2014, the reset after the product, as Keras has it.
    """
    kernel, recurrent, bias = (np.asarray(each, dtype=np.float64) for each in layer.get_weights())
    hidden = np.zeros(len(recurrent))
    steps: dict[str, list[np.ndarray]] = {name: [] for name in ("update gate", "reset gate", "hidden state")}
    for inputs in sequence:
        of_input, of_state = np.split(inputs @ kernel + bias[0], 3), np.split(hidden @ recurrent + bias[1], 3)
        update, reset = _sigmoid(of_input[0] + of_state[0]), _sigmoid(of_input[1] + of_state[1])
        hidden = update * hidden + (1 - update) * np.tanh(of_input[2] + reset * of_state[2])
        for name, values in zip(steps, (update, reset, hidden), strict=True):
            steps[name].append(values)
    return {name: np.stack(values) for name, values in steps.items()}


def _sigmoid(x: Float64[np.ndarray, " unit"]) -> Float64[np.ndarray, " unit"]:
    """Return 1 / (1 + exp(-x)) without overflow."""
    value: Float64[np.ndarray, " unit"] = 0.5 * (1 + np.tanh(0.5 * x))
    return value


def _lacks(network: Any, kind: str, *, has_filters: bool, gates: tuple[GateMap, ...]) -> tuple[str, ...]:
    """Describe the parts that this kind of network does not have, and which member of an ensemble this is."""
    subject, lacking = f"A network of kind {kind} has", []
    if kind != network.name:
        lacking.append(f"This is {kind}: the one nearest to the mean, which is the ensemble's probability.")
    if not has_filters:
        lacking.append(f"{subject} no convolution: it has no filters and no activation maps.")
    if not gates:
        lacking.append(f"{subject} no recurrent layer: it has no gates and no cell state.")
    elif "cell state" not in gates[0].maps:
        lacking.append(f"{subject} no cell state, nor input, forget and output gates; it has update and reset gates.")
    return tuple(lacking)
