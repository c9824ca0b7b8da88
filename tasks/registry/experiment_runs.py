"""Runs of one series in MLflow: parameters, metrics, curves, files. One series is one experiment.

It decides nothing. Artifact paths are defined in `tasks/registry/run_artifacts.py`. Caution: the tables of MLflow's
database must exist before two clients meet.
"""

import json
import math
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from model.bars import Series
from model.errors import StoreUnavailable
from model.training import Epoch
from tasks.registry.local_database import LocalDatabase
from tasks.registry.owning_process import own_process
from tasks.registry.unreachable_store import failed_fetch, require_answer
from tasks.settings import Settings, preserve_tracking_uri
from tasks.store.bar_store import BarsRef

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.tracking import MlflowClient

POINTS_PER_BATCH = 1000  # MLflow's limit
DIGEST_LENGTH = 36  # MLflow's limit
PROCESS_TAG = "process"  # the process that a run belongs to: if it is gone while the run is running, it was killed


class ExperimentRuns:
    """Runs of one MLflow experiment."""

    def __init__(self, uri: str, artifact_root: str, series: Series, name: str = "") -> None:
        """Set the address of MLflow; nothing is read or written yet.

        Args:
            uri: tracking address, `sqlite:///...` or `http://...`.
            artifact_root: where a new experiment stores its artifacts; empty lets the server decide.
            series: series of the experiment.
            name: name of the experiment and of the registered model; empty takes the series' own.
        """
        self.uri = uri
        self.series = series
        self.name = name or series.name
        self.artifact_root = artifact_root
        self.database = LocalDatabase(uri)

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's own client, for everything that `tasks/registry/local_database.py` cannot answer."""
        import mlflow  # imported here: three seconds, which --help and a prediction must not pay

        if self.uri.startswith("sqlite:///"):
            Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return mlflow.MlflowClient(tracking_uri=self.uri)

    def set_global_uri(self) -> "MlflowClient":
        """Let MLflow's functions that take no address use this MLflow, and return the client.

        MLflow also writes the address into the environment, where the settings of another home would read it; that is
        undone.
        """
        import mlflow  # imported here: see client

        client = self.client  # creates the folder of a local database
        with preserve_tracking_uri():
            mlflow.set_tracking_uri(self.uri)
        return client

    def experiment_id(self) -> str:
        """Return the experiment of the series; create it with a description on first use."""
        found = self.client.get_experiment_by_name(self.name)
        if found is not None:
            return str(found.experiment_id)
        location = f"{self.artifact_root}/{self.name}" if self.artifact_root else None
        note = (
            f"Retrains of {self.series.symbol} {self.series.interval}. A parent run is one retrain: its metrics are "
            "out of sample. Its child runs, if any, are the folds."
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
        marks = {**tags, PROCESS_TAG: own_process()} | ({"mlflow.parentRunId": parent} if parent else {})
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
        from mlflow.entities import Metric, Param, RunTag  # imported here: see client

        now = int(datetime.now(UTC).timestamp() * 1000)
        self.client.log_batch(
            run_id,
            metrics=[Metric(key, float(value), now, 0) for key, value in (metrics or {}).items() if value == value],  # noqa: PLR0124 - NaN
            params=[Param(key, str(value)) for key, value in (params or {}).items()],
            tags=[RunTag(key, str(value)) for key, value in (tags or {}).items()],
        )

    def log_curves(self, run_id: str, curves: Mapping[str, Sequence[float]]) -> None:
        """Log one value per epoch (1..) and metric, in one round trip; NaN values are left out."""
        from mlflow.entities import Metric  # imported here: see client

        now = int(datetime.now(UTC).timestamp() * 1000)
        points = [
            Metric(key, float(value), now, epoch)
            for key, values in curves.items()
            for epoch, value in enumerate(values, start=1)
            if value == value  # noqa: PLR0124 - NaN
        ]
        for start in range(0, len(points), POINTS_PER_BATCH):
            self.client.log_batch(run_id, metrics=points[start : start + POINTS_PER_BATCH])

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
        from mlflow.exceptions import MlflowException  # imported here: see client

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
        known = self.database.params(run_id)
        if known is not None:
            return known
        from mlflow.exceptions import MlflowException  # imported here: see client

        try:
            with require_answer(f"{self.name}: run {run_id}"):
                return dict(self.client.get_run(run_id).data.params)
        except MlflowException:
            return {}

    def run_tags(self, run_id: str) -> dict[str, str]:
        """Return the tags of a run; none where the run is gone."""
        from mlflow.exceptions import MlflowException  # imported here: see client

        try:
            with require_answer(f"{self.name}: run {run_id}"):
                return dict(self.client.get_run(run_id).data.tags)
        except MlflowException:
            return {}

    def run_values(self, run_id: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return the parameters and the tags of a run."""
        found = self.client.get_run(run_id).data
        return dict(found.params), dict(found.tags)

    def read_file(self, run_id: str, path: str) -> bytes:
        """Return one artifact file of a run.

        Raises:
            UnsoundModel: there is no such run, or it has no such file.
            StoreUnavailable: the artifact store could not be read, or did not deliver a file that it lists.
        """
        parent = path.rpartition("/")[0] or None

        def listed() -> list[str]:
            return [each.path for each in self.client.list_artifacts(run_id, parent)]

        try:
            with tempfile.TemporaryDirectory() as place:
                return Path(self.client.download_artifacts(run_id, path, place)).read_bytes()
        except Exception as error:
            raise failed_fetch(f"{self.name}: run {run_id}, file {path}", [path], listed, error) from error

    def log_bars(self, run_id: str, ref: BarsRef, context: str) -> None:
        """Log the bars that a run used as a dataset: place, table version, content hash, span."""
        from mlflow.entities import Dataset, DatasetInput, InputTag  # imported here: see client

        profile = {"rows": ref.rows, "first": str(ref.first), "last": str(ref.last), "sha256": ref.sha256}
        dataset = Dataset(
            name=f"{self.name} bars v{ref.version}",
            digest=ref.sha256[:DIGEST_LENGTH],
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


def code_version() -> dict[str, str]:
    """Return the git commit of the code and whether it was changed since; empty without a repository."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607 - fixed arguments
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
    except FileNotFoundError:  # git is not installed
        return {}
    return {"mlflow.source.git.commit": commit, "git_dirty": str(bool(git("status", "--porcelain")))} if commit else {}


def flatten_specs(specs: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by their dotted names, as they are logged as parameters."""
    flat: dict[str, Any] = {}
    for key, value in specs.items():
        flat |= flatten_specs(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
