"""Registered versions of one series and their aliases. One series is one registered model.

`champion` is the version that predicts, `challenger` one that may replace it. It decides nothing. A version's files are
opened only if they lie in the artifact store and are those of the decision log. Caution: a version that
MLflow's search returns has no aliases, so a version is looked up by its alias.
"""

import json
import logging
import re
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from model.bars import Series
from model.errors import NoChampion, NoSuchVersion, StoreUnavailable, UnsoundModel, UntrustedModel
from model.times import as_utc
from tasks.registry.experiment_page import NOTE_TAG, corrected_model_note, model_note
from tasks.registry.experiment_runs import ExperimentRuns, Measured
from tasks.registry.file_verification import ARTIFACTS, ArtifactPlaces, require_run, require_same_digest, sha256
from tasks.registry.mlflow_run_names import later_outcomes, name_with_outcomes
from tasks.registry.model_files import FILES, LoadedVersion, ModelFiles, write_model_files
from tasks.registry.model_signature import model_signature
from tasks.registry.run_artifacts import MODEL_FOLDER
from tasks.registry.serving_code import write_serving_code
from tasks.registry.serving_requirements import pinned_requirements, skip_comparison_with_installed
from tasks.registry.unreachable_store import failed_fetch, is_there, require_answer
from tasks.settings import masked
from tasks.store.decision_log import LoggedDecision
from tasks.store.version_history import RecordedVersion, VersionHistory

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

VERSION_NUMBER = re.compile(r"[1-9][0-9]{0,17}")  # as MLflow numbers them; SQLite holds no more
MOST_DOWNLOADED = 64  # own choice: versions kept on this machine; a decision reads up to 32, 1 to 2 MB each
UNRECORDED = (
    "its decision is of version 0.1 and recorded no digests: its files are not verified until the next decision"
)
Alias = Literal["champion", "challenger"]


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a registered model, as far as decisions need it."""

    version: str
    run_id: str
    trained_until: datetime
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def bars_version(self) -> int | None:
        """Version of the table of bars that it was trained on; None if its tag holds none."""
        tag = self.tags.get("bars_version", "")
        return int(tag) if tag.isdecimal() else None

    def summary(self) -> dict[str, Any]:
        """Return version, training end and metrics as plain values."""
        return {
            "version": self.version,
            "trained_until": self.trained_until.isoformat(),
            **self.metrics,
            "run_id": self.run_id,
            "recipe": self.tags.get("recipe", ""),
        }


class ModelRegistry:
    """Versions of one registered model."""

    def __init__(self, runs: ExperimentRuns, history: VersionHistory, places: ArtifactPlaces) -> None:
        """Use the MLflow of the runs; the model has the experiment's name.

        Args:
            runs: the MLflow of the series.
            history: what the decision log knows about versions.
            places: where their files may lie.
        """
        self.runs = runs
        self.name = runs.name
        self.history = history
        self.places = places
        self._downloaded: dict[str, LoadedVersion] = {}  # oldest use first
        self._unrecorded: set[str] = set()

    @property
    def series(self) -> Series:
        """Series that the model predicts."""
        return self.runs.series

    @property
    def client(self) -> "MlflowClient":
        """MLflow's own client."""
        return self.runs.client

    @property
    def _place(self) -> str:
        """Name and address, for errors."""
        return f"{self.name} in the registry at {masked(self.runs.uri)}"

    def register(
        self,
        run_id: str,
        files: ModelFiles,
        example: "pd.DataFrame",
        tags: Mapping[str, str],
        name: str = "model",
        measured: Measured | None = None,
    ) -> Version:
        """Register a model version with everything it is made of, and give it the alias `challenger`.

        Args:
            run_id: the retrain's run.
            files: the network twice, recipe and record.
            example: bars enough for one window; MLflow shows them as the input example. Those of a panel have a symbol.
            tags: tags of the version; `trained_until` is required.
            name: of the logged model in MLflow; without / : . % and quotes.
            measured: its scores, shown on the page of the logged model.
        """
        from mlflow.entities import LoggedModelStatus  # imported here: see client

        client = self.runs.set_global_uri()
        self.ensure_registered_model()
        self._skip_used_numbers(run_id)
        model_id, location = self.runs.create_logged_model(run_id, name, measured)
        try:
            self._log_pyfunc(run_id, model_id, location, files, example)
            made = client.create_model_version(
                self.name, f"models:/{model_id}", run_id, tags=dict(tags), await_creation_for=0, model_id=model_id
            )
            number = str(made.version)
            registered = [{"name": self.name, "version": number}]
            client.set_logged_model_tags(model_id, {"mlflow.modelVersions": json.dumps(registered)})
        except BaseException:
            client.finalize_logged_model(model_id, LoggedModelStatus.FAILED)
            raise
        client.finalize_logged_model(model_id, LoggedModelStatus.READY)
        self.set_alias("challenger", number)
        return _version(self.name, number, run_id, dict(tags))

    def _log_pyfunc(
        self, run_id: str, model_id: str, location: str, files: ModelFiles, example: "pd.DataFrame"
    ) -> None:
        """Write the files of a logged model as MLflow's pyfunc, with their SHA-256 in its metadata.

        MLflow's own function, `Model.log`, asks for the history of each metric of the run, and loads the model again.
        """
        import mlflow.pyfunc  # imported here: see client
        from mlflow.models import Model

        skip_comparison_with_installed()
        with tempfile.TemporaryDirectory() as place:
            artifacts = write_model_files(Path(place), files)
            digests = {name: sha256(Path(path).read_bytes()) for name, path in artifacts.items()}
            made = Model(
                artifact_path=location,
                run_id=run_id,
                model_uuid=model_id,
                model_id=model_id,
                metadata={"sha256": digests},
            )
            saved = Path(place) / "saved"
            mlflow.pyfunc.save_model(
                path=str(saved),
                mlflow_model=made,
                python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts=artifacts,
                code_paths=[str(write_serving_code(Path(place)))],
                signature=model_signature(panel="symbol" in example.columns, network=files.recipe.network),
                input_example=example,
                pip_requirements=pinned_requirements(),
            )
            self.client.log_model_artifacts(model_id, str(saved))

    def add_version(self, run_id: str, files: ModelFiles, tags: Mapping[str, str]) -> Version:
        """Register a version in one step, its tags included, without MLflow's wrapping: quick, for replays.

        Such a version holds the same files and is read by `read_version`; MLflow itself cannot load it.
        """
        with tempfile.TemporaryDirectory() as place:
            write_model_files(Path(place), files)
            self.client.log_artifacts(run_id, place, MODEL_FOLDER)
        self.ensure_registered_model()
        self._skip_used_numbers(run_id)
        made = self.client.create_model_version(self.name, self._source(run_id), run_id, tags=dict(tags))
        return self.version(str(made.version))

    def ensure_registered_model(self) -> None:
        """Create the registered model of the series, with a description, on first use; correct an outdated one."""
        from mlflow.exceptions import MlflowException  # imported here: see client

        note = model_note(self.runs.purpose, self.series)
        try:
            self.client.create_registered_model(self.name, description=note)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            present = self.client.get_registered_model(self.name).description or ""
            corrected = corrected_model_note(present, self.runs.purpose, self.series)
            if corrected != present:
                self.client.update_registered_model(self.name, description=corrected)

    def _source(self, run_id: str) -> str:
        return f"{self.client.get_run(run_id).info.artifact_uri}/model"

    def _skip_used_numbers(self, run_id: str) -> None:
        """Use up the numbers of lost versions, so that the next version's number never named another network.

        MLflow counts from what its database holds, deleted versions included; a database that was lost begins at 1.
        """
        used, made = self.history.highest_number(), int(next(iter(self.newest_versions(1)), "0"))
        while made < used:
            made = self.use_up_number(self._source(run_id), run_id)

    def use_up_number(self, source: str, run_id: str | None = None) -> int:
        """Create a version and delete it, so that its number is never given again; return the number.

        Args:
            source: address that MLflow requires; nothing is read there.
            run_id: run of the address; a server of MLflow refuses an address outside it.
        """
        made = int(self.client.create_model_version(self.name, source, run_id).version)
        self.client.delete_model_version(self.name, str(made))
        return made

    def find_versions(self, tag: str, value: str) -> tuple[str, ...]:
        """Return the versions that have a tag of this value, oldest first."""
        text = value.replace("'", "''")
        with require_answer(self._place):
            found = self.client.search_model_versions(f"name = '{self.name}' and tag.`{tag}` = '{text}'")
        return tuple(sorted((str(each.version) for each in found), key=int))

    def newest_versions(self, count: int) -> tuple[str, ...]:
        """Return the numbers of the newest versions, newest first."""
        known = self.runs.database.newest_versions(self.name, count)
        if known is not None:
            return known
        with require_answer(self._place):
            found = self.client.search_model_versions(
                f"name = '{self.name}'", max_results=count, order_by=["version_number DESC"]
            )
        return tuple(str(each.version) for each in found)

    def set_alias(self, alias: Alias, version: str) -> None:
        """Set an alias to a version."""
        with require_answer(self._place):
            self.client.set_registered_model_alias(self.name, alias, version)

    def drop_alias(self, alias: Alias) -> None:
        """Remove an alias."""
        with require_answer(self._place):
            self.client.delete_registered_model_alias(self.name, alias)

    def alias_number(self, alias: Alias) -> str | None:
        """Return the number of the version that an alias names, None when it names none.

        Raises:
            StoreUnavailable: the registry did not answer.
        """
        known = self.runs.database.alias(self.name, alias)
        if known is not None:
            return known[0]
        from mlflow.exceptions import MlflowException  # imported here: see client

        try:
            with require_answer(self._place):
                number = self.client.get_registered_model(self.name).aliases.get(alias)
        except MlflowException:
            return None
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
                f"{self.name}: expected a champion in the registry at {masked(self.runs.uri)}, found none. "
                "A retrain promotes the first one; `riseorfall status` shows what is registered."
            )
        return version

    def version(self, number: str) -> Version:
        """Return one version with its tags and metrics; the end of its training is that of the decision log.

        Raises:
            NoSuchVersion: no version has this number.
            StoreUnavailable: the registry did not answer.
        """
        absent = NoSuchVersion(
            f"{self.name}: expected version {number} in the registry at {masked(self.runs.uri)}, found none. "
            "`riseorfall status` shows the versions that decisions were made about."
        )
        if not VERSION_NUMBER.fullmatch(number):
            raise absent
        trained_until = self.history.recorded(number).trained_until
        known = self.runs.database.version(self.name, number)
        if known is not None:
            return _version(self.name, number, known.run_id, known.tags, trained_until)
        from mlflow.exceptions import MlflowException  # imported here: see client

        try:
            with require_answer(f"{self._place}, version {number}"):
                found = self.client.get_model_version(self.name, number)
        except MlflowException as error:
            raise absent from error
        return _version(self.name, number, str(found.run_id), dict(found.tags), trained_until)

    def describe(self, version: str, text: str) -> None:
        """Write the description on a version's page."""
        self.client.update_model_version(self.name, version, description=text)

    def append_note(self, version: str, text: str) -> None:
        """Append a paragraph to the description on a version's page, once; log a warning where that fails."""
        from mlflow.exceptions import MlflowException  # imported here: see client

        try:
            present = self.client.get_model_version(self.name, version).description or ""
            if text not in present:
                self.describe(version, f"{present}\n\n{text}".strip())
        except MlflowException as error:
            log.warning("%s version %s: the note %r could not be written: %s", self.name, version, text, error)

    def note_on_run(self, version: str, rows: Sequence[LoggedDecision], text: str) -> None:
        """Write what was decided about a version later on its run; log a warning where that fails.

        Args:
            version: number of the version.
            rows: all decisions about the series, oldest first; the name of the run ends with their outcomes.
            text: a paragraph for the description of the run.
        """
        from mlflow.exceptions import MlflowException  # imported here: see client

        try:
            run_id = self.version(version).run_id
            run = self.client.get_run(run_id)
            name = name_with_outcomes(str(run.info.run_name), later_outcomes(version, run_id, rows))
            self.runs.rename_run(run_id, name)
            self.client.set_tag(run_id, NOTE_TAG, f"{run.data.tags.get(NOTE_TAG, '')}\n\n{text}".strip())
        except (MlflowException, NoChampion, UnsoundModel, StoreUnavailable) as error:
            log.warning("%s version %s: its run could not be noted on: %s", self.name, version, error)

    def read_version(self, version: str, *, every_file: bool = True) -> LoadedVersion:
        """Open the files of a version, wherever the registry keeps them; downloaded ones are fetched once.

        Args:
            version: its number.
            every_file: compare all files with the recorded ones now; False: only each file that is read, when it is.

        Raises:
            UnsoundModel: a file is missing, or the registry knows no such version.
            UntrustedModel: a file is not the recorded one, or lies outside the artifact store.
            StoreUnavailable: the store could not be read.
        """
        if version in self._downloaded:
            self._downloaded[version] = self._downloaded.pop(version)
            return self._downloaded[version]
        place, recorded = f"models:/{self.name}/{version}", self.history.recorded(version)
        known = self.runs.database.version(self.name, version)
        is_here = known is not None and known.folder is not None
        if known is None or known.folder is None:
            loaded = self._download(place, version, recorded.files)
        else:
            self.places.require_inside(place, str(known.folder))
            loaded = LoadedVersion(place, known.folder / ARTIFACTS, recorded.files)
        if every_file or not is_here or not recorded.files:
            missing = [name for name in FILES if not is_there(place, loaded.folder / name)]
            if missing:
                raise UnsoundModel(f"{place}: expected the files {', '.join(FILES)}; missing {', '.join(missing)}")
            self._require_recorded(loaded, version, recorded)
        if not is_here:
            self._downloaded[version] = loaded
            for oldest in list(self._downloaded)[:-MOST_DOWNLOADED]:
                del self._downloaded[oldest]
        return loaded

    def absent_files(self, version: str) -> list[str]:
        """Return the names of the files that a version lacks, without reading them.

        Raises:
            StoreUnavailable: the store did not answer.
        """
        place = f"models:/{self.name}/{version}"
        known = self.runs.database.version(self.name, version)
        if known is not None and known.folder is not None:
            folder = known.folder / ARTIFACTS
            return [name for name in FILES if not is_there(place, folder / name)]
        import mlflow.artifacts  # imported here: see client

        self.runs.set_global_uri()
        try:
            with require_answer(self._place):
                found = mlflow.artifacts.list_artifacts(artifact_uri=f"{place}/artifacts")
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001 - MLflow's: there is no such version or folder
            return list(FILES)
        return sorted(set(FILES) - {each.path.rpartition("/")[2] for each in found})

    def _require_recorded(self, loaded: LoadedVersion, version: str, recorded: RecordedVersion) -> None:
        """Compare a version with the decision log; where no decision recorded its files, only its run."""
        if recorded.files:
            found = loaded.digests()
            for path in recorded.files:
                require_same_digest(loaded.place, path, found.get(path, ""), recorded.files)
        elif recorded.run_ids:
            require_run(loaded.place, self.version(version).run_id, recorded.run_ids)
            if version not in self._unrecorded:
                log.warning("%s: %s", loaded.place, UNRECORDED)
            self._unrecorded.add(version)

    def _download(self, place: str, version: str, recorded: Mapping[str, str]) -> LoadedVersion:
        """Fetch the files of a version into a temporary folder, which is deleted with the returned value.

        Raises:
            UnsoundModel: they are gone, or the registry knows no such version.
            UntrustedModel: they lie outside the artifact store.
            StoreUnavailable: the store could not be read, or did not deliver a file that it lists.
        """
        import mlflow.artifacts  # imported here: see client

        def listed() -> list[str]:
            found = mlflow.artifacts.list_artifacts(artifact_uri=f"{place}/artifacts")
            return [each.path.rpartition("/")[2] for each in found]

        self.runs.set_global_uri()
        try:
            self.places.require_inside(place, self.client.get_model_version_download_uri(self.name, version))
            folder = Path(tempfile.mkdtemp(prefix="riseorfall-"))
            loaded = LoadedVersion(place, folder / ARTIFACTS, recorded)
            weakref.finalize(loaded, shutil.rmtree, folder, ignore_errors=True)
            mlflow.artifacts.download_artifacts(artifact_uri=place, dst_path=str(folder))
        except UntrustedModel:
            raise
        except Exception as error:
            raise failed_fetch(place, FILES, listed, error) from error
        return loaded


def _version(name: str, number: str, run_id: str, tags: dict[str, str], recorded: datetime | None = None) -> Version:
    """Build a version from the fields of the registry; a person may have edited its tags.

    Args:
        name: of the registered model.
        number: of the version.
        run_id: its run.
        tags: of the version.
        recorded: until when it was trained, by the decision log; the tag counts only where no decision recorded it.

    Raises:
        UnsoundModel: neither says until when it was trained.
    """
    trained_until = recorded or time_of_tag(tags.get("trained_until", ""))
    if trained_until is None:
        raise UnsoundModel(
            f"{name} version {number}: expected the tag trained_until with a time (ISO 8601) in the registry, found "
            f"{tags.get('trained_until') or 'none'}. Run `riseorfall doctor`."
        )
    scores = {key.removeprefix("metric."): value for key, value in tags.items() if key.startswith("metric.")}
    metrics = {key: score for key, value in scores.items() if (score := _number_of(value)) is not None}
    return Version(number, run_id, trained_until, metrics, tags)


def unreadable_tags(tags: Mapping[str, str]) -> list[str]:
    """Return the tags of a version that are needed, and are missing or hold something else."""
    time, score = time_of_tag(tags.get("trained_until", "")), _number_of(tags.get("metric.log_loss", ""))
    return [name for name, found in {"trained_until": time, "metric.log_loss": score}.items() if found is None]


def time_of_tag(tag: str) -> datetime | None:
    """Return the time that a tag holds, UTC; None if it holds something else."""
    try:
        return as_utc(datetime.fromisoformat(tag))
    except ValueError:
        return None


def _number_of(tag: str) -> float | None:
    try:
        return float(tag)
    except ValueError:
        return None
