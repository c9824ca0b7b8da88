"""The project's own flows and tasks in a simulated world: what is replaced, and by what.

The bodies of the flows run as they are. Replaced are: the network's training (records of a network written by hand),
MLflow's wrapping of a version, Great Expectations' second run of the rules, Prefect's server, and pictures, because
they take seconds and keep nothing that a later command reads.
"""

import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from prefect.client.schemas.objects import State
from simulated_faults import Faults
from simulated_world import DAY, FIRST_BAR, SERIES, Clock, Exchange, SimulatedClient, numbered, simulated_datetime
from tiny_network import tiny_onnx

import data_checks.validate
import flows.housekeeping
import flows.ingest
import flows.lift_hold
import flows.monitor
import flows.predict
import flows.release
import flows.remove
import flows.retrain
import flows.rollback
import model.champion_timeline_picture
import tasks.champion.champion_monitor
import tasks.champion.commit_decision
import tasks.pages.prefect_artifacts
import tasks.registry.experiment_runs
import tasks.repair.retention
import tasks.retrain_mlflow_run
import tasks.services.dead_runs
import tasks.services.events
import tasks.sources.exchange_source
import tasks.store.delta_table
import tasks.windowing
from data_checks.great_expectations_run import Validation
from model.errors import SourceUnavailable
from model.folds import FoldSpec
from model.metrics import score
from model.monitor_alarms import MonitorSpec
from model.predictor import Predictor
from model.recipe import Recipe
from model.record import Record
from model.times import iso_text
from model.training import median_epochs
from model.windows import WindowSpec
from tasks.champion.promotion_by_hand import promote_by_hand
from tasks.champion.unchanged_inputs import REPORTED
from tasks.registration import version_tags
from tasks.registry.local_database import LocalDatabase
from tasks.registry.model_files import ModelFiles
from tasks.registry.run_artifacts import FOLD_NETWORKS, PROBE, RECORD, log_artifacts, parquet_bytes
from tasks.repair.retention_spec import RetentionSpec
from tasks.results import FinalFit, FoldOutcome
from tasks.settings import Settings
from tasks.sources.source_spec import SourceSpec
from tasks.store.delta_table import Table, TableUnreachable
from tasks.windowing import read_folds
from tasks.workspace import Workspace, open_workspace

SOURCE = SourceSpec(kind="exchange", backfill_from=f"{FIRST_BAR:%Y-%m-%d}")
NAMED = (SERIES.symbol, SERIES.interval)
WINDOW = WindowSpec(lookback_bars=5)
FOLDS = FoldSpec(test_bars=120, count=1, runner="serial")
MLFLOW_WRITES = (
    "create_run", "log_batch", "log_artifacts", "log_text", "log_inputs", "set_tag", "update_run",
    "set_terminated", "create_experiment", "set_experiment_tag", "create_registered_model", "create_model_version",
    "delete_model_version", "update_model_version", "set_registered_model_alias", "delete_registered_model_alias",
)  # fmt: skip


def ingest(_: np.random.Generator) -> Any:
    """Run the flow `ingest`."""
    return result_of(flows.ingest.ingest.fn(SOURCE))


def retrain(_: np.random.Generator) -> Any:
    """Run the flow `retrain`."""
    return result_of(flows.retrain.retrain.fn(SOURCE, window=WINDOW, folds=FOLDS))


def predict(_: np.random.Generator) -> Any:
    """Run the flow `predict`."""
    return result_of(flows.predict.predict.fn(*NAMED))


def monitor(_: np.random.Generator) -> Any:
    """Run the flow `monitor`."""
    return result_of(flows.monitor.monitor.fn(*NAMED))


def impatient_monitor(_: np.random.Generator) -> Any:
    """Run the flow `monitor` with a limit that every champion exceeds."""
    return result_of(flows.monitor.monitor.fn(*NAMED, MonitorSpec(max_champion_age_days=0.01)))


def rollback(_: np.random.Generator) -> Any:
    """Run the flow `rollback`."""
    return result_of(flows.rollback.rollback.fn(*NAMED, reason="simulated"))


def lift(_: np.random.Generator) -> Any:
    """Run the flow `lift_hold`."""
    return result_of(flows.lift_hold.lift_hold.fn(*NAMED, "simulated"))


def force(rng: np.random.Generator) -> Any:
    """Promote one of the newest versions against the rule."""
    known = open_workspace(SERIES).registry.newest_versions(5) or ("1",)
    version = known[int(rng.integers(len(known)))]
    return promote_by_hand(SERIES, Settings(), version, force=True, reason="simulated")


def remove(rng: np.random.Generator) -> Any:
    """Run the flow `remove` for one of the newest bars."""
    newest = open_workspace().bar_store.newest(SERIES) or FIRST_BAR
    return result_of(flows.remove.remove.fn(*NAMED, newest - int(rng.integers(20)) * DAY, "simulated"))


def release(rng: np.random.Generator) -> Any:
    """Run the flow `release` for one of the newest quarantined bars."""
    held = open_workspace().bar_store.read_quarantine(SERIES)
    times = [each.to_pydatetime() for each in held["timestamp"][held["released_at"].isna()]][-5:] or [FIRST_BAR]
    return result_of(flows.release.release.fn(*NAMED, [times[int(rng.integers(len(times)))]], "simulated"))


def housekeeping(_: np.random.Generator) -> Any:
    """Run the flow `housekeeping`, with the shortest retention."""
    return result_of(flows.housekeeping.housekeeping.fn(RetentionSpec(versions=30, fold_days=1, run_days=1)))


def result_of(found: Any) -> Any:
    """Return the result in a state; raise its error."""
    if isinstance(found, State):
        if isinstance(found.data, Exception):
            raise found.data
        return found.data
    return found


class Processes:
    """Names of simulated processes, and which of them live."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults

    def own(self) -> str:
        """Return the name of the current process."""
        worker = self.faults.worker()
        return worker.name if worker else "outside"

    def is_gone(self, name: str) -> bool:
        """Return whether a simulated process has ended."""
        return name.startswith("P") and name not in self.faults.live_processes


class Training:
    """A stand-in for training: a network written by hand, and the record that it has on the newest windows."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.gains: dict[str, float] = {}

    def train_folds(self, windows: Any, recipe: Recipe, run_id: str) -> list[FoldOutcome]:
        """Log a fold's run and nothing else."""
        runs = open_workspace(recipe.series).runs
        self.gains[run_id] = float(self.rng.normal(0, 3))
        fold = runs.start_run("fold 1 of 1", {"fold": "0"}, parent=run_id)
        runs.log_values(fold, params={"train_windows": windows.resolved})
        runs.finish_run(fold)
        return [FoldOutcome(0, fold, 3, 3, 0.0, "cpu", 0.69)]

    def fit_baselines(self, ref: Any, recipe: Recipe) -> None:
        """Fit nothing."""

    def evaluate(self, ref: Any, recipe: Recipe, folds: Any, baselines: Any, run_id: str, *_: Any) -> Any:  # noqa: ARG002
        """Log the record, its fold networks and the base rate."""
        record, _ = self._record(ref, recipe, run_id)
        networks = pd.DataFrame({"0": record.probabilities})
        files = {
            RECORD: parquet_bytes(record.frame().assign(base_rate=0.5)),
            FOLD_NETWORKS: parquet_bytes(networks),
        }
        log_artifacts(open_workspace(recipe.series).runs, run_id, files)
        return score(record.labels, record.probabilities)

    def fit_final(self, ref: Any, recipe: Recipe, folds: Any, run_id: str) -> FinalFit:
        """Log the probe of the network."""
        _, (decided_at, probabilities) = self._record(ref, recipe, run_id)
        probe = pd.DataFrame({"decided_at": decided_at[-20:], "probability": probabilities[-20:]})
        log_artifacts(open_workspace(recipe.series).runs, run_id, {PROBE: parquet_bytes(probe)})
        resolved, _ = read_folds(ref.bars, ref.window, recipe.folds)
        return FinalFit(
            median_epochs([each.best_epoch for each in folds]), 0.0, "cpu", iso_text(resolved.resolved_at[-1])
        )

    def register(
        self,
        ref: Any,
        recipe: Recipe,
        _folds: Any,
        final: Any,
        numbers: Any,
        rule: Any,
        run_id: str,
    ) -> Any:
        """Register the version in one step, as a replay does."""
        record, _ = self._record(ref, recipe, run_id)
        tags = version_tags(ref.bars, recipe, final, numbers, rule)
        files = ModelFiles(b"not read", tiny_onnx(WINDOW.lookback_bars, gain=self.gains[run_id]), recipe, record)
        registry = open_workspace(recipe.series).registry
        version = registry.add_version(run_id, files, tags)
        registry.set_alias("challenger", version.version)
        return version

    def report(self, result: Any, recipe: Recipe, folds: Any) -> str:  # noqa: ARG002
        """Write no report, but mark the run as every report does."""
        open_workspace(recipe.series).runs.log_values(result.run_id, tags={REPORTED: "none"})
        return ""

    def _record(self, ref: Any, recipe: Recipe, run_id: str) -> tuple[Record, Any]:
        resolved, _ = read_folds(ref.bars, ref.window, recipe.folds)
        bars = open_workspace().bar_store.read_bars(ref.bars)
        found = Predictor(tiny_onnx(WINDOW.lookback_bars, gain=self.gains[run_id]), WINDOW).predict(bars)
        newest = resolved.take(np.arange(len(resolved) - FOLDS.test_bars, len(resolved)))
        probabilities = found[1][np.searchsorted(found[0], newest.decided_at)]
        none = np.zeros(len(newest), dtype=np.int64)
        return Record(newest.decided_at, newest.resolved_at, newest.labels, probabilities, none), found


def _load_files(workspace: Workspace, version: str) -> None:
    """Verify and open the files of a version; the real smoke test also wants MLflow's wrapping."""
    workspace.registry.read_version(version).predictor()


MLFLOW_READS = (
    "get_experiment_by_name", "get_run", "get_registered_model", "get_model_version", "search_model_versions",
    "search_runs", "search_experiments", "list_artifacts", "download_artifacts",
)  # fmt: skip


def _refused_by_mlflow(text: str) -> Exception:
    return MlflowException(text, error_code=TEMPORARILY_UNAVAILABLE)


def _no_half() -> None:
    """Nothing is written: the same as a kill before."""


def _faulty_commit(faults: Faults, clock: Clock) -> Callable[..., Any]:
    true = Table._commit

    def commit(table: Table, opened: Any, change: Any) -> Any:
        def half() -> None:  # a data file without a commit
            shutil.copy(__file__, Path(table.uri) / f"part-00000-{faults.ticks}.snappy.parquet")

        name = Path(table.uri).name

        def act() -> Any:
            found = true(table, opened, change)
            faults.commits.setdefault(name, clock.true)
            return found

        return faults.boundary(f"commit {name}", act, OSError, half)

    return commit


def _faulty_create(faults: Faults) -> Callable[..., Any]:
    true = Table.create
    return lambda table: faults.boundary(f"create {Path(table.uri).name}", lambda: true(table), OSError, _no_half)


def _faulty_write_of_mlflow(faults: Faults, name: str) -> Callable[..., Any]:
    true = getattr(mlflow.MlflowClient, name)

    def write(client: Any, *given: Any, **named: Any) -> Any:
        def half() -> None:
            if name == "log_artifacts":  # the first file only
                local = Path(given[1])
                for path in sorted(local.iterdir())[:1]:
                    client.log_artifact(given[0], str(path), *given[2:])

        return faults.boundary(f"mlflow {name}", lambda: true(client, *given, **named), _refused_by_mlflow, half)

    return write


def _faulty_read_of_mlflow(faults: Faults, name: str) -> Callable[..., Any]:
    true = getattr(mlflow.MlflowClient, name)

    def read(client: Any, *given: Any, **named: Any) -> Any:
        return faults.reading(f"mlflow {name}", lambda: true(client, *given, **named), _refused_by_mlflow)

    return read


def _faulty_open(faults: Faults) -> Callable[..., Any]:
    true = Table.open
    return lambda table, version=None: faults.reading(
        f"open {Path(table.uri).name}", lambda: true(table, version), TableUnreachable
    )


def _faulty_rows(faults: Faults) -> Callable[..., Any]:
    """Return a reader of MLflow's database that does not always get a lock, and then returns None."""
    true = LocalDatabase._rows

    def rows(database: LocalDatabase, *given: Any) -> Any:
        with suppress(Locked):
            return faults.reading("database", lambda: true(database, *given), Locked)
        return None

    return rows


class Locked(Exception):
    """The database was locked."""


def _faulty_landing(faults: Faults) -> Callable[..., Any]:
    true = pd.DataFrame.to_parquet

    def write(frame: pd.DataFrame, path: Any = None, **named: Any) -> Any:
        if not isinstance(path, (str, Path)) or "landing" not in str(path):
            return true(frame, path, **named)

        def half() -> None:
            Path(path).write_bytes(b"PAR1 half of a file")

        return faults.boundary("landing file", lambda: true(frame, path, **named), OSError, half)

    return write


def _plain_log_figure(runs: Any, run_id: str, _figure: Any, path: str) -> None:
    runs.log_text(run_id, "a picture", path)


@contextmanager
def simulated(home: Path, clock: Clock, exchange: Exchange, faults: Faults, rng: np.random.Generator) -> Iterator[None]:
    """Run everything inside in the simulated world, with this home."""
    training, processes = Training(rng), Processes(faults)
    SimulatedClient.exchange = exchange
    names = numbered("ingest-")
    quiet = logging.getLogger("simulation")
    stand_ins: list[tuple[Any, str, Any]] = [
        (time, "sleep", lambda _: None),
        (tasks.store.delta_table, "MAX_FILES", 3),  # so that files are merged on some days
        (Table, "_commit", _faulty_commit(faults, clock)),
        (Table, "create", _faulty_create(faults)),
        (Table, "open", _faulty_open(faults)),
        (LocalDatabase, "_rows", _faulty_rows(faults)),
        (pd.DataFrame, "to_parquet", _faulty_landing(faults)),
        (data_checks.validate, "validate_batch", lambda *_: Validation({}, "", "")),
        (data_checks.validate, "_disagreement", lambda *_: ""),
        (tasks.pages.prefect_artifacts, "_try", lambda *_, **__: None),
        (tasks.services.dead_runs, "is_gone", processes.is_gone),
        (tasks.services.dead_runs, "remove_temporary_folders", list),
        (tasks.registry.experiment_runs, "own_process", processes.own),
        (tasks.retrain_mlflow_run, "code_version", dict),
        (tasks.repair.retention, "datetime", _DaysLater),
        (tasks.champion.commit_decision, "load_as_served", _load_files),
        (tasks.champion.champion_monitor, "draw_monitor", lambda workspace, *_: workspace.settings.root),
        (model.champion_timeline_picture, "champion_history_picture", lambda _: None),
        (tasks.registry.experiment_runs.ExperimentRuns, "log_figure", _plain_log_figure),
        (tasks.sources.exchange_source, "ExchangeClient", SimulatedClient),
        (flows.ingest, "runtime", _FlowRun(names)),
        (flows.ingest, "ingest_bars", _retried(flows.ingest.ingest_bars)),
    ]
    for flow, tasks_of in {
        flows.ingest: ("store", "check_landing"),
        flows.retrain: ("open_run", "ingest", "check_landing", "store", "find_earlier_decision", "cut", "promote"),
        flows.predict: ("predict_last",),
        flows.monitor: ("run_monitor",),
        flows.housekeeping: ("run_housekeeping",),
    }.items():
        stand_ins += [(flow, name, _plain(getattr(flow, name))) for name in tasks_of]
    stand_ins += [
        (flows.retrain, name, getattr(training, name)) for name in ("train_folds", "evaluate", "register", "report")
    ]
    stand_ins += [(flows.retrain, name, _submitted(getattr(training, name))) for name in ("fit_baselines", "fit_final")]
    stand_ins.append((flows.retrain, "audit_retrain", lambda *_: None))
    stand_ins += [(mlflow.MlflowClient, name, _faulty_write_of_mlflow(faults, name)) for name in MLFLOW_WRITES]
    stand_ins += [(mlflow.MlflowClient, name, _faulty_read_of_mlflow(faults, name)) for name in MLFLOW_READS]
    now = simulated_datetime(clock)
    for name, module in list(sys.modules.items()):
        if name.startswith(("tasks.", "flows.")):
            if vars(module).get("datetime") is datetime and module is not tasks.repair.retention:
                stand_ins.append((module, "datetime", now))
            if "get_run_logger" in vars(module):
                stand_ins.append((module, "get_run_logger", lambda: quiet))
            if "emit_event_for" in vars(module):
                stand_ins.append((module, "emit_event_for", lambda *_, **__: None))
    patches = [patch.object(owner, name, value) for owner, name, value in stand_ins]
    with patch.dict("os.environ", {"RISEORFALL_HOME": str(home)}):
        for each in patches:
            each.start()
        try:
            yield
        finally:
            for each in reversed(patches):
                each.stop()


class _DaysLater(datetime):
    """MLflow stamps runs with the real time; housekeeping comes days later."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.now(tz) + timedelta(days=2)


class _FlowRun:
    def __init__(self, names: Iterator[str]) -> None:
        self.names = names

    @property
    def flow_run(self) -> SimpleNamespace:
        return SimpleNamespace(id=next(self.names))


def _plain(task: Any) -> Any:
    return task.fn


def _submitted(function: Callable[..., Any]) -> SimpleNamespace:
    """Return a task that runs as soon as it is submitted."""

    def submit(*given: Any) -> SimpleNamespace:
        found = function(*given)
        return SimpleNamespace(result=lambda: found)

    return SimpleNamespace(submit=submit)


def _retried(task: Any) -> SimpleNamespace:
    """Return a task that is tried again as the flow configures it, without waiting."""

    def with_options(retries: int, **_: Any) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            for _ in range(retries):
                with suppress(SourceUnavailable):
                    return task.fn(*given)
            return task.fn(*given)

        return run

    return SimpleNamespace(with_options=with_options)


def forget_caches() -> None:
    """Forget what a process keeps in memory: the next command is a new process."""
    tasks.windowing.read_windows.cache_clear()
    tasks.windowing.read_folds.cache_clear()
