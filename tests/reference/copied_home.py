"""A copy of a whole home: MLflow keeps absolute addresses in its database, and they are written anew."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path


def copy_home(source: Path, target: Path) -> Path:
    """Copy a home, so that the copy's registry finds the copy's files.

    MLflow remembers within a process where a run's artifacts are WRITTEN: write into a copied run by its path.
    """
    shutil.copytree(source, target)
    with closing(sqlite3.connect(target / "mlruns" / "mlflow.db")) as database, database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for _, column, kind, *_ in database.execute(f"PRAGMA table_info({table})").fetchall():
                if "CHAR" in kind.upper() or "TEXT" in kind.upper():
                    database.execute(
                        f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE {column} LIKE ?",
                        (f"{source}/", f"{target}/", f"%{source}/%"),
                    )
    return target
