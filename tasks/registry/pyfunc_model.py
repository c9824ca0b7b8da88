"""The registered model: bars in, probabilities out. MLflow runs this file when it loads a version ("models from code").

It wraps `model.predictor.Predictor` and reads only the files of its version: `network.onnx`, `recipe.json`, and
`calibrator.json` where the recipe asks for one, each only if it has the SHA-256 that the version's `MLmodel` names.
That detects a file that was replaced alone, not a version that was replaced whole. The digests are metadata of the
model: MLflow logs a `model_config` as parameters, where people compare runs. No TensorFlow, no pickle. Input: a
frame of bars, oldest first (`timestamp` = open time, UTC). Output: one row per decidable bar. Caution: this file is
stored with the model, so it may import nothing but `model/`, whose archive lies with it.
"""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

CODE = Path(__file__).parent / "code" / "model.zip"  # written by serving_code.py; not there in the project itself
if CODE.is_file():
    sys.path.insert(0, str(CODE))

from model.bars import bars_from_frame, require_possible  # noqa: E402 - after its place is known
from model.calibration import UNCALIBRATED, Calibrator, calibrator_from_json  # noqa: E402 - after its place is known
from model.errors import UntrustedModel  # noqa: E402 - after its place is known
from model.panel import cut_panel  # noqa: E402 - after its place is known
from model.panel_recipe import PanelRecipe, panel_from_frame, read_recipe, require_whole_panel  # noqa: E402 - after its place is known
from model.predictor import Predictor  # noqa: E402 - after its place is known
from model.times import utc_index  # noqa: E402 - after its place is known
from model.version_file_names import CALIBRATOR, ONNX, RECIPE  # noqa: E402 - after its place is known
from model.windows import cut_windows  # noqa: E402 - after its place is known


class RegisteredModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow carries no types
    """P(rise) for every decidable bar of a frame of bars."""

    def load_context(self, context: Any) -> None:
        """Open the network and the recipe that this version was registered with.

        Raises:
            UntrustedModel: a file is not the one that the version was registered with.
        """
        folder = Path(context.artifacts[RECIPE]).parents[1]
        digests = (mlflow.models.Model.load(str(folder)).metadata or {}).get("sha256", {})
        self.recipe = read_recipe(_read(context, RECIPE, digests))
        calibrator: Calibrator = UNCALIBRATED
        if self.recipe.training.calibration != "none":
            calibrator = calibrator_from_json(_read(context, CALIBRATOR, digests).decode())
        onnx = _read(context, ONNX, digests)
        self.predictor = Predictor(onnx, self.recipe.window, calibrator, self.recipe.context_count)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002 - MLflow's signature
        """Return `decided_at` (UTC) and `probability`, one row per decidable bar.

        Of a panel's frame also `symbol`; of a network with further outputs also those of `Predictor.predict_further`.

        Args:
            context: unused; MLflow passes it.
            model_input: bars, oldest first: timestamp, open, high, low, close[, volume]; for a model of a panel also
                symbol, with the bars of several series; where the inputs describe the panel, of exactly its series.
            params: unused; MLflow passes it.

        Raises:
            RiseOrFallError: the frame is no series of bars, one of them cannot be, it is too short for one window, or
                it holds other series than the panel that the inputs describe.
        """
        if isinstance(self.recipe, PanelRecipe) and "symbol" in model_input.columns:
            panel = panel_from_frame(model_input, self.recipe.interval)
            require_whole_panel(panel, self.recipe)
            for each in panel.values():
                require_possible(each)
            windows = cut_panel(panel, self.predictor.window, self.recipe.panel).windows
            found = {"symbol": windows.symbols}
        else:
            bars = bars_from_frame(model_input, self.recipe.interval)
            require_possible(bars)
            windows, found = cut_windows(bars, self.predictor.window), {}
        found |= {"probability": self.predictor.predict_windows(windows)} | self.predictor.predict_further(windows)
        decided = utc_index(windows.decided_at).strftime("%Y-%m-%dT%H:%M:%SZ")
        return pd.DataFrame({"decided_at": decided, **found})


def _read(context: Any, name: str, digests: Mapping[str, str]) -> bytes:
    """Return the content of a file if it has the SHA-256 that `MLmodel` names."""
    path = Path(context.artifacts[name])
    content = path.read_bytes() if path.is_file() else b""  # a device may never end, a pipe waits for a writer
    expected, found = digests.get(name, ""), hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UntrustedModel(
            f"{context.artifacts[name]}: expected SHA-256 {expected or 'of this file'} in the version's MLmodel, found "
            f"{found}. Nothing was loaded; restore the file from a backup, or serve another version."
        )
    return content


mlflow.models.set_model(RegisteredModel())
