"""Networks whose every weight is random, moving statistics too, and whose answers spread all the same."""

from typing import Any

import numpy as np


def randomise(network: Any, seed: int = 1) -> dict[str, list[np.ndarray]]:
    """Set every weight to a random value that keeps activations of order one; return them by layer, float64."""
    rng = np.random.default_rng(seed)
    for layer in network.layers:
        weights = [rng.normal(0, 1.5 / np.sqrt(np.prod(v.shape[:-1])), v.shape) for v in layer.weights]
        if "norm" in layer.name:
            scale, shift, mean, variance = (0.3 * weight for weight in weights)
            weights = [1 + scale, shift, mean, np.exp(variance)]
        if layer.name == "probability":
            weights = [2 * weights[0], 0.1 * weights[1]]
        layer.set_weights(weights)
    return {layer.name: [np.asarray(v.value, np.float64) for v in layer.weights] for layer in network.layers}
