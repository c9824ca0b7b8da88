"""The article's parts as plain NumPy: what each layer computes, written from its formula and from nothing of Keras.

Arrays are (window, bar, channel) where time matters, else (window, unit). Kernels lie as Keras stores them:
convolution (width, in, out), dense (in, out), gates side by side in the last axis.
"""

import numpy as np


def standardise(windows: np.ndarray) -> np.ndarray:
    """The article's z-score, each window and channel by itself; zeros where a channel does not move."""
    scores = np.zeros_like(windows)
    for w in range(windows.shape[0]):
        for c in range(windows.shape[2]):
            series = windows[w, :, c]
            if (series != series[0]).any():
                scores[w, :, c] = (series - series.mean()) / series.std()
    return scores


def conv1d_same(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
    """Cross-correlation over time; of the width - 1 zeros around the series the smaller half stands in front."""
    width, bars = len(kernel), x.shape[1]
    front = (width - 1) // 2
    padded = np.pad(x, ((0, 0), (front, width - 1 - front), (0, 0)))
    return np.stack([np.einsum("wki,kio->wo", padded[:, t : t + width], kernel) + bias for t in range(bars)], axis=1)


def conv1d_causal(x: np.ndarray, kernel: np.ndarray, dilation: int, bias: np.ndarray | float = 0.0) -> np.ndarray:
    """Sum over the bars t, t - dilation, t - 2 * dilation ..., zeros before the first."""
    width, bars = len(kernel), x.shape[1]
    padded = np.pad(x, ((0, 0), ((width - 1) * dilation, 0), (0, 0)))
    taps = [padded[:, k * dilation : k * dilation + bars] @ kernel[k] for k in range(width)]
    return sum(taps, start=np.zeros(())) + bias


def batch_norm(
    x: np.ndarray, scale: np.ndarray, shift: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float = 1e-3
) -> np.ndarray:
    """Normalise by the moving statistics, as inference does."""
    return (x - mean) / np.sqrt(variance + epsilon) * scale + shift


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


def leaky_relu(x: np.ndarray, slope: float) -> np.ndarray:
    return np.where(x > 0, x, slope * x)


def max_pool(x: np.ndarray, width: int) -> np.ndarray:
    """Largest of each run of `width` bars; bars that fill no whole run are left out."""
    runs = x.shape[1] // width
    return x[:, : runs * width].reshape(x.shape[0], runs, width, x.shape[2]).max(axis=2)


def dropout(x: np.ndarray, kept: np.ndarray, rate: float) -> np.ndarray:
    """Inverted dropout: what is kept grows by 1 / (1 - rate), so that the expectation stays."""
    return x * kept / (1.0 - rate)


def dense(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
    return x @ kernel + bias


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def rnn(x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Last state of a plain recurrent cell: h = tanh(x W + h U + b)."""
    state = np.zeros((len(x), len(recurrent)))
    for t in range(x.shape[1]):
        state = np.tanh(x[:, t] @ kernel + state @ recurrent + bias)
    return state


def lstm(x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Last hidden state of an LSTM; gates lie in the order input, forget, candidate, output."""
    units = len(recurrent)
    hidden, memory = np.zeros((len(x), units)), np.zeros((len(x), units))
    for t in range(x.shape[1]):
        gates = x[:, t] @ kernel + hidden @ recurrent + bias
        let_in, keep = sigmoid(gates[:, :units]), sigmoid(gates[:, units : 2 * units])
        candidate, let_out = np.tanh(gates[:, 2 * units : 3 * units]), sigmoid(gates[:, 3 * units :])
        memory = keep * memory + let_in * candidate
        hidden = let_out * np.tanh(memory)
    return hidden


def gru(x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Last state of a GRU; gates lie in the order update, reset, candidate; the reset acts after the product."""
    units = len(recurrent)
    state = np.zeros((len(x), units))
    for t in range(x.shape[1]):
        of_input, of_state = x[:, t] @ kernel + bias[0], state @ recurrent + bias[1]
        update = sigmoid(of_input[:, :units] + of_state[:, :units])
        reset = sigmoid(of_input[:, units : 2 * units] + of_state[:, units : 2 * units])
        candidate = np.tanh(of_input[:, 2 * units :] + reset * of_state[:, 2 * units :])
        state = update * state + (1.0 - update) * candidate
    return state
