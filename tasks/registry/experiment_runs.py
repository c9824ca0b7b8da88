"""Runs of one series in MLflow: parameters, metrics, curves, files. One series is one experiment.

It decides nothing. Artifact paths are defined in `tasks/registry/run_artifacts.py`, names of metrics in
`metric_names.py`, what a person sees of an experiment in `experiment_page.py`.
"""

import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from model.bars import Series
from model.errors import DamagedHome, StoreUnavailable
from model.times import to_milliseconds
from model.training import Epoch
from tasks.registry.database_creation import open_client
from tasks.registry.experiment_page import NOTE_TAG, Purpose, experiment_path, experiment_tags, run_path
from tasks.registry.file_verification import local_path
from tasks.registry.local_database import LocalDatabase
from tasks.registry.mlflow_run_names import SHORT_HASH
from tasks.registry.owning_process import PROCESS_TAG, own_process
from tasks.registry.run_cache import CACHE
from tasks.registry.unreachable_store import failed_fetch, require_answer, store_unavailable
from tasks.settings import Settings, masked, preserve_tracking_uri
from tasks.store.bars_ref import AnyBarsRef

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient

POINTS_PER_BATCH = 1000  # MLflow's limit
ORIGIN_TAGS = ("mlflow.user", "mlflow.source.")  # of a run, which its logged model has too
PICTURE_COLOURS = 64  # own choice: no difference to be seen in lines, dots and text


@dataclass(frozen=True, slots=True)
class Measured:
    """Scores by metric name, and the dataset (name and digest in MLflow) that they were measured on."""

    scores: Mapping[str, float]
    name: str
    digest: str


class ExperimentRuns:
    """Runs of one MLflow experiment."""

    def __init__(
        self, uri: str, artifact_root: str, series: Series, name: str = "", purpose: Purpose = "retrain"
    ) -> None:
        """Set the address of MLflow; nothing is read or written yet.

        Args:
            uri: tracking address, `sqlite:///...` or `http://...`.
            artifact_root: where a new experiment stores its artifacts; empty lets the server decide.
            series: series of the experiment.
            name: name of the experiment and of the registered model; empty takes the series' own.
            purpose: what its runs are, for the descriptions.
        """
        self.uri = uri
        self.purpose = purpose
        self.series = series
        self.name = name or series.name
        self.artifact_root = artifact_root
        self.database = LocalDatabase(uri)

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's own client, for everything that `tasks/registry/local_database.py` cannot answer."""
        return open_client(self.uri)

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
        """Return the experiment of the series; create it with a description and a view on first use."""
        known = CACHE.experiments.get((self.uri, self.name))
        if known is not None:
            return known
        found = self.client.get_experiment_by_name(self.name)
        experiment_id = self._create_experiment() if found is None else str(found.experiment_id)
        CACHE.keep_experiment((self.uri, self.name), experiment_id)
        return experiment_id

    def _create_experiment(self) -> str:
        """Create the experiment, or return the one that another process has just created."""
        from mlflow.exceptions import MlflowException  # imported here: see client

        location = f"{self.artifact_root}/{self.name}" if self.artifact_root else None
        tags = experiment_tags(self.purpose, self.series)
        try:
            return str(self.client.create_experiment(self.name, artifact_location=location, tags=tags))
        except MlflowException as error:
            found = self.client.get_experiment_by_name(self.name)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise
            return str(found.experiment_id)

    def artifact_location(self) -> str:
        """Return where the experiment of the series keeps its artifacts; empty before its first run."""
        with require_answer(f"{self.name} in MLflow at {masked(self.uri)}"):
            found = self.client.get_experiment_by_name(self.name)
        return "" if found is None else str(found.artifact_location)

    def start_run(
        self, name: str, tags: Mapping[str, str], parent: str = "", started_at: datetime | None = None
    ) -> str:
        """Start a run (a child of `parent` when given) and return its id.

        Args:
            name: of the run.
            tags: of the run.
            parent: run that it belongs to.
            started_at: when the work of the run began; None: now.

        Raises:
            DamagedHome: the experiment was deleted in MLflow.
        """
        experiment_id = self.experiment_id() if parent else self._experiment_with_page()
        marks = {**tags, PROCESS_TAG: own_process()} | ({"mlflow.parentRunId": parent} if parent else {})
        began = None if started_at is None else to_milliseconds(started_at)
        run = self.client.create_run(experiment_id, start_time=began, tags=marks, run_name=name)
        return str(run.info.run_id)

    def _experiment_with_page(self) -> str:
        """Return the experiment of the series, with the description and the view of this version."""
        found = self.client.get_experiment_by_name(self.name)
        if found is None:
            return self._create_experiment()
        if found.lifecycle_stage != "active":
            raise DamagedHome(
                f"{self.name}: expected an active experiment in MLflow at {masked(self.uri)}, found one that was "
                "deleted there, with its runs. Restore it: `mlflow experiments restore --experiment-id "
                f"{found.experiment_id}`, with that address in MLFLOW_TRACKING_URI."
            )
        self._renew_page(found)
        return str(found.experiment_id)

    def _renew_page(self, found: "Experiment") -> None:
        """Give the experiment of an earlier version its description and view; a description by a person stays."""
        note = found.tags.get(NOTE_TAG, "")
        by_a_person = note and not note.startswith(("Retrains of ", "Replay of ", "Search for "))
        for key, value in experiment_tags(self.purpose, self.series).items():
            if found.tags.get(key) != value and not (key == NOTE_TAG and by_a_person):
                self.client.set_experiment_tag(found.experiment_id, key, value)

    def rename_run(self, run_id: str, name: str) -> None:
        """Give a run a name that says what happened."""
        self.client.update_run(run_id, name=name)

    def claim_run(self, run_id: str) -> None:
        """Let a run that is resumed belong to this process, and count as running again."""
        self.client.set_tag(run_id, PROCESS_TAG, own_process())
        self.client.update_run(run_id, status="RUNNING")

    def log_values(
        self,
        run_id: str,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        curves: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """Log metrics, parameters, tags and curves of a run in one round trip; NaN values are left out.

        Args:
            run_id: of the run.
            metrics: one value each.
            params: any values; logged as text.
            tags: of the run.
            curves: one value per epoch (1..) each.
        """
        from mlflow.entities import Metric, Param, RunTag  # imported here: see client

        now = to_milliseconds(datetime.now(UTC))
        named = [(key, value, 0) for key, value in (metrics or {}).items()]
        named += [(key, value, epoch) for key, each in (curves or {}).items() for epoch, value in enumerate(each, 1)]
        points = [Metric(key, float(value), now, step) for key, value, step in named if value == value]  # noqa: PLR0124 - NaN
        self.client.log_batch(
            run_id,
            metrics=points[:POINTS_PER_BATCH],
            params=[Param(key, str(value)) for key, value in (params or {}).items()],
            tags=[RunTag(key, str(value)) for key, value in (tags or {}).items()],
        )
        for start in range(POINTS_PER_BATCH, len(points), POINTS_PER_BATCH):
            self.client.log_batch(run_id, metrics=points[start : start + POINTS_PER_BATCH])
        if curves is not None:
            CACHE.keep_curves((self.uri, run_id), curves)

    def create_logged_model(self, run_id: str, name: str, measured: Measured | None) -> tuple[str, str]:
        """Create a logged model with what its page shows: the run's parameters, origin and metrics, and its scores.

        Args:
            run_id: run that trained the model, whose curves are left out.
            name: of the logged model in MLflow.
            measured: scores, tied to the dataset that they were measured on; NaN values are left out.

        Returns:
            Its id, and where its files belong; it is pending until it is finalised.
        """
        from mlflow.entities import LoggedModelOutput, Metric  # imported here: see client

        run = self.client.get_run(run_id)
        origin = {key: value for key, value in run.data.tags.items() if key.startswith(ORIGIN_TAGS)}
        model = self.client.create_logged_model(
            run.info.experiment_id, name, run_id, tags=origin, params=dict(run.data.params)
        )
        model_id = str(model.model_id)
        self.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
        metrics = [
            Metric(each.key, each.value, each.timestamp, each.step, model_id=model_id, run_id=run_id)
            for each in run.data._metric_objs  # noqa: SLF001 - the public values have no time
            if each.step == 0
        ]
        if measured is not None:
            now = to_milliseconds(datetime.now(UTC))
            tied = {"model_id": model_id, "dataset_name": measured.name, "dataset_digest": measured.digest}
            scores = {key: value for key, value in measured.scores.items() if value == value}  # noqa: PLR0124 - NaN
            metrics += [Metric(key, float(value), now, 0, run_id=run_id, **tied) for key, value in scores.items()]
        self.client.log_batch(run_id, metrics=metrics)
        return model_id, str(model.artifact_location)

    def log_figure(self, run_id: str, figure: "Figure", path: str) -> None:
        """Log a matplotlib figure as an image of few colours: a third of the size."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # imported here: takes a second
        from PIL import Image  # imported here: a dependency of matplotlib, for pictures only

        canvas: Any = FigureCanvasAgg(figure)  # matplotlib's drawing has no types
        small = io.BytesIO()
        canvas.draw()
        image = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")
        image.quantize(PICTURE_COLOURS, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
        folder, _, name = path.rpartition("/")
        self.log_files(run_id, {name: small.getvalue()}, folder)

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
        for name, content in files.items():
            CACHE.keep_file((self.uri, run_id, f"{folder}/{name}" if folder else name), content)

    def read_curves(self, run_id: str) -> list[Epoch]:
        """Return the epochs of a fold's run, first to last."""
        from tasks.registry.run_metrics import read_curves  # imported here: loads the evaluation, predict needs none

        known = CACHE.curves.get((self.uri, run_id))
        if known is not None:
            return read_curves(
                lambda name: {
                    epoch: value
                    for epoch, value in enumerate(known.get(name, ()), start=1)
                    if value == value  # noqa: PLR0124 - NaN
                }
            )
        return read_curves(
            lambda name: {point.step: point.value for point in self.client.get_metric_history(run_id, name)}
        )

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
        known = CACHE.files.get((self.uri, run_id, path))
        if known is not None:
            return known
        folder = self.database.run_folder(run_id)
        if folder is not None and (folder / path).is_file():
            try:
                return (folder / path).read_bytes()
            except OSError as error:
                raise store_unavailable(f"{self.name}: run {run_id}, file {path}", error) from error
        parent = path.rpartition("/")[0] or None

        def listed() -> list[str]:
            return [each.path for each in self.client.list_artifacts(run_id, parent)]

        try:
            with tempfile.TemporaryDirectory() as place:
                return Path(self.client.download_artifacts(run_id, path, place)).read_bytes()
        except Exception as error:
            raise failed_fetch(f"{self.name}: run {run_id}, file {path}", [path], listed, error) from error

    def local_folder(self, run_id: str) -> Path | None:
        """Return the folder of a run's files; None if it is not on this machine."""
        known = self.database.run_folder(run_id)
        return known if known is not None else local_path(self.client.get_run(run_id).info.artifact_uri)

    def log_bars(self, run_id: str, ref: AnyBarsRef, context: str, span: str = "") -> None:
        """Log the bars that a run used as a dataset: place, table version, content hash, span.

        Args:
            run_id: of the run.
            ref: the bars.
            context: what they were used for: `training`, `test`.
            span: first and last decision where only a part was used.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag  # imported here: see client

        profile = {"rows": ref.rows, "first": str(ref.first), "last": str(ref.last), "sha256": ref.sha256}
        name, digest = self.dataset_of(ref, context, span)
        dataset = Dataset(
            name=name,
            digest=digest,
            source_type="delta_table",
            source=json.dumps({"uri": ref.uri, "version": ref.version}),
            profile=json.dumps(profile | ({context: span} if span else {})),
        )
        self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def dataset_of(self, ref: AnyBarsRef, context: str, span: str = "") -> tuple[str, str]:
        """Return name and digest of the dataset that `log_bars` logs."""
        name = f"{self.name} bars v{ref.version}" + (f", {context} {span}" if span else "")
        return name, ref.sha256[:SHORT_HASH]

    def experiment_link(self) -> str:
        """Return where a browser finds the runs of the experiment."""
        return f"{self._seen_at()}/{experiment_path(self.experiment_id())}"

    def path_of_runs(self) -> str:
        """Return the path below MLflow's address that opens the runs; empty where there are none. Creates nothing."""
        found = self.database.experiment_id(self.name)
        if found is None:
            experiment = self.client.get_experiment_by_name(self.name)
            found = (None if experiment is None else str(experiment.experiment_id),)
        return experiment_path(found[0]) if found[0] else ""

    def run_link(self, run_id: str) -> str:
        """Return where a browser finds a run."""
        return f"{self._seen_at()}/{run_path(self.experiment_id(), run_id)}"

    def _seen_at(self) -> str:
        """Return the address of MLflow in a browser: the server's, else where `mlflow ui` shows it."""
        seen = Settings().mlflow_url or (self.uri if self.uri.startswith("http") else "http://127.0.0.1:5000")
        return seen.rstrip("/")

    def finish_run(self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED") -> None:
        """End a run."""
        self.client.set_terminated(run_id, status)


def flatten_specs(specs: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by their dotted names, as they are logged as parameters."""
    flat: dict[str, Any] = {}
    for key, value in specs.items():
        flat |= flatten_specs(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
