"""The book of the monitor: what each look found, and which alarms were raised; a Delta table beside the ledger.

An alarm that persists is raised once, and again only after its cool-down: the book remembers, so that nothing that is
started by alarms can loop. It has no clock: times are passed in.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from model.monitor_alarms import Alarm
from model.times import as_utc
from tasks.store.delta_table import Change, Table, place, quoted

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable


@dataclass(frozen=True, slots=True)
class MonitorEntry:
    """One look at a champion.

    Attributes:
        series_name: whose.
        watched_at: when, UTC.
        version: of the champion.
        numbers: what was measured, by name.
        alarms: what is wrong, raised before or not.
        raised: kinds of the alarms that this look raised.
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
    """Looks below one root."""

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        """Name the place; nothing is opened or made yet.

        Args:
            root: folder, or `s3://bucket/prefix`.
            storage_options: how to reach an S3 server, as deltalake names it.
        """
        self.root = root
        self.storage_options = dict(storage_options or {})

    @cached_property
    def _table(self) -> Table:
        import pyarrow as pa  # here: a command that reads no book starts without it

        texts = [pa.field(name, pa.string()) for name in ("series_name", "version", "numbers", "alarms", "raised")]
        schema = pa.schema([*texts, pa.field("watched_at", pa.timestamp("us", "UTC"))])
        return Table(place(self.root, "monitor"), schema, (), self.storage_options)

    def write(self, look: MonitorEntry) -> None:
        """Append a look."""
        import pyarrow as pa  # here: see _table

        row = {
            "series_name": look.series_name,
            "watched_at": as_utc(look.watched_at),
            "version": look.version,
            "numbers": json.dumps(dict(look.numbers)),
            "alarms": json.dumps([[alarm.kind, alarm.message] for alarm in look.alarms]),
            "raised": json.dumps(list(look.raised)),
        }

        def plan(_: "DeltaTable") -> Change:
            return Change(pa.Table.from_pylist([row], schema=self._table.schema))

        self._table.change(plan)

    def looks(self, series_name: str) -> list[MonitorEntry]:
        """Return the looks at a series, oldest first."""
        table = self._table.open()
        if table is None:
            return []
        rows = _rows(table, self._table.schema, series_name)
        return sorted((_look(row) for row in rows), key=lambda look: look.watched_at)

    def last(self, series_name: str) -> MonitorEntry | None:
        """Return the newest look; None when nobody looked yet."""
        looks = self.looks(series_name)
        return looks[-1] if looks else None


def fresh_alarms(
    looks: Sequence[MonitorEntry], found: Sequence[Alarm], now: datetime, cool_down: timedelta
) -> tuple[Alarm, ...]:
    """Return the alarms that were not raised within the cool-down before `now`."""
    recent = {kind for look in looks if as_utc(now) - look.watched_at < cool_down for kind in look.raised}
    return tuple(alarm for alarm in found if alarm.kind not in recent)


def score_from(looks: Sequence[MonitorEntry]) -> datetime | None:
    """Return when the score was last found wanting: evidence counts anew from there; None: from the beginning."""
    past = [look.watched_at for look in looks if "degraded" in look.raised]
    return past[-1] if past else None


def _rows(table: "DeltaTable", schema: "pa.Schema", series_name: str) -> list[dict[str, Any]]:
    import pyarrow as pa  # here: see MonitorLog._table

    found: list[dict[str, Any]] = pa.table(table.scan(schema.names, f"series_name = {quoted(series_name)}")).to_pylist()
    return found


def _look(row: Mapping[str, Any]) -> MonitorEntry:
    return MonitorEntry(
        row["series_name"],
        as_utc(row["watched_at"]),
        row["version"],
        json.loads(row["numbers"]),
        tuple(Alarm(kind, message) for kind, message in json.loads(row["alarms"])),
        tuple(json.loads(row["raised"])),
    )
