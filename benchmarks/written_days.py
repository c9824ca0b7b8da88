"""Days that are written straight into the stores of a home, as the commands of such a day would leave them.

Ten years of real days of `ten_years.py` take hours. A written day is: bars, a decision that promotes, a trial, a
registered version with its run and files, an entry of the monitor, and for each bar a served prediction and one of each
of 30 shadows. Each table has one commit a day, and the merges of small files, as on a real day; of hourly bars the 24
of a day are one commit, where real hours would make 24. The run, its files and its rows in MLflow's
database are copies of those of the newest real retrain; no run of a fold is written.
"""

import shutil
import sqlite3
import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from model.bars import Bars, Series
from model.times import to_datetime
from tasks.champion.shadow_spec import ShadowSpec
from tasks.store.bar_rows import rows as bar_rows
from tasks.store.bar_store import FILES_OF_A_YEAR
from tasks.store.decision_log import _decision_fields
from tasks.store.delta_table import Change, Table, append_rows
from tasks.store.monitor_log import _entry_fields
from tasks.store.prediction_log import _prediction_fields, new_prediction
from tasks.store.trial_log import Trial, _fields
from tasks.workspace import Workspace

OF_RUN = ("params", "metrics", "latest_metrics", "tags", "runs")  # tables of MLflow with a row for each run


class WrittenDays:
    """Writes days behind the newest real one, whose decision, run and monitor entry it copies."""

    def __init__(self, workspace: Workspace, rng: np.random.Generator) -> None:
        """Read what is copied.

        Args:
            workspace: of a series with at least one real retrain and monitor.
            rng: of the probabilities.
        """
        self.workspace, self.rng = workspace, rng
        self.series: Series = workspace.runs.series
        self.decision = workspace.decision_log.rows(workspace.name)[-1]
        self.entry, self.sequence = workspace.monitor_log.entries(workspace.name)[-1], self.decision.sequence
        trials = workspace.trial_log.trials(self.series.symbol, self.series.interval, forecasts=True)
        self.trial = next(each for each in trials if each.run_id == self.decision.run_id)
        self.database = sqlite3.connect(str(workspace.settings.local_database))
        self.database.execute("PRAGMA synchronous = OFF")
        self.opened: dict[str, Any] = {}
        self.network = workspace.registry.read_version(str(self.decision.champion_after)).network_sha256
        self.folder = workspace.settings.root / "mlruns" / "artifacts" / self.series.name
        self.trained_until = workspace.registry.version(self.decision.version).trained_until
        self.number, self.champion = int(workspace.registry.newest_versions(1)[0]), self.decision.champion_after

    def write(self, bars: Bars, now: datetime) -> None:
        """Write one day.

        Args:
            bars: the bars of the day, shape (bar,).
            now: when its commands run, after the close of the newest bar.
        """
        workspace = self.workspace
        table, opened = self._opened(workspace.bar_store.tables[0])
        year = f"/year={to_datetime(bars.opened_at[-1]).year}/"
        files = sum(year in name for name in opened.file_uris())
        merged = not files or files >= FILES_OF_A_YEAR  # as the store does with a year that ended or is in many files
        change = Change(bar_rows(table.schema, self.series, bars), compacts=merged)
        table._commit(opened, change)  # noqa: SLF001 - the store's commit
        self._predict(bars, now)
        self.number += 1
        version, run = str(self.number), uuid.uuid4().hex
        until = (now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)).isoformat()
        self._register(version, run, now, until)
        self._append(workspace.trial_log.tables[0], [_fields(self._trial(bars, run, now))])
        self.sequence += 1
        files = {version: next(iter(self.decision.files.values()))}
        row = replace(
            self.decision, decision_id=run, run_id=run, version=version, decided_at=now, action="promote",
            champion_before=self.champion, champion_after=version, files=files, sequence=self.sequence,
            trained_until={version: until},
        )  # fmt: skip
        self._append(workspace.decision_log.tables[0], [_decision_fields(row)])
        self.champion = version
        references = {version: next(iter(self.entry.references.values()))}  # a run reads those of a new champion
        entry = replace(self.entry, watched_at=now, version=version, references=references)
        self._append(workspace.monitor_log.tables[0], [_entry_fields(entry)])

    def _opened(self, table: Table) -> tuple[Table, Any]:
        if table.uri not in self.opened:
            self.opened[table.uri] = table.open_for_writing() or table.create()
        return table, self.opened[table.uri]

    def _append(self, table: Table, rows: list[dict[str, Any]]) -> None:
        """Commit rows as the store does, but without reading what is there: nobody else writes."""
        table, opened = self._opened(table)
        table._commit(opened, append_rows(opened, table.schema, rows))  # noqa: SLF001 - the store's commit

    def _predict(self, bars: Bars, now: datetime) -> None:
        """Store what the champion and the newest other versions predict at each bar, as soon as at the newest."""
        times = [(close, now - to_datetime(bars.closed_at[-1]) + to_datetime(close)) for close in bars.closed_at]

        def made(version: str) -> list[dict[str, Any]]:
            return [
                _prediction_fields(
                    new_prediction(
                        self.workspace.name, self.series, 1, close, version, float(self.rng.uniform(0.4, 0.6)), at,
                        self.network,
                    )
                )
                for close, at in times
            ]  # fmt: skip

        self._append(self.workspace.prediction_log.tables[0], made(str(self.champion)))
        shadows = ShadowSpec().count(self.series)
        others = [str(self.number - back) for back in range(1, shadows + 1) if self.number > back]
        self._append(self.workspace.shadow_log.tables[0], [row for each in others for row in made(each)])

    def _trial(self, bars: Bars, run: str, now: datetime) -> Trial:
        """Return the trial of the day's retrain: the copied one, later."""
        later = bars.closed_at[-1] - self.trial.forecasts.decided_at[-1] - bars.delta
        found = replace(
            self.trial.forecasts,
            decided_at=self.trial.forecasts.decided_at + later,
            probabilities=self.rng.uniform(0.4, 0.6, self.trial.windows),
        )
        span = timedelta(microseconds=int(later / np.timedelta64(1, "us")))
        moved = {name: getattr(self.trial, name) + span for name in ("test_first", "test_last")}
        return replace(self.trial, trial_id=run, run_id=run, recorded_at=now, forecasts=found, **moved)

    def _register(self, version: str, run: str, now: datetime, until: str) -> None:
        """Copy the run of the newest real retrain, its files and its version."""
        copied, moment = self.decision, int(now.timestamp() * 1000)
        shutil.copytree(self.folder / copied.run_id, self.folder / run)
        with self.database as database:
            for table in OF_RUN:
                _copy_rows(database, table, {"run_uuid": copied.run_id}, {"run_uuid": run})
            database.execute(
                "UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?), start_time = ?, end_time = ? "
                "WHERE run_uuid = ?", (copied.run_id, run, moment, moment, run),
            )  # fmt: skip
            key = {"name": self.workspace.name, "version": int(copied.version)}
            for table in ("model_versions", "model_version_tags"):
                _copy_rows(database, table, key, {"version": int(version)})
            database.execute(
                "UPDATE model_versions SET run_id = ?, source = replace(source, ?, ?), "
                "storage_location = replace(storage_location, ?, ?), creation_time = ? WHERE name = ? AND version = ?",
                (run, *(copied.run_id, run) * 2, moment, self.workspace.name, int(version)),
            )
            database.execute(
                "UPDATE model_version_tags SET value = ? WHERE name = ? AND version = ? AND key = 'trained_until'",
                (until, self.workspace.name, int(version)),
            )
            database.execute("UPDATE registered_model_aliases SET version = ?", (int(version),))


def _copy_rows(database: sqlite3.Connection, table: str, where: dict[str, Any], new: dict[str, Any]) -> None:
    """Copy rows with some columns replaced; a counter of their own is left to the database."""
    columns = [name for _, name, *_, key in database.execute(f"PRAGMA table_info({table})") if name != "id"]
    wanted = [f":new_{name}" if name in new else name for name in columns]
    database.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(wanted)} FROM {table} "
        f"WHERE {' AND '.join(f'{name} = :{name}' for name in where)}",
        where | {f"new_{name}": value for name, value in new.items()},
    )
