"""Rebuild MLflow's local database from the decision log and the files below mlruns/artifacts.

A rebuilt version has its old number, its old run id and its old files; numbers of versions without a decision or
without files are used up, so that no new network gets one. A folder without a decision counts as a version whose number
is not known. What only the database held is lost: curves, metrics and parameters of the runs but those that follow from
the files.
"""

import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from model.bars import Series
from model.errors import RiseOrFallError, SpecError
from model.metrics import score
from model.times import iso_text
from model.version_file_names import CALIBRATOR, KERAS, ONNX, RECIPE, RECORD
from tasks.champion.commit_decision import sync_challenger_alias, sync_champion_alias
from tasks.champion.stated_share import OPINION_SHARE
from tasks.registry import run_artifacts
from tasks.registry.database_creation import open_client
from tasks.registry.experiment_page import NOTE_TAG, decision_tags
from tasks.registry.experiment_runs import flatten_specs
from tasks.registry.file_verification import ARTIFACTS, file_digests, sha256
from tasks.registry.local_database import DEFAULT_WORKSPACE
from tasks.registry.mlflow_run_names import decided_name, later_outcomes, name_with_outcomes
from tasks.registry.model_files import FILES, LoadedVersion
from tasks.registry.unreachable_store import regular_content
from tasks.repair.home_finding import set_aside
from tasks.settings import Settings, masked
from tasks.store.decision_log import LoggedDecision
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

# Files that a retrain's run keeps too.
COPIES = {KERAS: run_artifacts.KERAS, ONNX: run_artifacts.ONNX, CALIBRATOR: run_artifacts.CALIBRATOR}
DELETE_VERSION = (
    "DELETE FROM model_version_tags WHERE name = :name AND version = :version AND workspace = :workspace",
    "DELETE FROM model_versions WHERE name = :name AND version = :version AND workspace = :workspace",
)


def rebuild_database(settings: Settings, rows: Sequence[LoggedDecision]) -> None:
    """Create MLflow's database anew, with each version of the decision log whose files are there, and the champions.

    It appears under its name when it is complete: a half would pass for whole, and lack versions.

    Args:
        settings: its local database does not exist.
        rows: of the decision log.
    """
    path = settings.local_database
    if path is None:
        raise SpecError(f"rebuild: expected a local database, found {masked(settings.mlflow_uri)}")
    for left in path.parent.glob(f"{path.name}.rebuilding-*"):  # of a repair that was interrupted
        left.unlink()
    fresh = path.with_name(f"{path.name}.rebuilding-{uuid4().hex}")  # MLflow keeps connections by name
    _fill_database(settings.model_copy(update={"tracking_uri": f"sqlite:///{fresh}"}), rows)
    fresh.replace(path)
    fresh.with_name(f"{fresh.name}.lock").unlink(missing_ok=True)


def _fill_database(settings: Settings, rows: Sequence[LoggedDecision]) -> None:
    open_client(settings.mlflow_uri)  # creates the tables
    for name in dict.fromkeys(row.series_name for row in rows):
        own = [row for row in rows if row.series_name == name]
        series = Series(own[0].symbol, own[0].interval)
        workspace = Workspace(settings, series, name, "retrain" if name == series.name else "replay")
        _rebuild_series(workspace, own)
        sync_champion_alias(workspace)
        sync_challenger_alias(workspace)


def _rebuild_series(workspace: Workspace, rows: Sequence[LoggedDecision]) -> None:
    decided, folders = _own_decisions(rows), _model_folders(workspace)
    workspace.registry.ensure_registered_model()
    for number in range(1, _highest_number(workspace, decided.values(), folders) + 1):
        found = _find_version(workspace, decided[number], folders) if number in decided else None
        if found is None:
            workspace.registry.use_up_number(_artifacts(workspace).as_uri())
            continue
        _rebuild_run(workspace, found, rows)
        workspace.registry.client.create_model_version(
            workspace.name, found.folder.as_uri(), found.row.run_id, tags=found.tags
        )


@dataclass(frozen=True, slots=True)
class _FoundVersion:
    """A version that can be registered again: the decision of its retrain, its folder, its files, its tags."""

    row: LoggedDecision
    folder: Path
    loaded: LoadedVersion
    tags: dict[str, str]


def _find_version(
    workspace: Workspace, row: LoggedDecision, folders: Mapping[str, Sequence[Path]]
) -> _FoundVersion | None:
    """Return the version of a decision; None if its files are gone, damaged, or not the recorded ones."""
    recorded = workspace.registry.history.recorded(row.version)
    folder = _recorded_folder(folders.get(row.run_id, ()), recorded.files)
    if folder is None:
        return None
    loaded = LoadedVersion(f"{workspace.name} version {row.version}", folder / ARTIFACTS, recorded.files)
    try:
        return _FoundVersion(row, folder, loaded, derived_tags(loaded, row, recorded.trained_until))
    except RiseOrFallError as error:  # its record or recipe
        log.warning("%s version %s is left out: %s", workspace.name, row.version, error)
        return None


def _rebuild_run(workspace: Workspace, found: _FoundVersion, rows: Sequence[LoggedDecision]) -> None:
    """Create the run of a version, with what follows from its files and the decision log."""
    row, recipe = found.row, found.loaded.recipe().model_dump()
    label = recipe.get("panel", {}).get("label", "")
    name = decided_name(datetime.fromisoformat(found.tags["trained_until"]), row.version, row.action, label)
    _recreate_run(workspace, row, name_with_outcomes(name, later_outcomes(row.version, row.run_id, rows)))
    params = {**flatten_specs(recipe), "source.kind": _source_kind(workspace, row), **_stated_share(workspace, row)}
    workspace.runs.log_values(row.run_id, params=params, tags={"recipe": found.tags["recipe"]})
    workspace.runs.finish_run(row.run_id)


def _stated_share(workspace: Workspace, row: LoggedDecision) -> dict[str, str]:
    """Return the parameter by which `predict` has opinions, from the evaluation of a run; empty if that has none."""
    path = _artifacts(workspace) / row.run_id / "artifacts" / run_artifacts.DETAILS
    try:
        return {OPINION_SHARE: str(float(json.loads(regular_content(path))["abstention"]["share"]["stated"]))}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def register_again(workspace: Workspace, number: str, rows: Sequence[LoggedDecision]) -> Callable[[Path], None] | None:
    """Return a repair that gives a version its entry in the registry again; None where its decision or files are gone.

    MLflow's client would give it a new number.

    Args:
        workspace: of the series, with a local database.
        number: of the version, which the registry has lost.
        rows: all decisions about the series, oldest first.
    """
    row, path = _own_decisions(rows).get(int(number)), workspace.settings.local_database
    found = _find_version(workspace, row, _model_folders(workspace)) if row else None
    if found is None or path is None:
        return None
    key = {"name": workspace.name, "version": int(number), "workspace": DEFAULT_WORKSPACE}
    decided_at, place = int(found.row.decided_at.timestamp() * 1000), found.folder.as_uri()
    values = {"creation_time": decided_at, "last_updated_time": decided_at, "source": place, "storage_location": place,
              "run_id": found.row.run_id, "current_stage": "None", "status": "READY"}  # fmt: skip

    def repair(_: Path) -> None:
        workspace.registry.ensure_registered_model()
        if workspace.runs.database.run_folder(found.row.run_id) is None:
            _rebuild_run(workspace, found, rows)
        with closing(sqlite3.connect(path)) as database, database:
            for query in DELETE_VERSION:  # MLflow keeps the row of a version that it deleted
                database.execute(query, key)
            _insert(database, "model_versions", key | values)
            for tag, value in found.tags.items():
                _insert(database, "model_version_tags", key | {"key": tag, "value": value})
        sync_champion_alias(workspace)

    return repair


def _insert(database: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> None:
    query = f"INSERT INTO {table} ({', '.join(row)}) VALUES (:{', :'.join(row)})"  # noqa: S608 - our own names
    database.execute(query, row)


def _own_decisions(rows: Sequence[LoggedDecision]) -> dict[int, LoggedDecision]:
    """Return the decision of the newest retrain that registered a number, by number.

    A person may let the rule decide about a version again; the first decision is the retrain's. Of a version that a
    person promoted by force, the retrain's own may be lost, or may never have been made.
    """
    about = [row for row in rows if row.is_about_challenger]
    run_ids = {row.version: row.run_id for row in about}
    forced = {int(row.version): row for row in rows if row.action == "promote" and row.forced and row.run_id}
    return forced | {int(row.version): row for row in reversed(about) if row.run_id == run_ids[row.version]}


def _highest_number(
    workspace: Workspace, decided: Collection[LoggedDecision], folders: Mapping[str, Sequence[Path]]
) -> int:
    """Return a number that no version exceeded: a folder without a decision may have had one above the decided ones."""
    root, of_decided = _artifacts(workspace), {folder for row in decided for folder in folders.get(row.run_id, ())}
    every = {path for pattern in ("*/artifacts/model", "models/*/artifacts") for path in root.glob(pattern)}
    return workspace.registry.history.highest_number() + len(every - of_decided)


def _recorded_folder(folders: Sequence[Path], recorded: Mapping[str, str]) -> Path | None:
    """Return the folder with the recorded files; the last one where none has them, None without any."""
    if len(folders) > 1 and recorded:
        folders = [*folders, *(each for each in folders if file_digests(str(each), each).items() >= recorded.items())]
    return folders[-1] if folders else None


def _model_folders(workspace: Workspace) -> dict[str, list[Path]]:
    """Return the folders of registered files by run: that of a replay's run, then MLflow's own, oldest first."""
    import yaml  # type: ignore[import-untyped]  # a dependency of MLflow

    root = _artifacts(workspace)
    found = {path.parents[1].name: [path] for path in root.glob("*/artifacts/model") if path.is_dir()}
    for path in sorted(root.glob("models/*/artifacts/MLmodel"), key=lambda each: each.stat().st_mtime):
        try:
            run_id = str(yaml.safe_load(regular_content(path))["run_id"])
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            continue  # a version whose description is damaged is left out; its number is used up
        found.setdefault(run_id, []).append(path.parent)
    return {run: [each for each in paths if (each / ARTIFACTS / ONNX).is_file()] for run, paths in found.items()}


def _artifacts(workspace: Workspace) -> Path:
    return workspace.settings.artifact_folder / workspace.name


def _recreate_run(workspace: Workspace, row: LoggedDecision, name: str) -> None:
    """Create a run with the tags of its decision, and give it the id under which its artifacts lie."""
    tags = {**decision_tags(row), NOTE_TAG: "Rebuilt by `riseorfall doctor`: its curves and metrics are lost."}
    made = workspace.runs.start_run(name, tags)
    place = _artifacts(workspace) / row.run_id / "artifacts"
    with closing(sqlite3.connect(workspace.settings.local_database or "")) as database, database:
        database.execute(
            "UPDATE runs SET run_uuid = ?, artifact_uri = ? WHERE run_uuid = ?", (row.run_id, place.as_uri(), made)
        )
        database.execute("UPDATE tags SET run_uuid = ? WHERE run_uuid = ?", (row.run_id, made))


def derived_tags(loaded: LoadedVersion, row: LoggedDecision | None, trained_until: datetime | None) -> dict[str, str]:
    """Return the tags of a version that follow from its files and from the decision about it.

    Args:
        loaded: its files.
        row: the decision of its retrain; None without one.
        trained_until: as the decision log recorded it; None if it did not.
    """
    record = loaded.record()
    numbers = score(record.labels, record.probabilities)
    tags = {  # a retrain fits all windows that its record ends with
        "trained_until": trained_until.isoformat() if trained_until else iso_text(record.resolved_at[-1]),
        "recipe": loaded.recipe().digest,
        **{f"metric.{name}": f"{value:.6f}" for name, value in numbers.items()},
    }
    if row is not None:
        tags |= {"bars_version": str(row.bars_version), "bars_sha256": row.bars_sha256}
    if row is not None and row.decision_id != row.run_id and not row.forced:
        tags["as_of"] = row.decision_id  # a replayed day finds its version by it
    return tags


def complete_tags(workspace: Workspace, number: str, loaded: LoadedVersion, row: LoggedDecision | None) -> None:
    """Set the tags that follow from the files of a version."""
    trained_until = workspace.registry.history.recorded(number).trained_until
    for name, value in derived_tags(loaded, row, trained_until).items():
        workspace.registry.client.set_model_version_tag(workspace.name, number, name, value)


def set_run_of_version(path: Path, name: str, number: str, run_id: str) -> None:
    """Let a version in MLflow's local database name another run."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "UPDATE model_versions SET run_id = ? WHERE name = ? AND version = ? AND workspace = ?",
            (run_id, name, number, DEFAULT_WORKSPACE),
        )


def copy_files_of_run(workspace: Workspace, run_id: str, loaded: LoadedVersion) -> Callable[[Path], None] | None:
    """Return a repair that takes the damaged files of a version from its run; None where the run lacks one of them.

    A copy that is not the recorded file is none.
    """
    run = _artifacts(workspace) / run_id / "artifacts"
    damaged = [name for name in (*FILES, CALIBRATOR) if _is_damaged(loaded, name)]
    if not damaged or any(name not in COPIES or not _is_copy(run / COPIES[name], loaded, name) for name in damaged):
        return None

    def repair(aside: Path) -> None:
        for name in damaged:
            path = loaded.folder / name
            if os.path.lexists(path):  # also a link that leads to nothing, through which the copy would be written
                set_aside(path, workspace.settings.root, aside)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run / COPIES[name], path)

    return repair


def _is_copy(path: Path, loaded: LoadedVersion, name: str) -> bool:
    recorded = loaded.recorded.get(ARTIFACTS + name)
    return path.is_file() and (recorded is None or sha256(path.read_bytes()) == recorded)


def _is_damaged(loaded: LoadedVersion, name: str) -> bool:
    """Return whether one file of a version is absent, cannot be read, or is not the recorded one."""
    if name == CALIBRATOR:  # absent where a recipe does not calibrate
        return ARTIFACTS + name in loaded.recorded and not _is_copy(loaded.folder / name, loaded, name)
    checks: Mapping[str, Callable[[], Any]] = {
        KERAS: loaded.keras,
        ONNX: lambda: loaded.predictor(calibrated=False),
        RECIPE: loaded.recipe,
        RECORD: loaded.record,
    }
    path = loaded.folder / name
    if path.is_symlink() or not path.is_file():
        return True
    try:
        checks[name]()
    except RiseOrFallError:
        # An ONNX file is opened with its recipe; a damaged recipe says nothing about it.
        return name != ONNX or not _is_damaged(loaded, RECIPE)
    return False


def _source_kind(workspace: Workspace, row: LoggedDecision) -> str:
    """Return whether the bars of a decision came from an exchange, by the commits that stored them."""
    return "exchange" if workspace.bar_store.has_exchange_bars([Series(row.symbol, row.interval)]) else "file"
