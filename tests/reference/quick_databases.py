"""MLflow's SQLite databases, quick to create and to write: the migrations run once in a process, not in each home.

Some hundred tests start in an empty home. The migrations of a new database take more than a second of CPU time and
write the file 80 times, so MLflow's tables are copied from a template that MLflow itself has made. No database of a
test has to survive a power failure, so SQLite does not wait for the disk. Child processes are not affected.
"""

import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

MODULE = "mlflow.store.db.utils"


class _Finder(MetaPathFinder):
    """Change the module when it is imported; importing MLflow for tests that do not use it would cost seconds."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == MODULE else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_change(module: ModuleType) -> None:
                execute(module)
                _change(module)

            spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Change MLflow in this process, before it is imported."""
    assert MODULE not in sys.modules
    sys.meta_path.insert(0, _Finder())


def _do_not_wait_for_the_disk(database: Any, _: object) -> None:
    with suppress(sqlite3.DatabaseError):  # damaged: the statement after this one fails, as without this one
        database.execute("PRAGMA synchronous = OFF")


def _change(module: Any) -> None:
    migrate, create_engine = module._initialize_tables, module.create_sqlalchemy_engine

    @cache
    def template() -> bytes:
        with TemporaryDirectory() as folder:
            engine = create_quick_engine(f"sqlite:///{folder}/template.db")
            migrate(engine)
            engine.dispose()
            return Path(folder, "template.db").read_bytes()

    def copy_tables(engine: Any) -> None:
        if engine.dialect.name != "sqlite" or not module._is_empty_database(engine):
            migrate(engine)
            return
        with closing(sqlite3.connect(":memory:")) as source, closing(sqlite3.connect(engine.url.database)) as target:
            source.deserialize(template())
            source.backup(target)

    def create_quick_engine(uri: str) -> Any:
        engine = create_engine(uri)
        if engine.dialect.name == "sqlite":
            module.event.listen(engine, "connect", _do_not_wait_for_the_disk)
        return engine

    module._initialize_tables, module.create_sqlalchemy_engine = copy_tables, create_quick_engine
