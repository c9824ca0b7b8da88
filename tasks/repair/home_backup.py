"""Back up a home to a folder: tables, MLflow's database, files of runs and versions, reports, searches.

A backup is consistent while runs go on: what refers to something is copied before what it refers to (decision log,
other tables, database, files), and the database by SQLite's backup interface. Left out are the Data Docs, Prefect's
database (run history, notification blocks), the logs and the password of `up`. MLflow keeps absolute paths, which
`restore` replaces.
"""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG

from deltalake import DeltaTable

from model.errors import SpecError
from tasks.registry.local_database import opened_database
from tasks.settings import Settings, masked
from tasks.store.table_cache import local_files
from tasks.workspace import Workspace

MANIFEST = "backup.json"
CHECKSUMS = "SHA256SUMS"  # as `sha256sum --check` reads it
DATABASE = "mlflow.db"
FOLDERS = ("reports", "monitor", "tune")  # below HOME/data
PATH_COLUMNS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "model_versions": ("source", "storage_location"),
    "logged_models": ("artifact_location",),
}  # of MLflow's database


def back_up(settings: Settings, target: Path, report: Callable[[str], None]) -> None:
    """Copy a home to a folder that does not exist yet or is empty.

    Args:
        settings: of a home whose tables and MLflow database are local files.
        target: the folder; it appears when the backup is complete.
        report: receives one line of text for each part.

    Raises:
        SpecError: the home is not local, the folder is not empty or inside the home, or its `.partial` exists.
        StoreUnavailable: MLflow's database cannot be read now.
    """
    database, store = local_parts(settings, "backup")
    target = target.expanduser().resolve()
    if target.is_relative_to(settings.root):
        raise SpecError(f"backup: expected a folder outside the home {settings.root}, found {target}")
    partial = target.with_name(f"{target.name}.partial")
    try:
        require_empty(target, "backup")
        partial.mkdir(parents=True)
    except FileExistsError as error:
        raise SpecError(
            f"backup: expected no {partial}, found it: another backup writes it, or left it when it was interrupted. "
            "Delete it if none is running. Nothing was changed."
        ) from error
    except OSError as error:
        raise SpecError(
            f"backup: expected a folder that can be created, found {target} ({error.strerror}). Nothing was changed."
        ) from error
    try:
        versions = _copy_tables(settings, store, partial / "tables", report)
        if database.exists():
            copy_database(database, partial / DATABASE)
            report(f"MLflow's database: {(partial / DATABASE).stat().st_size:,} bytes")
        for source, name in home_folders(settings):
            if source.is_dir():
                _copy_folder(source, partial / name)
                report(f"{name}: {describe_folder(partial / name)}")
        manifest = {"home": str(settings.root), "made_at": datetime.now(UTC).isoformat(), "tables": versions}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        _write_checksums(partial)
        if target.exists():
            target.rmdir()
        partial.replace(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # it would be in the way of the next backup
        raise


def local_parts(settings: Settings, command: str) -> tuple[Path, Path]:
    """Return MLflow's database and the folder of tables; SpecError if one is on a server."""
    if settings.local_database is None or settings.local_store is None:
        raise SpecError(
            f"{command}: expected a home whose tables and MLflow database are local files, found "
            f"{settings.store_root} and {masked(settings.mlflow_uri)}. Back up these services with their own tools."
        )
    return settings.local_database, settings.local_store


def home_folders(settings: Settings) -> list[tuple[Path, str]]:
    """Return the folders of a home other than tables and database, with their names in a backup."""
    below = [(settings.data_folder / name, name) for name in FOLDERS]
    return [(settings.artifact_folder, "artifacts"), *below]


def _copy_tables(settings: Settings, store: Path, target: Path, report: Callable[[str], None]) -> dict[str, int]:
    """Copy each table at its present version, with its earlier versions; the decision log first."""
    tables = sorted(Workspace(settings).tables, key=lambda table: Path(table.uri).name != "ledger")
    versions = {}
    for table in tables:
        opened = table.open()
        if opened is not None:
            name, version = Path(table.uri).name, opened.version()
            _copy_table(store / name, target / name, version)
            versions[name] = version
            report(f"table {name}: version {version}, {describe_folder(target / name)}")
    target.mkdir(parents=True, exist_ok=True)
    return versions


def _copy_table(source: Path, target: Path, version: int) -> None:
    """Copy a table up to a version: Parquet files lie there before the commit that names them.

    Meanwhile others may delete old checkpoints and commits, and housekeeping files of earlier versions.
    """
    for path in sorted((source / "_delta_log").iterdir()):
        number = path.name.partition(".")[0]
        if number.isdecimal() and int(number) <= version:
            (target / "_delta_log").mkdir(parents=True, exist_ok=True)
            _copy_if_there(path, target / "_delta_log" / path.name)
    for path in source.rglob("*.parquet"):
        if "_delta_log" not in path.parts:
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            _copy_if_there(path, target / path.relative_to(source))
    copied = DeltaTable(str(target))
    if copied.version() != version:
        raise SpecError(f"backup: expected version {version} of {source} in the copy, found {copied.version()}")
    absent = [path for path in local_files(copied) if not Path(path).exists()]
    if absent:
        raise SpecError(
            f"backup: expected every file of version {version} of {source} in the copy, {len(absent)} are missing. "
            "`riseorfall doctor` examines the home."
        )


def _write_checksums(folder: Path) -> None:
    """Write the SHA-256 of every file of a backup, by which `restore` finds damage."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.relative_to(folder)}\n")
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def _copy_if_there(source: str | Path, target: str | Path) -> None:
    """Copy a file unless somebody has just deleted it.

    Raises:
        SpecError: it is a device or a pipe, of which a copy may never end.
    """
    with suppress(FileNotFoundError):
        if not S_ISREG(Path(source).stat().st_mode):
            raise SpecError(
                f"backup: expected a regular file, found a device or a pipe: {source}. Move it away; "
                "`riseorfall doctor` examines the home."
            )
        shutil.copyfile(source, target)


def _copy_folder(source: Path, target: Path) -> None:
    """Copy a folder, but for files and folders that somebody deletes meanwhile."""
    try:
        shutil.copytree(source, target, copy_function=_copy_if_there)
    except shutil.Error as error:
        failed = [each for each in error.args[0] if Path(each[0]).exists()]
        if failed:
            raise shutil.Error(failed) from error


def copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database that others may be writing to."""
    with opened_database(source) as theirs, closing(sqlite3.connect(target)) as ours:
        theirs.execute("SELECT 1 FROM sqlite_master").fetchone()  # a backup of a locked database waits for ever
        theirs.backup(ours)


def replace_paths(database: Path, old: Path, new: Path) -> None:
    """Replace the path of a home wherever a column of MLflow's database begins with it.

    The new home may be a folder of the old one: what lies below the new path then stays, so nothing is replaced twice.
    """
    with closing(sqlite3.connect(database)) as opened, opened:
        present = {name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table, columns in PATH_COLUMNS.items():
            for column in columns if table in present else ():
                for before, after in ((f"{old.as_uri()}/", f"{new.as_uri()}/"), (f"{old}/", f"{new}/")):
                    opened.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ? "  # noqa: S608 - names from PATH_COLUMNS
                        f"AND NOT (? AND substr({column}, 1, ?) = ?)",
                        (after, len(before) + 1, len(before), before, after.startswith(before), len(after), after),
                    )


def require_empty(path: Path, command: str) -> None:
    """Raise SpecError unless a path is absent or an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SpecError(f"{command}: expected {path} to be absent or an empty folder; it is not. Nothing was changed.")


def describe_folder(folder: Path) -> str:
    """Return the number of files in a folder and their size, as text."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return f"{len(sizes):,} files, {sum(sizes):,} bytes"
