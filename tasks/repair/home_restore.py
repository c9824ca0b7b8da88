"""Restore a home from a backup, which is examined before anything is written.

Every part is copied beside its place first and moved there at the end, the database last: a restore that is interrupted
leaves folders named `*.restoring`, which nothing reads and the next restore deletes.
"""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from model.errors import SpecError
from tasks.registry.unreachable_store import regular_content
from tasks.repair.home_backup import (
    CHECKSUMS,
    DATABASE,
    MANIFEST,
    describe_folder,
    home_folders,
    local_parts,
    replace_paths,
    require_empty,
)
from tasks.repair.home_finding import database_files
from tasks.settings import Settings
from tasks.store.table_cache import local_files

MOST_BYTES = 1_000_000  # of the manifest, which has a line for each table
NAMED_FILES = 3  # damaged files that an error names


def restore(settings: Settings, source: Path, report: Callable[[str], None]) -> None:
    """Copy a backup into a home that has no tables and no MLflow files yet.

    Args:
        settings: of the home.
        source: folder that `back_up` wrote.
        report: receives one line of text for each part.

    Raises:
        SpecError: the folder is no backup or not whole, or the home is not empty.
    """
    database, store = local_parts(settings, "restore")
    source = source.expanduser().resolve()
    manifest = _read_manifest(source)
    parts = {"tables": store} | {name: target for target, name in home_folders(settings)}
    for path in parts.values():
        require_empty(path, "restore")
    for path in database_files(database):
        if path.exists():
            raise SpecError(f"restore: expected a home without {path}, found it. Choose an empty RISEORFALL_HOME.")
    _require_whole(source, manifest)
    present = {name: target.resolve() for name, target in parts.items() if (source / name).is_dir()}
    _copy(source, present)
    report(f"tables: {describe_folder(store)}, {', '.join(f'{name} v{at}' for name, at in manifest['tables'].items())}")
    for name, place in present.items():
        if name != "tables":
            report(f"{name}: {describe_folder(place)}")
    if (source / DATABASE).exists():
        fresh = database.with_name(f"{database.name}.new")
        database.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / DATABASE, fresh)
        replace_paths(fresh, Path(manifest["home"]), settings.root)
        fresh.replace(database)  # last: a home with a database is complete
        report(f"MLflow's database: {database.stat().st_size:,} bytes, paths of {manifest['home']} replaced")


def _copy(source: Path, present: Mapping[str, Path]) -> None:
    """Copy folders of a backup, by name, to their places in the home."""
    for name, place in present.items():
        partial = _partial(place)
        if partial.exists():  # of a restore that was interrupted
            shutil.rmtree(partial)
        shutil.copytree(source / name, partial)
    for place in present.values():
        _move(_partial(place), place)


def _partial(place: Path) -> Path:
    return place.with_name(f"{place.name}.restoring")


def _move(partial: Path, place: Path) -> None:
    """Move a folder to a place that is absent or an empty folder."""
    try:
        if place.exists():
            place.rmdir()
        partial.replace(place)
    except OSError:  # a mounted folder cannot be replaced
        shutil.copytree(partial, place, dirs_exist_ok=True)
        shutil.rmtree(partial)


def _read_manifest(source: Path) -> Mapping[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(regular_content(source / MANIFEST, MOST_BYTES))
        return {"home": str(manifest["home"]), "tables": {str(k): int(v) for k, v in manifest["tables"].items()}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecError(
            f"restore: expected a folder that `riseorfall backup` wrote, with {MANIFEST}; found {source} ({error})"
        ) from error


def _require_whole(source: Path, manifest: Mapping[str, Any]) -> None:
    """Raise SpecError unless a backup is whole."""
    problems = list(_problems(source, manifest))
    if problems:
        further = f" and {len(problems) - NAMED_FILES:,} more" if len(problems) > NAMED_FILES else ""
        raise SpecError(
            f"restore: expected a whole backup in {source}, found {'; '.join(problems[:NAMED_FILES])}{further}. Use "
            "another backup. Nothing was changed."
        )


def _problems(source: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is missing or damaged in a backup."""
    damaged = list(_damaged_files(source))
    yield from damaged
    if damaged:
        return  # what follows would only describe them again
    for name, version in manifest["tables"].items():
        try:
            opened = DeltaTable(str(source / "tables" / name))
            absent = [path for path in local_files(opened) if not Path(path).exists()]
        except Exception as error:  # noqa: BLE001 - deltalake's errors share no root
            yield f"no table in tables/{name} ({str(error).partition(chr(10))[0]})"
            continue
        if opened.version() != version:
            yield f"version {opened.version()} of tables/{name}, where {MANIFEST} states {version}"
        if absent:
            yield f"{len(absent):,} files of tables/{name} missing"
    database = source / DATABASE
    if database.exists():
        yield from _database_problems(database)


def _damaged_files(source: Path) -> Iterator[str]:
    """Yield the files that are not those that were backed up; nothing for a backup without digests."""
    listed = source / CHECKSUMS
    if not listed.exists():
        return
    try:
        lines = regular_content(listed).decode().splitlines()
    except (OSError, ValueError) as error:
        yield f"{CHECKSUMS} unreadable ({error})"
        return
    for line in lines:
        digest, _, name = line.partition("  ")
        if (source / name).exists() and not (source / name).is_file():
            yield f"a device, a pipe or a folder at {name}"
            continue
        try:
            with (source / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            yield f"{name} unreadable ({error.strerror})"
            continue
        if found != digest:
            yield f"{name} changed since the backup"


def _database_problems(database: Path) -> Iterator[str]:
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro&immutable=1", uri=True)) as opened:
            (answer,) = opened.execute("PRAGMA quick_check(1)").fetchone()
            (versions,) = opened.execute("SELECT count(*) FROM model_versions").fetchone()
    except sqlite3.Error as error:
        answer, versions = str(error), 0
    if answer != "ok":
        yield f"{DATABASE} damaged ({answer})"
    elif versions and not (database.parent / "artifacts").is_dir():
        yield f"no folder artifacts for the {versions:,} versions of {DATABASE}"
