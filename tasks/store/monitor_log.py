"""The monitor log: the result of each run of the monitor, and the alarms that it raised; a Delta table.

It has no clock: times are passed in. Which alarms are raised again is decided in `model/monitor_alarms.py`. The Delta
table is called `monitor`; its columns are those of version 0.1.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from model.monitor_alarms import Alarm
from model.times import as_utc
from tasks.store.delta_table import Change, Table, append_rows, place, quoted, read_rows

if TYPE_CHECKING:
    from deltalake import DeltaTable


@dataclass(frozen=True, slots=True)
class MonitorEntry:
    """Result of one run of the monitor.

    Attributes:
        series_name: registered model.
        watched_at: time of the run, UTC.
        version: of the champion.
        numbers: measured values by name.
        alarms: all alarms, raised before or not.
        raised: kinds of the alarms that this run raised.
    """

    series_name: str
    watched_at: datetime
    version: str
    numbers: Mapping[str, float]
    alarms: tuple[Alarm, ...]
    raised: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields ready for JSON."""
        return {
            "watched_at": self.watched_at.isoformat(),
            "version": self.version,
            **self.numbers,
            "alarms": [f"{alarm.kind}: {alarm.message}" for alarm in self.alarms],
        }


class MonitorLog:
    """Results of the monitor below one root."""

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        """Set the place of the table; nothing is opened or created yet.

        Args:
            root: folder, or `s3://bucket/prefix`.
            storage_options: connection of an S3 store, with deltalake's keys.
        """
        self.root = root
        self.storage_options = dict(storage_options or {})

    @cached_property
    def _table(self) -> Table:
        import pyarrow as pa  # imported here: a command that reads no table starts without it

        texts = [pa.field(name, pa.string()) for name in ("series_name", "version", "numbers", "alarms", "raised")]
        schema = pa.schema([*texts, pa.field("watched_at", pa.timestamp("us", "UTC"))])
        return Table(place(self.root, "monitor"), schema, (), self.storage_options)

    @property
    def tables(self) -> tuple[Table, ...]:
        """The table that the log is kept in, for `tasks/repair/`."""
        return (self._table,)

    def write(self, entry: MonitorEntry) -> None:
        """Append an entry."""
        row = {
            "series_name": entry.series_name,
            "watched_at": as_utc(entry.watched_at),
            "version": entry.version,
            "numbers": json.dumps(dict(entry.numbers)),
            "alarms": json.dumps([[alarm.kind, alarm.message] for alarm in entry.alarms]),
            "raised": json.dumps(list(entry.raised)),
        }

        def plan(table: "DeltaTable") -> Change:
            return append_rows(table, self._table.schema, [row])

        self._table.change(plan)

    def entries(self, series_name: str, until: datetime | None = None) -> list[MonitorEntry]:
        """Return the entries of a series, oldest first.

        Args:
            series_name: registered model.
            until: later entries are left out, UTC. A run whose clock was ahead would otherwise stay the newest, and
                silence alarms, until that time.
        """
        table = self._table.open()
        if table is None:
            return []
        rows = read_rows(table, self._table.schema, f"series_name = {quoted(series_name)}").to_pylist()
        entries = sorted((_entry(row) for row in rows), key=lambda entry: entry.watched_at)
        return [entry for entry in entries if until is None or entry.watched_at <= until]

    def last(self, series_name: str, until: datetime | None = None) -> MonitorEntry | None:
        """Return the newest entry, or the newest one `until` a time; None without any."""
        entries = self.entries(series_name, until)
        return entries[-1] if entries else None


def score_from(entries: Sequence[MonitorEntry]) -> datetime | None:
    """Return the time of the last `degraded` alarm, from which evidence starts anew; None without one."""
    past = [entry.watched_at for entry in entries if "degraded" in entry.raised]
    return past[-1] if past else None


def _entry(row: Mapping[str, Any]) -> MonitorEntry:
    return MonitorEntry(
        row["series_name"],
        as_utc(row["watched_at"]),
        row["version"],
        json.loads(row["numbers"]),
        tuple(Alarm(kind, message) for kind, message in json.loads(row["alarms"])),
        tuple(json.loads(row["raised"])),
    )
