"""The registry read from its file says what MLflow's client says, and nothing where only MLflow can answer."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from synthetic_bars import random_walk
from tiny_home import SERIES, tiny_home

from model.errors import NoChampion
from tasks.registry.local_database import LocalDatabase
from tasks.settings import Settings
from tasks.workspace import Workspace


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return tiny_home(tmp_path_factory.mktemp("home"), random_walk(400, seed=3), 395)


def test_alias_version_and_folder_are_those_of_the_client(settings: Settings) -> None:
    file = LocalDatabase(settings.mlflow_uri)
    workspace = Workspace(settings, SERIES)
    found = workspace.runs.client.get_model_version(SERIES.name, "1")
    entry = file.version(SERIES.name, "1")
    assert entry is not None
    assert (entry.run_id, entry.tags) == (found.run_id, dict(found.tags))
    assert file.alias(SERIES.name, "champion") == ("1",)
    assert file.alias(SERIES.name, "challenger") == (None,)
    assert entry.folder is not None
    assert (entry.folder / "artifacts" / "network.onnx").read_bytes() == workspace.registry.read_version("1").onnx()


def test_a_deleted_version_is_gone(settings: Settings) -> None:
    workspace = Workspace(settings, SERIES, "other")
    workspace.runs.client.create_registered_model("other")
    workspace.runs.client.create_model_version(
        "other", "file:///nowhere", tags={"trained_until": "2020-01-01T00:00:00+00:00"}
    )
    assert workspace.registry.version("1").tags
    workspace.runs.client.delete_model_version("other", "1")
    assert LocalDatabase(settings.mlflow_uri).version("other", "1") is None
    with pytest.raises(NoChampion):
        workspace.registry.version("1")


@pytest.mark.parametrize(
    ("uri", "alias"),
    [("http://127.0.0.1:1", None), ("sqlite:////nowhere/mlflow.db", (None,))],
    ids=["server", "absent"],
)
def test_another_mlflow_is_left_to_the_client(uri: str, alias: tuple[None] | None) -> None:
    """A database that does not exist holds no alias; the client would create it."""
    file = LocalDatabase(uri)
    assert (file.alias("a", "champion"), file.version("a", "1"), file.params("1")) == (alias, None, None)


def test_a_database_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    found = []
    for value in ("old", "new"):
        fresh = tmp_path / value
        with closing(sqlite3.connect(fresh)) as database, database:
            database.execute("CREATE TABLE experiments (experiment_id, name, workspace)")
            database.execute("INSERT INTO experiments VALUES (?, 'a', 'default')", (value,))
        fresh.replace(path)
        found.append(LocalDatabase(f"sqlite:///{path}").experiment_id("a"))
    path.unlink()
    assert [*found, LocalDatabase(f"sqlite:///{path}").experiment_id("a")] == [("old",), ("new",), None]


def test_what_another_process_wrote_is_read_at_once(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("CREATE TABLE experiments (experiment_id, name, workspace)")
        file = LocalDatabase(f"sqlite:///{tmp_path / 'mlflow.db'}")
        assert file.experiment_id("a") == (None,)
        database.execute("INSERT INTO experiments VALUES ('7', 'a', 'default')")
        database.commit()  # which a reader that keeps a lock would refuse
        assert file.experiment_id("a") == ("7",)


def test_tables_of_another_mlflow_are_left_to_the_client(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("CREATE TABLE model_versions (name TEXT)")
    assert LocalDatabase(f"sqlite:///{tmp_path / 'mlflow.db'}").version("a", "1") is None


@pytest.mark.parametrize("command", ["predict", "decisions"])
def test_a_short_command_imports_neither_mlflow_nor_tensorflow_nor_pandas(settings: Settings, command: str) -> None:
    asks = (
        "import atexit, sys; from flows.cli import main; heavy = ('mlflow', 'tensorflow', 'prefect', 'pandas'); "
        "atexit.register(lambda: print([name for name in heavy if name in sys.modules])); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", asks, command], capture_output=True, text=True, check=True,
        env={"RISEORFALL_HOME": str(settings.home), "PATH": ""}, cwd=settings.home,
    )  # fmt: skip
    assert done.stdout.endswith("[]\n"), done.stdout
