"""Open MLflow's client; create or migrate a local database in one process at a time.

MLflow creates and migrates the tables without a lock: of two processes that begin at once in a new home, such as `up`
and the first `retrain`, one fails, also when it tries again. A new database is created under another name, so that a
process that was killed leaves none that looks damaged.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.registry.file_lock import hold_file
from tasks.registry.unreachable_store import store_unavailable
from tasks.settings import database_file

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open_client(uri: str) -> "MlflowClient":
    """Return MLflow's client; its local database exists by then, with the tables of this MLflow.

    Args:
        uri: tracking address, `sqlite:///...` or `http://...`.
    """
    import mlflow  # imported here: three seconds, which --help and a prediction must not pay

    with one_at_a_time(uri):
        return mlflow.MlflowClient(tracking_uri=uri)  # migrates the tables of an earlier MLflow


@contextmanager
def one_at_a_time(uri: str) -> Iterator[None]:
    """Create a local database that does not exist; no other process creates or migrates it inside the context.

    Args:
        uri: as for `open_client`; nothing is done for a server.
    """
    path = database_file(uri)
    with ExitStack() as stack:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold_file(path.with_name(f"{path.name}.lock")))
            if not path.exists():
                _create(path)
            elif not os.access(path, os.R_OK):  # MLflow tries for two minutes
                raise store_unavailable(str(path), PermissionError(errno.EACCES, "this user may not read it"))
        yield


def _create(path: Path) -> None:
    """Create MLflow's database; it appears under its name when it is complete."""
    from mlflow.store.db import utils

    fresh = path.with_name(f"{path.name}.creating")
    for left in (fresh, fresh.with_name(f"{fresh.name}-journal")):  # of a process that was killed
        left.unlink(missing_ok=True)
    engine = utils.create_sqlalchemy_engine_with_retry(f"sqlite:///{fresh}")
    try:
        utils._initialize_tables(engine)  # noqa: SLF001 - what `mlflow db upgrade` calls
    finally:
        engine.dispose()
    fresh.replace(path)
