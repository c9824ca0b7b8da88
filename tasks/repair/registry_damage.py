"""Find damage in the local registry: MLflow's database, its versions, and the files of these.

Reads the database with sqlite3 only: MLflow's client would create an absent one, and take seconds. The decision log is
the trusted side: it names each version that was decided about, with its run.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from model.bars import PANEL, Series
from model.errors import DamagedHome, RiseOrFallError, UntrustedModel
from tasks.registry.file_verification import ARTIFACTS, require_same_digest
from tasks.registry.local_database import DATABASE_TABLES, LocalDatabase, opened_database
from tasks.registry.model_files import LoadedVersion
from tasks.registry.model_registry import time_of_tag, unreadable_tags
from tasks.registry.owning_process import is_gone
from tasks.repair.home_backup import copy_database, replace_paths
from tasks.repair.home_finding import HomeFinding, database_files, set_aside
from tasks.repair.lost_decisions import lost_decisions
from tasks.repair.registry_rebuild import (
    complete_tags,
    copy_files_of_run,
    rebuild_database,
    register_again,
    set_run_of_version,
)
from tasks.settings import Settings, masked
from tasks.store.decision_log import LoggedDecision, decided_versions, reference_versions
from tasks.store.version_history import RecordedVersion
from tasks.workspace import Workspace

NEWEST = 100  # own choice: versions of a series that are examined besides its champion and the references of the gate


def examine_database(settings: Settings, rows: Sequence[LoggedDecision]) -> HomeFinding:
    """Return whether MLflow's database is whole; one that never existed is, as long as there is no decision.

    Raises:
        StoreUnavailable: it cannot be read, which says nothing about its content.
    """
    path = settings.local_database
    if path is None:
        return HomeFinding(
            "registry", "not examined", Path(masked(settings.mlflow_uri)), "", "examine the server of MLflow"
        )
    versions = {(row.series_name, row.version) for row in rows if row.is_about_challenger}
    problem = _database_problem(path, expected=len(versions))
    if not problem or (not path.exists() and not rows):
        return HomeFinding("registry", "whole", path)

    def repair(aside: Path) -> None:
        for each in database_files(path):
            if each.exists():
                set_aside(each, path.parent, aside)
        rebuild_database(settings, rows)

    remedy = (
        f"rebuild it from the decision log and the files: {len(versions)} versions with their numbers, and the "
        "champion; curves, metrics and most parameters of the runs are lost"
    )
    return HomeFinding("registry", "damaged" if path.exists() else "gone", path, problem, remedy, repair)


def moved_paths(settings: Settings) -> HomeFinding | None:
    """Return the finding that MLflow's database has the paths of another home, which was moved or copied to this one.

    Args:
        settings: only the home's own database is examined; another one may belong to another home.
    """
    path, own = settings.local_database, settings.artifact_folder
    if path is None or not settings.has_local_registry:
        return None
    found = LocalDatabase(settings.mlflow_uri).experiment_folders() or {}
    former = {
        folder.parents[2]
        for name, folder in found.items()
        if folder.parts[-3:] == ("mlruns", "artifacts", name)
        and folder.parent.resolve() != own.resolve()
        and (own / name).is_dir()
    }
    if not former:
        return None

    def repair(aside: Path) -> None:
        copy = aside / "mlruns" / path.name  # the folder of the database may be a link to another disk
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy_database(path, copy)
        for home in sorted(former):
            replace_paths(path, home, settings.root)

    homes = " and ".join(map(str, sorted(former)))
    problem = f"expected paths below {settings.root}, found {homes}: the home was moved or copied"
    return HomeFinding("paths of the registry", "damaged", path, problem, "replace them by those of this home", repair)


def require_registry(settings: Settings) -> None:
    """Raise unless MLflow's local database is whole, so that no version gets a number that another one had.

    Raises:
        DamagedHome: it is gone or damaged, or holds no version at all although decisions were made; or its paths are
            those of another home, into which a run of a copied home would write; or the decision log is gone.
        StoreUnavailable: it cannot be read now.
    """
    workspace = Workspace(settings)
    found = examine_database(settings, workspace.decision_log.rows())
    found = found if found.is_damage else moved_paths(settings) or found
    if found.is_damage:
        raise DamagedHome(f"{found.path}: {found.problem}. Run `riseorfall doctor`.")
    workspace.require_decisions()


def _database_problem(path: Path, expected: int) -> str:
    """Return what is wrong with the database; empty if nothing is.

    Args:
        path: the file.
        expected: number of versions that the decision log names.
    """
    if not path.exists():
        return "expected MLflow's database, because decisions were made; found no file"
    try:
        with opened_database(path) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
            present = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            missing = sorted(DATABASE_TABLES - present)
            (versions,) = (0,) if missing else database.execute("SELECT count(*) FROM model_versions").fetchone()
    except sqlite3.Error as error:
        return f"expected an SQLite database, found: {error}"
    if answer != "ok":
        return f"expected a whole SQLite database, found: {answer}"
    if missing:
        return f"expected the tables of MLflow, missing {', '.join(missing)}"
    return f"expected {expected} versions of the decision log, found none" if expected and not versions else ""


def examine_versions(
    settings: Settings, rows: Sequence[LoggedDecision], stored: Sequence[Series] = (), *, is_known: bool = True
) -> Iterator[HomeFinding]:
    """Yield the damaged versions of each series, those without a decision, lost decisions, and its champion if whole.

    Args:
        settings: with a local database that is whole.
        rows: of the decision log.
        stored: series with bars, which may have versions and no decision.
        is_known: the tables are whole; else lost decisions are not looked for.
    """
    panels = (Series(PANEL, each.interval) for each in stored)
    known = {each.name: each for each in (*stored, *panels)} | {
        row.series_name: Series(row.symbol, row.interval) for row in rows
    }
    for name, series in known.items():
        own = [row for row in rows if row.series_name == name]
        workspace = Workspace(settings, series, name)
        database = LocalDatabase(settings.mlflow_uri)
        champion = own[-1].champion_after if own else (database.alias(name, "champion") or (None,))[0]
        newest, references = database.newest_versions(name, NEWEST) or (), sorted(reference_versions(own), key=int)
        numbers = dict.fromkeys((champion, *newest, *references))
        if is_known and name == series.name:  # a replay decides about its versions when it resumes
            yield from lost_decisions(workspace, newest)
        for number in numbers:
            if number is not None:
                yield from _examine_version(workspace, own, number, champion=number == champion)


def _examine_version(
    workspace: Workspace, rows: Sequence[LoggedDecision], number: str, *, champion: bool
) -> Iterator[HomeFinding]:
    part = f"{workspace.name} version {number}" + (" (champion)" if champion else "")
    replace = f"`riseorfall rollback` or `{workspace.retrain_command}`"
    database = LocalDatabase(workspace.settings.mlflow_uri)
    entry, row = database.version(workspace.name, number), _decision_about(rows, number)
    if entry is None:  # another than the champion was deleted in MLflow, and is no reference any more
        yield from [_lost_champion(part, workspace, number, rows, replace)] if champion else []
        return
    if entry.folder is None:
        yield HomeFinding(
            part, "not examined", Path(masked(workspace.settings.mlflow_uri)), "", "its files are on another machine"
        )
        return
    folder, recorded = entry.folder / ARTIFACTS, workspace.registry.history.recorded(number)
    loaded = LoadedVersion(part, folder, recorded.files)
    without = f"or run {replace}" if champion else "or do without it: it cannot become champion, nor be compared with"
    if problem := _place_problem(workspace, part, entry.folder):
        yield HomeFinding(part, "damaged", entry.folder, problem, f"move its files back into the home, {without}")
    elif problem := files_problem(loaded):
        repair = copy_files_of_run(workspace, entry.run_id, loaded)
        remedy = "take the copies that its run holds" if repair else f"restore a backup, {without}"
        yield HomeFinding(part, "damaged" if folder.is_dir() else "gone", folder, problem, remedy, repair)
    elif recorded.run_ids and entry.run_id not in recorded.run_ids:
        yield _foreign_run(part, workspace, number, entry.run_id, recorded, replace)
    elif recorded.files and (added := sorted(loaded.digests().keys() - recorded.files.keys())):
        yield _added_files(part, workspace.settings, entry.folder, [entry.folder / name for name in added])
    elif problem := _tags_problem(entry.tags, recorded.trained_until):
        yield HomeFinding(
            part,
            "damaged",
            workspace.settings.local_database or folder,
            problem,
            "derive its tags from its files and the decision log",
            lambda _: complete_tags(workspace, number, loaded, row),
        )
    elif champion:
        yield HomeFinding(part, "whole", folder)
    elif (
        workspace.name == workspace.runs.series.name  # a replay decides about its versions when it resumes
        and (workspace.name, number) not in decided_versions(rows)
        and not _is_running(database, entry.run_id)
        and "decision" not in workspace.runs.run_tags(entry.run_id)  # then its decision is lost
    ):
        decide = f"`riseorfall promote{workspace.series_flags} --version {number}`"
        helps = f"its retrain ended before the decision. Decide with {decide}, or leave it: `housekeeping` deletes it"
        yield HomeFinding(part, "undecided", folder, "", helps)


def _lost_champion(
    part: str, workspace: Workspace, number: str, rows: Sequence[LoggedDecision], replace: str
) -> HomeFinding:
    """Return the finding that the registry has no such version."""
    path = workspace.settings.local_database or Path(masked(workspace.settings.mlflow_uri))
    problem = "expected the champion of the decision log in the registry, found no such version"
    repair = register_again(workspace, number, rows)
    remedy = "register it again from the decision log and its files" if repair else f"run {replace}"
    return HomeFinding(part, "gone", path, problem, remedy, repair)


def _foreign_run(
    part: str, workspace: Workspace, number: str, found: str, recorded: RecordedVersion, replace: str
) -> HomeFinding:
    """Return the finding that the registry names another run for a version than its decision did."""
    runs = sorted(recorded.run_ids)
    path = workspace.settings.local_database or Path(masked(workspace.settings.mlflow_uri))
    problem = f"expected MLflow run {' or '.join(runs)} (decision log), found {found or 'no run'}"
    if len(runs) > 1 or not recorded.files:  # without recorded files nothing says that this is its network
        return HomeFinding(part, "damaged", path, problem, f"restore a backup, or run {replace}")

    def repair(_: Path) -> None:
        set_run_of_version(path, workspace.name, number, runs[0])

    return HomeFinding(part, "damaged", path, problem, "name the run of its decision again", repair)


def _added_files(part: str, settings: Settings, folder: Path, added: Sequence[Path]) -> HomeFinding:
    """Return the finding that a version has files that its decision did not record; none of them is ever opened."""

    def repair(aside: Path) -> None:
        for path in added:
            set_aside(path, settings.root, aside)

    names = " and ".join(str(path.relative_to(folder)) for path in added)
    problem = f"expected the files of its decision only, found also {names}"
    return HomeFinding(part, "damaged", folder, problem, "move them away", repair)


def _is_running(database: LocalDatabase, run_id: str) -> bool:
    """Return whether the process of a run goes on."""
    running = database.running_processes() or {}
    return run_id in running and not is_gone(running[run_id])


def _tags_problem(tags: Mapping[str, str], trained_until: datetime | None) -> str:
    """Return what is wrong with the tags of a version; empty if nothing is.

    Args:
        tags: as the registry has them.
        trained_until: end of its training by the decision log; None if no decision recorded it.
    """
    if unreadable := unreadable_tags(tags):
        return (
            "expected a version with a time in the tag trained_until and a number in metric.log_loss, found something "
            f"else or nothing in {' and '.join(unreadable)}"
        )
    found = time_of_tag(tags["trained_until"])
    if trained_until not in (None, found):
        return (
            f"expected {trained_until:%Y-%m-%d %H:%M} UTC in the tag trained_until, as its decision recorded, found "
            f"{found:%Y-%m-%d %H:%M}: the recorded time counts"
        )
    return ""


def _decision_about(rows: Sequence[LoggedDecision], number: str) -> LoggedDecision | None:
    found = [row for row in rows if row.version == number and row.is_about_challenger]
    return found[0] if found else None


def _place_problem(workspace: Workspace, part: str, folder: Path) -> str:
    """Return why no command opens the files of a version where they lie; empty if they may lie there."""
    try:
        workspace.registry.places.require_inside(part, str(folder))
    except UntrustedModel as error:
        return str(error).partition(" If the home was moved")[0]  # what follows is advice for other commands
    return ""


def files_problem(loaded: LoadedVersion) -> str:
    """Return what is wrong with the files of a version; empty if they can be served and are the recorded ones.

    Files that only MLflow and a rebuild of its database read count too.
    """
    try:
        loaded.predictor()
        loaded.record()
        loaded.keras()
        found = loaded.digests() if loaded.recorded else {}
        for name in loaded.recorded:
            require_same_digest(loaded.place, name, found.get(name, ""), loaded.recorded)
    except RiseOrFallError as error:
        return str(error)
    return ""
