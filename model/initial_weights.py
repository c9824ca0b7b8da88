"""The weights of a network before its first training step, drawn from a seed as Keras would draw them.

Drawn by NumPy, so that a seed gives the same weights whatever else used TensorFlow's generators. Sources: Glorot and
Bengio, 2010 (kernels); Saxe et al., 2014 (orthogonal recurrent kernels).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def initial_weight(variable: Any, rng: np.random.Generator, first: Mapping[str, np.ndarray] = {}) -> np.ndarray:
    """Return the initial value of a trainable variable of a built Keras model, float32, of the variable's shape.

    Args:
        variable: the variable; its path names its layer.
        rng: draws kernels and recurrent kernels. Biases, scales and shifts keep the model's constants.
        first: by name of a layer, the weights that it begins with instead (`model.network_heads.first_weights`).
    """
    layer = variable.path.rsplit("/", 2)[-2]
    return _of_further_output(variable, first[layer]) if layer in first else _drawn(variable, rng)


def _of_further_output(variable: Any, first: np.ndarray) -> np.ndarray:
    """Return the weights that a further output begins with: a bias, and a kernel for the last inputs of its layer."""
    *slopes, intercepts = first
    if variable.path.endswith("bias"):
        return np.asarray(intercepts, np.float32)
    kernel = np.zeros(tuple(variable.shape), np.float32)
    kernel[len(kernel) - len(slopes) :] = slopes or 0.0
    return kernel


def _drawn(variable: Any, rng: np.random.Generator) -> np.ndarray:
    """Draw as Keras would: Glorot kernels, orthogonal recurrent kernels, and an LSTM forget bias of 1."""
    shape, name = tuple(variable.shape), variable.path.rsplit("/", 1)[-1]
    if name == "kernel":
        field = int(np.prod(shape[:-2]))
        limit = np.sqrt(6.0 / (field * (shape[-2] + shape[-1])))
        return rng.uniform(-limit, limit, shape).astype(np.float32)
    if name == "recurrent_kernel":
        q, r = np.linalg.qr(rng.standard_normal((shape[1], shape[0])))
        return np.ascontiguousarray((q * np.sign(np.diag(r))).T, dtype=np.float32)
    # Biases, scales and shifts have constant initial values, which the built model still holds.
    return np.asarray(variable.value, dtype=np.float32)
