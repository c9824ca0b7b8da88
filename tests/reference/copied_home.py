"""Copy a whole home: MLflow keeps absolute paths in its database, which are rewritten."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path


def copy_home(source: Path, target: Path) -> Path:
    """Copy a home, so that the copy's registry finds the copy's files.

    MLflow caches within a process where a run's artifacts are WRITTEN: write into a copied run by its path.
    """
    shutil.copytree(source, target, dirs_exist_ok=True)
    repoint_registry(target, source)
    return target


def repoint_registry(home: Path, written_at: Path) -> None:
    """Replace the old path of a home by its present one wherever its MLflow database names it."""
    with closing(sqlite3.connect(home / "mlruns" / "mlflow.db")) as database, database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for _, column, kind, *_ in database.execute(f"PRAGMA table_info({table})").fetchall():
                if "CHAR" in kind.upper() or "TEXT" in kind.upper():
                    database.execute(
                        f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE {column} LIKE ?",
                        (f"{written_at}/", f"{home}/", f"%{written_at}/%"),
                    )
