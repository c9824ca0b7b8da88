"""MLflow as a plain adapter: runs, curves, pictures, model versions and their aliases.

It knows MLflow and the names used there (one series = one experiment = one registered model). It decides nothing.
Aliases: `challenger` is the version registered last, `champion` the one that predicts. Two traps: the registry's
search returns empty aliases, so they are read by alias; and its tables must exist before two clients meet.
"""

import json
import logging
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from model.bars import Series
from model.calibration import UNCALIBRATED, Calibrator, calibrator_from_json, calibrator_to_json
from model.errors import NoChampion, RiseOrFallError, SpecError, StoreUnavailable, UnsoundModel
from model.metrics import Record, record_from_frame
from model.predictor import Predictor
from model.recipe import Recipe
from model.training import Epoch
from tasks.registry.local_database import RegistryFile
from tasks.registry.run_artifacts import MODEL_FOLDER
from tasks.settings import Settings
from tasks.store.bar_store import BarsRef

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

Alias = Literal["champion", "challenger"]
FILES = ("network.keras", "network.onnx", "recipe.json", "record.parquet")
CALIBRATOR = "calibrator.json"  # also stored where the recipe asks for one
SERVING_PACKAGES = ("mlflow", "numpy", "pandas", "onnxruntime", "pydantic", "jaxtyping")


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a registered model, as far as decisions need it."""

    version: str
    run_id: str
    trained_until: datetime
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return version, training end and metrics as plain values."""
        return {
            "version": self.version,
            "trained_until": self.trained_until.isoformat(),
            **self.metrics,
            "run_id": self.run_id,
            "recipe": self.tags.get("recipe", ""),
        }


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What a version is made of: the network twice, its recipe, its out-of-sample record, its calibrator."""

    keras: bytes
    onnx: bytes
    recipe: Recipe
    record: Record
    calibrator: Calibrator = UNCALIBRATED


class Tracking:
    """Runs and versions of one series in one MLflow."""

    def __init__(self, uri: str, artifact_root: str, series: Series, name: str = "") -> None:
        """Point MLflow at `uri`; nothing is read or written yet.

        Args:
            uri: tracking address, `sqlite:///...` or `http://...`.
            artifact_root: where a new experiment keeps its artifacts; empty lets the server decide.
            series: the series that the models are of.
            name: name of the experiment and of the registered model; empty takes the series' own.
        """
        self.uri = uri
        self.series = series
        self.name = name or series.name
        self.artifact_root = artifact_root
        self._file = RegistryFile(uri)

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's own client, for everything that `tasks/registry/local_database.py` cannot answer."""
        import mlflow  # here: three seconds, which --help and a prediction must not pay

        if self.uri.startswith("sqlite:///"):
            Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return mlflow.MlflowClient(tracking_uri=self.uri)

    def point_mlflow(self) -> None:
        """Let MLflow's functions, which take no address, mean this MLflow.

        MLflow writes the address into the environment too, where another home's settings would find it: taken out.
        """
        import mlflow  # here: see client

        assert self.client  # makes the folder of a local database
        before = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(self.uri)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before

    # runs

    def experiment_id(self) -> str:
        """Return the experiment of the series; create it with a description on first use."""
        found = self.client.get_experiment_by_name(self.name)
        if found is not None:
            return str(found.experiment_id)
        location = f"{self.artifact_root}/{self.name}" if self.artifact_root else None
        note = (
            f"Retrains of {self.series.symbol} {self.series.interval}. A parent run is one retrain: its metrics are "
            "measured on bars that the model never saw. Its child runs, if any, are the folds."
        )
        return str(
            self.client.create_experiment(
                self.name,
                artifact_location=location,
                tags={"mlflow.note.content": note, "mlflow.experimentKind": "custom_model_development"},
            )
        )

    def start_run(self, name: str, tags: Mapping[str, str], parent: str = "") -> str:
        """Start a run (a child of `parent` when given) and return its id."""
        marks = dict(tags) | ({"mlflow.parentRunId": parent} if parent else {})
        run = self.client.create_run(self.experiment_id(), tags=marks, run_name=name)
        return str(run.info.run_id)

    def log_values(
        self,
        run_id: str,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log metrics, parameters and tags of a run in one round trip; NaN metrics are left out."""
        from mlflow.entities import Metric, Param, RunTag  # here: see client

        now = int(datetime.now(UTC).timestamp() * 1000)
        self.client.log_batch(
            run_id,
            metrics=[Metric(key, float(value), now, 0) for key, value in (metrics or {}).items() if value == value],  # noqa: PLR0124 - NaN
            params=[Param(key, str(value)) for key, value in (params or {}).items()],
            tags=[RunTag(key, str(value)) for key, value in (tags or {}).items()],
        )

    def log_curves(self, run_id: str, curves: Mapping[str, Sequence[float]]) -> None:
        """Log one value per epoch (1..) and metric, in one round trip; NaN values are left out."""
        from mlflow.entities import Metric  # here: see client

        now = int(datetime.now(UTC).timestamp() * 1000)
        points = [
            Metric(key, float(value), now, epoch)
            for key, values in curves.items()
            for epoch, value in enumerate(values, start=1)
            if value == value  # noqa: PLR0124 - NaN
        ]
        for start in range(0, len(points), 1000):  # MLflow's limit for one batch
            self.client.log_batch(run_id, metrics=points[start : start + 1000])

    def log_figure(self, run_id: str, figure: "Figure", path: str) -> None:
        """Log a matplotlib figure as an image."""
        self.client.log_figure(run_id, figure, path)

    def log_text(self, run_id: str, text: str, path: str) -> None:
        """Log a text file."""
        self.client.log_text(run_id, text, path)

    def log_files(self, run_id: str, files: Mapping[str, bytes], folder: str) -> None:
        """Log named bytes as files of one artifact folder.

        Raises:
            StoreUnavailable: they cannot be put there; MLflow says no more than that its store answered with an error.
        """
        from mlflow.exceptions import MlflowException  # here: see client

        with tempfile.TemporaryDirectory() as place:
            for name, content in files.items():
                (Path(place) / name).write_bytes(content)
            try:
                self.client.log_artifacts(run_id, place, folder)
            except (MlflowException, OSError) as error:
                size, where = sum(map(len, files.values())), self.client.get_run(run_id).info.artifact_uri
                raise StoreUnavailable(
                    f"{self.name}: expected to put {', '.join(files)} ({size:,} bytes) into {where}/{folder}, found: "
                    f"{error}. Look whether the artifact store is full or away, then run again."
                ) from error

    def read_curves(self, run_id: str) -> list[Epoch]:
        """Return the epochs of a fold's run, first to last."""
        names = ("loss", "accuracy", "validation_loss", "validation_accuracy", "learning_rate")
        values = {
            name: {point.step: point.value for point in self.client.get_metric_history(run_id, name)} for name in names
        }
        return [
            Epoch(number=number, seconds=math.nan, **{name: values[name].get(number, math.nan) for name in names})
            for number in sorted(values["loss"])
        ]

    def run_params(self, run_id: str) -> dict[str, str]:
        """Return the parameters of a run; none where the run is gone."""
        known = self._file.params(run_id)
        if known is not None:
            return known
        from mlflow.exceptions import MlflowException  # here: see client

        try:
            return dict(self.client.get_run(run_id).data.params)
        except MlflowException:
            return {}

    def run_values(self, run_id: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return the parameters and the tags of a run."""
        found = self.client.get_run(run_id).data
        return dict(found.params), dict(found.tags)

    def read_file(self, run_id: str, path: str) -> bytes:
        """Return one artifact file of a run."""
        with tempfile.TemporaryDirectory() as place:
            local = self.client.download_artifacts(run_id, path, place)
            return Path(local).read_bytes()

    def log_bars(self, run_id: str, ref: BarsRef, context: str) -> None:
        """Log the bars that a run used as a dataset: place, table version, content hash, span."""
        from mlflow.entities import Dataset, DatasetInput, InputTag  # here: see client

        profile = {"rows": ref.rows, "first": str(ref.first), "last": str(ref.last), "sha256": ref.sha256}
        dataset = Dataset(
            name=f"{self.name} bars v{ref.version}",
            digest=ref.sha256[:36],  # MLflow's limit
            source_type="delta_table",
            source=json.dumps({"uri": ref.uri, "version": ref.version}),
            profile=json.dumps(profile),
        )
        self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def run_link(self, run_id: str) -> str:
        """Return where a browser finds a run: on the server, else where `mlflow ui` shows it."""
        place = f"#/experiments/{self.experiment_id()}/runs/{run_id}"
        seen = Settings().mlflow_url or (self.uri if self.uri.startswith("http") else "http://127.0.0.1:5000")
        return f"{seen.rstrip('/')}/{place}"

    def finish_run(self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED") -> None:
        """End a run."""
        self.client.set_terminated(run_id, status)

    # versions

    def register(self, run_id: str, files: ModelFiles, example: "pd.DataFrame", tags: Mapping[str, str]) -> Version:
        """Register a model version with everything it is made of, and give it the alias `challenger`.

        Args:
            run_id: the retrain's run.
            files: the network twice, recipe and record.
            example: bars enough for one window; MLflow shows them as the input example.
            tags: what the version's page should say, `trained_until` among them.
        """
        import mlflow.pyfunc  # here: see client

        self.point_mlflow()
        self._ensure_registered_model()
        with tempfile.TemporaryDirectory() as place:
            artifacts = write_model_files(Path(place), files)
            # Without an experiment set, MLflow puts the files into the default one's folder, below the current one.
            mlflow.set_experiment(experiment_id=self.experiment_id())
            mlflow.models.Model.log(
                artifact_path=None,
                name="model",
                flavor=mlflow.pyfunc,
                run_id=run_id,
                registered_model_name=self.name,
                python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts=artifacts,
                code_paths=[str(Path(__file__).parents[2] / "model")],
                signature=_signature(),
                input_example=example,
                pip_requirements=[f"{name}=={metadata.version(name)}" for name in SERVING_PACKAGES],
            )
        found = self.client.search_model_versions(f"name = '{self.name}' and run_id = '{run_id}'")
        version = str(max(int(each.version) for each in found))
        for key, value in tags.items():
            self.client.set_model_version_tag(self.name, version, key, value)
        self.set_alias("challenger", version)
        return self.version(version)

    def add_version(self, run_id: str, files: ModelFiles, tags: Mapping[str, str]) -> Version:
        """Register a version in one step, its tags included, without MLflow's wrapping: quick, for replays.

        Such a version holds the same files and is read by `read_version`; MLflow itself cannot load it.
        """
        with tempfile.TemporaryDirectory() as place:
            write_model_files(Path(place), files)
            self.client.log_artifacts(run_id, place, MODEL_FOLDER)
        self._ensure_registered_model()
        source = f"{self.client.get_run(run_id).info.artifact_uri}/model"
        made = self.client.create_model_version(self.name, source, run_id, tags=dict(tags))
        return self.version(str(made.version))

    def _ensure_registered_model(self) -> None:
        """Create the registered model of the series, with a description, on first use."""
        from mlflow.exceptions import MlflowException  # here: see client

        note = (
            f"P(rise) of the next close of {self.series.symbol} {self.series.interval}: bars in, one probability for "
            "each bar that ends a whole window. `champion` predicts; `challenger` was registered last. Each version "
            "says until when it was trained, what it was worth on bars that it never saw, and why it was promoted or "
            "not."
        )
        try:
            self.client.create_registered_model(self.name, description=note)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def find_versions(self, tag: str, value: str) -> tuple[str, ...]:
        """Return the versions that bear a tag of this value, oldest first."""
        text = value.replace("'", "''")
        found = self.client.search_model_versions(f"name = '{self.name}' and tag.`{tag}` = '{text}'")
        return tuple(sorted((str(each.version) for each in found), key=int))

    def set_alias(self, alias: Alias, version: str) -> None:
        """Let an alias name a version."""
        self.client.set_registered_model_alias(self.name, alias, version)

    def drop_alias(self, alias: Alias) -> None:
        """Let an alias name nothing."""
        self.client.delete_registered_model_alias(self.name, alias)

    def alias_number(self, alias: Alias) -> str | None:
        """Return the number of the version that an alias names, None when it names none."""
        known = self._file.alias(self.name, alias)
        if known is not None:
            return known[0]
        from mlflow.exceptions import MlflowException  # here: see client

        try:
            number = self.client.get_registered_model(self.name).aliases.get(alias)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return None if number is None else str(number)

    def aliased(self, alias: Alias) -> Version | None:
        """Return the version that an alias names, None when it names none."""
        number = self.alias_number(alias)
        return None if number is None else self.version(number)

    def champion(self) -> Version:
        """Return the champion.

        Raises:
            NoChampion: no version was promoted yet.
        """
        version = self.aliased("champion")
        if version is None:
            raise NoChampion(
                f"{self.name}: expected a champion in the registry at {self.uri}, found none. "
                "Run `riseorfall retrain` first; `riseorfall status` shows what is registered."
            )
        return version

    def version(self, number: str) -> Version:
        """Return one version with its tags and metrics.

        Raises:
            NoChampion: there is no such version.
        """
        known = self._file.version(self.name, number)
        if known is not None:
            return _version(number, known.run_id, known.tags)
        from mlflow.exceptions import MlflowException  # here: see client

        try:
            found = self.client.get_model_version(self.name, number)
        except MlflowException as error:
            raise NoChampion(
                f"{self.name}: expected version {number} in the registry at {self.uri}, found none. "
                "`riseorfall status` shows the versions that decisions were made about."
            ) from error
        return _version(number, str(found.run_id), dict(found.tags))

    def describe(self, version: str, text: str) -> None:
        """Write the description on a version's page."""
        self.client.update_model_version(self.name, version, description=text)

    def read_version(self, version: str) -> "LoadedVersion":
        """Open the files of a version, wherever the registry keeps them.

        Raises:
            UnsoundModel: a file is missing or cannot be read.
        """
        place = f"models:/{self.name}/{version}"
        known = self._file.version(self.name, version)
        folder = self._download(place) if known is None or known.folder is None else known.folder / "artifacts"
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise UnsoundModel(f"{place}: expected the files {', '.join(FILES)}; missing {', '.join(missing)}")
        return LoadedVersion(place, folder)

    def _download(self, place: str) -> Path:
        """Fetch the files of a version from wherever the registry keeps them.

        Raises:
            UnsoundModel: they are gone, or the registry knows no such version.
        """
        import mlflow.artifacts  # here: see client

        self.point_mlflow()
        try:
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=place)) / "artifacts"
        except (mlflow.exceptions.MlflowException, OSError) as error:
            raise UnsoundModel(f"{place}: expected its files in the registry, found: {error}") from error


def _version(number: str, run_id: str, tags: dict[str, str]) -> Version:
    """Take a version from what the registry says of it."""
    metrics = {key.removeprefix("metric."): float(value) for key, value in tags.items() if key.startswith("metric.")}
    return Version(number, run_id, datetime.fromisoformat(tags["trained_until"]), metrics, tags)


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """The files of one version on this machine; each is read when asked for."""

    place: str
    folder: Path

    def onnx(self) -> bytes:
        """Return the network for serving."""
        return (self.folder / "network.onnx").read_bytes()

    def keras(self) -> bytes:
        """Return the network for warm starts and inspection."""
        return (self.folder / "network.keras").read_bytes()

    def predictor(self, *, calibrated: bool = True) -> Predictor:
        """Return the network ready to predict, as serving would use it.

        Args:
            calibrated: with its calibrator; False for what the network says before it, where two answers are held
                against each other: a steep calibrator makes much of a rounding.

        Raises:
            UnsoundModel: it cannot be opened, whatever the reason.
        """
        try:
            return Predictor(self.onnx(), self.recipe().window, self.calibrator() if calibrated else UNCALIBRATED)
        except RiseOrFallError:
            raise
        except Exception as error:  # onnxruntime raises classes of its own, without a common root
            raise UnsoundModel(f"{self.place}: network.onnx cannot be opened: {error}") from error

    def recipe(self) -> Recipe:
        """Return the recipe.

        Raises:
            UnsoundModel: the file is no recipe.
        """
        try:
            return Recipe.model_validate_json((self.folder / "recipe.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise UnsoundModel(f"{self.place}: recipe.json cannot be read: {error}") from error

    def calibrator(self) -> Calibrator:
        """Return what is applied to the network's probabilities.

        Raises:
            UnsoundModel: the recipe asks for one, and the file is missing or holds none.
        """
        if self.recipe().training.calibration == "none":
            return UNCALIBRATED
        try:
            return calibrator_from_json((self.folder / CALIBRATOR).read_text(encoding="utf-8"))
        except (OSError, SpecError) as error:
            raise UnsoundModel(f"{self.place}: {CALIBRATOR} cannot be read: {error}") from error

    def record(self) -> Record:
        """Return the out-of-sample record.

        Raises:
            UnsoundModel: the file is no record.
        """
        import pandas as pd  # here: serving needs no record

        try:
            return record_from_frame(pd.read_parquet(self.folder / "record.parquet"))
        except (OSError, ValueError, SpecError) as error:
            raise UnsoundModel(f"{self.place}: record.parquet cannot be read: {error}") from error


def write_model_files(folder: Path, files: ModelFiles) -> dict[str, str]:
    """Write what a version is made of; return artifact name -> path."""
    (folder / "network.keras").write_bytes(files.keras)
    (folder / "network.onnx").write_bytes(files.onnx)
    (folder / "recipe.json").write_text(files.recipe.model_dump_json(indent=2), encoding="utf-8")
    files.record.frame().to_parquet(folder / "record.parquet", index=False)
    names: tuple[str, ...] = FILES
    if files.recipe.training.calibration != "none":
        (folder / CALIBRATOR).write_text(calibrator_to_json(files.calibrator), encoding="utf-8")
        names = (*FILES, CALIBRATOR)
    return {name: str(folder / name) for name in names}


def _signature() -> Any:
    from mlflow.models import ModelSignature  # here: see Tracking.client
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    prices = [ColSpec(DataType.double, name) for name in ("open", "high", "low", "close")]
    when = ColSpec(
        AnyType(), "timestamp"
    )  # a time with or without a zone, or ISO text: MLflow's datetime takes one of these
    inputs = [when, *prices, ColSpec(DataType.double, "volume", required=False)]
    outputs = [ColSpec(DataType.string, "decided_at"), ColSpec(DataType.double, "probability")]
    return ModelSignature(Schema(inputs), Schema(outputs))
