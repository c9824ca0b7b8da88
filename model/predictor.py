"""Predict P(rise) from bars with the ONNX form of a network, and what else it predicts; no TensorFlow.

`Predictor` takes raw bars and standardises nothing: the network does. It knows neither where models are stored nor
which one is the champion. Registered versions import this module by name, so it keeps its path.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float64, Shaped

from model.bars import Bars
from model.calibration import UNCALIBRATED, Calibrator
from model.cost_classes import CLASS_COLUMNS
from model.errors import SpecError
from model.expected_moves import expected_returns
from model.network_heads import split_further
from model.windows import Windows, WindowSpec, cut_windows

CHUNK_WINDOWS = 256  # windows predicted at once: bounds memory and fits the cache
THREADS = 2  # chunks predicted in parallel, each on one thread: onnxruntime gains nothing from more threads per chunk


class Predictor:
    """P(rise) from bars, with onnxruntime and a calibrator."""

    def __init__(
        self,
        onnx: bytes,
        window: WindowSpec,
        calibrator: Calibrator = UNCALIBRATED,
        context_count: int = 0,
        *,
        optimized: bool = True,
    ) -> None:
        """Open the network.

        Args:
            onnx: what `model.network_files.network_to_onnx` returned.
            window: the spec that the network was trained with; its stride is ignored.
            calibrator: applied to the network's probabilities.
            context_count: inputs that describe the other series of a panel; with any, `predict_windows` alone works.
            optimized: let onnxruntime optimise the graph, which takes longer than it saves for a few windows: opening
                the default network and predicting one window take 3.6 ms with it and 1.2 ms without.

        Raises:
            SpecError: the network takes windows of another shape.
        """
        import onnxruntime  # imported here: 0.2 seconds, and specs are read without it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not optimized:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.window = window.model_copy(update={"stride_bars": 1})
        self._calibrator = calibrator
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._context_count = context_count
        self._output_count = int(self._session.get_outputs()[0].shape[-1])
        expected = list(self._session.get_inputs()[0].shape[1:])
        found = [window.lookback_bars, len(window.features) + context_count]
        if expected != found:
            raise SpecError(
                f"predictor: the network takes windows of {expected[0]} bars and {expected[1]} features, the spec "
                f"has {found[0]} and {found[1]}. Use the spec that the network was trained with."
            )

    def predict(self, bars: Bars) -> tuple[Shaped[np.ndarray, " window"], Float64[np.ndarray, " window"]]:
        """Return P(rise) at every bar that ends a whole window, stride or not.

        Args:
            bars: shape (bar,), oldest first, closed ones only.

        Returns:
            decided_at (window,) datetime64[us] UTC, oldest first, and P(rise) (window,) float64. Bars whose lookback
            crosses a gap are left out.

        Raises:
            BarsTooShort: there is no whole window.

        Time: entry w depends on the `lookback_bars` bars that closed up to decided_at[w].
        """
        windows = cut_windows(bars, self.window)
        return windows.decided_at, self.predict_windows(windows)

    def predict_windows(self, windows: Windows) -> Float64[np.ndarray, " window"]:
        """Return P(rise) of windows that are cut already, such as those of a panel: shape (window,), float64.

        Raises:
            SpecError: they lack the inputs that describe the other series of a panel.

        Time: entry w depends on window w alone.
        """
        return self._calibrator.apply(self.run(windows)[:, 0])

    def predict_further(self, windows: Windows) -> dict[str, Float64[np.ndarray, " window"]]:
        """Return what the network predicts of windows besides P(rise), by column: shape (window,) each.

        `expected_move` (absolute log return until the outcome) and `expected_return`, (2 P - 1) times it; the
        probabilities of the three classes of a cost, `CLASS_COLUMNS`. Nothing where it has neither.

        Time: entry w depends on window w alone.
        """
        if self._output_count == 1:
            return {}
        outputs = self.run(windows)
        moves, classes = split_further(outputs[:, 1:])
        found = dict(zip(CLASS_COLUMNS, classes.T, strict=True)) if len(classes) else {}
        if not len(moves):
            return found
        returns = expected_returns(self._calibrator.apply(outputs[:, 0]), moves)
        return {"expected_move": moves, "expected_return": returns} | found

    def predict_outputs(
        self, bars: Bars, at: np.datetime64 | None = None
    ) -> tuple[Shaped[np.ndarray, " window"], Float64[np.ndarray, "window output"]]:
        """Return decided_at as `predict` does, and the whole output of the network, not calibrated.

        Args:
            bars: as for `predict`.
            at: predict the window decided at this time alone; None: all windows.
        """
        windows = cut_windows(bars, self.window)
        if at is not None:
            windows = windows.take(np.flatnonzero(windows.decided_at == at))
        return windows.decided_at, self.run(windows)

    def run(self, windows: Windows) -> Float64[np.ndarray, "window output"]:
        """Return the network's output: P(rise) before calibration, then what `model.network_heads` orders.

        Raises:
            SpecError: they lack the inputs that describe the other series of a panel.

        Time: entry w depends on window w alone.
        """
        if windows.context_count != self._context_count:
            raise SpecError(
                f"predictor: the network takes {self._context_count} inputs about the other series of its panel, the "
                f"windows have {windows.context_count}. Give the bars of the whole panel, each with its symbol."
            )
        starts = windows.ends - windows.lookback_bars + 1
        view = windows.view
        firsts = range(0, len(starts), CHUNK_WINDOWS)

        def chunk(first: int) -> Float64[np.ndarray, "window output"]:
            values = np.ascontiguousarray(view[starts[first : first + CHUNK_WINDOWS]])
            (outputs,) = self._session.run(None, {self._input: values})
            return np.asarray(outputs, dtype=np.float64)

        if len(firsts) == 1:
            return chunk(0)
        with ThreadPoolExecutor(THREADS) as pool:
            return np.concatenate([np.empty((0, self._output_count)), *pool.map(chunk, firsts)])

    def predict_last(self, bars: Bars) -> tuple[np.datetime64, float]:
        """Return decided_at and P(rise) at the newest bar that ends a whole window.

        Raises:
            BarsTooShort: there is no whole window.

        Time: depends on the `lookback_bars` bars that closed up to decided_at.
        """
        last = self._last_window(bars)
        return last.decided_at[0], float(self.predict_windows(last)[0])

    def predict_last_further(self, bars: Bars) -> dict[str, float]:
        """Return what `predict_further` returns at that bar.

        Time: depends on the `lookback_bars` bars that closed up to decided_at.
        """
        return {name: float(values[0]) for name, values in self.predict_further(self._last_window(bars)).items()}

    def _last_window(self, bars: Bars) -> Windows:
        windows = cut_windows(bars, self.window)
        return windows.take(np.arange(len(windows) - 1, len(windows)))
