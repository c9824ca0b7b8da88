"""Files of one registered version: the network twice, its recipe, its out-of-sample record, its calibrator."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from model.bars import bars_from_frame
from model.calibration import UNCALIBRATED, Calibrator, calibrator_from_json, calibrator_to_json
from model.errors import SpecError, UnsoundModel
from model.panel import cut_panel
from model.panel_recipe import PanelRecipe, panel_from_frame, read_recipe
from model.predictor import Predictor
from model.recipe import Recipe
from model.record import Record, record_from_frame
from model.version_file_names import CALIBRATOR, KERAS, ONNX, RECIPE, RECORD
from model.windows import cut_windows
from tasks.registry.file_verification import ARTIFACTS, file_digests, require_same_digest, sha256
from tasks.registry.run_artifacts import parquet_bytes
from tasks.registry.unreachable_store import ABSENT_ON_DISK, is_store_failure, regular_content, store_unavailable

FILES = (KERAS, ONNX, RECIPE, RECORD)
EXAMPLE = "input_example.json"  # written by MLflow, one folder up


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Files that make a version: the network twice, its recipe, its out-of-sample record, its calibrator."""

    keras: bytes
    onnx: bytes
    recipe: Recipe
    record: Record
    calibrator: Calibrator = UNCALIBRATED


def require_panel_recipe(recipe: Recipe, place: str) -> PanelRecipe:
    """Return a recipe as that of a panel.

    Raises:
        UnsoundModel: it is that of a single series.
    """
    if isinstance(recipe, PanelRecipe):
        return recipe
    raise UnsoundModel(f"{place}: expected the recipe of a panel, found that of {recipe.symbol}")


@dataclass(frozen=True, slots=True, weakref_slot=True)
class LoadedVersion:
    """Files of one version on this machine, read on demand.

    Keep the value, not its folder: a downloaded folder is deleted with it (`ModelRegistry.read_version`). Every method
    raises UnsoundModel if a file is missing or broken, UntrustedModel if it is not the recorded one, and
    StoreUnavailable if the disk fails.

    Attributes:
        place: the version, for errors.
        folder: the files named in `FILES`.
        recorded: SHA-256 by path in the version, from the decision log; empty if none was recorded.
    """

    place: str
    folder: Path
    recorded: Mapping[str, str] = field(default_factory=dict)

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of every file of the version by its path, as it is now."""
        return file_digests(self.place, self.folder.parent)

    @property
    def network_sha256(self) -> str:
        """SHA-256 of the network for serving: the identity of what predicts."""
        return sha256(self.onnx())

    def onnx(self) -> bytes:
        """Return the network for serving."""
        return self._read(ONNX)

    def keras(self) -> bytes:
        """Return the network for warm starts and inspection."""
        return self._read(KERAS)

    def predictor(self, *, calibrated: bool = True) -> Predictor:
        """Return the network ready to predict, as serving would use it.

        Args:
            calibrated: with its calibrator; False to compare two networks, because a steep calibrator would magnify
                rounding errors.

        Raises:
            UnsoundModel: it cannot be opened.
            StoreUnavailable: the disk or the memory of this machine is the reason.
        """
        recipe = self.recipe()
        return self._predictor(recipe, self.onnx(), self._calibrator(recipe) if calibrated else UNCALIBRATED)

    def opened(self, *, optimized: bool = True) -> tuple[Recipe, Predictor, str]:
        """Return the recipe, the network as `predictor` does and its SHA-256; each file is read once.

        Args:
            optimized: see `Predictor`.
        """
        recipe, network = self.recipe(), self.onnx()
        predictor = self._predictor(recipe, network, self._calibrator(recipe), optimized=optimized)
        return recipe, predictor, sha256(network)

    def _predictor(
        self, recipe: Recipe, network: bytes, calibrator: Calibrator, *, optimized: bool = True
    ) -> Predictor:
        try:
            return Predictor(network, recipe.window, calibrator, recipe.context_count, optimized=optimized)
        except Exception as error:  # onnxruntime raises classes of its own, without a common root
            if is_store_failure(error):
                raise store_unavailable(f"{self.place}: {ONNX}", error) from error
            raise UnsoundModel(f"{self.place}: {ONNX} cannot be opened: {error}") from error

    def recipe(self) -> Recipe:
        """Return the recipe.

        Raises:
            UnsoundModel: the file is no recipe.
        """
        content = self._read(RECIPE)
        try:
            return read_recipe(content)
        except ValueError as error:
            raise UnsoundModel(f"{self.place}: {RECIPE} cannot be read: {error}") from error

    def panel_recipe(self) -> PanelRecipe:
        """Return the recipe of a version of a panel.

        Raises:
            UnsoundModel: the file is no recipe, or that of a single series.
        """
        return require_panel_recipe(self.recipe(), self.place)

    def calibrator(self) -> Calibrator:
        """Return what is applied to the network's probabilities.

        Raises:
            UnsoundModel: the recipe asks for one, and the file is missing or holds none.
        """
        return self._calibrator(self.recipe())

    def _calibrator(self, recipe: Recipe) -> Calibrator:
        if recipe.training.calibration == "none":
            return UNCALIBRATED
        content = self._read(CALIBRATOR)
        try:
            return calibrator_from_json(content.decode())
        except (ValueError, SpecError) as error:
            raise UnsoundModel(f"{self.place}: {CALIBRATOR} cannot be read: {error}") from error

    def record(self) -> Record:
        """Return the out-of-sample record.

        Raises:
            UnsoundModel: the file is no record.
        """
        import pandas as pd  # imported here: serving needs no record

        content = self._read(RECORD)
        try:
            return record_from_frame(pd.read_parquet(BytesIO(content)))
        except (OSError, ValueError, SpecError) as error:  # pyarrow raises OSError for some broken content
            raise UnsoundModel(f"{self.place}: {RECORD} cannot be read: {error}") from error

    def newest_fold(self) -> Float64[np.ndarray, " decision"]:
        """Return P(rise) of the record's newest test fold, oldest first; read without pandas, which takes longer.

        Raises:
            UnsoundModel: the file is no record.
        """
        import pyarrow.parquet as pq  # imported here: a version that stated no share needs no record

        content = self._read(RECORD)
        try:
            rows = pq.ParquetFile(BytesIO(content)).read(["decided_at", "fold", "probability"])
            fold, probabilities = np.asarray(rows["fold"]), np.asarray(rows["probability"], np.float64)
            order = np.argsort(np.asarray(rows["decided_at"]), kind="stable")
            newest: np.ndarray = probabilities[order][fold[order] == fold[order[-1]]]
        except (OSError, ValueError, LookupError) as error:  # pyarrow raises OSError for some broken content
            raise UnsoundModel(f"{self.place}: {RECORD} cannot be read: {error}") from error
        return newest

    def predict_example(self) -> Float64[np.ndarray, " window"]:
        """Return P(rise) of the windows of the input example that MLflow keeps with the version.

        Raises:
            UnsoundModel: there is no example, or it is none.
        """
        import pandas as pd  # imported here: serving needs no example

        recipe, predictor, content = self.recipe(), self.predictor(), self._read(EXAMPLE, inside="")
        try:
            plain = json.loads(content)
            frame = pd.DataFrame(plain["data"], columns=plain["columns"])
            if isinstance(recipe, PanelRecipe):
                windows = cut_panel(panel_from_frame(frame, recipe.interval), predictor.window, recipe.panel).windows
            else:
                windows = cut_windows(bars_from_frame(frame, recipe.interval), predictor.window)
        except (KeyError, TypeError, ValueError, SpecError) as error:
            raise UnsoundModel(f"{self.place}: {EXAMPLE} cannot be read: {error}") from error
        return predictor.predict_windows(windows)

    def _read(self, name: str, inside: str = ARTIFACTS) -> bytes:
        """Return the content of a file, if it is the recorded one."""
        try:
            content = regular_content((self.folder if inside else self.folder.parent) / name)
        except ABSENT_ON_DISK as error:
            raise UnsoundModel(f"{self.place}: {name} cannot be read: {error}") from error
        except (OSError, MemoryError) as error:
            raise store_unavailable(f"{self.place}: {name}", error) from error
        if self.recorded:
            require_same_digest(self.place, inside + name, sha256(content), self.recorded)
        return content


def write_model_files(folder: Path, files: ModelFiles) -> dict[str, str]:
    """Write what a version is made of; return artifact name -> path."""
    (folder / KERAS).write_bytes(files.keras)
    (folder / ONNX).write_bytes(files.onnx)
    (folder / RECIPE).write_text(files.recipe.model_dump_json(indent=2), encoding="utf-8")
    (folder / RECORD).write_bytes(parquet_bytes(files.record.frame()))
    names: tuple[str, ...] = FILES
    if files.recipe.training.calibration != "none":
        (folder / CALIBRATOR).write_text(calibrator_to_json(files.calibrator), encoding="utf-8")
        names = (*FILES, CALIBRATOR)
    return {name: str(folder / name) for name in names}
