"""What a home keeps, and the rest that can be deleted.

Kept for ever: the tables' newest rows, every version that was champion with its files and its evaluation, and the bars
at the versions that kept models were trained on. Bounded: other versions, runs of folds, reports, pages, logs, and
files of earlier table versions. Only the series' own versions are touched, not those of a replay, which resumes from
them. Each removal is a value, so a dry run lists exactly what a run would delete.
"""

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from deltalake import DeltaTable

from model.bars import Series
from model.errors import StoreUnavailable
from tasks.registry.run_artifacts import REPORT
from tasks.repair.retention_spec import RetentionSpec
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision, reference_versions
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

PAGE = 1000  # of MLflow
ALL_STAGES = 3  # MLflow's ViewType.ALL, which takes seconds to import
BULKY = (REPORT, "network", "pictures")  # of a run, each kept elsewhere or drawn from what is kept
RUNS_PER_CALL = 100  # ids in one command line of `mlflow gc`


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
        settings: its MLflow address is the local database if this home has one; MLflow elsewhere is left alone.
        spec: what is kept.
        now: the clock if None.
    """
    moment = now or datetime.now(UTC)
    workspace = Workspace(settings)
    rows = workspace.decision_log.rows()
    found = [*_old_pages(settings, spec, rows, moment)]
    kept_bars: set[int] = set()
    if settings.local_database is not None and settings.local_database.exists():
        found += _old_runs(settings, spec, rows, moment)
        for name in dict.fromkeys(row.series_name for row in rows):
            own = [row for row in rows if row.series_name == name]
            found += _old_versions(settings, spec, own, kept_bars)
    if settings.local_store is not None:
        found += _old_table_files(settings, spec, sorted(kept_bars))
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


def _old_pages(
    settings: Settings, spec: RetentionSpec, rows: Sequence[LoggedDecision], now: datetime
) -> Iterator[Removal]:
    """Yield reports, Data Docs and logs that have not changed for `page_days`."""
    data, before = settings.root / "data", (now - timedelta(days=spec.page_days)).timestamp()
    champions = {row.series_name: row.champion_after for row in rows}
    shown = {row.run_id for row in rows if row.version == champions[row.series_name]}
    places = (("report", "reports/*/*.html"), ("Data Docs", "docs/*/validations/**/*.html"), ("log", "logs/*.log"))
    for kind, pattern in places:
        for path in sorted(data.glob(pattern)):
            if path.stem not in shown and path.stat().st_mtime < before:
                yield _file(kind, path)


def _file(kind: str, path: Path) -> Removal:
    def delete() -> None:
        path.unlink(missing_ok=True)
        folder = path.parent
        while folder.name and not any(folder.iterdir()):  # Data Docs: a folder for each time
            folder.rmdir()
            folder = folder.parent

    return Removal(kind, str(path), path.stat().st_size, delete)


def _old_runs(
    settings: Settings, spec: RetentionSpec, rows: Sequence[LoggedDecision], now: datetime
) -> Iterator[Removal]:
    """Yield the ended runs of folds after `fold_days`, and those without a decision after `run_days`."""
    from mlflow import MlflowClient  # imported here: takes seconds

    client = MlflowClient(tracking_uri=settings.mlflow_uri)
    decided = {row.run_id for row in rows if row.is_about_challenger}
    series = {Series(row.symbol, row.interval).name for row in rows}
    limits = {
        "runs of folds": int((now - timedelta(days=spec.fold_days)).timestamp() * 1000),
        "runs without a decision": int((now - timedelta(days=spec.run_days)).timestamp() * 1000),
    }
    old: dict[str, list[Run]] = {kind: [] for kind in limits}
    for run in _ended_runs(client, series):
        kind = "runs of folds" if "fold" in run.data.tags else "runs without a decision"
        if run.info.run_id not in decided and (run.info.end_time or 0) < limits[kind]:
            old[kind].append(run)
    for kind, runs in old.items():
        for start in range(0, len(runs), RUNS_PER_CALL):
            batch = runs[start : start + RUNS_PER_CALL]
            size = sum(_size(_folder(run.info.artifact_uri, settings)) for run in batch)
            names = f"{len(batch)} runs, {batch[0].info.run_id} to {batch[-1].info.run_id}"
            yield Removal(kind, names, size, partial(_delete_runs, settings, client, batch))


def _ended_runs(client: "MlflowClient", series: set[str]) -> Iterator["Run"]:
    experiments = [each.experiment_id for each in client.search_experiments() if each.name in series]
    token = None
    while experiments:
        # Also those that are marked as deleted: an earlier deletion may have been interrupted.
        found = client.search_runs(experiments, "attributes.status != 'RUNNING'", ALL_STAGES, PAGE, page_token=token)
        yield from found
        token = found.token
        if not token:
            return


def _delete_runs(settings: Settings, client: "MlflowClient", runs: Sequence["Run"]) -> None:
    """Delete runs with their files; MLflow's client only marks them, its command deletes them."""
    for run in runs:
        if run.info.lifecycle_stage == "active":
            client.delete_run(run.info.run_id)
    places = ("--backend-store-uri", settings.mlflow_uri, "--tracking-uri", settings.mlflow_uri)
    ids = ",".join(run.info.run_id for run in runs)
    command = [sys.executable, "-m", "mlflow", "gc", *places, "--run-ids", ids]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        raise StoreUnavailable(f"mlflow gc ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    for run in runs:
        folder = _folder(run.info.artifact_uri, settings)
        if folder is not None and folder.parent.name == run.info.run_id:
            shutil.rmtree(folder.parent, ignore_errors=True)  # gc leaves the empty folder


def _old_versions(
    settings: Settings, spec: RetentionSpec, rows: Sequence[LoggedDecision], kept_bars: set[int]
) -> Iterator[Removal]:
    """Yield the versions beyond the newest ones that never were champion, and bulky files of the other old runs.

    Args:
        settings: with a local database.
        spec: what is kept.
        rows: decisions about one name, oldest first.
        kept_bars: receives the versions of the table of bars that kept versions were trained on.
    """
    series = Series(rows[0].symbol, rows[0].interval)
    decided = {int(row.version): row for row in rows if row.is_about_challenger}
    if rows[0].series_name != series.name:
        kept_bars |= {row.bars_version for row in decided.values()}
        return
    workspace = Workspace(settings, series)
    standing = {champion for row in rows for champion in (row.champion_before, row.champion_after)}
    champions = {int(version) for version in standing | reference_versions(rows) if version is not None}
    newest = set(sorted(decided)[-spec.versions :])
    present = {int(version) for version in workspace.registry.newest_versions(10**6)}
    for number, row in sorted(decided.items()):
        folder = settings.root / "mlruns" / "artifacts" / series.name / row.run_id / "artifacts"
        if number in newest | champions:
            kept_bars.add(row.bars_version)
        elif number in present:
            yield _version(workspace, str(number))
        if number not in newest:
            for path in (folder / name for name in BULKY):
                if path.exists():
                    yield Removal("file of an old run", str(path), _size(path), partial(_remove, path))


def _version(workspace: Workspace, number: str) -> Removal:
    entry = workspace.runs.database.version(workspace.name, number)
    folder = entry.folder if entry else None
    inside = folder is not None and folder.is_relative_to(workspace.settings.root / "mlruns" / "artifacts")

    def delete() -> None:
        workspace.registry.client.delete_model_version(workspace.name, number)
        if folder is not None and inside:
            _remove(folder)

    return Removal("version", f"{workspace.name} version {number}", _size(folder) if folder and inside else 0, delete)


def _old_table_files(settings: Settings, spec: RetentionSpec, kept_bars: Sequence[int]) -> Iterator[Removal]:
    """Yield the files that no version of the last `table_days`, and none that a kept model names, consists of."""
    for table in Workspace(settings).tables:
        opened = table.open()
        if opened is None:
            continue
        name = Path(table.uri).name
        keep = [version for version in kept_bars if 0 <= version <= opened.version()] if name == "bars" else []
        files = _vacuum(opened, spec, keep, dry_run=True)
        if files:
            size = sum(_size(Path(table.uri) / unquote(file)) for file in files)
            yield Removal(
                "files of earlier table versions",
                f"{len(files)} of {name}",
                size,
                partial(_vacuum, opened, spec, keep, dry_run=False),
            )


def _vacuum(opened: DeltaTable, spec: RetentionSpec, keep: list[int], *, dry_run: bool) -> list[str]:
    hours = 24 * spec.table_days
    return opened.vacuum(hours, dry_run=dry_run, enforce_retention_duration=False, keep_versions=keep or None)


def _folder(uri: str, settings: Settings) -> Path | None:
    """Return the folder of an artifact address, if it lies below this home's artifacts."""
    path = Path(unquote(urlsplit(uri).path))
    return path if path.is_relative_to(settings.root / "mlruns" / "artifacts") else None


def _size(path: Path | None) -> int:
    if path is None or not path.exists():
        return 0
    return path.stat().st_size if path.is_file() else sum(_size(each) for each in path.iterdir())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
