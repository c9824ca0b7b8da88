"""What must hold after every step of a simulation, whatever was killed, refused or late."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
from simulated_faults import Faults
from simulated_world import DAY, SERIES, Exchange, Values

from data_checks.bar_rules import VALUE_RULES, by_values
from data_checks.check_spec import CheckSpec
from tasks.champion.commit_decision import read_champion
from tasks.registry.local_database import LocalDatabase
from tasks.repair.home_examination import examine_home
from tasks.settings import Settings
from tasks.store.delta_table import Table
from tasks.store.prediction_log import PredictionLog
from tasks.workspace import Workspace


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass
class Watch:
    """Everything that was stored so far, as the last check found it.

    Attributes:
        stored: bars by open time.
        before: the same before the last step.
        ever: open times of all bars that were stored at any time.
        versions: of the tables, by address.
        predictions: rows of the prediction log by key.
        stored_on: true time at which each prediction was found first.
        decisions: rows of the decision log.
    """

    settings: Settings
    exchange: Exchange
    faults: Faults
    stored: dict[datetime, Values] = field(default_factory=dict)
    predictions: dict[tuple[str, datetime, str, str], Any] = field(default_factory=dict)
    decisions: tuple[Any, ...] = ()
    promoted: int = 0
    before: dict[datetime, Values] = field(default_factory=dict)
    ever: set[datetime] = field(default_factory=set)
    versions: dict[str, int] = field(default_factory=dict)

    def check(self, clean: str, *, settled: bool, same_day: bool) -> None:
        """Check everything.

        Args:
            clean: the command that just ran alone and without a fault; empty where that is not known.
            settled: a command that corrects the alias ran last, alone, to its end.
            same_day: no time passed within the command.
        """
        workspace = Workspace(self.settings, SERIES)
        self.before = self.stored
        complete = same_day and clean in ("ingest", "retrain")
        if self._changed(workspace.bar_store.tables) or complete:
            self._bars(workspace, complete=complete)
        self._decisions(workspace)
        self._champion(workspace, settled=settled)
        for log in (workspace.prediction_log, workspace.shadow_log):
            if self._changed(log.tables):
                self._predictions(log)
        if clean == "retrain":
            self._runs(workspace)

    def _changed(self, tables: Iterable[Table]) -> bool:
        """Return whether a table was committed to since the last call."""
        found = {table.uri: opened.version() for table in tables if (opened := table.open()) is not None}
        changed = any(self.versions.get(uri) != version for uri, version in found.items())
        self.versions |= found
        return changed

    def examine(self) -> None:
        """Require that `doctor` finds no damage: a kill or a refused write damages nothing."""
        damaged = [each for each in examine_home(self.settings) if each.is_damage]
        if damaged:
            raise Broken(f"{damaged[0].part} is {damaged[0].state}: {damaged[0].problem}")

    def _bars(self, workspace: Workspace, *, complete: bool) -> None:
        frame = workspace.bar_store.read_frame(SERIES)
        times = [each.to_pydatetime() for each in frame["timestamp"]]
        rows = dict(zip(times, map(tuple, frame.drop(columns="timestamp").to_numpy().tolist()), strict=True))
        if len(rows) != len(frame):
            raise Broken(f"bars are doubled: {len(frame)} rows, {len(rows)} times")
        removed = {each.to_pydatetime() for each in workspace.bar_store.decided_by_hand(SERIES)[1]["timestamp"]}
        if lost := self.stored.keys() - rows.keys() - removed:
            raise Broken(f"bars are lost: {sorted(lost)[:3]}")
        invented = [at for at, values in rows.items() if values not in self.exchange.served.get(at, ())]
        if invented:
            raise Broken(f"bars that no exchange served: {invented[:3]}")
        early = [at for at in rows if at + DAY > self.exchange.clock.true]
        if early:
            raise Broken(f"bars that have not closed: {early[:3]}")
        if complete:
            refused = {each.to_pydatetime() for each in workspace.bar_store.read_quarantine(SERIES)["timestamp"]}
            truth = self.exchange.truth()
            wrong = [
                at
                for at, values in truth.items()
                if rows.get(at) != values and not (at in refused and (at in removed or _is_bad(values)))
            ]
            if wrong:
                at = wrong[0]
                raise Broken(f"after a whole ingest {len(wrong)} bars differ: {at}: {rows.get(at)}, true {truth[at]}")
        self.stored = rows
        self.ever |= rows.keys()

    def _decisions(self, workspace: Workspace) -> None:
        rows = workspace.decision_log.rows(SERIES.name)
        if rows[: len(self.decisions)] != self.decisions:
            raise Broken("a row of the decision log changed or is gone")
        self.decisions = rows
        for name in ("decision_id", "sequence"):
            if len({getattr(row, name) for row in rows}) != len(rows):
                raise Broken(f"the decision log has a {name} twice")
        for former, later in pairwise(rows):
            if later.champion_before != former.champion_after:
                raise Broken(f"decision {later.sequence} was made against version {later.champion_before}")
        self.promoted = sum(row.action == "promote" for row in rows)

    def _champion(self, workspace: Workspace, *, settled: bool) -> None:
        rows = self.decisions
        alias = workspace.registry.alias_number("champion")
        champion = rows[-1].champion_after if rows else None
        if alias is not None and alias not in {row.champion_after for row in rows}:
            raise Broken(f"version {alias} is champion by the alias, and no decision promoted it")
        if settled and alias != champion:
            raise Broken(f"champion is version {champion} by the decision log, {alias} by the alias")
        state = read_champion(workspace)
        if state.number is not None:
            if state.version is None:
                raise Broken(f"the champion is not in the registry: {state.problem}")
            loaded = workspace.registry.read_version(state.number)  # verifies the files
            loaded.predictor()
            recorded = workspace.registry.history.recorded(state.number).files
            if not recorded:
                raise Broken(f"no decision recorded the files of champion version {state.number}")

    def _predictions(self, log: PredictionLog) -> None:
        committed_at = self.faults.commits.get(log.name, self.exchange.clock.true)
        rows: dict[tuple[str, datetime, str, str], Any] = {}
        stored = log.read(SERIES.name)
        for row in stored.astype(object).where(stored.notna(), None).to_dict("records"):  # NaN does not equal itself
            key = (log.name, row["decided_at"].to_pydatetime(), str(row["version"]), str(row["series_name"]))
            if key in rows:
                raise Broken(f"the prediction of version {key[2]} at {key[1]} is stored twice in {log.name}")
            rows[key] = row
        known = {key: row for key, row in self.predictions.items() if key[0] == log.name}
        changed = [key for key, row in known.items() if rows.get(key) != row]
        if changed:
            raise Broken(f"stored predictions changed or are gone: {changed[:3]}")
        for key in rows.keys() - known.keys():
            self._evidence(key, rows[key], committed_at)
        self.predictions |= rows

    def _evidence(self, key: tuple[str, datetime, str, str], row: dict[str, Any], now: datetime) -> None:
        """Require that a new prediction counts as evidence only if its outcome was not due.

        With a clock that is wrong only what the bars prove that were stored before can be required.
        """
        resolves_at = row["resolves_at"].to_pydatetime()
        due = now >= resolves_at
        provable = not self.exchange.clock.error or (resolves_at - DAY) in self.before
        if not row["late"] and due and provable:
            raise Broken(
                f"the prediction of version {key[2]} at {key[1]} in {key[0]} counts as evidence, although it was "
                f"stored on {now:%Y-%m-%d %H:%M} (stored_at {row['stored_at']}), its outcome due at {resolves_at}"
            )
        bad = row["decided_at"].to_pydatetime() - DAY not in self.ever
        if bad:
            raise Broken(f"the prediction of version {key[2]} at {key[1]} has no bar")

    def _runs(self, workspace: Workspace) -> None:
        running = LocalDatabase(workspace.runs.uri)._rows(
            "SELECT run_uuid, name FROM runs WHERE status = 'RUNNING'", ()
        )
        if running:
            raise Broken(f"runs without a process are still running: {running[:3]}")


def _is_bad(values: Values) -> bool:
    """Return whether a rule of the ingest refuses a bar by its own values."""
    row = np.array([values])
    return any(bool(by_values(rule, row, CheckSpec().absurd_tick_factor)[0]) for rule in VALUE_RULES)
