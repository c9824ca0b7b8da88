"""Serve a fitted network: its two stored forms, and probabilities from bars without TensorFlow.

A network is stored as `.keras` (inspection, warm start) and as ONNX (serving: starts in a fraction of a second).
`Predictor` needs the second only, takes raw bars as they are and standardises nothing: the network does. It knows
neither where models are kept nor which one is the champion. The trap: Keras and tf2onnx write to paths only, so the
two conversions go through a temporary folder, the one place where `model/` touches a disk; it is gone on return.
"""

import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped

from model.bars import Bars
from model.calibration import UNCALIBRATED, Calibrator
from model.errors import SpecError
from model.windows import WindowSpec, cut_windows

OPSET = 18  # pinned: what the pinned tf2onnx writes and the oldest supported onnxruntime reads
CHUNK_WINDOWS = 256  # windows predicted at once: bounds memory, and stays in the cache
THREADS = 2  # chunks predicted side by side, each in one thread: within a chunk, threads spin more than they work


def network_to_bytes(network: Any) -> bytes:
    """Return a `keras.Model` as the bytes of a `.keras` file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.keras")
        network.save(path)
        return path.read_bytes()


def network_from_bytes(content: bytes) -> Any:
    """Return the `keras.Model` that a `.keras` file holds; nothing in the file is run as code."""
    import keras  # here: loads TensorFlow, which prediction does without

    import model.layers  # noqa: F401  # registers the layers of our own

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.keras")
        path.write_bytes(content)
        return keras.models.load_model(path)


def network_to_onnx(network: Any) -> bytes:
    """Return a `keras.Model` as ONNX: windows (window, lookback, feature) float64 -> P(rise) (window, 1) float32."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        with warnings.catch_warnings():
            # Keras asks NumPy whether it still has `np.object`, and NumPy warns of the question.
            warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
            network.export(path, format="onnx", verbose=False, input_signature=network.inputs, opset_version=OPSET)
        return path.read_bytes()


class Predictor:
    """P(rise) from bars, by onnxruntime and a calibrator alone."""

    def __init__(self, onnx: bytes, window: WindowSpec, calibrator: Calibrator = UNCALIBRATED) -> None:
        """Open the network.

        Args:
            onnx: what `network_to_onnx` returned.
            window: the spec that the network was trained with; its stride is ignored.
            calibrator: what is applied to the network's probabilities.

        Raises:
            SpecError: the network takes windows of another shape.
        """
        import onnxruntime  # here: 0.2 seconds, and specs are read without it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.window = window.model_copy(update={"stride_bars": 1})
        self._calibrator = calibrator
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        expected, found = list(self._session.get_inputs()[0].shape[1:]), [window.lookback_bars, len(window.features)]
        if expected != found:
            raise SpecError(
                f"predictor: the network takes windows of {expected[0]} bars and {expected[1]} features, the spec says "
                f"{found[0]} and {found[1]}. Use the spec that the network was trained with."
            )

    def predict(self, bars: Bars) -> tuple[Shaped[np.ndarray, " window"], Float64[np.ndarray, " window"]]:
        """Return P(rise) at every bar that ends a whole window, stride or not.

        Args:
            bars: shape (bar,), oldest first, closed ones only.

        Returns:
            decided_at (window,) datetime64[us] UTC, oldest first, and P(rise) (window,) float64. Bars that a gap
            separates from their lookback are not among them.

        Raises:
            BarsTooShort: there is no whole window.

        Time: entry w depends on the `lookback_bars` bars that closed up to decided_at[w].
        """
        windows = cut_windows(bars, self.window)
        starts = windows.ends - windows.lookback_bars + 1
        view = windows.view
        firsts = range(0, len(starts), CHUNK_WINDOWS)

        def chunk(first: int) -> Float64[np.ndarray, " window"]:
            return self._probabilities(view[starts[first : first + CHUNK_WINDOWS]])

        if len(firsts) == 1:
            return windows.decided_at, chunk(0)
        with ThreadPoolExecutor(THREADS) as pool:
            return windows.decided_at, np.concatenate(list(pool.map(chunk, firsts)))

    def predict_last(self, bars: Bars) -> tuple[np.datetime64, float]:
        """Return decided_at and P(rise) at the newest bar that ends a whole window.

        Raises:
            BarsTooShort: there is no whole window.

        Time: depends on the `lookback_bars` bars that closed up to decided_at.
        """
        windows = cut_windows(bars, self.window)
        last = windows.take(np.arange(len(windows) - 1, len(windows)))
        return last.decided_at[0], float(self._probabilities(last.values())[0])

    def _probabilities(self, values: Float64[np.ndarray, "window lookback feature"]) -> Float64[np.ndarray, " window"]:
        (probabilities,) = self._session.run(None, {self._input: np.ascontiguousarray(values)})
        return self._calibrator.apply(np.asarray(probabilities[:, 0], dtype=np.float64))
