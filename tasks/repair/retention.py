"""What a home keeps, and the rest that can be deleted.

Kept for ever: the tables' newest rows, every version that was champion with its files, its run and its evaluation, and
the bars at the versions that kept models were trained on or decided about. Bounded: other versions, also that of a
retrain that died before its decision, runs of folds, reports, pages, logs, second copies of networks, and files of
earlier table versions. Equal archives of serving code become hard links to one file. Only the series' own versions are
touched, not those of a replay, which resumes from them. Each removal is a value, so a dry run lists what a run would
delete; a removal examines again, just before it deletes, whether the decision log needs the thing by now.
"""

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from deltalake import DeltaTable

from data_checks.offline_data_docs import listed_runs
from model.bars import PANEL, Series
from model.errors import DamagedHome, RiseOrFallError
from model.times import to_milliseconds
from tasks.registry.database_creation import open_client
from tasks.registry.file_verification import local_path
from tasks.registry.local_database import Entry, LocalDatabase
from tasks.registry.owning_process import process_of
from tasks.registry.run_artifacts import KERAS, ONNX, REPORT
from tasks.registry.serving_code import ARCHIVE
from tasks.repair.live_writers import COMMAND_LOGS
from tasks.repair.retention_spec import RetentionSpec
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision, decided_versions, former_champions, reference_versions
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

BULKY = (REPORT, KERAS, ONNX, "pictures")  # of a run, each kept elsewhere or drawn from what is kept
FOLDS, UNDECIDED = "run of a fold", "run without a decision"
UNDECIDED_VERSION = "version without a decision"
ENDED = {"FINISHED", "FAILED", "KILLED"}

Versions = tuple[tuple[str, str, Entry], ...]  # registered: name, number, entry


class StillNeeded(RiseOrFallError):
    """Something that was to be deleted is needed by now, or not what it was."""


@dataclass(frozen=True, slots=True)
class Removal:
    """Something to delete.

    Attributes:
        kind: such as `version`, `runs of folds`, `report`.
        name: path, version or id.
        size: bytes on the disk.
        delete: deletes it.
    """

    kind: str
    name: str
    size: int
    delete: Callable[[], object] = field(compare=False, repr=False)


def find_removals(settings: Settings, spec: RetentionSpec, now: datetime | None = None) -> list[Removal]:
    """Return what can be deleted; nothing is changed.

    Args:
        settings: its MLflow address is the local database if this home has one; where MLflow is elsewhere, its runs and
            versions and the bars that these were trained on stay.
        spec: what is kept.
        now: the clock if None.

    Raises:
        DamagedHome: decisions were made, and the local database is gone.
    """
    moment = now or datetime.now(UTC)
    rows = Workspace(settings).decision_log.rows()
    versions = _registered(settings, rows)
    found = [*_old_pages(settings, spec, rows, moment)]
    if versions is not None:
        found += _undecided_versions(settings, spec, rows, versions, moment)
        found += _old_runs(settings, spec, rows, versions, moment)
        found += _equal_code(settings, versions)
        for name in dict.fromkeys(row.series_name for row in rows):
            own = [row for row in rows if row.series_name == name]
            found += _old_versions(settings, spec, own, versions)
    if settings.local_store is not None:
        found += _old_table_files(settings, spec)
    return found


def apply_removals(found: Iterable[Removal]) -> list[Removal]:
    """Delete what was found, and return what could be deleted; a failure is logged and does not stop the rest."""
    done = []
    for each in found:
        try:
            each.delete()
        except Exception as error:  # noqa: BLE001 - MLflow's, deltalake's, the system's: the next run tries again
            log.warning("%s %s could not be deleted: %s", each.kind, each.name, error)
        else:
            done.append(each)
    return done


def _registered(settings: Settings, rows: Sequence[LoggedDecision]) -> Versions | None:
    """Return all versions in the local database; None where MLflow is a server, or its schema is unknown.

    Raises:
        DamagedHome: decisions were made, and the local database is gone: nothing says what they need.
    """
    path = settings.local_database
    if path is None:
        return None
    if path.exists() and path.stat().st_size:
        return LocalDatabase(settings.mlflow_uri).all_versions()
    if rows:
        raise DamagedHome(
            f"{path}: expected MLflow's database, because decisions were made; found none. Nothing was deleted. Run "
            "`riseorfall doctor`."
        )
    return None


def _champions(rows: Sequence[LoggedDecision]) -> set[str]:
    """Return the versions that were champion or are references, by the decisions about one name."""
    return {*former_champions(rows), *reference_versions(rows)}


def _require_no_champion(settings: Settings, name: str, number: str) -> None:
    if number in _champions(Workspace(settings).decision_log.rows(name)):
        raise StillNeeded(f"{name} version {number} has become champion")


def _old_pages(
    settings: Settings, spec: RetentionSpec, rows: Sequence[LoggedDecision], now: datetime
) -> Iterator[Removal]:
    """Yield reports, Data Docs and logs that have not changed for `page_days`, and that no kept page links."""
    data, before = settings.data_folder, (now - timedelta(days=spec.page_days)).timestamp()
    champions = {row.series_name: row.champion_after for row in rows}
    shown = {row.run_id for row in rows if row.version == champions[row.series_name]}
    linked = {docs / run["page"] for docs in (data / "docs").glob("*") for run in listed_runs(docs)}
    places = (("report", "reports", "*/*.html"), ("Data Docs", "docs", "*/validations/**/*.html"),
              ("log", "logs", COMMAND_LOGS))  # fmt: skip
    for kind, root, pattern in places:
        for path in sorted((data / root).glob(pattern)):
            is_open = kind == "log" and _is_process(path.stem.rpartition("-")[2])
            is_kept = path.stem in shown or path in linked or is_open
            if not is_kept and path.stat().st_mtime < before:
                yield Removal(kind, str(path), path.stat().st_size, partial(_delete_page, path, data / root, before))


def _is_process(text: str) -> bool:
    """Return whether a process with this id runs; text that is no id counts as one that does."""
    import psutil  # imported here: see owning_process

    return not text.isdecimal() or bool(psutil.pid_exists(int(text)))


def _delete_page(path: Path, root: Path, before: float) -> None:
    """Delete a file that still is old, and the folders below `root` that are empty without it."""
    if path.stat().st_mtime >= before:
        raise StillNeeded(f"{path} has changed")
    path.unlink()
    with suppress(OSError):  # not empty
        for folder in path.parents:  # Data Docs: a folder for each time
            if folder == root:
                return
            folder.rmdir()


def _old_runs(
    settings: Settings, spec: RetentionSpec, rows: Sequence[LoggedDecision], versions: Versions, now: datetime
) -> Iterator[Removal]:
    """Yield the ended runs of folds after `fold_days`, and those without decision and version after `run_days`.

    The run of a version that goes now goes with the next housekeeping.
    """
    client = open_client(settings.mlflow_uri)
    needed = {row.run_id for row in rows} | {entry.run_id for _, _, entry in versions}
    experiments = {Series(row.symbol, row.interval).name for row in rows}
    limits = (to_milliseconds(now - timedelta(days=days)) for days in (spec.run_days, spec.fold_days))
    old = LocalDatabase(settings.mlflow_uri).ended_runs(experiments, ENDED, *limits) or ()
    for run in (client.get_run(run_id) for run_id in old if run_id not in needed):
        kind, folder = _kind_of_old_run(run, spec, now), _folder_of_run(run, settings)
        if kind and folder is not None:
            size = sum(map(_size, (folder, *_unused_models(settings, client, run).values())))
            yield Removal(kind, run.info.run_id, size, partial(_delete_run, settings, client, run, spec, now))


def _kind_of_old_run(run: "Run", spec: RetentionSpec, now: datetime) -> str:
    """Return the kind of a run of ours (since 0.2 it names its process) that ended long ago; empty for any other."""
    kind, days = (FOLDS, spec.fold_days) if "fold" in run.data.tags else (UNDECIDED, spec.run_days)
    before = to_milliseconds(now - timedelta(days=days))
    ended = run.info.end_time if run.info.status in ENDED else None
    return kind if process_of(run.data.tags) and ended is not None and ended < before else ""


def _folder_of_run(run: "Run", settings: Settings) -> Path | None:
    """Return the folder of a run's own files, if it lies in this home: `mlruns/artifacts/SERIES/RUN/artifacts`."""
    path = _inside(local_path(run.info.artifact_uri), settings)
    return path if path and (path.parent.name, path.name) == (run.info.run_id, "artifacts") else None


def _unused_models(settings: Settings, client: "MlflowClient", run: "Run") -> dict[str, Path]:
    """Return the folders of the logged models of a run that no version uses: its retrain died while it registered.

    They lie in `mlruns/artifacts/SERIES/models/MODEL/artifacts`, by model id.
    """
    outputs = run.outputs.model_outputs if run.outputs else ()
    if not outputs:
        return {}
    versions = LocalDatabase(settings.mlflow_uri).all_versions() or ()
    used = [entry.folder for _, _, entry in versions if entry.folder is not None]
    found = {}
    for output in outputs:
        folder = _inside(local_path(client.get_logged_model(output.model_id).artifact_location), settings)
        if folder and folder.parent.name == output.model_id and not any(each.is_relative_to(folder) for each in used):
            found[output.model_id] = folder
    return found


def _delete_run(settings: Settings, client: "MlflowClient", found: "Run", spec: RetentionSpec, now: datetime) -> None:
    """Delete a run with its files. MLflow's client only marks it; `mlflow gc` would also empty MLflow's trash."""
    from mlflow.tracking._tracking_service.utils import _get_store

    run_id = found.info.run_id
    run = client.get_run(run_id)
    folder, kind = _folder_of_run(run, settings), _kind_of_old_run(run, spec, now)
    rows = Workspace(settings).decision_log.rows() if kind == UNDECIDED else ()
    if folder is None or not kind or any(row.run_id == run_id for row in rows):
        raise StillNeeded(f"run {run_id} goes on, or was decided about")
    models = _unused_models(settings, client, run)
    for each in (*models.values(), folder):  # first: an interrupted deletion is found again
        _remove(each)
        with suppress(OSError):  # not empty
            each.parent.rmdir()
    for model_id in models:
        client.delete_logged_model(model_id)
    client.delete_run(run_id)
    _get_store(settings.mlflow_uri)._hard_delete_run(run_id)  # noqa: SLF001 - what `mlflow gc` calls


def _undecided_versions(
    settings: Settings, spec: RetentionSpec, rows: Sequence[LoggedDecision], versions: Versions, now: datetime
) -> Iterator[Removal]:
    """Yield the versions that no decision names, `run_days` after their run ended: it died before it decided."""
    series = {Series(row.symbol, row.interval) for row in rows} | {*Workspace(settings).bar_store.stored_series()}
    known = {each.name: each for each in (*series, *(Series(PANEL, each.interval) for each in series))}
    decided, logged = decided_versions(rows), {row.series_name for row in rows}
    for name, number, entry in versions:
        if name not in known or (name, number) in decided:
            continue
        champion = Workspace(settings, known[name]).registry.alias_number("champion")
        if champion == number or (champion and name not in logged):  # the decision log of the series is lost
            continue
        folder = _folder_of_version(settings, versions, name, number)
        if folder is not None and _is_undecided(settings, entry.run_id, spec, now):
            delete = partial(_delete_undecided, settings, known[name], number, spec, now)
            yield Removal(UNDECIDED_VERSION, f"{name} version {number}", _size(folder), delete)


def _is_undecided(settings: Settings, run_id: str, spec: RetentionSpec, now: datetime) -> bool:
    """Return whether a run is one of ours that ended long ago without a decision; False where MLflow has lost it.

    A decision marks its run too, which counts where the decision log has lost rows.
    """
    from mlflow.exceptions import MlflowException  # imported here: it takes seconds

    try:
        run = open_client(settings.mlflow_uri).get_run(run_id)
    except MlflowException:
        return False
    return _kind_of_old_run(run, spec, now) == UNDECIDED and "decision" not in run.data.tags


def _delete_undecided(settings: Settings, series: Series, number: str, spec: RetentionSpec, now: datetime) -> None:
    registry = Workspace(settings, series).registry
    rows = Workspace(settings).decision_log.rows(series.name)
    run_id = registry.version(number).run_id
    needed = (series.name, number) in decided_versions(rows) or registry.alias_number("champion") == number
    if needed or not _is_undecided(settings, run_id, spec, now):
        raise StillNeeded(f"{series.name} version {number} was decided about, or its run goes on")
    _delete_version(settings, series, number)


def _old_versions(
    settings: Settings, spec: RetentionSpec, rows: Sequence[LoggedDecision], versions: Versions
) -> Iterator[Removal]:
    """Yield the versions beyond the newest ones that never were champion, and bulky files of the runs of all beyond.

    Args:
        settings: with a local database.
        spec: what is kept.
        rows: decisions about one name, oldest first.
        versions: every registered version.
    """
    series = Series(rows[0].symbol, rows[0].interval)
    if rows[0].series_name != series.name:
        return
    registry = Workspace(settings, series).registry
    kept = {registry.alias_number("champion"), registry.alias_number("challenger"), rows[-1].champion_after}
    decided = {row.version: row for row in rows if row.is_about_challenger}
    numbers = sorted(decided, key=int)
    kept |= {*numbers[-spec.versions :]}
    champions = _champions(rows)
    runs, runs_of_champions = ({row.run_id for row in rows if row.version in these} for these in (kept, champions))
    present = {number: entry for name, number, entry in versions if name == series.name}
    for number in numbers:
        if number in kept or decided[number].run_id in runs:
            continue
        if number in present and decided[number].run_id not in runs_of_champions:
            folder = _folder_of_version(settings, versions, series.name, number)
            if folder is None:
                continue
            name = f"{series.name} version {number}"
            yield Removal("version", name, _size(folder), partial(_delete_version, settings, series, number))
        run_folder = settings.artifact_folder / series.name / decided[number].run_id / "artifacts"
        for path in (run_folder / name for name in BULKY):
            if path.exists():
                delete = partial(_delete_run_file, settings, series.name, number, path)
                yield Removal("file of an old run", str(path), _size(path), delete)


def _folder_of_version(settings: Settings, versions: Versions, name: str, number: str) -> Path | None:
    """Return the folder of a version's own files; None if it is not in this home, or another version's too."""
    folders = {(each, other): _inside(entry.folder, settings) for each, other, entry in versions}
    folder = folders.pop((name, number), None)
    # SERIES/RUN/artifacts/model, or SERIES/models/MODEL/artifacts
    if folder is None or folder.name not in {"artifacts", "model"}:
        return None
    nested = any(each and (each.is_relative_to(folder) or folder.is_relative_to(each)) for each in folders.values())
    return None if nested else folder


def _delete_version(settings: Settings, series: Series, number: str) -> None:
    _require_no_champion(settings, series.name, number)
    versions = LocalDatabase(settings.mlflow_uri).all_versions() or ()
    folder = _folder_of_version(settings, versions, series.name, number)
    if folder is None:
        raise StillNeeded(f"{series.name} version {number}: its folder is another version's, or gone")
    _remove(folder)  # first: see _delete_run
    Workspace(settings, series).registry.client.delete_model_version(series.name, number)


def _delete_run_file(settings: Settings, name: str, number: str, path: Path) -> None:
    rows = Workspace(settings).decision_log.rows(name)
    if rows[-1].champion_after == number:
        raise StillNeeded(f"{name} version {number} has become the champion")
    _remove(path)


def _equal_code(settings: Settings, versions: Versions) -> Iterator[Removal]:
    """Yield the archives of serving code that equal another version's: they become names of its file."""
    first: dict[str, Path] = {}
    seen: set[int] = set()
    for folder in (_inside(entry.folder, settings) for _, _, entry in versions):
        path = folder / "code" / ARCHIVE if folder else None
        if path is None or not path.is_file() or path.stat().st_ino in seen:
            continue
        seen.add(path.stat().st_ino)
        other = first.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), path)
        if other != path:
            yield Removal("copy of serving code", str(path), path.stat().st_size, partial(_link, other, path))


def _link(file: Path, path: Path) -> None:
    """Make a path a further name of a file of equal content."""
    if file.read_bytes() != path.read_bytes():
        raise StillNeeded(f"{path} is not what it was")
    fresh = path.with_name(f"{path.name}.fresh")
    fresh.unlink(missing_ok=True)  # of a process that was killed
    fresh.hardlink_to(file)
    fresh.replace(path)


def _old_table_files(settings: Settings, spec: RetentionSpec) -> Iterator[Removal]:
    """Yield the files that no version of the last `table_days`, and none that a kept model names, consists of."""
    for table in Workspace(settings).tables:
        opened, name = table.open_for_writing(), Path(table.uri).name
        keep = _kept_bars(settings) if table.keeps_versions else set()
        if opened is None or keep is None:
            continue
        files = _vacuum(opened, spec, keep, full=not table.keeps_versions, dry_run=True)
        if files:
            size = sum(_size(Path(table.uri) / unquote(file)) for file in files)
            delete = partial(_delete_table_files, settings if table.keeps_versions else None, opened, spec, keep)
            yield Removal("files of earlier table versions", f"{len(files)} of {name}", size, delete)


def _kept_bars(settings: Settings) -> set[int] | None:
    """Return the versions of the bars that kept versions need; None if the registered versions are not known here.

    A version was trained on one and may be decided about again on another. A replay resumes from all of its own.
    """
    rows = Workspace(settings).decision_log.rows()
    versions = _registered(settings, rows)
    if versions is None:
        return None
    kept = {(name, number) for name, number, _ in versions}
    for name in {row.series_name for row in rows}:
        kept |= {(name, number) for number in _champions([row for row in rows if row.series_name == name])}
    tags = {entry.tags.get("bars_version", "") for _, _, entry in versions}
    return {int(tag) for tag in tags if tag.isdecimal()} | {
        row.bars_version
        for row in rows
        if (row.series_name, row.version) in kept or row.series_name != Series(row.symbol, row.interval).name
    }


def _delete_table_files(bars_of: Settings | None, opened: DeltaTable, spec: RetentionSpec, keep: set[int]) -> None:
    now = _kept_bars(bars_of) if bars_of else set()
    if now is None:
        raise StillNeeded("the versions that were trained on earlier bars are not known any more")
    _vacuum(opened, spec, keep | now, full=bars_of is None, dry_run=False)


def _vacuum(opened: DeltaTable, spec: RetentionSpec, keep: set[int], *, full: bool, dry_run: bool) -> list[str]:
    """Delete old files that no kept version consists of; `full` finds those too that no checkpoint names any more."""
    hours, versions = 24 * spec.table_days, [version for version in sorted(keep) if 0 <= version <= opened.version()]
    return opened.vacuum(
        hours, dry_run=dry_run, enforce_retention_duration=False, full=full, keep_versions=versions or None
    )


def _inside(path: Path | None, settings: Settings) -> Path | None:
    """Return a path with links resolved if it lies more than two folders below this home's artifacts; else None."""
    root = (settings.artifact_folder).resolve()
    found = path.resolve() if path else root
    return found if found.is_relative_to(root) and len(found.relative_to(root).parts) > 2 else None  # noqa: PLR2004 - SERIES/RUN


def _size(path: Path) -> int:
    if not path.exists():
        return 0
    return path.stat().st_size if path.is_file() else sum(_size(each) for each in path.iterdir())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
