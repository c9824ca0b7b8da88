"""Define the custom Keras layers: two that scale windows in float64, one that measures their moves, and a fused LSTM.

Importing this module loads TensorFlow, and registers the layers; it must be imported before a stored network is loaded.
Stored networks of version 0.1 name these classes and this module, so both keep their names. `FusedLSTM` has the weights
of a `keras.layers.LSTM` and is used only to train on a CPU. Caution: TensorFlow registers for `BlockLSTMV2` (gates i,
f, c, o, as in Keras) the gradient of the older `BlockLSTM` (gates i, c, f, o), which is silently wrong; here the right
one is called.
"""

from typing import Any, no_type_check

import keras
import numpy as np
import tensorflow as tf

from model.expected_moves import LEAST_MOVE
from model.windows import MAX_MOVES


@keras.saving.register_keras_serializable(package="riseorfall")
class StandardiseWindows(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """The article's z-score of each window and channel over time; a constant channel gives zeros.

    Takes (window, lookback, feature) float64, raw; returns the same shape in float32. Everything but the last cast is
    in float64, where 60,000.01 and 60,000.02 differ. `model.windows.standardise` is the same in NumPy.

    Time: each window is standardised by its own bars alone.
    """

    context_count: int

    @no_type_check  # Keras reads the signature, which a type checker would wrap
    def __init__(self, context_count: int = 0, **kwargs: Any) -> None:
        """Fix the layer to float64: Keras would cast the inputs to float32.

        The parameter must be called `kwargs`: Keras then stores the layer's name. The last `context_count` features
        are context of a panel and pass unscaled.
        """
        super().__init__(**{**kwargs, "dtype": "float64"})
        self.context_count = context_count

    def get_config(self) -> dict[str, Any]:
        """Return what Keras stores of the layer."""
        return {**super().get_config(), **({"context_count": self.context_count} if self.context_count else {})}

    def call(self, windows: Any) -> Any:
        """Return the scaled windows, float32."""
        if not self.context_count:
            return self.scale(windows)
        own = self.scale(windows[:, :, : -self.context_count])
        context = keras.ops.cast(windows[:, :, -self.context_count :], "float32")
        return keras.ops.concatenate([own, context], axis=-1)

    def scale(self, windows: Any) -> Any:
        """Return the z-scores, float32."""
        shifted = windows - windows[:, :1, :]
        centred = shifted - keras.ops.mean(shifted, axis=1, keepdims=True)
        deviation = keras.ops.sqrt(keras.ops.mean(keras.ops.square(centred), axis=1, keepdims=True))
        is_constant = keras.ops.cast(deviation == 0.0, "float64")  # then 0 / 1: cheaper than a conditional
        return keras.ops.cast(centred / (deviation + is_constant), "float32")

    def compute_output_spec(self, windows: Any) -> Any:
        """Return the input shape with float32."""
        return keras.KerasTensor(windows.shape, "float32")


@keras.saving.register_keras_serializable(package="riseorfall")
class TrailingMove(StandardiseWindows):
    """The mean absolute log return from close to close in each window, at least `LEAST_MOVE`: (window, 1) float32.

    With a `unit` above 0 it is the log of that move in units.
    Input as for its parent; the last feature before the context must be the close.
    `model.expected_moves.trailing_moves` is the same in NumPy.

    Time: each window is measured by its own bars alone.
    """

    unit: float

    @no_type_check  # see its parent
    def __init__(self, context_count: int = 0, unit: float = 0.0, **kwargs: Any) -> None:
        """Set the unit; see the parent."""
        super().__init__(context_count, **kwargs)
        self.unit = unit

    def get_config(self) -> dict[str, Any]:
        """Return what Keras stores of the layer."""
        return {**super().get_config(), **({"unit": self.unit} if self.unit else {})}

    def call(self, windows: Any) -> Any:
        """Return the mean moves, float32."""
        last = windows.shape[2] - self.context_count
        logs = keras.ops.log(windows[:, :, last - 1 : last])
        moves = keras.ops.mean(keras.ops.abs(logs[:, 1:] - logs[:, :-1]), axis=1)
        moves = keras.ops.maximum(moves, LEAST_MOVE)
        return keras.ops.cast(keras.ops.log(moves / self.unit) if self.unit else moves, "float32")

    def compute_output_spec(self, windows: Any) -> Any:
        """Return one number for each window, float32."""
        return keras.KerasTensor((windows.shape[0], 1), "float32")


@keras.saving.register_keras_serializable(package="riseorfall")
class AnchorWindows(StandardiseWindows):
    """Prices as distances from the window's last close, in typical moves over that time.

    Input and output as for its parent; `model.windows.anchor` is the same in NumPy. All features must be prices, the
    last one the close.

    Time: each window is scaled by its own bars alone.
    """

    def scale(self, windows: Any) -> Any:
        """Return the distances, float32."""
        lookback_bars = windows.shape[1]
        distances = windows - windows[:, -1:, -1:]
        steps = windows[:, 1:, -1:] - windows[:, :-1, -1:]
        step = keras.ops.sqrt(keras.ops.mean(keras.ops.square(steps), axis=1, keepdims=True))
        moves = keras.ops.cast(step != 0.0, "float64")
        reach = keras.ops.cast(np.sqrt(np.arange(lookback_bars, 0, -1.0))[None, :, None], "float64")
        scaled = distances / ((step + (1.0 - moves)) * reach)
        scaled = keras.ops.clip(scaled, -MAX_MOVES, MAX_MOVES) * moves
        return keras.ops.cast(scaled, "float32")


@keras.saving.register_keras_serializable(package="riseorfall")
class FusedLSTM(keras.layers.LSTM):  # type: ignore[misc]  # keras has no types
    """A `keras.layers.LSTM` (same weights, same numbers) whose steps run in one CPU kernel; last output only."""

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        """Return the last hidden state, shape (window, unit)."""
        del initial_state, mask, training  # always zeros, none, and no dropout
        cell = self.cell
        weights = tf.concat([tf.convert_to_tensor(cell.kernel), tf.convert_to_tensor(cell.recurrent_kernel)], axis=0)
        steps = tf.transpose(sequences, (1, 0, 2))
        if self.go_backwards:
            steps = tf.reverse(steps, axis=[0])
        return _last_state(steps, weights, tf.convert_to_tensor(cell.bias))


@tf.custom_gradient  # type: ignore[untyped-decorator]  # tensorflow has no types
def _last_state(steps: Any, weights: Any, bias: Any) -> Any:
    """Run the LSTM over (lookback, window, feature); return its last state and that state's gradient function."""
    units = bias.shape[0] // 4
    zeros, no_peephole = tf.zeros((tf.shape(steps)[1], units), steps.dtype), tf.zeros(units, steps.dtype)
    inputs = {
        "seq_len_max": tf.shape(steps, out_type=tf.int64)[0],
        "x": steps,
        "cs_prev": zeros,
        "h_prev": zeros,
        "w": weights,
        "wci": no_peephole,
        "wcf": no_peephole,
        "wco": no_peephole,
        "b": bias,
        "use_peephole": False,
    }
    states = tf.raw_ops.BlockLSTMV2(cell_clip=0.0, **inputs)

    def gradient(last_gradient: Any) -> tuple[Any, Any, Any]:
        h_grad = tf.pad(last_gradient[None], [[tf.shape(steps)[0] - 1, 0], [0, 0], [0, 0]])
        outputs = {name: getattr(states, name) for name in ("i", "cs", "f", "o", "ci", "co", "h")}
        back = tf.raw_ops.BlockLSTMGradV2(cs_grad=tf.zeros_like(states.cs), h_grad=h_grad, **outputs, **inputs)
        return back.x_grad, back.w_grad, back.b_grad

    return states.h[-1], gradient
